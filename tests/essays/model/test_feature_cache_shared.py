"""A features cache that several runs and processes use, one after the other and at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from feature_caches import (
    TEXTS,
    digest_of,
    essays_of,
    features_of,
    flipped,
    kept_in,
    made_cache,
    model_of,
    only_file,
    start_adding,
)
from filelock import FileLock
from forked import finish, finish_together, start
from small_run import small_essays, tune, write_small_run
from tiny_scorer import values_of
from torch import Tensor

from aes_dynloss.essays.model import activations
from aes_dynloss.essays.model.essay_cache import essay_digest
from aes_dynloss.essays.model.feature_cache import FeatureCache

pytestmark = pytest.mark.usefixtures("several_passes")


class TestTwoProcesses:
    def test_each_waits_for_the_other_and_keeps_what_it_wrote(self, cache_folder: Path) -> None:
        cache, other = made_cache(cache_folder), made_cache(cache_folder / "other", range(9))
        lock = cache.path.with_name(cache.path.name + ".lock")
        with FileLock(lock):
            process, begun = start_adding(cache, [50])
            assert begun.wait(120)
            process.join(1)
            assert process.is_alive()
            # Written while the other waits: what it read before it had the lock would be out of date.
            other.path.replace(cache.path)
        assert finish(process) == 0
        found = cache.find([*map(digest_of, range(9)), digest_of(50)])
        assert {int(row[0]) for row in found.values()} == {*range(9), 50}

    def test_at_once(self, cache_folder: Path) -> None:
        cache = made_cache(cache_folder, range(0))
        started = [start_adding(cache, range(first, 120, 3)) for first in range(3)]
        assert [finish(process) for process, _ in started] == [0, 0, 0]
        found = cache.find([*map(digest_of, range(120))])
        assert [found[digest_of(number)].tolist() for number in range(120)] == [[number] * 4 for number in range(120)]
        assert kept_in(cache.path) == 120

    def test_a_run_takes_what_another_one_kept_while_it_computed(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        """Else it could not be repeated from the cache."""
        essays, model = essays_of(encoder, TEXTS), model_of(encoder, cache_folder)
        cache = FeatureCache.of(model, "no", str(cache_folder))
        other = np.full(cache.width, 5, dtype=np.float32)

        def slowly(*arguments: object) -> Iterator[tuple[Tensor, Tensor]]:
            for computed in pooled(*arguments):
                cache.add({essay_digest(essays.essays[3].chunks): other, digest_of(1): other})
                cache.merge()
                yield computed

        pooled = activations._pooled
        with mock.patch.object(activations, "_pooled", slowly):
            found, _ = features_of(accelerator, model, essays)
        assert found[3].tolist() == other.tolist()
        again, calls = features_of(accelerator, model, essays)
        assert calls == 0
        assert torch.equal(again, found)
        assert digest_of(1) in cache.find([digest_of(1)])


def test_a_process_beside_the_main_one_does_nothing_with_the_file(
    encoder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what it is sent, also for what it took part in computing, and computes what it is told."""
    essays, model = essays_of(encoder, TEXTS), model_of(encoder, cache_folder)
    cache = FeatureCache.of(model, "no", str(cache_folder))
    own = np.arange(len(TEXTS) * cache.width, dtype=np.float32).reshape(len(TEXTS), cache.width)
    told = [False, True]

    def sent() -> Iterator[object]:
        yield cache, sorted(essay_digest(essay.chunks) for essay in essays.essays)
        yield False  # it does not lead
        for needed in told:
            yield needed
            if needed:
                yield None  # it is kept
        yield own

    answers = sent()
    monkeypatch.setattr(activations, "broadcast_object_list", lambda _: [next(answers)])
    beside = SimpleNamespace(is_main_process=False, mixed_precision="no", num_processes=2)
    computed: list[bool] = []

    def compute(*arguments: Any) -> Iterator[tuple[Tensor, Tensor]]:
        *_, rounds, needed = arguments
        for packs, wanted in zip(rounds, needed, strict=False):
            computed.append(wanted)
            if wanted:
                rows = torch.from_numpy(np.concatenate(packs))
                yield rows, torch.zeros(len(rows), cache.width)

    monkeypatch.setattr(activations, "_pooled", compute)
    found = activations.cached_features(beside, model, essays, str(cache_folder))
    assert computed == told
    assert next(answers, None) is None
    np.testing.assert_array_equal(found.numpy(), own)
    assert not cache_folder.exists()


class TestRuns:
    FROZEN = ("model.frozen_layers=all", "training.epochs=1", "evaluation.resamples=100")

    @pytest.fixture
    def run_yaml(self, tmp_path: Path) -> Path:
        return write_small_run(tmp_path)

    def test_seeds_folds_losses_and_prompts_share(self, run_yaml: Path, tmp_path: Path) -> None:
        cache = f"model.features_cache={tmp_path / 'cache'}"
        with mock.patch.object(activations, "_encoding", wraps=activations._encoding) as encoded:
            assert tune(run_yaml, tmp_path / "one", *self.FROZEN, cache).code == 0
            assert encoded.call_count == 1
            other = ("training.seed=5", "data.split.seed=5", "data.keep_prompts=[river]", "loss.terms={mae: 1.0}")
            outcome = tune(run_yaml, tmp_path / "two", *self.FROZEN, *other, cache)
            assert outcome.code == 0
            assert encoded.call_count == 1
        assert kept_in(only_file(tmp_path / "cache")) == len({row["text"] for row in small_essays()})

    def test_a_run_with_a_cache_is_the_run_without(self, run_yaml: Path, tmp_path: Path) -> None:
        cache = f"model.features_cache={tmp_path / 'cache'}"
        for name, words in {"plain": [], "filling": [cache], "reading": [cache]}.items():
            assert tune(run_yaml, tmp_path / name, *self.FROZEN, *words).code == 0
        names = ["predictions_test.csv", "model/model.safetensors", "model/config.json", "metrics.jsonl"]
        for name in names:
            contents = {(tmp_path / run / name).read_bytes() for run in ("filling", "reading")}
            assert len(contents) == 1, name
        plain, filling = (values_of(tmp_path / run / "model") for run in ("plain", "filling"))
        assert plain["model"] == filling["model"]

    def test_a_cache_that_cannot_be_used_ends_the_run_in_words(self, run_yaml: Path, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file")
        outcome = tune(run_yaml, tmp_path / "one", *self.FROZEN, f"model.features_cache={tmp_path / 'cache'}")
        assert outcome.code == 2
        assert "cannot be read: Not a directory" in outcome.error

    def test_two_processes_that_work_together(self, run_yaml: Path, tmp_path: Path) -> None:
        words = ["finetune", "run.yaml", *self.FROZEN, "model.features_cache=cache", "-o"]
        assert finish_together(tmp_path, *words, "two") == [0, 0]
        path = only_file(tmp_path / "cache")
        content = path.read_bytes()
        assert kept_in(path) == len({row["text"] for row in small_essays()})
        assert finish(start(*words, "one", folder=tmp_path)) == 0
        assert path.read_bytes() == content
        assert finish_together(tmp_path, *words, "again") == [0, 0]
        assert path.read_bytes() == content
        weights = [(tmp_path / run / "model" / "head.safetensors").read_bytes() for run in ("two", "again")]
        assert weights[0] == weights[1]
        flipped(path, -1)
        (tmp_path / "err").unlink()
        assert finish_together(tmp_path, *words, "damaged") == [2, 2]
        assert (tmp_path / "err").read_text().count(
            "does not have its checksum. Remove the file"
        ) == 1  # words of the main process
