"""A grid's cells on a Ray cluster (extra ``ray``), local or remote: many cards and machines share one grid.

All workers must see the grid's folder and the data, as on a shared disk. Ray starts a run again whose worker has died,
and the run goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.errors import AesDynlossError, ConfigError
from aes_dynloss.parts import PLUGINS, load_plugins
from aes_dynloss.training.grid import Cell, run_in_turn

logger = logging.getLogger(__name__)

# Starts again of one run whose worker or machine has died.
_RESTARTS = 5


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
    ray = _connected_ray()
    try:
        resources = ray.cluster_resources()
        gpus = (1.0 if resources.get("GPU") else 0.0) if gpus is None else gpus
        for name, wanted in (("GPU", gpus), ("CPU", cpus)):
            if wanted > resources.get(name, 0.0):
                raise ConfigError(
                    f"--engine ray: each run wants {wanted:g} {name}, and the cluster has "
                    f"{resources.get(name, 0.0):g}. Lower --{name.lower()}s-per-run, or add machines."
                )
        _run_all(ray, [cell for cell in cells if not cell.is_complete], gpus, cpus)
    finally:
        ray.shutdown()


def _connected_ray() -> Any:  # noqa: ANN401 - ray is optional
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray: Ray is not installed. Install it by `pip install 'aes-dynloss[ray]'`, or leave --engine out."
        ) from None
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS", "none, so that one is started here")
        raise ConfigError(f"--engine ray: no cluster can be reached (RAY_ADDRESS: {address}): {error}.") from None
    return ray


def _run_all(ray: Any, cells: Sequence[Cell], gpus: float, cpus: float) -> None:  # noqa: ANN401
    # A worker for each run: one that is kept keeps its memory on the card, and one device and precision for all runs.
    task = ray.remote(max_calls=1)(_run_there).options(num_gpus=gpus, num_cpus=cpus, max_retries=_RESTARTS)
    begun: dict[Path, Any] = {}
    for cell in cells:
        # Ray holds a task back until the results that it is given are there.
        needs = [begun[name] for name in cell.needs.values() if name in begun]
        # Pickled here, so that a worker can load plugins before it reads what is made of their parts.
        begun[cell.name] = task.remote(pickle.dumps(cell), Path.cwd(), os.environ.get(PLUGINS, ""), *needs)
    names = {result: name for name, result in begun.items()}
    logger.info("Runs handed to the cluster: %d.", len(names))
    waiting = list(names)
    while waiting:
        (result,), waiting = ray.wait(waiting, num_returns=1)
        try:
            ray.get(result)
        except ray.exceptions.RayTaskError as error:
            for other in waiting:
                ray.cancel(other)
            if isinstance(error.cause, AesDynlossError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise ConfigError(
                f"--engine ray: {names[result]} failed {_RESTARTS + 1} times: {error}. Done runs are kept; start again."
            ) from None
        logger.info("Run %d of %d is done: %s.", len(names) - len(waiting), len(names), names[result])


def _run_there(cell: bytes, folder: Path, plugins: str, *_needs: object) -> None:
    """On a worker: the cell, from the folder in which the command was given, with the plugins of that command."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"a worker on {os.uname().nodename} does not see {folder} ({error.strerror}). Start the benchmark from a "
            "folder that all machines share."
        ) from None
    os.environ[PLUGINS] = plugins
    load_plugins()
    run_in_turn([pickle.loads(cell)])  # noqa: S301 - written by this program's own driver
