"""Runs over frozen lower layers: token states are computed once, in a cache for all runs or in the run's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from forked import finish_together
from small_run import EVERYTHING, small_essays, tune, write_small_run

from aes_dynloss.essays.finetune import products
from aes_dynloss.essays.model import essay_cache
from aes_dynloss.essays.model.state_cache import STATES, StateCache

pytestmark = pytest.mark.slow

WORDS = ("model.frozen_layers=1", "training.epochs=1", "data.keep_prompts=[river]")
SAME = ("predictions_test.csv", "predictions_dev.csv", "metrics.jsonl", "model/model.safetensors", "model/config.json")


@pytest.fixture
def kept() -> Iterator[list[int]]:
    """Essays of each shard that is computed."""
    add, essays = StateCache.add, []

    def counting(cache: StateCache, values: dict[bytes, Any]) -> None:
        essays.append(len(values))
        add(cache, values)

    with mock.patch.object(StateCache, "add", counting):
        yield essays


def check_same(one: Path, other: Path) -> None:
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def straight(run_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a cache that nobody stops."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert tune(run_yaml, folder, *WORDS).code == 0
    assert {path.name for path in folder.iterdir()} == EVERYTHING
    return folder


def test_a_cache_is_filled_and_read(run_yaml: Path, straight: Path, tmp_path: Path, kept: list[int]) -> None:
    cache = f"model.features_cache={tmp_path / 'cache'}"
    texts = {row["text"] for row in small_essays() if row["prompt_id"] == "river"}
    for name in ("filling", "reading"):
        assert tune(run_yaml, tmp_path / name, *WORDS, cache).code == 0
        assert sum(kept) == len(texts)
        check_same(tmp_path / name, straight)
        assert {path.name for path in (tmp_path / name).iterdir()} == EVERYTHING
    other = ("training.seed=5", "data.split.seed=5", "loss.terms={mae: 1.0}", "model.encoder_dropout=0.2")
    assert tune(run_yaml, tmp_path / "another", *WORDS, *other, cache).code == 0
    assert sum(kept) == len(texts)


def test_a_resumed_run_does_not_compute_them_again(
    run_yaml: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: list[int]
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(products, "write_predictions", interrupt)
        assert tune(run_yaml, folder, *WORDS).code == 130
    assert (folder / STATES).exists()
    assert kept
    kept.clear()
    assert tune(run_yaml, folder, *WORDS, "--resume").code == 0
    assert kept == []
    check_same(folder, straight)
    assert {path.name for path in folder.iterdir()} == EVERYTHING


def test_a_run_that_was_begun_is_replaced_as_a_whole(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(StateCache, "find_all", mock.Mock(side_effect=KeyboardInterrupt))
        assert tune(run_yaml, folder, *WORDS).code == 130
    outcome = tune(run_yaml, folder, *WORDS)
    assert outcome.code == 2
    assert f"already holds a run (config.yaml, manifest.json, {STATES}). Go on with it by --resume" in outcome.error
    assert tune(run_yaml, folder, *WORDS, "model.frozen_layers=0", "--force").code == 0
    assert not (folder / STATES).exists()


def test_too_little_room_does_not_block_the_corrected_command(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(essay_cache.shutil, "disk_usage", lambda _: mock.Mock(free=10))
        outcome = tune(run_yaml, folder, *WORDS)
    assert outcome.code == 2
    assert "needs 0.1 MB to add 30 essays" in outcome.error
    assert "MB free. Make room, or set model.features_cache to another folder." in outcome.error
    assert tune(run_yaml, folder, *WORDS, f"model.features_cache={tmp_path / 'cache'}").code == 0


def test_two_processes_that_work_together(tmp_path: Path) -> None:
    run_yaml = write_small_run(tmp_path)
    words = ["finetune", run_yaml.name, *WORDS, "model.features_cache=cache", "-o"]
    assert finish_together(tmp_path, *words, "two") == [0, 0]
    content = {path: path.read_bytes() for path in tmp_path.glob("cache/*.states/*")}
    assert content
    assert finish_together(tmp_path, *words, "again") == [0, 0]
    assert {path: path.read_bytes() for path in tmp_path.glob("cache/*.states/*")} == content
    check_same(tmp_path / "two", tmp_path / "again")
    assert finish_together(tmp_path, *words[:-2], "-o", "own") == [0, 0]
    assert not (tmp_path / "own" / STATES).exists()
    assert (tmp_path / "own" / "predictions_test.csv").read_bytes() == (
        tmp_path / "two" / "predictions_test.csv"
    ).read_bytes()
