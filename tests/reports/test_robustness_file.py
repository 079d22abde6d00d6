from __future__ import annotations

import copy
import json

import pytest
from sample_robustness import sample_robustness

from aes_dynloss.errors import DataError
from aes_dynloss.reports.robustness import of_same_prompts, read_robustness
from aes_dynloss.reports.robustness_entry import Robustness


@pytest.fixture
def path(tmp_path):
    return tmp_path / "robustness.json"


def test_what_was_measured_is_read_back(measured, path):
    path.write_text(json.dumps(measured))
    assert read_robustness(path) == measured


def test_undefined_figures_are_read_back(path):
    few = sample_robustness(("a",), kinds=["copy_prompt", "capitals"], most=1)
    path.write_text(json.dumps(few))
    assert read_robustness(path) == few


def changed(measured, *keys, value):
    values = copy.deepcopy(measured)
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return values


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("kinds",), {}, "kinds of change lack their sums"),
        (("kinds",), [], "kinds"),
        (("expected",), {}, "kinds of change lack their sums"),
        (("kinds", "babble", "total", "rises", "share"), 1.5, "share"),
        (("kinds", "babble", "total", "rises", "share"), float("nan"), "share"),
        (("kinds", "babble", "total", "n"), -1, "kinds.babble.total.n"),
        (("kinds", "babble", "expected"), "explode", "expected"),
        (("kinds", "babble", "prompts"), None, "prompts"),
        (("expected", "stay", "rises"), 0.5, "rises"),
        (("notes",), "none", "notes"),
        (("settings", "confidence"), "high", "confidence"),
        (("essays",), {"a": "many"}, "essays"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_damage_is_named(measured, path, keys, value, message):
    path.write_text(json.dumps(changed(measured, *keys, value=value)))
    with pytest.raises(DataError, match=message) as caught:
        read_robustness(path)
    assert "Give a robustness.json that `aes-dynloss robustness --output-dir` wrote" in str(caught.value)


def test_a_fault_comes_with_what_was_found(measured, path):
    path.write_text(json.dumps(changed(measured, "kinds", "babble", "total", "n", value=-1)))
    with pytest.raises(DataError, match=r"kinds\.babble\.total\.n: [^;]*, found -1\. Give"):
        read_robustness(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"prompts": {}}', "[" * 100_000, "\xff"])
def test_another_file_is_refused(path, text):
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="robustness"):
        read_robustness(path)


def test_a_file_that_is_not_there(path):
    with pytest.raises(DataError, match="cannot be read as a robustness"):
        read_robustness(path)


def test_the_robustness_of_another_model_is_refused(measured):
    measured = Robustness.from_dict(measured)
    assert of_same_prompts(measured, {"a", "b", "c"}, "r.json") is measured
    with pytest.raises(DataError, match=r"r.json was measured on essays to prompt b, and the predictions answer a\."):
        of_same_prompts(measured, ["a"], "r.json")
