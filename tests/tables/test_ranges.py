from __future__ import annotations

import json
import math

import numpy as np
import pytest
from facts import facts

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.tables.score_range import (
    ScoreRange,
    infer_range,
    parse_range,
    parse_ranges,
    read_ranges,
    spanning,
    widened,
)


@pytest.mark.parametrize(
    ("text", "prompt", "expected"),
    [
        ("2=1:6", "2", ScoreRange(1, 6)),
        ("ielts=0:9:0.5", "ielts", ScoreRange(0, 9, 0.5)),
        ("a=b=-2:2", "a=b", ScoreRange(-2, 2)),
        ("007=0:3", "007", ScoreRange(0, 3)),
        ("1:6", "all", ScoreRange(1, 6)),
    ],
)
def test_ranges_on_the_command_line(text, prompt, expected):
    assert parse_range(text) == (prompt, expected)


@pytest.mark.parametrize("text", ["1-6", "=1:6", "2=1", "2=1:6:1:1", "2=1:six", "2=", ""])
def test_what_is_no_range(text):
    with pytest.raises(ConfigError, match="written ID=LOW:HIGH or ID=LOW:HIGH:STEP, such as 2=1:6; found"):
        parse_range(text)


def test_a_range_upside_down():
    with pytest.raises(ConfigError, match="low < high"):
        parse_range("2=6:1")


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_ids_stay_as_they_are_written(tmp_path):
    path = written(tmp_path, "p.yaml", "007: {low: 1, high: 6}\nno: {low: 0, high: 1e1, step: .5, prompt: 'Why?'}\n")
    assert read_ranges(path) == {"007": ScoreRange(1, 6), "no": ScoreRange(0, 10, 0.5)}


def test_json(tmp_path):
    path = written(tmp_path, "p.json", json.dumps({"1": {"low": 2, "high": 12, "prompt": "..."}}))
    assert read_ranges(path) == {"1": ScoreRange(2, 12)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.yaml", "{1: {low: 1", "Cannot read score ranges from .*p.yaml"),
        ("p.yaml", "1: {low: 1, high: 6}\n1: {low: 0, high: 3}\n", "key '1' comes twice"),
        ("p.json", "{", "Cannot read score ranges from .*p.json"),
        ("p.json", '{"1": {"low": 1, "high": 6}, "1": {"low": 0, "high": 3}}', "key '1' comes twice"),
        ("p.yaml", "", "p.yaml must map prompt ids to ranges"),
        ("p.yaml", "[1, 6]", "p.yaml must map prompt ids to ranges"),
        ("p.yaml", "2: {low: 1}", "Prompt 2 in p.yaml needs the keys low and high"),
        ("p.yaml", f"2: {'x' * 200}", r"Prompt 2 in p.yaml needs the keys .* found 'x{56}\.\.\."),
        ("p.yaml", "2: {low: 1, high: 6, stepp: 1}", "Prompt 2 in p.yaml has the unknown key 'stepp'"),
        ("p.yaml", "2: {low: 6, high: 1}", "Prompt 2 in p.yaml has no valid range: .*low < high"),
        ("p.yaml", "2: {low: one, high: 6}", "Prompt 2 in p.yaml has no valid range: could not convert"),
        ("p.json", '{"2": {"low": true, "high": 6}}', "Prompt 2 in p.json has no valid range: True is not a number"),
    ],
)
def test_files_that_hold_no_ranges(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message):
        read_ranges(written(tmp_path, name, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read score ranges from .*p.yaml"):
        read_ranges(tmp_path / "p.yaml")


def test_a_range_from_the_scores_seen():
    assert infer_range([np.array([3.0, math.nan]), np.array([1.0, 5.0])], "prompt 2") == ScoreRange(1, 5)
    assert infer_range([np.array([3.0, 3.0])], "prompt 2") == ScoreRange(2, 4)


def test_scores_that_tell_no_range():
    with pytest.raises(DataError, match=facts("2.5", "prompt 2", "ID=LOW:HIGH:STEP")):
        infer_range([np.array([1.0, 2.5])], "prompt 2")
    with pytest.raises(DataError, match=r"no score to tell the range of prompt 2 from. Give its range"):
        infer_range([np.array([math.nan])], "prompt 2")


def test_widened_ranges_span_both():
    found = widened({"1": ScoreRange(2, 4), "2": ScoreRange(0, 3)}, {"1": ScoreRange(1, 3), "3": ScoreRange(0, 9)})
    assert found == {"1": ScoreRange(1, 4), "2": ScoreRange(0, 3)}
    assert widened({"1": ScoreRange(1, 6)}, {"1": ScoreRange(1.5, 5.5, 0.5)}) == {"1": ScoreRange(1, 6, 0.5)}


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([ScoreRange(1, 5.5, 0.5), ScoreRange(1, 6)], ScoreRange(1, 6, 0.5)),
        ([ScoreRange(0.5, 2, 0.5), ScoreRange(0.4, 2, 0.2)], ScoreRange(0.4, 2, 0.1)),
        ([ScoreRange(0.25, 2, 0.25), ScoreRange(0.2, 2, 0.2)], ScoreRange(0.2, 2, 0.05)),
        ([ScoreRange(0, 3), ScoreRange(0.5, 4.5)], ScoreRange(0, 4.5, 0.5)),
        ([ScoreRange(0, 1, 1 / 3), ScoreRange(0, 1, 0.5)], ScoreRange(0, 1, 1 / 6)),
        ([ScoreRange(0, 2**0.5, 2**0.5 / 10)] * 2, ScoreRange(0, 2**0.5, 2**0.5 / 10)),
    ],
)
def test_a_range_that_spans_others_holds_all_their_score_points(ranges, expected):
    found = spanning(ranges)
    assert (found.low, found.high, found.step) == pytest.approx((expected.low, expected.high, expected.step), rel=1e-12)
    assert all(found.is_score_point(one.points).all() for one in ranges)


def test_one_range_a_prompt():
    assert parse_ranges(["1=1:6", "2=0:3"]) == {"1": ScoreRange(1, 6), "2": ScoreRange(0, 3)}
    with pytest.raises(ConfigError, match=r"--range names prompt '1' twice. Give each prompt one range"):
        parse_ranges(["1=1:6", "2=0:3", "1=1:5"])
