"""A run of a recipe's student: its report marks it complete, and only an uninterrupted run knows its time."""

from __future__ import annotations

import pytest

from aes_dynloss import ConfigError, TrainingConfig
from aes_dynloss.configfile import ConfigModel
from aes_dynloss.training.run_folder import CHECKPOINT, FIRST_STAGE
from aes_dynloss.training.student_run import student_run


class Config(ConfigModel):
    """The least that a run needs."""

    training: TrainingConfig = TrainingConfig(device="cpu", precision="float32")


class Stopped(Exception):
    """The run was stopped."""


def run(folder, calls, *, stops=False, checkpoint=CHECKPOINT, **how):
    """A run that leaves a checkpoint first, and may be stopped behind it."""

    def train(accelerator):
        calls.append(accelerator.mixed_precision)
        (folder / checkpoint).parent.mkdir(exist_ok=True)
        (folder / checkpoint).write_bytes(b"half")
        if stops:
            raise Stopped
        return {"test": {"accuracy": 0.5}}

    return student_run(Config(), folder, (FIRST_STAGE, "report.json"), train, **how)


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, f"{FIRST_STAGE}/{CHECKPOINT}"])
def test_a_run_reports_its_seconds_and_leaves_no_checkpoint(tmp_path, checkpoint):
    calls = []
    report = run(tmp_path / "run", calls, checkpoint=checkpoint)
    assert report["test"] == {"accuracy": 0.5}
    assert report["seconds"] >= 0
    assert not (tmp_path / "run" / checkpoint).exists()
    assert not (tmp_path / "run" / FIRST_STAGE).exists()
    assert run(tmp_path / "run", calls, resume=True) == report
    assert calls == ["no"]


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, f"{FIRST_STAGE}/{CHECKPOINT}"])
def test_a_run_that_was_stopped_goes_on_and_knows_no_time(tmp_path, checkpoint):
    """Whichever of its students was training."""
    calls = []
    with pytest.raises(Stopped):
        run(tmp_path / "run", calls, stops=True, checkpoint=checkpoint)
    assert not (tmp_path / "run" / "report.json").exists()
    with pytest.raises(ConfigError, match="--resume"):
        run(tmp_path / "run", calls)
    assert run(tmp_path / "run", calls, resume=True)["seconds"] is None
    assert len(calls) == 2
