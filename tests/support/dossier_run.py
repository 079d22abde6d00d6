"""A run as ``finetune`` leaves it, with a model in name alone, and what was measured of that model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from drifting_scores import RANGES, administration, write_run
from sample_report import full_report
from sample_robustness import sample_robustness

from aes_dynloss.configfile import dump_yaml
from aes_dynloss.essays.model.model_folder import CONFIG, ENSEMBLE_FORMAT, FORMAT, MEMBERS, VERSION
from aes_dynloss.programme.monitor import build_monitor
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import build_report, write_report
from aes_dynloss.reports.rating_rows import Rating
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.audit_log import AuditLog
from aes_dynloss.tables.provenance import Provenance, seal

EVIL = "<script>alert(1)</script>"


def write_whole_run(folder: Path, solver: str = "sgd") -> str:
    """A run with manifest, configuration, report and provenance; returns the model's SHA-256."""
    write_run(folder, essays=40)
    manifest = {
        "started": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.11.7", "torch": "2.8.0"},
        "machine": {"system": "Linux", "cores": 2},
        "seeds": {"training": 3},
        "data": {"sha256": "ab" * 32, "essays": 80},
        "split": {"essays": {"train": 60, "dev": 20}},
    }
    config = {
        "data": {"source": "/home/someone/essays.csv", "prompts": {"a": {"low": 1, "text": "Secret task"}}},
        "model": {"kind": "encoder", "encoder": EVIL, "solver": solver, "window": None},
        "loss": {"terms": {"mse": 1.0}},
        "training": {"epochs": 2, "optimizer": "adamw"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
    write_report(full_report(RANGES, essays=80, resamples=20), folder / "report.json")
    seal(folder, Provenance.now())
    return file_sha256(folder / "model/config.json")


def rated_report() -> Report:
    """A report on essays that Ann and Bo both scored, Bo a point higher where there is one."""
    table = administration("rated", 5, 60).table.drop(columns=["advisories", "withheld"])
    highest = table["prompt_id"].map({prompt: span.high for prompt, span in RANGES.items()})
    second = np.minimum(table["reference"] + 1, highest)
    table["ratings_by_rater"] = [
        (Rating("Ann", one, np.nan, 2), Rating("Bo", other, np.nan, 3))
        for one, other in zip(table["reference"], second, strict=True)
    ]
    return build_report(check_predictions(table.assign(second_reference=second), ranges=RANGES), resamples=20)


def write_ensemble(folder: Path, *, cross_fitted: bool) -> str:
    """An ensemble of two models in name alone, with figures of its own if it is cross-fitted; its model's SHA-256."""
    prompts = [{"prompt": {"id": prompt, "range": asdict(span), "text": None}} for prompt, span in RANGES.items()]
    for number in (0, 1):
        member = folder / MEMBERS / str(number)
        member.mkdir(parents=True)
        values = {
            "format": FORMAT,
            "version": VERSION,
            "prompts": prompts,
            "model": {"kind": "strings", "seed": number},
        }
        (member / CONFIG).write_text(json.dumps(values), encoding="utf-8")
    whole = {"format": ENSEMBLE_FORMAT, "version": VERSION, "fitted_on": "dev essays", "weights": {"a": [0.4, 0.6]}}
    (folder / CONFIG).write_text(json.dumps(whole), encoding="utf-8")
    if cross_fitted:
        manifest = {"versions": {"aes-dynloss": "1"}, "data": {"essays": 80}, "split": {"parts": 5}}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        write_report(full_report(RANGES, essays=80, resamples=20), folder / "report.json")
    seal(folder, Provenance.now())
    return file_sha256(folder / CONFIG)


def write_log(path: Path, model: str) -> None:
    """An audit log of three scores, two by the model, and a decision."""
    entries = [{"event": "score", "model": one, "essay_id": str(n)} for n, one in enumerate([model, "other", model])]
    AuditLog(path).append([*entries, {"event": "decision", "essay_id": "1"}])


def write_measurements(folder: Path, model: str) -> None:
    """evaluation/, readers/, robustness/, monitor/ with an alarm, and data_check.json."""
    drifted = administration("autumn.csv", 3, group_y=-1.5)
    measured = {
        "evaluation/report.json": full_report(RANGES, essays=60, resamples=20, subgroups=("gender",)),
        "robustness/robustness.json": sample_robustness(),
        "readers/report.json": rated_report(),
        "monitor/monitor.json": build_monitor(administration("spring.csv", 1), [drifted], subgroups=["group"]),
    }
    for name, content in measured.items():
        (folder / name).parent.mkdir(parents=True)
        write_report(content, folder / name)
        seal((folder / name).parent, Provenance.now(model=model))
    check = {"clean": True, "rows": 81, "used": 80, "lost": [{"row": 7}], "errors": [], "same_texts": [], "leaks": []}
    (folder / "data_check.json").write_text(json.dumps(check), encoding="utf-8")
