"""A run under a loss network that is killed without warning, a few times; started by test_window_update.py."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import killed_run
import torch
from toy_runs import clock_of_looks
from toy_student import ToyStudent
from toy_taught import network_fit


def train(folder: Path, pause: float) -> None:
    """The run; measuring takes a while, so that it is not over before it can be killed."""
    run = network_fit(
        folder, student=ToyStudent(dropout=0.3), resume=True, before_measure=lambda: time.sleep(pause),
        epochs=4, evaluations=2, micro_batch_size=4, clock=clock_of_looks(), checkpoint_minutes=1,
    )  # fmt: skip
    teacher = {f"teacher.{name}": tensor for name, tensor in run.teacher.network.state_dict().items()}
    torch.save({**run.outcome.weights, **teacher, "phi": run.teacher.phi}, folder / "left.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    killed_run.train = train
    sys.stdout.write(f"{killed_run.attempts(Path(sys.argv[1]), 0)}\n")
