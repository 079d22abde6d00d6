from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rated_essays import sample, with_gaps

from aes_dynloss.measures.agreement import pearson
from aes_dynloss.measures.human_agreement import LIMITS, human_entry, limit_entries
from aes_dynloss.measures.reliability import prmse
from aes_dynloss.tables.score_range import ScoreRange

SPAN = ScoreRange(1, 6)


def essays(**columns):
    ratings, raw, _, _ = sample()
    table = {"reference": ratings[:, 0], "raw": raw, "score": SPAN.to_point(raw)}
    return pd.DataFrame({**table, **columns})


def limits(table, span=SPAN):
    return limit_entries("7", table, span)


def test_two_readings_of_one_scale():
    ratings, raw, _, _ = sample()
    found, notes = limits(essays(second_reference=ratings[:, 1]))
    r = np.corrcoef(ratings[:, 0], ratings[:, 1])[0, 1]
    assert found["pearson_disattenuated"] == pytest.approx(np.corrcoef(ratings[:, 0], raw)[0, 1] / np.sqrt(r))
    assert found["prmse"] == pytest.approx(float(prmse(raw, ratings[:, :2])))
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(r))
    assert found["qwk_of_true_score"] == pytest.approx(2 * r / (1 + r))
    assert notes == []


def test_a_sum_of_two_raters_is_more_reliable_than_one_and_twice_their_scale():
    ratings, raw, _, _ = sample()
    total, span = ratings[:, 0] + ratings[:, 1], ScoreRange(2, 12)
    table = essays(
        reference=total, raw=2 * raw, score=span.to_point(2 * raw), rater1=ratings[:, 0], rater2=ratings[:, 1]
    )
    found, notes = limits(table, span)
    r = np.corrcoef(ratings[:, 0], ratings[:, 1])[0, 1]
    stepped = 2 * r / (1 + r)
    assert found["pearson_disattenuated"] == pytest.approx(float(pearson(total, raw)) / np.sqrt(stepped))
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(stepped))
    assert found["prmse"] == pytest.approx(float(prmse(raw, ratings[:, :2])))
    assert notes == []


def mostly_zero(essays=1000, zeros=0.94):
    """Two raters' scores from 0 to 4, of which most are 0, and raw machine scores on their scale."""
    random = np.random.default_rng(0)
    true = np.where(random.random(essays) < zeros, 0, random.integers(1, 5, essays)).astype(float)
    errors = random.integers(-1, 2, (essays, 2)) * (true > 0)[:, None]
    return np.clip(true[:, None] + errors, 0, 4), np.clip(true + random.normal(0, 0.2, essays), 0, 4)


@pytest.mark.parametrize("summed", [False, True])
def test_zeros_do_not_tell_a_sum_from_a_mean(summed):
    ratings, raw = mostly_zero()
    reference = ratings.sum(axis=1) if summed else np.ceil(ratings.mean(axis=1))
    scale, span = (2, ScoreRange(0, 8)) if summed else (1, ScoreRange(0, 4))
    table = pd.DataFrame({"rater1": ratings[:, 0], "rater2": ratings[:, 1], "reference": reference, "raw": scale * raw})
    found, notes = limits(table.assign(score=span.to_point(scale * raw)), span)
    assert found["prmse"] == pytest.approx(float(prmse(raw, ratings)))
    assert notes == []


def test_zeros_do_not_tell_a_single_rating_from_a_doubled_one():
    ratings, raw = mostly_zero()
    second = np.where(np.arange(len(raw)) % 3 == 0, np.nan, ratings[:, 1])
    reference = np.where(np.isnan(second), 2 * ratings[:, 0], ratings.sum(axis=1))
    table = pd.DataFrame({"rater1": ratings[:, 0], "rater2": second, "reference": reference, "raw": 2 * raw})
    found, notes = limits(table.assign(score=np.rint(2 * raw)), ScoreRange(0, 8))
    assert (found["prmse"] > 0.5, notes) == (True, [])


def test_raters_who_give_zeros_alone_give_no_sum():
    zeros = np.zeros(50)
    table = pd.DataFrame({"rater1": zeros, "rater2": zeros, "reference": zeros, "raw": np.linspace(0, 1, 50)})
    found, _ = limits(table.assign(score=0.0), ScoreRange(0, 4))
    assert found["human_ratings"]["n_twice"] == 50


def test_a_sum_of_two_beside_single_ratings_has_two_scales():
    ratings, raw, _, _ = sample()
    second = np.where(np.arange(len(raw)) % 3 == 0, ratings[:, 1], np.nan)
    total = ratings[:, 0] + np.nan_to_num(second)
    table = essays(reference=total, raw=raw, rater1=ratings[:, 0], rater2=second)
    found, notes = limits(table, ScoreRange(1, 12))
    assert (found["prmse"], found["pearson_disattenuated"]) == (None, None)
    assert "two scales" in notes[0]
    doubled = np.where(np.isnan(second), 2 * ratings[:, 0], total)
    found, notes = limits(table.assign(reference=doubled, raw=2 * raw), ScoreRange(2, 12))
    assert (found["prmse"] > 0.5, notes) == (True, [])


def test_a_resolved_score_counts_as_one_raters():
    ratings, raw, _, _ = sample()
    table = essays(reference=ratings[:, :2].max(axis=1), rater1=ratings[:, 0], rater2=ratings[:, 1])
    found, notes = limits(table)
    r = np.corrcoef(ratings[:, 0], ratings[:, 1])[0, 1]
    # Of two ratings that are no neighbours the higher one is not their mean.
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(r))
    assert found["prmse"] == pytest.approx(float(prmse(raw, ratings[:, :2])))
    assert notes == []


@pytest.mark.parametrize("whose", [0, 1])
def test_a_reference_that_is_one_raters_score_is_no_mean_of_two(whose):
    """Where raters differ by a point at most, each is within half a point of their mean."""
    pair, _ = neighbours()
    found, _ = limits(essays(reference=pair[:, whose], rater1=pair[:, 0], rater2=pair[:, 1]))
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(np.corrcoef(pair.T)[0, 1]))


@pytest.mark.parametrize("rounded", [np.floor, np.ceil, np.array])
def test_a_mean_of_two_is_one_however_it_is_rounded(rounded):
    pair, _ = neighbours()
    found, _ = limits(essays(reference=rounded(pair.mean(axis=1)), rater1=pair[:, 0], rater2=pair[:, 1]))
    r = np.corrcoef(pair.T)[0, 1]
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(2 * r / (1 + r)))


def test_a_score_of_somebody_else_where_raters_differ_is_no_mean():
    """On 19 essays of 20 raters agree, and the reference with them; on the others it is another's."""
    pair, random = neighbours()
    pair[::20, 1] = np.where(pair[::20, 0] > 3, pair[::20, 0] - 3, pair[::20, 0] + 3)
    agreed = np.arange(len(pair)) % 20 > 0
    pair[agreed, 1] = pair[agreed, 0]
    reference = np.where(agreed, pair[:, 0], random.integers(1, 7, len(pair)))
    found, _ = limits(essays(reference=reference, rater1=pair[:, 0], rater2=pair[:, 1]))
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(np.corrcoef(pair.T)[0, 1]))


def neighbours() -> tuple[np.ndarray, np.random.Generator]:
    """Ratings by two raters who never differ by more than a point."""
    ratings, *_ = sample()
    random = np.random.default_rng(5)
    first = ratings[:, 0]
    return np.stack([first, np.clip(first + random.integers(-1, 2, len(first)), 1, 6)], axis=1), random


def test_raters_on_a_scale_of_their_own_have_no_prmse():
    ratings, _, _, _ = sample()
    found, notes = limits(essays(rater1=10 * ratings[:, 0], rater2=10 * ratings[:, 1]))
    assert found["prmse"] is None
    assert found["qwk_ceiling"] is not None
    assert len(notes) == 1
    assert notes[0].startswith("Prompt 7: prmse is null, as the raters' scores are on another scale than the reference")


@pytest.mark.parametrize("second", [None, np.nan])
def test_without_a_second_rater_nothing_is_known(second):
    table = essays() if second is None else essays(second_reference=second)
    assert limits(table) == ({**dict.fromkeys(LIMITS), "human_ratings": None}, [])
    assert (human_entry(table, SPAN) is None) == (second is None)


def test_raters_who_do_not_agree_set_no_limit_that_could_be_told():
    ratings, _, _, _ = sample()
    found, _ = limits(essays(second_reference=7 - ratings[:, 0]))
    assert found["pearson_disattenuated"] is None
    assert found["qwk_ceiling"] == 0
    assert found["prmse"] is None


def test_constant_raters():
    found, _ = limits(essays(reference=3.0, second_reference=3.0))
    assert {name: found[name] for name in LIMITS} == dict.fromkeys(LIMITS)
    assert found["human_ratings"]["error_variance"] == found["human_ratings"]["true_variance"] == 0


def partly(ratings, share, seed=3):
    """Ratings of which only a share of essays has more than the first."""
    scored_twice = np.random.default_rng(seed).permutation(len(ratings)) < round(share * len(ratings))
    return np.where((np.arange(ratings.shape[1]) > 0) & ~scored_twice[:, None], np.nan, ratings)


def by_rater(ratings):
    """Essays' ratings by rater, as a file with a row a rating gives them."""
    return [tuple((f"r{rater}", one) for rater, one in enumerate(own) if not np.isnan(one)) for own in ratings]


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_essays_with_one_score_count_too(share):
    ratings, raw, _, _ = sample()
    pair = partly(ratings[:, :2], share)
    found, notes = limits(essays(second_reference=pair[:, 1]))
    twice = ~np.isnan(pair[:, 1])
    reliability = np.corrcoef(pair[twice].T)[0, 1]
    assert found["prmse"] == pytest.approx(float(prmse(raw, pair)))
    assert found["pearson_disattenuated"] == pytest.approx(np.corrcoef(pair[:, 0], raw)[0, 1] / np.sqrt(reliability))
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(reliability))
    counts = {name: found["human_ratings"][name] for name in ("n", "n_twice", "ratings")}
    assert counts == {"n": 240, "n_twice": twice.sum(), "ratings": 240 + twice.sum()}
    assert notes == []
    if share < 1:
        assert found["prmse"] != pytest.approx(float(prmse(raw[twice], pair[twice])), abs=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("raters", [2, 3])
def test_partial_scoring_is_that_of_rsmtool(rsmtool, share, raters):
    ratings, raw, _, _ = sample(200, seed=11)
    ratings = partly(ratings[:, :raters], share)
    table = pd.DataFrame(ratings, columns=[f"h{rater}" for rater in range(raters)]).assign(raw=raw)
    theirs = rsmtool("utils.prmse.get_true_score_evaluations", table, "raw", list(table.columns[:-1])).loc["raw"]
    columns = {"reference": ratings[:, 0], "raw": raw, "second_reference": ratings[:, 1]}
    if raters > 2:
        columns["ratings_by_rater"] = by_rater(ratings)
    found, _ = limits(pd.DataFrame(columns))
    ours = found["human_ratings"]
    assert found["prmse"] == pytest.approx(theirs["PRMSE true"], abs=1e-6)
    assert ours["error_variance"] == pytest.approx(theirs["Variance of errors"], abs=1e-6)
    assert ours["true_variance"] == pytest.approx(theirs["True score var"], abs=1e-6)
    assert (ours["n"], ours["n_twice"]) == (theirs["N"], theirs["N multiple"])
    twice = table.dropna()
    machine, human = (np.corrcoef(*pair)[0, 1] for pair in ((table["h0"], raw), (twice["h0"], twice["h1"])))
    straight = rsmtool("analyzer.Analyzer.compute_disattenuated_correlations", *map(one_value, (machine, human)))
    assert found["pearson_disattenuated"] == pytest.approx(straight["corr_disattenuated"].iloc[0], abs=1e-6)


def one_value(correlation):
    return pd.Series([correlation], index=["raw"])


def test_all_ratings_of_more_than_two_raters_count():
    ratings, raw, _, _ = sample()
    gaps = with_gaps(ratings)
    second = [own[1][1] if len(own) > 1 else np.nan for own in by_rater(gaps)]
    found, _ = limits(essays(second_reference=second, ratings_by_rater=by_rater(gaps)))
    assert found["prmse"] == pytest.approx(float(prmse(raw, gaps)))
    assert found["human_ratings"]["ratings"] == (~np.isnan(gaps)).sum()


def test_a_mean_of_one_or_two_raters_is_as_reliable_as_their_harmonic_number_says():
    ratings, raw, _, _ = sample()
    pair = partly(ratings[:, :2], 0.5)
    table = essays(reference=np.nanmean(pair, axis=1), rater1=pair[:, 0], rater2=pair[:, 1])
    found, _ = limits(table, ScoreRange(1, 6, 0.5))
    twice = ~np.isnan(pair[:, 1])
    r, number = np.corrcoef(pair[twice].T)[0, 1], 1 / (0.5 * 1 + 0.5 / 2)
    assert found["qwk_ceiling"] == pytest.approx(np.sqrt(number * r / (1 + (number - 1) * r)))
    assert found["pearson_disattenuated"] == pytest.approx(
        float(pearson(table["reference"], raw)) / found["qwk_ceiling"]
    )


def test_essays_that_no_rater_scored_take_no_part():
    ratings, _, _, _ = sample()
    table = essays(rater1=ratings[:, 0], rater2=ratings[:, 1])
    table.loc[:39, ["rater1", "rater2"]] = np.nan
    table.loc[:39, "raw"] = -50.0
    assert limits(table)[0] == limits(table[40:])[0]
    assert limits(table)[0]["human_ratings"]["n"] == 200


def test_two_raters_in_full():
    table = pd.DataFrame({"reference": [1, 2, 3, 4, 6], "second_reference": [1, 3, 3, 4, 4], "raw": 3.0, "score": 3})
    entry = human_entry(table, SPAN)
    assert (entry["exact_agreement"], entry["adjacent_agreement"]) == (0.6, 0.8)
    assert entry["kappa"] == pytest.approx((0.6 - 5 / 25) / (1 - 5 / 25))
    assert entry["smd"] == pytest.approx((3.0 - 3.2) / np.sqrt((3.7 + 1.5) / 2))
    assert (entry["mean_first"], entry["mean_second"]) == (3.2, 3.0)
    assert (entry["sd_first"], entry["sd_second"]) == pytest.approx((np.sqrt(3.7), np.sqrt(1.5)))
    assert entry["confusion"] == [[1, 1, 1], [2, 3, 1], [3, 3, 1], [4, 4, 1], [6, 4, 1]]
    assert entry["range"] == SPAN


def test_raters_on_another_scale_are_compared_on_theirs():
    table = pd.DataFrame(
        {"rater1": [0.5, 1, 2], "rater2": [0.5, 1.5, 2], "reference": [2, 2, 4], "raw": 3.0, "score": 3}
    )
    entry = human_entry(table, ScoreRange(2, 8))
    assert entry["range"] == ScoreRange(0.5, 2, 0.5)
    assert (entry["exact_agreement"], entry["adjacent_agreement"]) == (pytest.approx(2 / 3), 1)
    strange = human_entry(table.assign(rater1=[0.51, 1.013, 2.2]), ScoreRange(2, 8))
    assert "kappa" not in strange
    assert strange["smd"] is not None
