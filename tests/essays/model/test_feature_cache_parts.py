"""A features cache is filled batch by batch: what ends a run loses no more than one, and the vectors are the same."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from feature_caches import (
    MANY_TEXTS,
    add_one_by_one,
    counted,
    digest_of,
    essays_of,
    features_of,
    flipped,
    kept_in,
    made_cache,
    model_of,
    only_file,
    parts_in,
)
from safetensors.numpy import load_file
from torch import Tensor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.model import activations, essay_cache
from aes_dynloss.essays.model.essay_cache import essay_digest
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.feature_cache import FeatureCache

pytestmark = pytest.mark.usefixtures("several_passes")


class EndedError(Exception):
    """What ends a run from without."""


class Run:
    """A run, each time as if in a process of its own."""

    def __init__(self, accelerator: Accelerator, encoder: Path) -> None:
        self.accelerator, self.encoder, self.essays = accelerator, encoder, essays_of(encoder, MANY_TEXTS)

    def complete(self, folder: Path, essays: EssayExamples | None = None) -> tuple[Tensor, int]:
        """The vectors, and how many batches were encoded for them."""
        model = model_of(self.encoder, folder)
        with counted(model) as calls:
            found, _ = features_of(self.accelerator, model, self.essays if essays is None else essays)
        return found, len(calls)

    def ended(self, folder: Path, kept: int, *, leads: bool = True) -> None:
        """A run that ends when some batches are kept and the next one is computed; another one may lead."""
        add, batches = FeatureCache.add, []

        def ending(cache: FeatureCache, vectors: dict[bytes, np.ndarray]) -> None:
            if len(batches) == kept:
                raise EndedError
            batches.append(add(cache, vectors))

        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if not leads:
                other = FeatureCache.of(model_of(self.encoder, folder), "no", str(folder))
                assert stack.enter_context(other.lead())
            stack.enter_context(mock.patch.object(FeatureCache, "add", ending))
            stack.enter_context(pytest.raises(EndedError))
            self.complete(folder)


@pytest.fixture
def run(accelerator: Accelerator, encoder: Path) -> Run:
    return Run(accelerator, encoder)


@pytest.fixture
def whole(run: Run, tmp_path: Path) -> tuple[Tensor, int]:
    """What an uninterrupted run gives, and its batches."""
    found, batches = run.complete(tmp_path / "whole")
    assert batches > 6
    return found, batches


class TestResumed:
    @pytest.mark.parametrize("leads", [True, False], ids=["longest first", "shortest first"])
    @pytest.mark.parametrize("kept", [0, 1, 2, 5])
    def test_the_rest_is_encoded_to_the_same_bits(
        self, run: Run, whole: tuple[Tensor, int], cache_folder: Path, kept: int, leads: bool
    ) -> None:
        run.ended(cache_folder, kept, leads=leads)
        assert len(parts_in(cache_folder)) == kept
        assert not list(cache_folder.glob("*.safetensors"))
        found, batches = run.complete(cache_folder)
        assert batches == whole[1] - kept
        assert torch.equal(found, whole[0])
        assert {path.suffix for path in cache_folder.iterdir()} <= {".safetensors", ".lock"}
        assert kept_in(only_file(cache_folder)) == len(MANY_TEXTS)

    def test_ended_again_and_again_at_both_ends(self, run: Run, whole: tuple[Tensor, int], cache_folder: Path) -> None:
        for leads in (True, False, True):
            run.ended(cache_folder, 1, leads=leads)
        found, batches = run.complete(cache_folder)
        assert batches == whole[1] - 3
        assert torch.equal(found, whole[0])

    def test_the_order_of_essays_does_not_matter(self, run: Run, whole: tuple[Tensor, int], cache_folder: Path) -> None:
        """Such as that of another fold."""
        order = np.random.default_rng(0).permutation(len(MANY_TEXTS))
        run.ended(cache_folder, 3)
        found, batches = run.complete(cache_folder, run.essays.select(order))
        assert batches == whole[1] - 3
        assert torch.equal(found, whole[0][torch.from_numpy(order)])

    def test_parts_are_enough_for_their_essays(self, run: Run, whole: tuple[Tensor, int], cache_folder: Path) -> None:
        run.ended(cache_folder, 3)
        kept = {key.tobytes() for part in parts_in(cache_folder) for key in load_file(part)["digests"]}
        rows = [row for row, essay in enumerate(run.essays.essays) if essay_digest(essay.chunks) in kept]
        assert 3 <= len(rows) < len(MANY_TEXTS)
        found, batches = run.complete(cache_folder, run.essays.select(rows))
        assert batches == 0
        assert torch.equal(found, whole[0][rows])
        assert parts_in(cache_folder) == []

    def test_what_was_kept_may_not_vanish_meanwhile(self, run: Run, cache_folder: Path) -> None:
        def removed(cache: FeatureCache) -> None:
            shutil.rmtree(cache.path.parent)

        with (
            mock.patch.object(FeatureCache, "merge", removed),
            pytest.raises(CheckpointError, match=r"Vectors were removed from .* during this run\. Run it again\."),
        ):
            run.complete(cache_folder)


class TestTwoRunsAtOnce:
    """The second run begins while the first has computed a batch and not kept it yet."""

    @pytest.mark.parametrize("begun", [0, 1, 3])
    def test_the_second_completes_meanwhile(
        self, run: Run, whole: tuple[Tensor, int], cache_folder: Path, begun: int
    ) -> None:
        second: list[tuple[Tensor, int]] = []
        with overtaken(begun, lambda: second.append(run.complete(cache_folder))):
            found, batches = run.complete(cache_folder)
        assert batches == begun + 1
        assert second[0][1] == whole[1] - begun  # both computed the batch that the first was at
        assert torch.equal(found, whole[0])
        assert torch.equal(second[0][0], whole[0])
        assert parts_in(cache_folder) == []
        assert kept_in(only_file(cache_folder)) == len(MANY_TEXTS)

    def test_the_second_has_taken_the_other_end(self, run: Run, whole: tuple[Tensor, int], cache_folder: Path) -> None:
        with overtaken(1, lambda: run.ended(cache_folder, 4)):
            found, batches = run.complete(cache_folder)
        assert batches == whole[1] - 4
        assert torch.equal(found, whole[0])
        assert parts_in(cache_folder) == []


def overtaken(batch: int, by: Callable[[], object]) -> AbstractContextManager[object]:
    """Within the block the first run to do so calls something between computing a batch and keeping it."""
    pooled, called = activations._pooled, []

    def interrupted(*arguments: object) -> Iterator[tuple[Tensor, Tensor]]:
        for number, computed in enumerate(pooled(*arguments)):
            if number == batch and not called:
                called.append(batch)
                by()
            yield computed

    return mock.patch.object(activations, "_pooled", interrupted)


class TestParts:
    """Of made-up essays, whose vectors have the essay's number in each element."""

    @pytest.fixture
    def cache(self, cache_folder: Path) -> FeatureCache:
        """Merged: 0 to 4; in parts: 5 and 6, 7."""
        cache = made_cache(cache_folder)
        for numbers in ([5, 6], [7]):
            cache.add({digest_of(number): np.full(cache.width, number, np.float32) for number in numbers})
        return cache

    def numbers(self, cache: FeatureCache) -> list[float]:
        found = cache.find([*map(digest_of, range(10))])
        assert all(row.dtype == np.float32 and np.ptp(row) == 0 for row in found.values())
        assert all(digest == digest_of(int(row[0])) for digest, row in found.items())
        return sorted(row[0] for row in found.values())

    def test_count_as_the_main_file(self, cache: FeatureCache) -> None:
        assert kept_in(cache.path) == 5
        assert self.numbers(cache) == [*range(8)]
        before = cache.size()
        cache.merge()
        assert kept_in(cache.path) == 8
        assert self.numbers(cache) == [*range(8)]
        assert cache.size() < before
        assert not list(cache.path.parent.glob("*.parts"))

    def test_are_there_while_another_process_merges_them(self, cache: FeatureCache) -> None:
        """Just before one of them is read, and just before the main file is."""
        read, files = FeatureCache._read, [*parts_in(cache.path.parent), cache.path]

        for moment in range(3):
            left = cache.path.parent.parent / str(moment)
            shutil.copytree(cache.path.parent, left)
            other = FeatureCache(left / cache.path.name, cache.identity, cache.width)
            reads: list[Path] = []

            def merged_meanwhile(
                self: FeatureCache, path: Path, _: object = None, reads: list[Path] = reads, moment: int = moment
            ) -> dict[bytes, np.ndarray]:
                reads.append(path)
                if len(reads) == moment + 1:
                    self.merge()
                return read(self, path)

            with mock.patch.object(FeatureCache, "_read", merged_meanwhile):
                assert self.numbers(other) == [*range(8)]
            assert len(reads) > len(files)

    def test_the_main_file_has_the_last_word(self, cache: FeatureCache) -> None:
        other = np.full(cache.width, 99, np.float32)
        cache.add({digest_of(4): other, digest_of(8): np.full(cache.width, 8, np.float32)})
        assert self.numbers(cache) == [*range(9)]
        cache.merge()
        assert self.numbers(cache) == [*range(9)]

    def test_the_first_to_keep_a_batch_has_the_last_word(self, cache: FeatureCache) -> None:
        cache.add({digest_of(7): np.full(cache.width, 99, np.float32)})
        assert self.numbers(cache) == [*range(8)]

    def test_a_damaged_one_is_refused_and_nothing_lost(self, cache: FeatureCache) -> None:
        part = next(path for path in parts_in(cache.path.parent) if kept_in(path) == 1)
        content = part.read_bytes()
        flipped(part, -40)  # of the vector
        for damage, words in (
            (part.read_bytes(), "checksum"),
            (content[:-1], "cut off"),
            (b"", "header"),
            (content[:99], "header"),
        ):
            part.write_bytes(damage)
            for action in (lambda: cache.find([digest_of(1)]), cache.merge):
                with pytest.raises(CheckpointError, match=f"features cache .*{part.name} cannot be used: .*{words}"):
                    action()
        part.unlink()
        cache.merge()
        assert self.numbers(cache) == [*range(7)]

    def test_another_encoders_are_refused(self, cache: FeatureCache) -> None:
        other = FeatureCache(cache.path, "{}", cache.width)
        with pytest.raises(CheckpointError, match=r"parts/.*something else than vectors of this encoder"):
            other.find([digest_of(1)])

    def test_half_written_ones_do_not_count_and_go(self, cache: FeatureCache) -> None:
        folder = parts_in(cache.path.parent)[0].parent
        (folder / ".abc.safetensors.123.tmp").write_bytes(b"half")
        assert self.numbers(cache) == [*range(8)]
        cache.merge()
        assert not folder.exists()

    def test_merged_and_then_ended_before_they_went(self, cache: FeatureCache) -> None:
        with mock.patch.object(essay_cache.shutil, "rmtree", side_effect=EndedError), pytest.raises(EndedError):
            cache.merge()
        assert len(parts_in(cache.path.parent)) == 2
        assert self.numbers(cache) == [*range(8)]
        written = cache.path.stat().st_ino
        cache.merge()
        assert parts_in(cache.path.parent) == []
        assert cache.path.stat().st_ino == written
        assert self.numbers(cache) == [*range(8)]

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_stay_when_there_is_no_room_to_merge_them(
        self, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        files = {path: path.read_bytes() for path in [cache.path, *parts_in(cache.path.parent)]}

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(*(essay_cache.os, "fsync") if call == "fsync" else (Path, "replace"), full)
        with pytest.raises(CheckpointError, match=r"cannot be written: No space left on device\. Make room"):
            cache.merge()
        assert {path: path.read_bytes() for path in [cache.path, *parts_in(cache.path.parent)]} == files
        assert not list(cache.path.parent.glob(".*.tmp"))

    def test_stay_where_nothing_may_be_written(self, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(essay_cache.os, "access", lambda *_: False)  # root may write anywhere
        cache.merge()
        assert len(parts_in(cache.path.parent)) == 2
        assert self.numbers(cache) == [*range(8)]

    def test_what_is_missing_is_looked_up_when_it_is_asked_for(self, cache: FeatureCache) -> None:
        packs = [[digest_of(number) for number in pack] for pack in ([0, 1], [1, 8], [5, 6], [8], [9], [6, 9], [7])]
        missing = cache.missing(packs)
        assert [next(missing) for _ in range(3)] == [False, True, False]
        add_one_by_one(cache, [8])
        assert next(missing) is False
        cache.add({digest_of(9): np.full(cache.width, 9, np.float32)})
        assert next(missing) is False
        assert next(missing) is True  # kept, but in no part of its own: computed once more, and not kept twice
        assert next(missing) is False

    def test_one_process_leads_until_it_ends(self, cache: FeatureCache) -> None:
        with cache.lead() as first:
            with cache.lead() as second, cache.lead() as third:
                assert (first, second, third) == (True, False, False)
            with cache.lead() as fourth:
                assert not fourth
        with cache.lead() as fifth:
            assert fifth

    def test_are_not_held_in_memory(self, cache_folder: Path) -> None:
        rng, width = np.random.default_rng(0), 2000
        cache_folder.mkdir(parents=True)
        cache = FeatureCache(cache_folder / "wide.safetensors", "{}", width)
        for start in range(0, 1000, 100):
            values = rng.normal(size=(100, width)).astype(np.float32)
            cache.add({digest_of(start + row): value for row, value in enumerate(values)})
            if start in (400, 900):
                tracemalloc.start()
                cache.merge()
                found = cache.find([*map(digest_of, range(1000))])
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert len(found) == start + 100
                assert peak < 0.2 * cache.size()
        np.testing.assert_array_equal(found[digest_of(999)], values[99])


class TestRoom:
    def test_too_little_is_known_before_anything_is_encoded(
        self, run: Run, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is to be room for the parts beside the file that they are merged into."""
        run.complete(cache_folder, run.essays.select(range(5)))
        cache = FeatureCache.of(model_of(run.encoder, cache_folder), "no", str(cache_folder))
        one, before = 4 * cache.width + 32, only_file(cache_folder).stat().st_size
        new = len(MANY_TEXTS) - 5
        needed = before + 2 * new * one
        free = SimpleNamespace(free=needed - 1)
        monkeypatch.setattr(essay_cache.shutil, "disk_usage", lambda _: free)
        model = model_of(run.encoder, cache_folder)
        words = (
            rf"The features cache {cache.path} needs \d+\.\d MB to add {new} essays, but {cache_folder} has \d+\.\d MB "
            r"free\. Make room, or set model\.features_cache to another folder; null: no cache\."
        )
        with counted(model) as calls, pytest.raises(CheckpointError, match=words):
            features_of(run.accelerator, model, run.essays)
        assert calls == []
        free.free = 0
        assert run.complete(cache_folder, run.essays.select(range(5)))[1] == 0
        free.free = needed
        assert run.complete(cache_folder)[1] > 0
        assert only_file(cache_folder).stat().st_size - before == pytest.approx(new * one, abs=16)

    def test_is_enough_on_a_disk_that_has_no_more(self, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = made_cache(cache_folder)
        assert cache.size(3) == cache.size() + 3 * (4 * 4 + 32)
        monkeypatch.setattr(essay_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
        cache.make_room(1000)
        with pytest.raises(CheckpointError, match=r"needs 1\.0 MB to add 10500 essays"):
            cache.make_room(10_500)
