"""A run as ``finetune`` leaves it, with a model in name alone, and what was measured of that model."""

from __future__ import annotations

import json
from pathlib import Path

from drifting_scores import RANGES, administration, write_run
from sample_report import full_report
from sample_robustness import sample_robustness

from aes_dynloss.configfile import dump_yaml
from aes_dynloss.programme.monitor import build_monitor
from aes_dynloss.reports.prompts import write_report
from aes_dynloss.tables.atomic import file_sha256
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


def write_measurements(folder: Path, model: str) -> None:
    """evaluation/, robustness/, monitor/ with an alarm, and data_check.json."""
    drifted = administration("autumn.csv", 3, group_y=-1.5)
    measured = {
        "evaluation/report.json": full_report(RANGES, essays=60, resamples=20, subgroups=("gender",)),
        "robustness/robustness.json": sample_robustness(),
        "monitor/monitor.json": build_monitor(administration("spring.csv", 1), [drifted], subgroups=["group"]),
    }
    for name, content in measured.items():
        (folder / name).parent.mkdir(parents=True)
        write_report(content, folder / name)
        seal((folder / name).parent, Provenance.now(model=model))
    check = {"clean": True, "rows": 81, "used": 80, "lost": [{"row": 7}], "errors": [], "same_texts": [], "leaks": []}
    (folder / "data_check.json").write_text(json.dumps(check), encoding="utf-8")
