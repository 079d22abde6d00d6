from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score, root_mean_squared_error

from aes_dynloss.errors import DataError
from aes_dynloss.measures import agreement
from aes_dynloss.measures.agreement import measures, quadratic_weighted_kappa
from aes_dynloss.tables.score_range import ScoreRange

HIGH = 12


def columns(elements, count=2):
    return st.integers(1, 40).flatmap(
        lambda n: st.tuples(*[st.lists(elements, min_size=n, max_size=n) for _ in range(count)])
    )


score_pairs = columns(st.integers(0, HIGH))
raw_pairs = columns(st.floats(-50, 50).map(lambda value: round(value, 3)))


def kappa_by_its_definition(reference, score, count):
    """1 - sum(w * observed) / sum(w * expected) over the full grid, in exact fractions."""
    n = len(reference)
    observed = [[Fraction(0)] * count for _ in range(count)]
    for one, other in zip(reference, score, strict=True):
        observed[one][other] += Fraction(1, n)
    rows = [sum(row) for row in observed]
    cols = [sum(row[j] for row in observed) for j in range(count)]
    cells = [(i, j) for i in range(count) for j in range(count)]
    expected = sum((i - j) ** 2 * rows[i] * cols[j] for i, j in cells)
    if expected == 0:
        return 1.0
    return float(1 - sum((i - j) ** 2 * observed[i][j] for i, j in cells) / expected)


@given(score_pairs)
def test_kappa_is_that_of_its_definition_on_the_full_grid(pair):
    assert float(quadratic_weighted_kappa(*pair)) == pytest.approx(kappa_by_its_definition(*pair, HIGH + 1), abs=1e-12)


@given(score_pairs)
def test_kappa_is_that_of_scikit_learn_with_all_labels(pair):
    assume(len(set(pair[0]) | set(pair[1])) > 1)
    theirs = cohen_kappa_score(*pair, labels=range(HIGH + 1), weights="quadratic")
    assert float(quadratic_weighted_kappa(*pair)) == pytest.approx(theirs, abs=1e-12)


def test_kappa_counts_score_points_that_nobody_was_given():
    reference, score = [0, 0, 1, 1, 12, 12], [0, 1, 1, 0, 12, 12]
    squeezed = cohen_kappa_score(reference, score, weights="quadratic")
    assert squeezed == pytest.approx(0.75)
    assert float(quadratic_weighted_kappa(reference, score)) > 0.98


@given(score_pairs, st.integers(-30, 30), st.sampled_from([0.1, 0.5, 2.0, 3.0]))
def test_kappa_does_not_depend_on_the_scale(pair, shift, step):
    reference, score = (step * np.array(column) + shift for column in pair)
    assert float(quadratic_weighted_kappa(reference, score)) == pytest.approx(
        float(quadratic_weighted_kappa(*pair)), abs=1e-9
    )


@given(score_pairs, st.randoms())
def test_kappa_is_symmetric_bounded_and_blind_to_order(pair, random):
    reference, score = map(np.array, pair)
    kappa = float(quadratic_weighted_kappa(reference, score))
    order = random.sample(range(len(reference)), len(reference))
    assert -1 - 1e-12 <= kappa <= 1
    assert float(quadratic_weighted_kappa(score, reference)) == pytest.approx(kappa, abs=1e-12)
    assert float(quadratic_weighted_kappa(reference[order], score[order])) == pytest.approx(kappa, abs=1e-12)
    assert float(quadratic_weighted_kappa(HIGH - reference, HIGH - score)) == pytest.approx(kappa, abs=1e-12)


@given(st.lists(st.integers(0, HIGH), min_size=1), st.integers(0, HIGH))
def test_kappa_of_a_column_with_itself_and_with_a_constant(scores, constant):
    assert quadratic_weighted_kappa(scores, scores) == 1
    assume(set(scores) != {constant})
    assert float(quadratic_weighted_kappa(scores, [constant] * len(scores))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("constant", [0, 3, 0.1])
def test_kappa_of_identical_constants_is_one(constant):
    assert quadratic_weighted_kappa([constant] * 7, [constant] * 7) == 1


@given(raw_pairs)
def test_correlations_are_those_of_scipy(pair):
    assume(all(np.ptp(column) > 0.1 for column in pair))
    assert float(agreement.pearson(*pair)) == pytest.approx(stats.pearsonr(*pair).statistic, abs=1e-9)
    assert float(agreement.spearman(*pair)) == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-9)


def test_correlation_of_tiny_and_of_huge_numbers():
    assert float(agreement.pearson([1e-200, 2e-200, 4e-200], [1e200, 2e200, 4e200])) == pytest.approx(1)


@given(raw_pairs)
def test_errors_and_spreads_are_those_of_plain_versions(pair):
    human, machine = map(np.array, pair)
    assert float(agreement.rmse(human, machine)) == pytest.approx(root_mean_squared_error(human, machine))
    assume(all(np.ptp(column) > 0.1 for column in pair))
    pooled = math.sqrt((np.var(human, ddof=1) + np.var(machine, ddof=1)) / 2)
    smd = float(agreement.standardized_mean_difference(human, machine))
    assert smd == pytest.approx((machine.mean() - human.mean()) / pooled, abs=1e-9)
    assert float(agreement.sd_ratio(human, machine)) == pytest.approx(machine.std() / human.std())


def test_a_lenient_machine_has_a_positive_smd_and_a_shrunk_one_a_ratio_below_one():
    assert agreement.standardized_mean_difference([1, 2, 3], [2, 3, 4]) == pytest.approx(1)
    assert agreement.sd_ratio([1, 2, 3], [1.5, 2, 2.5]) == pytest.approx(0.5)


@given(score_pairs, st.sampled_from([0.1, 0.5, 1.0]))
def test_agreements_count_points(pair, step):
    distances = [abs(one - other) for one, other in zip(*pair, strict=True)]
    scaled = [step * np.array(column) for column in pair]
    n = len(distances)
    assert float(agreement.agreement_within(*scaled, 0)) == pytest.approx(distances.count(0) / n)
    assert float(agreement.agreement_within(*scaled, step)) == pytest.approx(sum(d <= 1 for d in distances) / n)


@settings(max_examples=30)
@given(columns(st.integers(0, 6), count=8))
def test_measures_of_stacked_columns_are_those_of_each(rows):
    human, machine = np.array(rows[:4]), np.array(rows[4:])
    for measure in (
        quadratic_weighted_kappa,
        agreement.pearson,
        agreement.spearman,
        agreement.rmse,
        agreement.standardized_mean_difference,
        agreement.sd_ratio,
    ):
        each = [measure(one, other) for one, other in zip(human, machine, strict=True)]
        np.testing.assert_allclose(measure(human, machine), each, atol=1e-12)


def test_all_measures_of_a_prompt():
    found = measures([1, 2, 3, 6], [1.4, 2.6, 2.8, 5.1], [1, 3, 3, 5], ScoreRange(1, 6))
    assert found["exact_agreement"] == 0.5
    assert found["adjacent_agreement"] == 1.0
    assert found["qwk"] == pytest.approx(
        cohen_kappa_score([1, 2, 3, 6], [1, 3, 3, 5], labels=range(7), weights="quadratic")
    )
    assert found["pearson"] == pytest.approx(stats.pearsonr([1, 2, 3, 6], [1.4, 2.6, 2.8, 5.1]).statistic)
    assert found["rmse"] == pytest.approx(math.sqrt((0.16 + 0.36 + 0.04 + 0.81) / 4))
    assert list(found) == [
        "qwk", "exact_agreement", "adjacent_agreement", "pearson", "spearman", "rmse", "smd", "sd_ratio",
    ]  # fmt: skip


def test_undefined_measures_are_none():
    constant = measures([2, 2, 2], [0.1, 0.1, 0.1], [1, 1, 1], ScoreRange(1, 6))
    assert {name for name, value in constant.items() if value is None} == {"pearson", "spearman", "smd", "sd_ratio"}
    assert constant["qwk"] == 0
    single = measures([2], [2.2], [2], ScoreRange(1, 6))
    assert {name for name, value in single.items() if value is None} == {"pearson", "spearman", "smd", "sd_ratio"}
    assert single["qwk"] == 1


def test_a_constant_whose_mean_is_not_itself_is_still_constant():
    constant = [0.1] * 3
    assert np.std(constant) > 0  # the trap
    assert np.isnan(agreement.pearson([1, 2, 3], constant))
    assert agreement.sd_ratio([1, 2, 3], constant) == 0
    assert np.isnan(agreement.sd_ratio(constant, [1, 2, 3]))


@pytest.mark.parametrize(
    ("reference", "score", "message"),
    [
        ([1, 2], [1], "one shape, found reference \\(2,\\), score \\(1,\\)"),
        ([[1], [2]], [1, 2], "one shape"),
        ([], [], "at least one essay"),
        (1, 1, "at least one essay"),
        ([1, math.nan], [1, 2], "finite values"),
        ([1, 2], [1, math.inf], "finite values"),
    ],
)
def test_columns_that_cannot_be_compared(reference, score, message):
    with pytest.raises(DataError, match=message):
        quadratic_weighted_kappa(reference, score)


@pytest.mark.parametrize(
    ("reference", "score", "message"),
    [
        ([0, 2], [1, 2], "The reference 0 is no score point of the range 1 to 6"),
        ([1, 2], [1, 2.5], "The score 2.5 is no"),
    ],
)
def test_measures_refuse_what_is_no_score_point(reference, score, message):
    with pytest.raises(DataError, match=message):
        measures(reference, [1, 2], score, ScoreRange(1, 6))
