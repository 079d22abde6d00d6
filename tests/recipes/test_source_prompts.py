"""Weights of source prompts: what a teacher makes of a prompt that misleads, and what weights make of a regression."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from aes_dynloss.tables.score_range import ScoreRange

sys.path.append(str(Path(__file__).parents[2] / "recipes/essays"))
import source_prompts
from source_prompts import Prompt, oracle, regression, similar


def prompt(seed, sign=1.0, shift=0.0):
    """Essays whose scores follow three of four numbers, upside down where the sign is -1."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(240, 4))
    quality = sign * points @ [0.6, 0.5, 0.4, 0.0] + 0.4 * random.normal(size=240)
    return Prompt(points + shift, np.clip(np.round(3 + quality), 1, 5), ScoreRange(1, 5))


@pytest.fixture(scope="module")
def prompts():
    """Three prompts of one law, and one that contradicts them."""
    return {"a": prompt(0), "b": prompt(1), "c": prompt(2), "odd": prompt(3, sign=-1.0)}


def test_teacher_gives_least_weight_to_the_prompt_that_misleads(prompts):
    weights = source_prompts.taught_weights(prompts)
    assert set(weights) == set(prompts)
    assert min(weights, key=weights.__getitem__) == "odd"
    assert weights["odd"] < 0.6 * min(weights[name] for name in "abc")


def test_regression_counts_prompts_by_their_weights(prompts):
    alone = regression({"a": prompts["a"]}, {"a": 1.0})
    both = {name: prompts[name] for name in ("a", "odd")}
    np.testing.assert_allclose(regression(both, {"a": 1.0, "odd": 0.0}), alone)
    np.testing.assert_allclose(regression(both, {"a": 2.0, "odd": 6.0}), regression(both, {"a": 0.5, "odd": 1.5}))
    assert alone @ regression(both, {"a": 1.0, "odd": 9.0}) < 0 < alone @ regression(both, {"a": 9.0, "odd": 1.0})


def test_similar_prompt_is_the_one_whose_essays_count_alike():
    sources = {"near": prompt(5, shift=3.0), "far": prompt(6, shift=-3.0)}
    weights = similar(sources, prompt(7, shift=3.0))
    assert weights["near"] > 10 * weights["far"]


def test_no_weights_rank_a_target_better_than_the_oracle(prompts):
    sources, target = {name: prompts[name] for name in ("a", "odd")}, prompts["b"]

    def correlation(weights):
        return float(np.corrcoef(target.points @ regression(sources, weights), target.targets)[0, 1])

    best = correlation(oracle(sources, target))
    assert best > 0.7
    assert all(best >= correlation({"a": 1.0, "odd": share}) - 1e-6 for share in (0.0025, 0.1, 1.0, 3.0))


def test_target_is_measured_by_every_kind_of_weights(prompts, monkeypatch):
    quick = source_prompts.TEACHER.model_copy(update={"episodes": 6, "steps": 30})
    monkeypatch.setattr(source_prompts, "TEACHER", quick)
    found = source_prompts.on_target(prompts, "c")
    assert set(found) == {"equal", "similarity", "l2t_dlf", "oracle"}
    assert found["l2t_dlf"]["correlation"] > found["equal"]["correlation"] > 0
    assert all("c" not in one["weights"] for one in found.values())
