"""What two processes do together; test_two_processes.py starts this once for each of them and compares.

Run with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them, and a folder for the results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from toy_runs import EVERYTHING, MIXTURE, Outcome, clock_of_looks, toy_fit
from toy_student import NormedStudent, ToyExamples, ToyStudent

from aes_dynloss.errors import AesDynlossError
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.run_folder import CHECKPOINT, run_folder
from aes_dynloss.training.run_state import read_checkpoint

# 37 examples make steps of 6 and 5: shares of 3 and 2.
RUNS: dict[str, dict[str, Any]] = {
    "elements": {"terms": {"mse": 0.6, "cross_entropy": 0.4}},
    "elements, accumulated": {"terms": {"mse": 1.0}, "micro_batch_size": 2},
    "mixture": {"terms": MIXTURE},
    "everything, accumulated": {"terms": EVERYTHING, "micro_batch_tokens": 70, "length_window": 3},
    # Two micro-batches here, one there: both must still talk in the same order.
    "mixture, accumulated by one": {"terms": MIXTURE, "batch_size": 3, "micro_batch_size": 1, "epochs": 1},
    # Steps of 2, 2 and 1 examples: in the last, one process has nothing but a filler.
    "mixture, with a filler": {"terms": MIXTURE, "batch_size": 2, "number": 5},
    "elements, with a filler": {"terms": {"mse": 1.0}, "batch_size": 2, "number": 5},
    "averaged": {"terms": MIXTURE, "averaging": 0.8, "evaluations": 2, "patience": 2},
}


def run(folder: Path, *, number: int = 37, **changed: Any) -> Outcome:
    """One of the runs."""
    return toy_fit(folder, train=ToyExamples(number), **changed)


class StoppedAtStep10:
    """A policy that ends the run, on every process."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def coefficients(self, state: Any) -> Any:
        if round(state.progress * 21) == 10:
            raise KeyError
        return self.policy.coefficients(state)


def resumed(folder: Path) -> tuple[Outcome, Outcome]:
    """A run with dropout without a stop, and the same with one."""
    straight = toy_fit(folder / "straight", student=ToyStudent(dropout=0.3))
    try:
        toy_fit(folder / "stopped", student=ToyStudent(dropout=0.3), policy=StoppedAtStep10)
    except KeyError:
        pass
    else:
        raise RuntimeError("the run was to stop")
    return straight, toy_fit(folder / "stopped", student=ToyStudent(dropout=0.3), resume=True)


def resumed_by_the_clock(folder: Path, accelerator: Accelerator) -> tuple[Outcome, Outcome, int]:
    """A run with batch norm, whose statistics are each process's own, stopped between evaluations; and its checkpoint.

    A checkpoint is due by the main process's clock alone.
    """
    how: dict[str, Any] = {"clock": clock_of_looks()} if accelerator.is_main_process else {"clock": lambda: 0.0}
    straight = toy_fit(folder / "unstopped", student=NormedStudent(dropout=0.3))
    try:
        toy_fit(
            folder / "by_clock", student=NormedStudent(dropout=0.3), policy=StoppedAtStep10, checkpoint_minutes=1, **how
        )
    except KeyError:
        pass
    else:
        raise RuntimeError("the run was to stop")
    saved = int(read_checkpoint(folder / "by_clock" / CHECKPOINT)["tracker"]["step"])
    return straight, toy_fit(folder / "by_clock", student=NormedStudent(dropout=0.3), resume=True), saved


class NoNumber(StoppedAtStep10):
    """A policy whose coefficients are no numbers."""

    def coefficients(self, state: Any) -> Any:
        return self.policy.coefficients(state) * float("nan")


def error_of(action: Any) -> str:
    """The words of one of our errors."""
    try:
        action()
    except AesDynlossError as error:
        return str(error)
    return "none"


def enter(accelerator: Accelerator, folder: Path, **how: bool) -> None:
    with run_folder(accelerator, folder, {"a": 1}, ("report.json",), **how):
        accelerator.wait_for_everyone()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = {name: run(folder / name, **changed) for name, changed in RUNS.items()}
    found["resumed"] = resumed(folder)
    accelerator = Accelerator(cpu=True)
    found["resumed by the clock"] = resumed_by_the_clock(folder, accelerator)
    found["processes"] = accelerator.num_processes
    for number in (1, 2, 9):
        found[f"predictions of {number}"] = predict(accelerator, ToyStudent(), ToyExamples(number), size=3)
    nan = error_of(lambda: toy_fit(folder / "nan", policy=NoNumber))
    inner = folder / "folder"
    entered = [
        error_of(lambda h=how: enter(accelerator, inner, **h)) for how in ({}, {}, {"resume": True}, {"force": True})
    ]
    found["normed"] = gather_object([toy_fit(folder / "normed", student=NormedStudent()).weights])
    found["errors"] = gather_object([(nan, entered)])
    if accelerator.is_main_process:
        torch.save(found, folder / "found.pt")
    accelerator.wait_for_everyone()  # a process that ends first may tear the other's connection
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
