"""What two processes teach together; test_two_teachers.py starts this once for each of them and compares.

Run with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them, and a folder for the results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from toy_student import ToyExamples, ToyStudent
from toy_taught import network_fit, teach

from aes_dynloss.training.accelerator import AccelerateProcesses

CENTRAL = {"estimator": "central", "self_check": False}
# 37 examples make steps of 6 and 5: shares of 3 and 2. With 5, the last step of 2, 2 and 1 leaves one with a filler.
EPISODES: dict[str, dict[str, Any]] = {
    "mixture": {"loss": "mixture", "evaluations": 2, "log_every": 3},
    "with stde": {"loss": "with stde", "evaluations": 2, "log_every": 3},
    "with stde, accumulated": {"loss": "with stde", "micro_batch_size": 2, "dlf": {"episodes": 2, "steps": 5}},
    "bilinear": {"loss": "bilinear", "optimizer": "sgd", "momentum": 0.8, "dlf": {"episodes": 2, "steps": 6}},
    "with a filler": {"loss": "with stde", "batch_size": 2, "train": ToyExamples(5)},
    "an elementwise measure": {"loss": "mixture", "dlf": {"episodes": 2, "steps": 5, "measure": "mse"}},
    "graphs": {"loss": "mixture", "dlf": {"episodes": 2, "steps": 5, "hypergradient": {"graph_budget": 1}}},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "scores": {},
    "distribution": {"form": "distribution", "epochs": 1},
    "accumulated": {"micro_batch_size": 2, "epochs": 1, "evaluations": 2},
    "momentum": {"optimizer": "sgd", "momentum": 0.5, "epochs": 1},
    "with a filler": {"batch_size": 2, "train": ToyExamples(5)},
    "meta weights": {"mwn": {}, "epochs": 1},
    "meta weights of classes": {"mwn": {"window": 3}, "form": "distribution", "batch_size": 2, "train": ToyExamples(5)},
    "kept gradients": {"epochs": 1, "dln": {"smooth": True, "hypergradient": CENTRAL}},
}


def episodes(folder: Path, name: str) -> dict[str, Any]:
    """Weights, answers and lines of some episodes."""
    lesson = teach(folder, **EPISODES[name])
    return {
        "teacher": lesson.teacher.state_dict(),
        "answers": lesson.taught.coefficients,
        "log": lesson.log,
    }


def network(folder: Path, name: str) -> dict[str, Any]:
    """What a run under a loss that is rewritten leaves."""
    run = network_fit(folder, **NETWORKS[name])
    state = run.teacher.state_dict()
    return {
        "weights": run.outcome.weights,
        "phi": run.teacher.phi,
        "teacher": {**state.get("network", {}), "optimizer": state["optimizer"]["state"]},
        "log": run.outcome.log,
    }


def with_dropout(folder: Path) -> dict[str, Any]:
    """Each process drops out for itself; the teacher must still be one."""
    lesson = teach(folder / "episodes", student=ToyStudent(dropout=0.4), dlf={"episodes": 2, "steps": 4})
    run = network_fit(folder / "network", student=ToyStudent(dropout=0.4), epochs=1)
    return {
        "teacher": lesson.teacher.state_dict(),
        "phi": run.teacher.phi,
        "network": run.teacher.network.state_dict(),
        "weights": run.outcome.weights,
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    found: dict[str, Any] = {"processes": AccelerateProcesses(accelerator).world_size}
    found["episodes"] = {name: episodes(folder / f"episodes {name}", name) for name in EPISODES}
    found["networks"] = {name: network(folder / f"network {name}", name) for name in NETWORKS}
    found["dropout"] = with_dropout(folder / "dropout")
    torch.save(found, folder / f"found{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()  # a process that ends first may tear the other's connection
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
