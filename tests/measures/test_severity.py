from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from aes_dynloss.errors import DataError
from aes_dynloss.measures.severity import rater_drifts, rater_severities

SEVERITIES = np.array([-1.0, -0.4, 0.0, 0.4, 1.0])  # in score points


def scored(seed, essays=300, twice=0.3, severities=SEVERITIES, noise=1.0, machine=(0.6, 0.8), chosen=False):
    """Ratings from 0 to 12: rater, essay, prompt, rating and machine's score of each; two prompts, SD about 2."""
    random = np.random.default_rng(seed)
    count = len(severities)
    truth = random.normal(6, 1.5, essays)
    slope, error = machine
    score = 6 + slope * (truth - 6) + random.normal(0, error, essays) + 0.5
    first = random.integers(0, count, essays)
    if chosen:  # those whom the machine thinks better go to the later raters
        first = np.clip(np.argsort(np.argsort(score + random.normal(0, 1, essays))) * count // essays, 0, count - 1)
    second = (first + random.integers(1, count, essays)) % count
    again = np.flatnonzero(random.random(essays) < twice)
    essay, rater = np.r_[np.arange(essays), again], np.r_[first, second[again]]
    ratings = truth[essay] + severities[rater] + random.normal(0, noise, len(essay))
    return rater, essay, essay % 2, np.clip(np.rint(ratings), 0, 12), score[essay]


def in_sds(severities, columns):
    _, _, prompt, ratings, _ = columns
    sd = np.mean([ratings[prompt == one].std(ddof=1) for one in (0, 1)])
    return (severities - severities.mean()) / sd


def coverage(**kind):
    """Share of known severities in their 95 % intervals, mean width, and the same of the machine, over 100 draws."""
    held, widths, machine = [], [], []
    for seed in range(100):
        columns = scored(seed, **kind)
        known = in_sds(kind.get("severities", SEVERITIES), columns)
        found = rater_severities(*columns)
        for one, true in zip(found.effects.estimates, known, strict=True):
            held.append(one.low <= true <= one.high)
            widths.append(one.high - one.low)
        # The machine's mean lies half a point above the true scores', and the raters' at them.
        point = 2 * in_sds(np.array([0.0, 1.0]), columns)[1]
        machine.append(found.machine.low <= 0.5 * point <= found.machine.high)
    return np.mean(held), np.mean(widths), np.mean(machine)


def test_intervals_hold_the_known_severities_of_five_raters():
    held, width, machine = coverage()
    assert 0.92 <= held <= 0.98
    assert 0.2 < width < 0.4
    assert 0.9 <= machine <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        {"twice": 0.0},
        {"twice": 1.0},
        {"essays": 100},
        {"noise": np.sqrt(2)},
        {"chosen": True},
        {"severities": np.zeros(5)},
        {"severities": np.array([-0.2, -0.1, 0.0, 0.1, 0.2])},
    ],
    ids=str,
)
def test_they_do_so_of_other_data_too(kind):
    held, _, _ = coverage(**kind)
    assert 0.92 <= held <= (1 if "severities" in kind else 0.985)


def test_without_the_machine_raters_who_choose_their_essays_look_lenient():
    """What the machine's score is there for."""
    columns = scored(0, essays=1500, twice=0.0, chosen=True, machine=(1.0, 0.3))
    true, blind = in_sds(SEVERITIES, columns), (*columns[:4], np.zeros(len(columns[0])))
    seen, unseen = ([one.value for one in rater_severities(*each).effects.estimates] for each in (columns, blind))
    assert np.abs(seen - true).max() < 0.12
    assert np.abs(unseen - true).max() > 0.4


def test_adjusted_ratings_lack_the_severity():
    columns = scored(1, essays=2000, twice=0.0)
    rater, _, _, ratings, _ = columns
    found = rater_severities(*columns)
    means = [[scores[rater == one].mean() for one in range(5)] for scores in (ratings, found.adjusted)]
    assert np.ptp(means[0]) > 1.5
    assert np.ptp(means[1]) < 0.4
    assert found.adjusted.mean() == pytest.approx(ratings.mean(), abs=0.05)


def test_order_names_and_scales_do_not_matter():
    rater, essay, prompt, ratings, machine = scored(2)
    before = rater_severities(rater, essay, prompt, ratings, machine)
    order = np.random.default_rng(0).permutation(len(rater))
    tenfold = (rater, essay, prompt, 10 * ratings + 3, 10 * machine + 3)
    after = rater_severities(*(column[order] for column in tenfold))
    assert before.raters == list("01234")
    for one, other in zip(before.effects.estimates, after.effects.estimates, strict=True):
        assert one == pytest.approx(other, abs=1e-8)
    assert before.machine == pytest.approx(after.machine, abs=1e-8)
    np.testing.assert_allclose(before.residuals[order], after.residuals, atol=1e-8)
    np.testing.assert_allclose(10 * before.adjusted[order] + 3, after.adjusted, atol=1e-6)


def test_variances_are_found():
    columns = scored(3, essays=20_000, twice=1.0, severities=np.zeros(5), machine=(0.6, 0.8))
    found = rater_severities(*columns)
    total = np.mean([columns[3][columns[2] == one].var() for one in (0, 1)])
    # The machine's score explains r^2 of the truth's variance 2.25; rounding adds 1 / 12 to a rater's error.
    explained = 0.6**2 * 2.25 / (0.6**2 * 2.25 + 0.8**2)
    assert found.essay_variance * total == pytest.approx(2.25 * (1 - explained), rel=0.05)
    np.testing.assert_allclose(found.error_variance * total, 1 + 1 / 12, rtol=0.08)


def test_what_cannot_be_compared():
    rater, essay, prompt, ratings, machine = scored(4)
    alone = rater_severities(prompt, essay, prompt, ratings, machine)  # each prompt has a rater of its own
    assert alone.effects.estimates == [None, None]
    np.testing.assert_allclose(alone.adjusted, ratings)
    flat = np.where(prompt == 0, 5.0, ratings)
    found = rater_severities(rater, essay, prompt, flat, machine)
    assert np.isnan(found.residuals[prompt == 0]).all()
    assert (found.adjusted[prompt == 0] == 5).all()
    with pytest.raises(DataError, match="All ratings of a prompt are equal"):
        rater_severities(rater, essay, prompt, flat * 0, machine)
    many = np.arange(1001)
    with pytest.raises(DataError, match="Found 1,001 raters of 1,001 labels"):
        rater_severities(many, many, many * 0, many % 7, many % 5)
    with pytest.raises(DataError, match="Each rating needs a rater"):
        rater_severities(rater[1:], essay, prompt, ratings, machine)


def on_traits(columns, traits):
    """The same essays on several traits, of one scale each."""
    rater, essay, prompt, ratings, machine = (np.tile(column, traits) for column in columns)
    trait = np.repeat(np.arange(traits), len(columns[0]))
    return rater, essay, prompt + 2 * trait, ratings + 3 * trait, machine + 3 * trait


def test_an_essay_on_several_traits_is_one_essay():
    columns = scored(6)
    one, three = rater_severities(*columns), rater_severities(*on_traits(columns, 3))
    assert three.effects.differences == pytest.approx(one.effects.differences)
    for found, expected in zip(three.effects.estimates, one.effects.estimates, strict=True):
        assert found == pytest.approx(expected)
    assert three.machine == pytest.approx(one.machine)
    np.testing.assert_allclose(three.residuals, np.tile(one.residuals, 3), atol=1e-9)
    np.testing.assert_allclose(three.adjusted - on_traits(columns, 3)[3], np.tile(one.adjusted - columns[3], 3))


def test_raters_who_scored_other_traits_are_not_compared():
    rater, essay, prompt, ratings, machine = on_traits(scored(6, severities=np.zeros(2), twice=1.0), 2)
    own = rater == prompt // 2
    found = rater_severities(*(column[own] for column in (rater, essay, prompt, ratings, machine)))
    assert found.effects.estimates == [None, None]


def test_alike_raters_seldom_differ_on_several_traits():
    """A rater's error on an essay, which all traits share, is no evidence from each of them."""
    p = []
    for seed in range(60):
        columns = scored(seed, essays=150, severities=np.zeros(5))
        rater, essay, prompt, ratings, machine = on_traits(columns, 6)
        noisy = ratings + np.random.default_rng(seed).normal(0, 0.5, len(ratings))
        p.append(rater_severities(rater, essay, prompt, noisy, machine).effects.differences.p)
    assert np.mean(np.array(p) < 0.05) < 0.05 + norm.ppf(0.999) * np.sqrt(0.05 * 0.95 / len(p))


def test_drifts():
    rater, essay, prompt, ratings, machine = scored(5, essays=4000)
    times = np.random.default_rng(5).random(len(rater)) * 90
    drifted = ratings + np.where(rater == 3, 2.0 * times / 90, 0)
    found = rater_drifts(rater, rater_severities(rater, essay, prompt, drifted, machine).residuals, times)
    sd = ratings.std()
    assert found["3"].change.value * sd == pytest.approx(2.0, abs=0.5)
    assert found["3"].p_holm < 0.001 < min(one.p_holm for name, one in found.items() if name != "3")
    assert "0" not in rater_drifts(rater, np.where(rater == 0, np.nan, 0.0), times)
    assert rater_drifts(rater, np.zeros(len(rater)), np.full(len(rater), 7.0)) == {}


def test_drift_is_seldom_seen_where_there_is_none():
    p = []
    for seed in range(60):
        columns = scored(seed, essays=150)
        times = np.random.default_rng(seed).random(len(columns[0]))
        p += [one.p for one in rater_drifts(columns[0], rater_severities(*columns).residuals, times).values()]
    alarms = np.sum(np.array(p) < 0.05)
    expected, sd = 0.05 * len(p), np.sqrt(0.05 * 0.95 * len(p))
    assert abs(alarms - expected) < norm.ppf(0.999) * sd
