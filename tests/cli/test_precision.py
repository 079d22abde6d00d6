"""Precision and threads of the commands: what a machine has, what a run and a grid began in, and what is refused."""

from __future__ import annotations

import json

import pytest
from command_line import command
from small_grid import write_small_grid
from small_run import small_essays, tune, write_rows, write_small_run

from aes_dynloss.essays.finetune import products, run
from aes_dynloss.training import hardware
from aes_dynloss.training.accelerator import build_accelerator

pytestmark = pytest.mark.slow

AUTO = "training.precision=auto"


@pytest.fixture(scope="module")
def run_yaml(tmp_path_factory):
    return write_small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def machine(monkeypatch):
    """Makes the processor one with instructions for bf16, or without."""
    return lambda *, has_bf16: monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: has_bf16)


@pytest.fixture
def precisions(monkeypatch):
    """The precisions in which runs are begun; what is bf16 ends there, since this process is one in float32."""
    found = []

    def building(config, folder, precision):
        found.append(precision)
        if precision == "bf16":
            raise KeyboardInterrupt
        return build_accelerator(config, folder, precision)

    monkeypatch.setattr(run, "build_accelerator", building)
    return found


def stopped(run_yaml, folder, monkeypatch):
    """A run under ``auto`` that is stopped when its student is trained."""
    with monkeypatch.context() as patch:

        def interrupt(*_):
            raise KeyboardInterrupt

        patch.setattr(products, "write_predictions", interrupt)
        assert tune(run_yaml, folder, AUTO).code == 130
    return json.loads((folder / "manifest.json").read_text())["precision"]


def test_bf16_is_refused_before_anything_is_written(run_yaml, tmp_path, machine, precisions):
    machine(has_bf16=False)
    outcome = tune(run_yaml, tmp_path / "run", "training.precision=bf16")
    assert (outcome.code, outcome.out, precisions) == (2, "", [])
    assert outcome.error == (
        "training.precision is bf16, and this processor has no instructions for bf16 (avx512_bf16 or amx_bf16): it "
        "would be 6 to 67 times slower than float32. Leave it at auto, or give --force-precision."
    )
    assert not (tmp_path / "run").exists()
    tune(run_yaml, tmp_path / "run", "training.precision=bf16", "--force-precision")
    machine(has_bf16=True)
    tune(run_yaml, tmp_path / "run", "training.precision=bf16")
    tune(run_yaml, tmp_path / "run", AUTO)
    assert precisions == ["bf16"] * 3


def test_a_run_goes_on_in_float32_where_bf16_is_fast(run_yaml, tmp_path, machine, precisions, monkeypatch):
    machine(has_bf16=False)
    assert stopped(run_yaml, tmp_path / "run", monkeypatch) == "float32"
    machine(has_bf16=True)
    assert tune(run_yaml, tmp_path / "run", AUTO, "--resume").code == 0
    assert precisions == ["float32", "float32"]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["precision"] == "float32"
    tune(run_yaml, tmp_path / "run", AUTO, "--force")  # another run
    assert precisions == ["float32", "float32", "bf16"]


def test_a_run_goes_on_in_bf16_alone(run_yaml, tmp_path, machine, precisions, monkeypatch):
    machine(has_bf16=False)
    stopped(run_yaml, tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "bf16"}))
    outcome = tune(run_yaml, tmp_path / "run", AUTO, "--resume")
    assert outcome.code == 2
    assert outcome.error == (
        "This run, or its grid, began in bf16, and this processor has no instructions for bf16 (avx512_bf16 or "
        "amx_bf16): it would be 6 to 67 times slower than float32. Go on with it on a machine that has them, or give "
        "--force-precision."
    )
    tune(run_yaml, tmp_path / "run", AUTO, "--resume", "--force-precision")
    machine(has_bf16=True)
    tune(run_yaml, tmp_path / "run", AUTO, "--resume")
    assert precisions == ["float32", "bf16", "bf16"]


def test_a_run_is_saved_more_often_than_when_it_began(run_yaml, tmp_path, machine, monkeypatch):
    """When checkpoints are written is no part of what a run is; it was stopped, and goes on."""
    machine(has_bf16=False)
    stopped(run_yaml, tmp_path / "run", monkeypatch)
    assert tune(run_yaml, tmp_path / "run", AUTO, "training.checkpoint_minutes=1", "--resume").code == 0


def test_all_runs_of_a_grid_are_in_the_precision_of_the_first(tmp_path, machine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_small_grid(tmp_path)
    words = ["benchmark", "grid.yaml", "finetune.training.precision=auto", "-o", "grid"]
    machine(has_bf16=False)
    assert command(*words, "--folds", "0").code == 0
    assert json.loads((tmp_path / "grid" / "precision.json").read_text()) == {"precision": "float32"}
    machine(has_bf16=True)
    assert command(*words, "--folds", "0,1").code == 0
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "grid" / "cells").rglob("manifest.json")]
    assert [manifest["precision"] for manifest in manifests] == ["float32"] * 4
    (tmp_path / "grid" / "precision.json").write_text('{"precision": "bf16"}')
    machine(has_bf16=False)
    outcome = command(*words, "--folds", "0,1", "arms={mae: {set: {loss.terms: {huber: 1.0}}}}", "-o", "other")
    assert outcome.code == 0
    for cell in (tmp_path / "grid" / "cells" / "mae").iterdir():
        (cell / "seed_0" / "cell.json").unlink()
        cell.rename(tmp_path / cell.name)
    outcome = command(*words)
    assert outcome.code == 2
    assert outcome.error.startswith(
        "mae/fold_0/seed_0: This run, or its grid, began in bf16, and this processor has no"
    )


def test_scores_in_bf16(run_yaml, tmp_path, machine):
    assert tune(run_yaml, tmp_path / "run").code == 0
    essays = write_rows(tmp_path / "essays.jsonl", small_essays())
    words = ["score", tmp_path / "run" / "model", essays, "--precision", "bf16", "-o", tmp_path / "scores.csv"]
    machine(has_bf16=False)
    outcome = command(*words)
    assert outcome.code == 2
    assert outcome.error.startswith("--precision is bf16, and this processor has no instructions for bf16 (avx512_bf16")
    assert outcome.error.endswith("6 to 67 times slower than float32. Leave it out, or give --force-precision.")
    assert not (tmp_path / "scores.csv").exists()
    # A head of two epochs may round some essays otherwise in bf16, which is refused for another reason.
    assert "instructions" not in command(*words, "--force-precision").error
    machine(has_bf16=True)
    assert "instructions" not in command(*words, "--force").error


def test_the_commands_that_compute_leave_busy_cores(run_yaml, tmp_path, monkeypatch):
    left = []
    monkeypatch.setattr(hardware, "leave_busy_cores", lambda: left.append(True))
    assert tune(run_yaml, tmp_path / "run").code == 0
    assert len(left) == 1
    essays = write_rows(tmp_path / "essays.jsonl", small_essays())
    assert command("score", tmp_path / "run" / "model", essays, "-o", tmp_path / "scores.csv").code == 0
    assert len(left) == 2
    monkeypatch.chdir(tmp_path)
    write_small_grid(tmp_path)
    assert command("benchmark", "grid.yaml", "--folds", "0", "-o", "grid").code == 0
    assert len(left) == 3  # once for all its runs: the first is in the load of the others
