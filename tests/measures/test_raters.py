"""Rater effects: planted raters are found, like raters are not told apart, essays given by chance are not suspected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.measures.raters import (
    ALARM,
    LEAST_CORRELATED,
    MOST_RATERS,
    assignment_tests,
    pooled_correlation,
    rater_effects,
)

PLANTED = {"0": "careless", "1": "reversed", "2": "severe", "3": "lowest", "4": "central"}
FOUND = {"0": "inconsistent", "1": "reversed", "2": "severe", "3": "lowest label", "4": "restricted range"}


def labels_of(seed, n=1600, raters=8, prompts=2, planted=(), points=6):
    """Raters, prompts, labels from 1 to ``points``, and references that go with a good rater's labels by about .6."""
    generator = np.random.default_rng(seed)
    truth, rater, prompt = (
        generator.normal(size=n),
        generator.integers(raters, size=n),
        generator.integers(prompts, size=n),
    )
    latent = 0.8 * truth + 0.6 * generator.normal(size=n)
    for name in planted:
        own = rater == int(name)
        latent[own] = {
            "careless": generator.normal(size=own.sum()),
            "reversed": -latent[own],
            "severe": latent[own] - 0.6,
            "lowest": np.full(own.sum(), -9.0),
            "central": 0.4 * latent[own],
        }[planted[name]]
    middle = (points + 1) / 2
    reference = middle + 0.8 * (0.75 * truth + 0.66 * generator.normal(size=n))
    return rater, prompt, np.clip(np.round(1.1 * latent + middle), 1, points), reference


def test_planted_raters_are_found_and_no_others():
    found, others = dict.fromkeys(PLANTED, 0), 0
    for seed in range(20):
        effects = rater_effects(*labels_of(seed, planted=PLANTED))
        for one in effects.raters:
            if one.rater in PLANTED:
                found[one.rater] += FOUND[one.rater] in one.remarks
            else:
                others += bool(one.remarks)
        assert effects.consistency.p < ALARM
        assert effects.severity.p < ALARM
        assert effects.efficiency < 0.6
    assert min(found.values()) >= 18, found
    assert others <= 3  # of 60


def test_a_severe_rater_orders_essays_as_well_as_others():
    effects = rater_effects(*labels_of(0, planted={"2": "severe"}))
    assert [set(one.remarks) - {"lowest label"} for one in effects.raters if one.remarks] == [{"severe"}]
    assert effects.efficiency > 0.95


@pytest.mark.parametrize(("n", "raters", "prompts"), [(400, 8, 1), (400, 8, 4), (200, 4, 2)])
def test_raters_who_are_alike_are_not_told_apart(n, raters, prompts):
    singled, p, efficiency = 0, [], []
    for seed in range(200):
        effects = rater_effects(*labels_of(seed, n, raters, prompts))
        singled += any(one.remarks for one in effects.raters)
        p.append([effects.severity.p, effects.consistency.p])
        efficiency.append(effects.efficiency)
    assert singled <= 8
    alarms = (np.array(p) < 0.05).mean(axis=0)
    assert (alarms > 0.005).all()
    assert (alarms < 0.1).all(), alarms
    assert np.mean(efficiency) > 0.98


def test_prompts_may_differ_in_how_well_they_are_predicted():
    """Raters 0 to 3 have mostly the prompt whose labels go with the references, the others mostly the other one."""
    alarms = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        rater, truth = generator.integers(8, size=800), generator.normal(size=800)
        prompt = (rater > 3) ^ (generator.random(800) < 0.2)
        reference = truth + np.where(prompt, 2.0, 0.3) * generator.normal(size=800)
        effects = rater_effects(rater, prompt, truth - 3.0 * prompt, reference - 1.0 * prompt)
        alarms += (effects.consistency.p < 0.05) + (effects.severity.p < 0.05)
    assert alarms <= 22  # of 200


@pytest.mark.parametrize("prompts", [1, 3])
def test_intervals_of_severity_hold_what_they_promise(prompts):
    held = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        rater, prompt = generator.integers(10, size=500), generator.integers(prompts, size=500)
        severity, truth = generator.normal(0, 0.3, size=10), generator.normal(size=500)
        label = truth + 0.7 * generator.normal(size=500) + severity[rater]
        sd = pd.Series(label).groupby(prompt).std().mean()
        effects = rater_effects(rater, prompt, label, truth)
        held += [one.severity.low <= severity[int(one.rater)] / sd <= one.severity.high for one in effects.raters]
    assert 0.92 < np.mean(held) < 0.97


def test_a_rater_of_few_labels_is_shrunk():
    rater, prompt, label, reference = labels_of(3, n=800)
    few = np.flatnonzero(rater == 0)[3:]
    label[rater == 0] = 6.0
    keep = np.setdiff1d(np.arange(800), few)
    effects = rater_effects(*(column[keep] for column in (rater, prompt, label, reference)))
    raw = np.mean((label - reference)[keep][rater[keep] == 0]) / label[keep].std()
    first = effects.raters[0]
    assert first.n == 3
    assert 0 < first.severity.value < raw / 2
    assert first.remarks == ()


@pytest.mark.parametrize("raters", [200, 400])
def test_raters_of_one_or_two_labels(raters):
    """Nothing is known of how much one label varies but by the others."""
    alarms = 0
    for seed in range(60):
        _, _, label, reference = labels_of(seed, n=400)
        effects = rater_effects(np.arange(400) % raters, np.zeros(400), label, reference)
        assert all(one.severity.high - one.severity.low > 0.05 for one in effects.raters)
        assert not any(one.remarks for one in effects.raters)
        alarms += effects.severity.p < ALARM
    assert alarms <= 3


def test_labels_that_are_all_equal_order_nothing():
    rater, prompt, label, reference = labels_of(1, planted={"3": "lowest"})
    third = rater_effects(rater, prompt, label, reference).raters[3]
    assert third.sd_ratio == 0.0
    assert abs(third.consistency.value) < 0.1
    assert (third.lowest, third.highest) == (1.0, 0.0)


def test_figures_by_hand():
    """One prompt, no shrinking: severity is the mean error, and lies around the mean of all."""
    label, reference = np.array([1.0, 2, 3, 4, 5, 6] * 200), np.array([1.5, 2, 2.5, 4.5, 5, 5.5] * 200)
    rater = np.repeat([0, 1], 600)
    label[:600] += 2
    effects = rater_effects(rater, np.zeros(1200), label, reference)
    sd = label.std(ddof=1)
    assert [one.severity.value for one in effects.raters] == pytest.approx([2 / sd, 0.0], abs=0.01)
    r = np.corrcoef(label[600:], reference[600:])[0, 1]
    assert [one.consistency.value for one in effects.raters] == pytest.approx([r, r], abs=1e-9)
    assert [one.mean for one in effects.raters] == pytest.approx([1 / sd, -1 / sd])
    assert (effects.raters[1].lowest, effects.raters[1].highest) == (1 / 6, 0.0)
    assert (effects.lowest, effects.compared, effects.raters[0].sd_ratio) == (1 / 12, 1200, pytest.approx(1.0))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_the_scale_of_a_prompt_and_the_order_of_labels_do_not_matter(seed, shift, scale):
    rater, prompt, label, reference = labels_of(seed, n=300, planted=PLANTED)
    before = rater_effects(rater, prompt, label, reference)
    order = np.random.default_rng(seed).permutation(300)
    change = np.where(prompt == 1, scale, 1.0), np.where(prompt == 1, shift, 0.0)
    label, reference = label * change[0] + change[1], reference * change[0] + change[1]
    after = rater_effects(rater[order], prompt[order], label[order], reference[order])
    for one, other in zip(before.raters, after.raters, strict=True):
        assert one.remarks == other.remarks
        assert tuple(one.severity) == pytest.approx(tuple(other.severity), rel=1e-6, abs=1e-6)
        assert tuple(one.consistency) == pytest.approx(tuple(other.consistency), rel=1e-6, abs=1e-6)


def test_gaps_are_left_out_of_comparisons_only():
    rater, prompt, label, reference = labels_of(2)
    reference[:1500] = np.nan
    effects = rater_effects(rater, prompt, label, reference)
    assert (sum(one.n for one in effects.raters), effects.compared) == (1600, 100)
    assert all(one.severity.standard_error > 0.03 for one in effects.raters)
    reference[:] = np.nan
    effects = rater_effects(rater, prompt, label, reference)
    assert {one.severity for one in effects.raters} == {one.consistency for one in effects.raters} == {None}
    assert (effects.severity.p, effects.consistency.p, effects.efficiency) == (None, None, None)


def test_a_rater_with_a_prompt_of_his_own_is_not_compared():
    rater, prompt, label, reference = labels_of(4, raters=3)
    prompt = np.where(rater == 2, 7, prompt)
    effects = rater_effects(rater, prompt, label, reference)
    assert [one.severity is None for one in effects.raters] == [False, False, True]
    assert effects.severity.dof == 1
    alone = rater_effects(rater, rater, label, reference)
    assert {one.severity for one in alone.raters} == {None}
    assert alone.severity.p is None


def test_an_essays_labels_on_traits_count_as_one_in_errors():
    columns = labels_of(4, planted=PLANTED)
    essays, traits = np.tile(np.arange(len(columns[0])), 3), np.repeat(np.arange(3), len(columns[0]))
    rater, prompt, label, reference = (np.tile(column, 3) for column in columns)
    prompt = prompt + 10 * traits
    one, three = rater_effects(*columns), rater_effects(rater, prompt, label, reference, essays=essays)
    assert three.severity == pytest.approx(one.severity)
    assert three.consistency == pytest.approx(one.consistency)
    for found, expected in zip(three.raters, one.raters, strict=True):
        assert found.n == 3 * expected.n
        assert found.consistency == pytest.approx(expected.consistency)
        assert (found.sd_ratio, found.remarks) == (pytest.approx(expected.sd_ratio), expected.remarks)
    apart, together = pooled_correlation(*columns[1:]), pooled_correlation(prompt, label, reference, essays=essays)
    assert together == pytest.approx(apart)


def test_an_essays_extreme_labels_on_traits_are_no_further_evidence():
    """Without halves, a rater's 4 lowest labels of 60 beside 15 of 600 are chance; six traits do not make them more."""
    rater = np.repeat(np.arange(11), 60)
    label = np.tile([2.0, 3.0], 330)
    label[:4] = 1.0
    label[60:660:40] = 1.0
    essays, traits = np.tile(np.arange(660), 6), np.repeat(np.arange(6), 660)
    columns = np.tile(rater, 6), traits, np.tile(label, 6), np.full(6 * 660, np.nan)
    assert rater_effects(*columns).raters[0].remarks == ("lowest label",)
    assert rater_effects(*columns, essays=essays).raters[0].remarks == ()


def test_extreme_labels_are_held_against_others_on_the_same_prompts():
    """Many lowest labels on a hard prompt are what the others give there, too."""
    shares = {("X", "hard"): (300, 0.6)} | {(one, "hard"): (175, 0.4) for one in "PQRS"}
    shares |= {(one, "easy"): (250, 0.02) for one in "PQRS"}
    rater, prompt, label = [], [], []
    for (name, where), (count, share) in shares.items():
        rater += [name] * count
        prompt += [where] * count
        label += [1.0] * round(share * count) + [2.0, 3.0] * count
        del label[len(rater) :]
    reference = np.full(len(label), np.nan)
    assert {one.remarks for one in rater_effects(rater, prompt, label, reference).raters} == {()}
    label[:200] = [1.0] * 200
    label[300:1000] = [2.0, 3.0] * 350
    label[300:440] = [1.0] * 140
    found = rater_effects(rater, prompt, label, reference)
    assert {one.rater: one.remarks for one in found.raters}["X"] == ("lowest label",)


def test_a_prompt_whose_labels_are_all_equal_says_nothing():
    rater, prompt, label, reference = labels_of(5)
    label[prompt == 1] = 4.0
    effects = rater_effects(rater, prompt, label, reference)
    assert effects.compared == (prompt == 0).sum()
    assert effects.consistency.p is not None


def test_pooled_correlation_is_within_prompts():
    _, prompt, label, reference = labels_of(6, n=4000)
    apart = pooled_correlation(prompt, label + 10 * prompt, reference - 10 * prompt)
    together = pooled_correlation(np.zeros(4000), label, reference)
    assert apart.value == pytest.approx(together.value, abs=0.02)
    assert apart.low < apart.value < apart.high
    few = LEAST_CORRELATED - 1
    assert pooled_correlation(prompt[:few] * 0, label[:few], reference[:few]) is None


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (0, None, "Every label needs a rater, found 1 labels without"),
        (1, None, "Every label needs a prompt, found 1 labels without"),
        (2, np.nan, "found NaN or infinity in labels"),
        (3, np.inf, r"needs a reference, or NaN: .* with infinity"),
    ],
)
def test_missing_values(column, value, words):
    columns = [np.array(one, dtype=object if index < 2 else float) for index, one in enumerate(labels_of(0, n=50))]
    columns[column][7] = value
    with pytest.raises(DataError, match=words):
        rater_effects(*columns)


def test_columns_that_do_not_fit():
    rater, prompt, label, reference = labels_of(0, n=50)
    for columns in ((rater[:-1], prompt, label, reference), (rater, prompt, label, reference[:-1])):
        with pytest.raises(DataError, match=r"expected .*\(50,\).* found \(49,\)"):
            rater_effects(*columns)
    many = np.arange(MOST_RATERS + 1)
    with pytest.raises(DataError, match=r"Found 1,001 raters of 1,001 labels; .* Does the column hold ids of essays"):
        rater_effects(many, many * 0, many * 1.0, many * 1.0)


class TestAssignment:
    def alarms(self, shift, nested=False):
        """How often each of 400 tables is flagged at .05, raw and adjusted."""
        found = []
        for seed in range(400):
            generator = np.random.default_rng(seed)
            rater = generator.choice(6, size=240, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
            prompt = rater % 2 if nested else generator.integers(2, size=240)
            words = np.log(generator.gamma(4, 80, size=240)) + shift * (rater == 2) + prompt
            tests = assignment_tests(rater, prompt, {"words": words, "other": generator.normal(size=240)})
            found.append([tests["words"].p < 0.05, min(one.p_holm for one in tests.values()) < 0.05])
        return np.mean(found, axis=0)

    def test_by_chance(self):
        raw, adjusted = self.alarms(0.0)
        assert 0.025 < raw < 0.08
        assert 0.025 < adjusted < 0.08

    def test_not_by_chance(self):
        assert self.alarms(0.8).min() > 0.95

    def test_prompts_of_other_lengths_are_no_reason(self):
        assert self.alarms(0.0, nested=True)[0] < 0.08

    def test_gaps_and_what_cannot_be_tested(self):
        words = np.where(np.arange(40) < 20, np.nan, np.arange(40) % 7)
        tests = assignment_tests(np.arange(40) % 2, np.zeros(40), {"words": words, "none": np.full(40, np.nan)})
        assert tests["none"] == (None, None, None)
        assert 0 < tests["words"].p == tests["words"].p_holm
        rounding = 0.3 + np.arange(40) % 3 * 1e-16
        assert assignment_tests(np.arange(40) % 3, np.zeros(40), {"none": rounding})["none"] == (0.0, None, None)
        alone = assignment_tests(np.arange(40) % 2, np.arange(40) % 2, {"words": np.arange(40.0)})
        assert alone["words"].p is None
