from __future__ import annotations

import json
import math

import pytest

from aes_dynloss.errors import CheckpointError
from aes_dynloss.training.run_folder import RunLog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_records(path):
    with RunLog(path) as log:
        log.write({"step": 1, "loss": 0.5, "dev": {"qwk": math.nan, "mse": -math.inf}, "epoch": 0})
        log.write({"loss": math.inf})
    assert lines(path) == [{"step": 1, "loss": 0.5, "dev": {"qwk": None, "mse": None}, "epoch": 0}, {"loss": None}]


def test_flushed_is_the_length_on_the_disk(path):
    with RunLog(path) as log:
        assert log.flushed() == 0
        log.write({"step": 1})
        assert log.flushed() == path.stat().st_size == 12


def test_what_stands_after_the_checkpoint_is_cut_off(path):
    with RunLog(path) as log:
        log.write({"step": 1})
        kept = log.flushed()
        log.write({"step": 2, "words": "of a step that will be taken again"})
    with RunLog(path, keep=kept) as log:
        log.write({"step": 2})
    assert lines(path) == [{"step": 1}, {"step": 2}]


def test_a_new_run_starts_from_nothing(path):
    path.write_text("of an earlier run\n" * 9, encoding="utf-8")
    RunLog(path).close()
    assert path.read_bytes() == b""


def test_a_log_shorter_than_the_checkpoint_knows(path):
    for content in (None, b"{}\n"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"metrics.jsonl holds less than the 4 bytes that the checkpoint knows"
        ):
            RunLog(path, keep=4)


def test_closed_whatever_happens(path):
    def interrupted():
        with RunLog(path) as log:
            log.write({"step": 1})
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert lines(path) == [{"step": 1}]


def test_trackers_get_the_numbers_by_name(path):
    told = []
    with RunLog(path, tracker=lambda numbers, step: told.append((numbers, step))) as log:
        log.write({"step": 3, "coefficients": {"mse": 0.5}, "loss": 0.25, "note": "words"})
    assert told == [({"step": 3.0, "coefficients/mse": 0.5, "loss": 0.25}, 3)]


def test_other_processes_keep_nothing(tmp_path):
    with RunLog(None, keep=7) as log:
        log.write({"step": 1})
        assert log.flushed() == 0
    assert list(tmp_path.iterdir()) == []
