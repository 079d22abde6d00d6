"""Whole runs with a loss, a schedule, a teacher and features of an installed package: manifest, folder, resume."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from command_line import command
from facts import facts
from plugins import FEATURE, LOSS, POLICY, SCHEDULE, TEACHER, all_parts, install
from small_run import EVERYTHING, check_scores, records, tune

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.ensembles.ensemble import open_scorer
from aes_dynloss.essays.model.model_folder import config_digest
from aes_dynloss.parts import PLUGINS
from aes_dynloss.training import run_state
from aes_dynloss.training.teacher_folder import read_teacher

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_parts")]

TEXTS = {
    "tiny_loss": LOSS,
    "tiny_schedule": SCHEDULE,
    "tiny_teacher": TEACHER,
    "tiny_policy": POLICY,
    "tiny_f": FEATURE,
}
POINTS = {
    "losses": {"log_cosh": "tiny_loss:log_cosh"},
    "schedules": {"sawtooth": "tiny_schedule:sawtooth"},
    "teachers": {"exponentiated": "tiny_teacher:Exponentiated", "fading": "tiny_policy:FadingConfig"},
    "features": {"hedges": "tiny_f:hedges"},
}
FROZEN = "model.frozen_layers=all"
FEATURES = "model.linguistic=[counts, hedges]"
TERMS = "loss.terms={mse: 1.0, log_cosh: 0.5}"
VARIANTS = {
    "schedule": ["loss.terms={log_cosh: {schedule: sawtooth, teeth: 2}, mse: rest}", FEATURES, FROZEN],
    "rewriting": [TERMS, "teacher={kind: exponentiated, window: 3}", "data.split.teacher_dev_fraction=0.25", FROZEN],
    "policy": [TERMS, "teacher={kind: fading}", FROZEN],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return install(tmp_path_factory.mktemp("site"), TEXTS, POINTS)


@pytest.fixture(autouse=True)
def installed(site, monkeypatch, own_parts):
    monkeypatch.syspath_prepend(site)


@pytest.fixture(scope="module")
def made(run_yaml, site, tmp_path_factory):
    """Runs, each made when it is first asked for."""
    done: dict[str, Path] = {}

    def run(name):
        if name not in done:
            done[name] = tmp_path_factory.mktemp("own") / "run"
            outcome = tune(run_yaml, done[name], *VARIANTS[name])
            assert outcome.code == 0, outcome.err
        return done[name]

    return run


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def origin(module):
    return {"module": module, "distribution": "tiny-parts", "version": "0.1.0", "sha256": None}


def test_a_schedule_and_features(run_yaml, made):
    folder = made("schedule")
    assert {path.name for path in folder.iterdir()} == EVERYTHING | {"features.csv"}
    steps = [record for record in records(folder) if "loss" in record]
    assert [one["coefficients"]["log_cosh"] for one in steps] == pytest.approx(
        [2 * one["state"]["progress"] % 1.0 for one in steps]
    )
    assert manifest(folder)["parts"] == {
        "losses": {"log_cosh": origin("tiny_loss")},
        "schedules": {"sawtooth": origin("tiny_schedule")},
        "features": {"hedges": origin("tiny_f")},
    }
    config = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["parts"] == {
        "features": {"hedges": origin("tiny_f")},
        "columns": {"hedges": ["hedges_may", "hedges_can"]},
    }
    features = json.loads((folder / "report.json").read_text(encoding="utf-8"))["features"]
    assert "hedges_may" in json.dumps(features)
    check_scores(folder, run_yaml.with_name("essays.jsonl"), "test")


def test_a_feature_is_explained_as_a_group(run_yaml, made, tmp_path):
    essays = run_yaml.with_name("essays.jsonl")
    outcome = command("explain", made("schedule") / "model", essays, "--most", "2", "-o", tmp_path / "why")
    assert outcome.code == 0, outcome.err
    assert any("hedges" in path.read_text(encoding="utf-8") for path in (tmp_path / "why").rglob("*.json*"))


@pytest.mark.parametrize("name", ["rewriting", "policy"])
def test_a_teacher(run_yaml, made, name):
    folder = made(name)
    assert {path.name for path in folder.iterdir()} == EVERYTHING | ({"teacher"} if name == "rewriting" else set())
    assert (folder / "plots" / "loss_coefficients.svg").exists()
    steps = [record for record in records(folder) if "loss" in record]
    weights = [one["coefficients"]["log_cosh"] for one in steps]
    assert len(set(weights)) > 1
    if name == "rewriting":
        assert any("teacher" in one for one in steps)
        spec, policy = read_teacher(folder / "teacher", torch.device("cpu"))
        assert list(spec.terms) == ["mse", "log_cosh"]
        assert policy.coefficients(None).shape == (2,)
        saved = json.loads((folder / "teacher" / "teacher.json").read_text(encoding="utf-8"))
        assert saved["parts"]["teachers"] == {"exponentiated": origin("tiny_teacher")}
    else:
        assert weights == pytest.approx([0.5 * (0.5 + 0.5 * one["state"]["train_error"]) for one in steps])
    kind = {"rewriting": "exponentiated", "policy": "fading"}[name]
    assert set(manifest(folder)["parts"]["teachers"]) == {kind}


def test_a_frozen_teacher_needs_its_losses_alone(run_yaml, made, site, tmp_path, monkeypatch):
    frozen = [f"teacher.from={made('rewriting') / 'teacher'}", FROZEN]
    outcome = tune(run_yaml, tmp_path / "run", *frozen)
    assert outcome.code == 0, outcome.err
    others = {kind: named for kind, named in POINTS.items() if kind != "losses"}
    lacking = install(tmp_path / "site", TEXTS, others)
    forget(monkeypatch, site, lacking)
    refused = tune(run_yaml, tmp_path / "other", *frozen)
    assert refused.code == 2
    assert refused.error.count("log_cosh") == 1
    assert "tiny-parts 0.1.0" in refused.error


class Stopped(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_stopped_goes_on(run_yaml, made, tmp_path, monkeypatch, name):
    write, count = run_state.write_checkpoint, []

    def write_and_stop(*arguments):
        write(*arguments)
        count.append(None)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(run_state, "write_checkpoint", write_and_stop)
        with pytest.raises(Stopped):
            tune(run_yaml, tmp_path / "run", *VARIANTS[name])
    outcome = tune(run_yaml, tmp_path / "run", *VARIANTS[name], "--resume")
    assert outcome.code == 0, outcome.err
    for kept in ("metrics.jsonl", "model/model.safetensors", "report.json"):
        assert (tmp_path / "run" / kept).read_bytes() == (made(name) / kept).read_bytes(), kept


def test_a_run_does_not_go_on_with_another_version(run_yaml, site, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_state, "write_checkpoint", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            tune(run_yaml, tmp_path / "run", *VARIANTS["schedule"])
    (tmp_path / "run" / "checkpoint.pt").touch()
    newer = install(tmp_path / "site", TEXTS, POINTS, version="0.2.0")
    forget(monkeypatch, site, newer)
    refused = tune(run_yaml, tmp_path / "run", *VARIANTS["schedule"], "--resume")
    assert refused.code == 2
    assert "parts from outside differ" in refused.error
    assert "0.2.0" in refused.error


def forget(monkeypatch, site, instead):
    """Another process, in which the package is not there or another version of it."""
    for parts in all_parts():
        parts._registered.clear()
    monkeypatch.setattr(sys, "path", [str(instead), *(path for path in sys.path if path != str(site))])
    for module in TEXTS:
        sys.modules.pop(module, None)


class TestFolderWithoutItsFeature:
    def test_the_package_is_named(self, run_yaml, made, site, tmp_path, monkeypatch):
        forget(monkeypatch, site, tmp_path)
        folder = made_before(made)
        with pytest.raises(CheckpointError, match=facts("'hedges'", "the distribution tiny-parts 0.1.0", "Install")):
            open_scorer(folder)
        outcome = command("score", folder, run_yaml.with_name("essays.jsonl"), "-o", tmp_path / "out.csv")
        assert outcome.code == 2
        assert "tiny-parts" in outcome.error
        assert "Traceback" not in outcome.err

    def test_a_broken_package_is_named(self, made, site, tmp_path, monkeypatch):
        folder = made_before(made)
        forget(monkeypatch, site, install(tmp_path, {"tiny_f": "raise OSError('no disk')"}, POINTS))
        with pytest.raises(CheckpointError, match=facts("tiny-parts 0.1.0", "'hedges'", "OSError: no disk")):
            open_scorer(folder)

    def test_a_folder_names_no_code(self, made, site, tmp_path, monkeypatch):
        """What it says of modules and files is never imported, whatever it is made to say."""
        folder = tmp_path / "model"
        shutil.copytree(made_before(made), folder)
        evil = tmp_path / "evil.py"
        evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
        forget(monkeypatch, site, tmp_path)
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values["parts"]["features"]["hedges"] = {"module": "evil", "distribution": str(evil), "version": "1"}
        values["sha256"]["config.json"] = config_digest(values)
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(CheckpointError, match="hedges"):
            open_scorer(folder)
        assert not (tmp_path / "ran").exists()

    def test_damage(self, made, tmp_path):
        folder = tmp_path / "model"
        shutil.copytree(made("schedule") / "model", folder)
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values["parts"] = {"features": [1]}
        values["sha256"]["config.json"] = config_digest(values)
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(CheckpointError, match="damaged"):
            open_scorer(folder)


def made_before(made) -> Path:
    return made("schedule") / "model"


def test_scorers_without_an_encoder_have_them_too(run_yaml, tmp_path):
    for kind in ("strings", "boosting"):
        outcome = tune(run_yaml, tmp_path / kind, f"model={{kind: {kind}, linguistic: [counts, hedges]}}")
        assert outcome.code == 0, outcome.err
        check_scores(tmp_path / kind, run_yaml.with_name("essays.jsonl"), "test")


def test_a_file_that_the_user_points_to(run_yaml, site, tmp_path, monkeypatch):
    forget(monkeypatch, site, tmp_path)
    file = tmp_path / "my_parts.py"
    file.write_text(LOSS.replace("log_cosh", "own_loss") + FEATURE.replace("hedges", "own_words"), encoding="utf-8")
    words = ["loss.terms={own_loss: 1.0}", "model.linguistic=[own_words]", FROZEN, "-o", tmp_path / "run"]
    outcome = command("--plugin", file, "finetune", run_yaml, *words)
    assert outcome.code == 0, outcome.err
    recorded = manifest(tmp_path / "run")["parts"]["losses"]["own_loss"]
    assert recorded["module"] == "my_parts"
    assert len(recorded["sha256"]) == 64
    assert str(tmp_path) not in (tmp_path / "run" / "manifest.json").read_text(encoding="utf-8")
    # A configuration cannot name it, nor a model folder bring it.
    monkeypatch.setenv(PLUGINS, "")
    monkeypatch.setattr("aes_dynloss.parts._loaded", set())
    forget(monkeypatch, site, tmp_path / "elsewhere")
    assert command("finetune", run_yaml, *words[:2], f"plugin={file}", "-o", tmp_path / "x").code == 2
    outcome = command("score", tmp_path / "run", run_yaml.with_name("essays.jsonl"), "-o", tmp_path / "out.csv")
    assert outcome.code == 2
    assert all(word in outcome.error for word in ("own_words", "the module my_parts", "--plugin"))
