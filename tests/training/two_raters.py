"""What two processes learn of raters; test_two_raters.py starts this once for each of them and compares.

Run with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them, and a folder for the results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rated_runs import RatedExamples, RatedStudent, rated_run

from aes_dynloss.training.accelerator import AccelerateProcesses
from aes_dynloss.training.run_state import trained_state

SHORT = {"kind": "dlf", "episodes": 3, "steps": 5}
RUNS: dict[str, dict[str, Any]] = {
    "by rater": {"teacher": SHORT, "loss": {"by": ["rater"]}},
    "by rater and score, over the batch": {
        "teacher": SHORT | {"average": 2},
        "loss": {"by": ["rater", "score"], "levels": 3, "terms": {"mse": 1.0, "stde": 0.2}},
    },
    "forward": {"teacher": SHORT | {"matrix": "forward"}, "student": 5},
    "glc": {"teacher": {"kind": "glc"}, "student": 5},
}


def found_by(folder: Path, name: str) -> dict[str, Any]:
    """The student's weights, those of the teacher and the measure."""
    how = dict(RUNS[name])
    student = RatedStudent(points=how.pop("student", None))
    train = RatedExamples(63, 1, trusted=11, bad=2)
    _, student, kappa = rated_run(folder, student=student, train=train, epochs=2, batch_size=9, **how)
    return {"weights": trained_state(student), "qwk": kappa}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    found: dict[str, Any] = {"processes": AccelerateProcesses(accelerator).world_size}
    found["runs"] = {name: found_by(folder / name, name) for name in RUNS}
    torch.save(found, folder / f"found{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()  # a process that ends first may tear the other's connection
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
