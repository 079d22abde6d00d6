"""A run that is killed without warning, a few times, and then left to finish; started by test_resume.py.

Each attempt is a fork, so that torch is imported only once. Standard output: how many attempts were killed, run by run.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from toy_runs import clock_of_looks, toy_fit
from toy_student import ToyStudent

SETTINGS = {"epochs": 6, "evaluations": 2, "averaging": 0.8, "micro_batch_size": 4, "checkpoint_minutes": 1}


def train(folder: Path, pause: float) -> None:
    """The run; measuring takes a while, so that it is not over before it can be killed. It is saved at every step."""
    outcome = toy_fit(
        folder, student=ToyStudent(dropout=0.3), resume=True, before_measure=lambda: time.sleep(pause),
        clock=clock_of_looks(), **SETTINGS,
    )  # fmt: skip
    torch.save(outcome.weights, folder / "weights.pt")


def attempts(folder: Path, seed: int) -> int:
    """Try to get through the run, five times against a murderer; how often he struck."""
    moments = random.Random(seed)
    killed = 0
    for attempt in range(6):
        child = os.fork()
        if child == 0:
            train(folder, pause=0.02)
            os._exit(0)
        if attempt < 5:
            time.sleep(moments.uniform(0.02, 0.2))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    return killed


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, name in enumerate(sys.argv[1:]):
        sys.stdout.write(f"{attempts(Path(name), number)}\n")
