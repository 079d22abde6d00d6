from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rated_essays import sample
from sklearn.metrics import cohen_kappa_score

from aes_dynloss.errors import DataError
from aes_dynloss.measures.chance_agreement import gwet_ac1, gwet_ac2, unweighted_kappa
from aes_dynloss.tables.score_range import ScoreRange

RANGE = ScoreRange(1, 6)
MEASURES = [unweighted_kappa, gwet_ac1, gwet_ac2]

score_pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(1, 6), min_size=n, max_size=n) for _ in range(2)])
)


def gwet_by_its_definition(reference, score, points, weights):
    """AC2 as Gwet writes it, over the q by q table."""
    q, n = len(points), len(reference)
    table = np.zeros((q, q))
    for one, other in zip(reference, score, strict=True):
        table[points.index(one), points.index(other)] += 1 / n
    shares = (table.sum(axis=0) + table.sum(axis=1)) / 2
    expected = weights.sum() / (q * (q - 1)) * sum(share * (1 - share) for share in shares)
    return ((weights * table).sum() - expected) / (1 - expected)


@given(score_pairs)
def test_kappa_is_that_of_scikit_learn_with_all_labels(pair):
    assume(len(set(pair[0]) | set(pair[1])) > 1)
    theirs = cohen_kappa_score(*pair, labels=range(1, 7))
    assert float(unweighted_kappa(*pair, RANGE)) == pytest.approx(theirs, abs=1e-12)


@given(score_pairs)
def test_gwets_coefficients_are_those_of_their_definition(pair):
    points = list(range(1, 7))
    distance = np.subtract.outer(points, points)
    assert float(gwet_ac1(*pair, RANGE)) == pytest.approx(gwet_by_its_definition(*pair, points, np.eye(6)), abs=1e-12)
    assert float(gwet_ac2(*pair, RANGE)) == pytest.approx(
        gwet_by_its_definition(*pair, points, 1 - (distance / 5) ** 2), abs=1e-12
    )


def test_values_of_irr_cac_and_skll():
    """Computed by irrCAC 0.4.4 (Gwet's own package, in Python) and SKLL 5.0.1."""
    ratings, raw, _, _ = sample()
    human, score = ratings[:, 0], np.clip(np.rint(raw), 1, 6)
    assert float(unweighted_kappa(human, score, RANGE)) == pytest.approx(0.18210270082299762, abs=1e-6)
    assert float(gwet_ac1(human, score, RANGE)) == pytest.approx(0.28066208449, abs=1e-6)
    assert float(gwet_ac2(human, score, RANGE)) == pytest.approx(0.881101260121, abs=1e-6)
    assert float(gwet_ac1(human, score, ScoreRange(0, 8))) == pytest.approx(0.324825877847, abs=1e-6)
    assert float(gwet_ac2(human, score, ScoreRange(0, 8))) == pytest.approx(0.956547287871, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_that_of_rsmtool(rsmtool, seed):
    ratings, raw, _, _ = sample(seed=seed)
    human, score = ratings[:, 0], np.clip(np.rint(raw), 1, 6)
    theirs = rsmtool("analyzer.kappa", human, score)
    assert float(unweighted_kappa(human, score, RANGE)) == pytest.approx(theirs, abs=1e-12)


@given(score_pairs, st.randoms(), st.sampled_from(MEASURES))
def test_they_are_symmetric_bounded_and_blind_to_order_and_direction(pair, random, measure):
    human, machine = map(np.array, pair)
    value = float(measure(human, machine, RANGE))
    order = random.sample(range(len(human)), len(human))
    assert -5 < value <= 1
    assert (value == 1) == bool((human == machine).all())
    for other in ((machine, human), (human[order], machine[order]), (7 - human, 7 - machine)):
        assert float(measure(*other, RANGE)) == pytest.approx(value, abs=1e-12)


@given(score_pairs)
def test_lower_bounds(pair):
    assert float(unweighted_kappa(*pair, RANGE)) >= -1 - 1e-12
    assert float(gwet_ac1(*pair, RANGE)) >= -1 / 5 - 1e-12


def test_ac2_may_lie_below_minus_one():
    human, machine = [0, 9, 1, 8], [9, 0, 8, 1]
    assert float(gwet_ac2(human, machine, ScoreRange(0, 9))) < -1.3


@given(score_pairs, st.sampled_from([0.1, 0.5, 3.0]), st.integers(-20, 20), st.sampled_from(MEASURES))
def test_they_do_not_depend_on_the_scale(pair, step, shift, measure):
    scaled = [step * np.array(column) + shift for column in pair]
    span = ScoreRange(step + shift, step * 6 + shift, step)
    assert float(measure(*scaled, span)) == pytest.approx(float(measure(*pair, RANGE)), abs=1e-12)


def test_points_that_nobody_was_given_count_in_gwets_coefficients_alone():
    pair = [1, 2, 3, 3, 2], [1, 2, 2, 3, 3]
    wide = ScoreRange(1, 9)
    assert unweighted_kappa(*pair, RANGE) == unweighted_kappa(*pair, wide)
    assert gwet_ac1(*pair, RANGE) < gwet_ac1(*pair, wide)
    assert gwet_ac2(*pair, RANGE) < gwet_ac2(*pair, wide)


@pytest.mark.parametrize("measure", MEASURES)
def test_identical_constants_agree(measure):
    assert measure([4] * 5, [4] * 5, RANGE) == 1


def test_different_constants():
    assert unweighted_kappa([4] * 5, [3] * 5, RANGE) == 0
    assert float(gwet_ac1([4] * 5, [3] * 5, RANGE)) == pytest.approx(-0.1 / 0.9)


@pytest.mark.parametrize("measure", MEASURES)
def test_stacked_columns_are_measured_one_by_one(measure):
    random = np.random.default_rng(0)
    human, machine = random.integers(1, 7, (2, 3, 4, 25))
    found = measure(human, machine, RANGE)
    assert found.shape == (3, 4)
    for place in np.ndindex(3, 4):
        assert found[place] == pytest.approx(float(measure(human[place], machine[place], RANGE)), abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("reference", "score", "message"),
    [
        ([1, 2], [1], r"one shape, found reference \(2,\), score \(1,\)"),
        ([], [], "at least one essay"),
        (1, 1, "at least one essay"),
        ([1, math.nan], [1, 2], "NaN or infinity in reference"),
        ([1, 2], [1, math.inf], "NaN or infinity in score"),
        ([1, 2], [1, 2.5], "The score 2.5 is no score point of the range 1 to 6"),
        ([0, 2], [1, 2], "The reference 0 is no score point"),
        ([1, 1e300], [1, 2], "The reference 1e\\+300 is no score point"),
    ],
)
def test_columns_that_cannot_be_compared(measure, reference, score, message):
    with pytest.raises(DataError, match=message):
        measure(reference, score, RANGE)
