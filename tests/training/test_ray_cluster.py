"""Tasks over a cluster: in the order of the items, a bounded number under way. The cluster is a stub."""

from __future__ import annotations

import pickle
import socket
from types import SimpleNamespace

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.training.ray_cluster import _check_reachable, map_on_ray


class StubRay:
    """Hands tasks out, runs each as its result is asked for, and counts those that are under way."""

    def __init__(self, **resources: float) -> None:
        self.resources, self.waiting, self.most, self.cancelled, self.wanted = resources, [], 0, [], {}
        self.exceptions = SimpleNamespace(RayTaskError=TaskError, RayError=OSError)

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def is_initialized(self) -> bool:
        return True

    def remote(self, **_words: object):
        def hand_out(task: bytes, *_where: object) -> object:
            reference = pickle.loads(task)
            self.waiting.append(reference)
            self.most = max(self.most, len(self.waiting))
            return reference

        def options(**wanted: object) -> SimpleNamespace:
            self.wanted = wanted
            return SimpleNamespace(remote=hand_out)

        return lambda _function: SimpleNamespace(options=options)

    def get(self, reference):
        function, item = reference
        self.waiting.remove(reference)
        try:
            return function(item)
        except DataError as error:
            raise TaskError(error) from None

    def cancel(self, reference: object) -> None:
        self.cancelled.append(reference[1])


class TaskError(Exception):
    """Of Ray: what a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def double(item: int) -> int:
    if item == 13:
        raise DataError("13 cannot be doubled.")
    return 2 * item


def test_results_come_in_order_and_few_tasks_are_under_way():
    ray = StubRay(CPU=2.0)
    assert list(map_on_ray(ray, double, range(12))) == [2 * item for item in range(12)]
    assert ray.most == 6
    assert (ray.wanted["num_cpus"], ray.wanted["num_gpus"], ray.wanted["max_retries"]) == (1, 0.0, 5)


def test_a_card_each_counts_cards():
    ray = StubRay(CPU=16.0, GPU=1.0)
    assert list(map_on_ray(ray, double, range(12), gpus=1.0)) == [2 * item for item in range(12)]
    assert (ray.most, ray.wanted["num_gpus"]) == (3, 1.0)


def test_the_first_error_is_raised_and_the_others_are_cancelled():
    ray = StubRay(CPU=1.0)
    results = map_on_ray(ray, double, [1, 13, 2, 3, 4])
    assert next(results) == 2
    with pytest.raises(DataError, match="13 cannot be doubled"):
        next(results)
    assert ray.cancelled == [13, 2, 3]


def test_who_leaves_early_cancels_what_is_under_way():
    ray = StubRay(CPU=1.0)
    results = map_on_ray(ray, double, range(9))
    assert next(results) == 0
    results.close()
    assert ray.cancelled == [1, 2]


def test_a_head_is_asked_for_before_ray_is():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _check_reachable(f"127.0.0.1:{port}")
        _check_reachable(f"ray://127.0.0.1:{port}")
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(OSError, match="refused"):
            _check_reachable(address)
    for address in (None, "auto", "local"):
        _check_reachable(address)
