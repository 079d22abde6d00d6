"""What two processes find together; test_two_processes.py starts this once for each of them and compares.

Run with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them, and a folder for the results.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from taught_runs import TaughtRun, taught_run
from taught_students import SmallTransformer, examples
from torch import Tensor, distributed

from aes_dynloss.teaching.hypergradient.differences import Differences
from aes_dynloss.teaching.hypergradient.exact import Exact
from aes_dynloss.teaching.hypergradient.one_step import OneStep
from aes_dynloss.teaching.student import Batch
from aes_dynloss.teaching.unrolling.step_plan import Processes

# Sizes of the effective batches: shares of 3 and 2; 5 in two micro-batches and 4 in one; a filler on the second.
RUNS: dict[str, dict[str, Any]] = {
    f"{loss}, {rule}, {size}": {"loss": loss, "rule": rule, "size": size}
    for loss in ("elements", "batch")
    for rule, size in (("momentum", 5), ("clipped adamw", 9), ("momentum", 1))
}
# Differences see rounding through a small denominator, which is not the same in two processes and one.
ROOM = {
    "exact": 1e-10,
    "kept graphs": 1e-10,
    "some graphs": 1e-10,
    "central": 1e-6,
    "one step": 1e-6,
}


class Gloo:
    """Processes over torch.distributed; the slow way, through pickled objects."""

    @property
    def world_size(self) -> int:
        return distributed.get_world_size()

    def total(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach().clone().contiguous()
        distributed.all_reduce(tensor)
        return tensor

    def rows(self, index: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        every: list[Any] = [None] * self.world_size
        distributed.all_gather_object(every, [index, *(tensor.detach() for tensor in tensors)])
        index, *columns = (torch.cat(parts) for parts in zip(*every, strict=True))
        order = index.argsort(stable=True)[int((index < 0).sum()) :]
        return index[order], [column[order] for column in columns]

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext()


def share(rows: list[int], rank: int, micro: int) -> tuple[Batch, ...]:
    """Every other row in micro-batches; one filler where there is none."""
    mine = rows[rank::2]
    if not mine:
        filler = examples(rows[:1])
        return (replace(filler, index=torch.full_like(filler.index, -1)),)
    return tuple(examples(mine[start : start + micro]) for start in range(0, len(mine), micro))


def shared_run(processes: Processes | None, *, dropout: float = 0.0, **how: Any) -> TaughtRun:
    """A run whose batches are whole, or this process's shares."""
    run = taught_run(student=SmallTransformer(dropout=dropout), processes=processes, **{"size": 8, **how}, micro=100)
    if processes is None:
        return run
    rank = distributed.get_rank()
    plans = [replace(plan, batches=share(plan.index.tolist(), rank, 4)) for plan in (*run.plans, run.measure.plan)]
    return replace(run, plans=plans[:-1], measure=replace(run.measure, plan=plans[-1]))


def hypergradients(name: str, processes: Processes | None) -> dict[str, Tensor]:
    """Of one of the runs, by several estimators."""
    run = shared_run(processes, **RUNS[name])
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "exact": (Exact(), {}),
        "kept graphs": (Exact(), {"kept_graphs": 2**30}),
        # Larger graphs on the first process, so that it keeps fewer of them.
        "some graphs": (Exact(), {"kept_graphs": 50_000}),
        "central": (Differences(), {"gradients": True}),
        "one step": (OneStep(), {"gradients": True}),
    }
    return {way: run.estimate(estimator, **memory).coefficients for way, (estimator, memory) in ways.items()}


def with_dropout(loss: str) -> tuple[Tensor, Tensor]:
    """Exact and numeric hypergradient of a run in which each process drops out for itself."""
    run = shared_run(Gloo(), dropout=0.2, loss=loss, rule="momentum", size=5, steps=2)
    torch.manual_seed(distributed.get_rank())
    with run.live.undisturbed():
        loose = [replace(plan, random=None) for plan in run.plans]
        run = replace(run, plans=[step.plan for step in run.walk(plans=loose).steps])
    return run.estimate(Exact()).coefficients, run.numeric()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    found: dict[str, Any] = {name: hypergradients(name, Gloo()) for name in RUNS}
    found["dropout"] = {loss: with_dropout(loss) for loss in ("elements", "batch")}
    torch.save(found, folder / f"found{distributed.get_rank()}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
