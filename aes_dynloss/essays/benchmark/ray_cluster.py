"""A grid's cells on a Ray cluster (extra ``ray``), local or remote: many cards and machines share one grid.

All workers must see the grid's folder and the data, as on a shared disk. Ray starts a run again whose worker has died,
and the run goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.errors import ConfigError
from aes_dynloss.training.grid import Cell, run_in_turn
from aes_dynloss.training.ray_cluster import connected_ray, packed, ray_task, result_of

logger = logging.getLogger(__name__)


def run_on_ray(cells: Sequence[Cell], *, gpus: float | None = None, cpus: float = 1.0) -> None:
    """Run all cells that are not done on the cluster that RAY_ADDRESS names, or on one that is started here.

    Args:
        cells: Those that others need before these.
        gpus: Cards for each run, such as 0.25 for four runs on one; None: 1 where the cluster has any, else 0.
        cpus: Cores for each run.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached or has too little for one run, or a worker
            does not see the current folder.
        AesDynlossError: What a cell's run raised; runs that have not begun are cancelled.
    """
    with connected_ray() as ray:
        resources = ray.cluster_resources()
        gpus = (1.0 if resources.get("GPU") else 0.0) if gpus is None else gpus
        for name, wanted in (("GPU", gpus), ("CPU", cpus)):
            if wanted > resources.get(name, 0.0):
                raise ConfigError(
                    f"--engine ray: each run wants {wanted:g} {name}, and the cluster has "
                    f"{resources.get(name, 0.0):g}. Lower --{name.lower()}s-per-run, or add machines."
                )
        _run_all(ray, [cell for cell in cells if not cell.is_complete], gpus, cpus)


def _run_all(ray: Any, cells: Sequence[Cell], gpus: float, cpus: float) -> None:  # noqa: ANN401
    # A worker for each run: one that is kept keeps its memory on the card, and one device and precision for all runs.
    task = ray_task(ray, cpus=cpus, gpus=gpus, most_calls=1)
    begun: dict[Path, Any] = {}
    for cell in cells:
        # Ray holds a task back until the results that it is given are there.
        needs = [begun[name] for name in cell.needs.values() if name in begun]
        begun[cell.name] = task.remote(*packed(run_in_turn, [cell]), *needs)
    names = {result: name for name, result in begun.items()}
    logger.info("Runs handed to the cluster: %d.", len(names))
    waiting = list(names)
    try:
        while waiting:
            (result,), waiting = ray.wait(waiting, num_returns=1)
            result_of(ray, result, str(names[result]))
            logger.info("Run %d of %d is done: %s.", len(names) - len(waiting), len(names), names[result])
    finally:
        for other in waiting:
            ray.cancel(other)
