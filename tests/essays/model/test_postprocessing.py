"""From raw predictions to score points: what each kind does, and that it survives a model folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.model.model_config import LEAST_RESCALED
from aes_dynloss.essays.model.prompt_scales import Postprocessing, fit_postprocessing
from aes_dynloss.measures.calibration import RESAMPLES, CutPoints, RescalingLine, fit_cut_points, fit_rescaling
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"a": ScoreRange(1, 6), "b": ScoreRange(0, 2, 0.5), "unseen": ScoreRange(0, 3)}
KINDS = ("none", "rescale", "cut_points")


def dev(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts, raw predictions that shrink to the mean, human scores."""
    generator = np.random.default_rng(seed)
    prompt_ids = np.array(["a", "b"] * 100, dtype=object)
    human = np.where(prompt_ids == "a", generator.integers(1, 7, 200), generator.integers(0, 5, 200) / 2)
    middle = np.where(prompt_ids == "a", 3.5, 1.0)
    return prompt_ids, middle + 0.4 * (human - middle) + generator.normal(size=200) * 0.1, human


def fitted(kind: str) -> Postprocessing:
    return fit_postprocessing(kind, RANGES, *dev())


def test_none_rounds() -> None:
    rule = fitted("none")
    assert rule == Postprocessing()
    raw = np.array([-3.0, 1.49, 1.5, 3.7, 9.0])
    np.testing.assert_array_equal(rule.score("a", RANGES["a"], raw), [1, 1, 2, 4, 6])
    np.testing.assert_array_equal(rule.score("b", RANGES["b"], raw), [0, 1.5, 1.5, 2, 2])


@pytest.mark.parametrize("prompt", ["a", "b"])
def test_each_prompt_has_its_own_rule(prompt: str) -> None:
    prompt_ids, raw, human = dev()
    mine = prompt_ids == prompt
    line = fit_rescaling(raw[mine], human[mine])
    rescale, cuts = fitted("rescale"), fitted("cut_points")
    assert rescale.fitted[prompt] == line
    np.testing.assert_array_equal(
        rescale.score(prompt, RANGES[prompt], raw[mine]), RANGES[prompt].to_point(line.apply(raw[mine]))
    )
    expected = fit_cut_points(raw[mine], human[mine], RANGES[prompt], resamples=RESAMPLES)
    np.testing.assert_array_equal(cuts.score(prompt, RANGES[prompt], raw[mine]), expected.apply(raw[mine]))
    plain = RANGES[prompt].to_point(raw[mine])
    for rule in (rescale, cuts):
        scores = rule.score(prompt, RANGES[prompt], raw[mine])
        assert all(RANGES[prompt].is_score_point(score) for score in scores)
        assert np.abs(scores - human[mine]).mean() < np.abs(plain - human[mine]).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_without_dev_essays_is_rounded(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    rule = fitted(kind)
    said = f"Prompt unseen has no dev essays to fit {kind} on; its scores are plainly rounded."
    assert caplog.messages == ([] if kind == "none" else [said])
    assert "unseen" not in rule.fitted
    np.testing.assert_array_equal(rule.score("unseen", RANGES["unseen"], np.array([0.5, 2.4])), [1, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str) -> None:
    rule = fitted(kind)
    again = Postprocessing.from_dict(json.loads(json.dumps(rule.to_dict())))
    assert again == rule
    raw = np.linspace(-2, 9, 400)
    for prompt, score_range in RANGES.items():
        np.testing.assert_array_equal(again.score(prompt, score_range, raw), rule.score(prompt, score_range, raw))


@pytest.mark.parametrize("kind", KINDS)
def test_nan_has_no_score(kind: str) -> None:
    with pytest.raises(DataError, match="A prediction that is NaN has no score point"):
        fitted(kind).score("a", RANGES["a"], np.array([2.0, np.nan]))


LINE = {"slope": 1.0, "intercept": 0.0}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "none"},
        {"kind": "polish", "prompts": {}},
        {"kind": "rescale", "prompts": [LINE]},
        {"kind": "rescale", "prompts": None},
        {"kind": "none", "prompts": {"a": LINE}},
        {"prompts": {}},
    ],
)
def test_damaged(values: dict[str, object]) -> None:
    with pytest.raises(
        CheckpointError, match=r"config\.json: postprocessing is damaged\. Fetch the model folder again"
    ):
        Postprocessing.from_dict(values)


@pytest.mark.parametrize(
    ("kind", "rule", "words"),
    [
        ("rescale", {"slope": 1.0}, "A stored rescaling line needs slope and intercept"),
        ("rescale", {"slope": -1.0, "intercept": 0.0}, "A stored rescaling line needs slope and intercept"),
        ("cut_points", {"range": {"low": 0, "high": 2}, "cuts": [0.5]}, "Stored cut points need a range and its cuts"),
        ("cut_points", {"cuts": []}, "Stored cut points need a range and its cuts"),
        ("cut_points", LINE, "Stored cut points need a range and its cuts"),
    ],
)
def test_damaged_rule(kind: str, rule: object, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        Postprocessing.from_dict({"kind": kind, "prompts": {"a": rule}})


def test_kinds_of_rules() -> None:
    assert {type(rule) for rule in fitted("rescale").fitted.values()} == {RescalingLine}
    assert {type(rule) for rule in fitted("cut_points").fitted.values()} == {CutPoints}
    assert fitted("rescale").fitted.keys() == {"a", "b"}


def test_auto_rescales_prompts_with_enough_essays(caplog: pytest.LogCaptureFixture) -> None:
    prompt_ids, raw, human = dev()
    few = (prompt_ids == "a") | (np.cumsum(prompt_ids == "b") <= LEAST_RESCALED - 1)
    rule = fit_postprocessing("auto", RANGES, prompt_ids[few], raw[few], human[few])
    assert rule == Postprocessing("rescale", {"a": fitted("rescale").fitted["a"]})
    assert "Prompt b has 19 of the 20 dev essays to fit rescale on; its scores are plainly rounded." in caplog.text
    assert fitted("auto") == fitted("rescale")
