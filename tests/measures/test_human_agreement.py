from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rated_essays import sample

from aes_dynloss.measures.agreement import pearson
from aes_dynloss.measures.breakdowns import LIMITS, human_entry, limit_entries
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


def test_a_resolved_score_counts_as_one_raters():
    ratings, raw, _, _ = sample()
    table = essays(reference=ratings[:, :2].max(axis=1), rater1=ratings[:, 0], rater2=ratings[:, 1])
    found, notes = limits(table)
    r = np.corrcoef(ratings[:, 0], ratings[:, 1])[0, 1]
    # The higher of two neighbouring ratings is within half a point of their mean more often than not, but not mostly.
    assert found["qwk_ceiling"] in (pytest.approx(np.sqrt(r)), pytest.approx(np.sqrt(2 * r / (1 + r))))
    assert found["prmse"] == pytest.approx(float(prmse(raw, ratings[:, :2])))
    assert notes == []


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
    assert limits(table) == (dict.fromkeys(LIMITS), [])
    assert (human_entry(table) is None) == (second is None)


def test_raters_who_do_not_agree_set_no_limit_that_could_be_told():
    ratings, _, _, _ = sample()
    found, _ = limits(essays(second_reference=7 - ratings[:, 0]))
    assert found["pearson_disattenuated"] is None
    assert found["qwk_ceiling"] == 0
    assert found["prmse"] is None


def test_constant_raters():
    found, _ = limits(essays(reference=3.0, second_reference=3.0))
    assert found == dict.fromkeys(LIMITS)
