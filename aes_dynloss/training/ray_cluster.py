"""Work on a Ray cluster (extra ``ray``), local or remote.

A task is a function and its argument. It runs from the folder in which the command was given, which all workers must
see, with the plugins of that command. Ray starts a task again whose worker or machine has died.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from aes_dynloss.errors import AesDynlossError, ConfigError
from aes_dynloss.parts import PLUGINS, load_plugins

# Starts again of one task whose worker or machine has died.
RESTARTS = 5
# Tasks handed over for each that can run at once: none waits for work, and results do not heap up.
_AHEAD = 3
# Seconds after which a machine that does not answer counts as one that cannot be reached.
_PATIENCE = 5

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def connected_ray(address: str | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs.

    Args:
        address: HOST:PORT of its head, or ``ray://HOST:PORT``; None: that of RAY_ADDRESS, else one is started here.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray: Ray is not installed. Install it by `pip install 'aes-dynloss[ray]'`, or leave --engine out."
        ) from None
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        _check_reachable(address)
        ray.init(
            address or "local",  # None is any cluster that somebody began on this machine
            ignore_reinit_error=True,
            log_to_driver=False,
            include_dashboard=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(
            f"--engine ray: no cluster can be reached at {address or 'this machine'}: {reason}. Name the head of one "
            "that runs, or none, so that one is started here."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Knock at the head's port; Ray itself would go on for a minute."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


def ray_task(ray: Any, *, cpus: float, gpus: float, most_calls: int = 0) -> Any:  # noqa: ANN401
    """What Ray runs of a task, to be called by ``remote`` with what :func:`packed` returns.

    Args:
        ray: See :func:`connected_ray`.
        cpus: Cores for each task.
        gpus: Cards for each task.
        most_calls: Tasks after which a worker ends; 0 for none, so that it keeps what it has loaded.
    """
    return ray.remote(max_calls=most_calls)(_run_there).options(num_cpus=cpus, num_gpus=gpus, max_retries=RESTARTS)


def packed(function: Callable[[Item], Any], argument: Item) -> tuple[bytes, Path, str]:
    """A task and where it belongs; pickled here, so that a worker loads plugins before it reads what they made."""
    return pickle.dumps((function, argument)), Path.cwd(), os.environ.get(PLUGINS, "")


def result_of(ray: Any, reference: Any, name: str) -> Any:  # noqa: ANN401
    """The result of a task that has ended, or the error that it raised.

    Args:
        ray: See :func:`connected_ray`.
        reference: What ``remote`` returned.
        name: The task in messages.

    Raises:
        ConfigError: Its workers have died, again and again.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, AesDynlossError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).rstrip(".")
        raise ConfigError(
            f"--engine ray: {name} failed, in up to {RESTARTS + 1} attempts: {reason}. What is done is kept: give the "
            "command again, score with --resume."
        ) from None


def map_on_ray(
    ray: Any,  # noqa: ANN401
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    gpus: float = 0.0,
) -> Iterator[Result]:
    """Results of a function, in the order of the items, like those of ``map``; a bounded number is under way.

    Args:
        ray: See :func:`connected_ray`.
        function: Of a module; it is told one item.
        items: Plain values, whose ``str`` names them in messages.
        gpus: Cards for each item.

    Raises:
        ConfigError: The cluster has too few cards, or the workers of an item have died again and again.
        AesDynlossError: What the function raised first in the order of the items; the others are cancelled.
    """
    task = ray_task(ray, cpus=1, gpus=gpus)
    stream = iter(items)
    begun: deque[tuple[str, Any]] = deque()
    try:
        while True:
            while len(begun) < _AHEAD * _slots(ray, gpus) and (item := next(stream, None)) is not None:
                begun.append((str(item), task.remote(*packed(function, item))))
            if not begun:
                return
            name, reference = begun[0]
            result = result_of(ray, reference, name)
            begun.popleft()
            yield result
    finally:
        for _, reference in begun if ray.is_initialized() else ():  # else they ended with the connection
            ray.cancel(reference)


def _slots(ray: Any, gpus: float) -> int:  # noqa: ANN401
    """Tasks that the cluster, as it is now, can run at once."""
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1)))


def _run_there(task: bytes, folder: Path, plugins: str, *_needs: object) -> Any:  # noqa: ANN401
    """On a worker: the task, from the folder in which the command was given, with the plugins of that command."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"a worker on {os.uname().nodename} does not see {folder} ({error.strerror}). Start the command from a "
            "folder that all machines share."
        ) from None
    os.environ[PLUGINS] = plugins
    load_plugins()
    function, argument = pickle.loads(task)  # noqa: S301 - written by this program's own driver
    return function(argument)
