"""Runs that fill a features cache are killed without warning, or work on it at the same time: it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from feature_caches import only_file, parts_in, start_encoding
from forked import environments_of_two, finish, stop_when
from numpy.typing import NDArray
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow


class Runs:
    """Runs on one cache.

    Args:
        encoder: The tiny encoder.
        folder: For the cache and the results.
        by_token: Whether they keep token states.
    """

    def __init__(self, encoder: Path, folder: Path, *, by_token: bool) -> None:
        self.encoder, self.results, self.cache, self.by_token = encoder, folder, folder / "cache", by_token
        self.results.mkdir()

    def start(self, name: str = "resumed", *, pause: float = 0.05) -> BaseProcess:
        return self._start(name, pause)

    def start_two_together(self) -> list[BaseProcess]:
        return [self._start(str(rank), 0.05, env) for rank, env in enumerate(environments_of_two())]

    def _start(self, name: str, pause: float, env: Mapping[str, str] = {}) -> BaseProcess:
        result = self.results / f"{name}.npz"
        return start_encoding(self.encoder, self.cache, result, pause=pause, env=env, by_token=self.by_token)

    def kill(self, process: BaseProcess, kept: int, later: float = 0.0) -> int:
        """Kill a process when the cache has some batches more; how many parts it has then."""
        before = len(parts_in(self.cache))
        assert stop_when(process, lambda: len(parts_in(self.cache)) >= before + kept, later)
        assert finish(process) == -9
        return len(parts_in(self.cache))

    def result(self, name: str = "resumed") -> tuple[NDArray[np.float32], int]:
        """A run's vectors or states, and the number of batches that it encoded."""
        with np.load(self.results / f"{name}.npz") as values:
            return values["features"], int(values["batches"])

    def content(self) -> dict[bytes, bytes]:
        """The main file's bytes, or each essay's states in whichever shard; nothing but locks is left beside it."""
        assert {path.suffix for path in self.cache.rglob("*")} <= {".safetensors", ".states", ".lock"}
        if not self.by_token:
            return {b"": only_file(self.cache).read_bytes()}
        kept: dict[bytes, bytes] = {}
        for shard in map(load_file, parts_in(self.cache)):
            for digest, states in zip(shard["digests"], np.split(shard["states"], shard["ends"][:-1]), strict=True):
                assert digest.tobytes() not in kept
                kept[digest.tobytes()] = states.tobytes()
        return kept


@pytest.fixture(scope="module", params=[False, True], ids=["vectors", "token states"])
def by_token(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def runs(encoder: Path, tmp_path: Path, by_token: bool) -> Runs:
    return Runs(encoder, tmp_path / "runs", by_token=by_token)


@pytest.fixture(scope="module")
def whole(encoder: Path, by_token: bool, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """An uninterrupted run's cache, vectors or states, and number of batches."""
    alone = Runs(encoder, tmp_path_factory.mktemp("whole") / "runs", by_token=by_token)
    assert finish(alone.start(pause=0)) == 0
    features, batches = alone.result()
    assert batches > 6
    return alone.content(), features, batches


Whole = tuple[dict[bytes, bytes], NDArray[np.float32], int]


@pytest.mark.parametrize("moments", [[(1, 0.0)], [(5, 0.02)], [(1, 0.05), (2, 0.001), (1, 0.03)]])
def test_killed(runs: Runs, whole: Whole, moments: list[tuple[int, float]]) -> None:
    for kept, later in moments:
        parts = runs.kill(runs.start(), kept, later)
    assert finish(runs.start()) == 0
    features, batches = runs.result()
    assert batches == whole[2] - parts
    np.testing.assert_array_equal(features, whole[1])
    assert runs.content() == whole[0]


def test_two_runs_at_once_share_the_work(runs: Runs, whole: Whole) -> None:
    started = [runs.start(name) for name in ("one", "two")]
    assert [finish(process) for process in started] == [0, 0]
    results = [runs.result(name) for name in ("one", "two")]
    for features, _ in results:
        np.testing.assert_array_equal(features, whole[1])
    # Where they meet both may be at the same batch.
    assert whole[2] <= sum(batches for _, batches in results) <= whole[2] + 1
    assert runs.content() == whole[0]


def test_three_runs_at_once_of_which_the_first_is_killed(runs: Runs, whole: Whole) -> None:
    first = runs.start("first")
    others = [runs.start(name) for name in ("one", "two")]
    runs.kill(first, 2)
    assert [finish(process) for process in others] == [0, 0]
    for name in ("one", "two"):
        np.testing.assert_array_equal(runs.result(name)[0], whole[1])
    assert runs.content() == whole[0]


class TestProcessesThatWorkTogether:
    def test_whole(self, runs: Runs, whole: Whole) -> None:
        assert [finish(process) for process in runs.start_two_together()] == [0, 0]
        results = [runs.result(name) for name in "01"]
        for features, batches in results:
            np.testing.assert_array_equal(features, whole[1])
            assert batches == -(-whole[2] // 2)
        assert runs.content() == whole[0]

    def test_killed_and_resumed_by_one(self, runs: Runs, whole: Whole) -> None:
        main, beside = runs.start_two_together()
        parts = runs.kill(main, 2)
        beside.kill()
        beside.join()
        assert finish(runs.start()) == 0
        features, batches = runs.result()
        assert batches == whole[2] - 2 * parts
        np.testing.assert_array_equal(features, whole[1])
        assert runs.content() == whole[0]

    def test_resume_what_one_began(self, runs: Runs, whole: Whole) -> None:
        parts = runs.kill(runs.start(), 3)
        assert [finish(process) for process in runs.start_two_together()] == [0, 0]
        for name in "01":
            features, batches = runs.result(name)
            np.testing.assert_array_equal(features, whole[1])
            assert batches == -(-(whole[2] - parts) // 2)
        assert runs.content() == whole[0]
