from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rated_essays import sample, with_gaps

from aes_dynloss.errors import DataError
from aes_dynloss.measures.reliability import prmse
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

SPAN = ScoreRange(1, 6)
ROWS = pd.DataFrame({
    "essay_id": ["a", "b", "a", "c", "b", "a"],
    "prompt_id": "1",
    "judge": ["Ann", "Bo", "Cy", "Bo", "Ann", "Bo"],
    "reference": [2, None, 4, 5, 3, 1],
    "raw": [2.2, 3.1, 2.2, 4.4, 3.1, 2.2],
})  # fmt: skip


def read(tmp_path, rows=ROWS, references=None, **options):
    rows.to_csv(tmp_path / "scores.csv", index=False)
    if references is not None:
        references.to_csv(tmp_path / "human.csv", index=False)
        options["references"] = tmp_path / "human.csv"
    names = ColumnNames(rater="judge", **options.pop("names", {}))
    return read_predictions(tmp_path / "scores.csv", columns=names, **options)


def test_rows_with_one_rating_each_become_essays(tmp_path):
    found = read(tmp_path)
    assert found.table["essay_id"].tolist() == ["a", "b", "c"]
    assert found.table["reference"].tolist() == [2, 3, 5]
    np.testing.assert_array_equal(found.table["second_reference"], [4, np.nan, np.nan])
    ratings = [[(one.rater, one.score) for one in own] for own in found.table["ratings_by_rater"]]
    assert ratings == [[("Ann", 2), ("Cy", 4), ("Bo", 1)], [("Ann", 3)], [("Bo", 5)]]
    assert found.ranges["1"] == ScoreRange(1, 5)  # the third rating is seen too
    assert found.notes[0].startswith("5 ratings of 3 essays by 3 raters: the human score is")


def test_they_may_be_in_a_file_of_references(tmp_path):
    scores = pd.DataFrame({"essay_id": ["c", "b", "a"], "prompt_id": "1", "raw": [4.4, 3.1, 2.2]})
    found = read(
        tmp_path, scores, ROWS.drop(columns="raw").rename(columns={"reference": "mark"}), names={"reference": "mark"}
    )
    here = read(tmp_path).table.set_index("essay_id")
    there = found.table.set_index("essay_id").loc[here.index]
    for column in ("reference", "second_reference", "ratings_by_rater"):
        assert str(there[column].tolist()) == str(here[column].tolist())  # NaN is NaN


def test_prompts_and_traits_tell_essays_apart(tmp_path):
    rows = ROWS.assign(
        prompt_id=["1", "1", "2", "1", "1", "2"], trait=["style", "style", "style", "style", "plan", "plan"]
    )
    found = read(tmp_path, rows.dropna())
    assert sorted(zip(found.table["prompt_id"], found.table["essay_id"], strict=True)) == [
        ("1/plan", "b"),
        ("1/style", "a"),
        ("1/style", "c"),
        ("2/plan", "a"),
        ("2/style", "a"),
    ]
    assert found.notes[0].startswith("5 ratings of 4 essays by 3 raters")
    assert "second_reference" not in found.table or found.table["second_reference"].isna().all()


def test_prmse_uses_all_ratings_and_a_column_of_raters_is_not_read_unasked(tmp_path):
    ratings, raw, _, _ = sample(60)
    gaps = with_gaps(ratings)
    rows = pd.DataFrame(
        [
            {"essay_id": f"{essay}", "judge": f"r{rater}", "reference": gaps[essay, rater], "raw": raw[essay]}
            for rater in range(3)
            for essay in range(60)
            if not np.isnan(gaps[essay, rater])
        ]
    )
    entry = build_report(read(tmp_path, rows, ranges={"all": SPAN}), resamples=0).prompts["all"]
    assert entry.prmse == pytest.approx(float(prmse(raw, gaps)))
    assert (entry.human_ratings.n, entry.human_ratings.ratings) == (60, len(rows))
    assert entry.human_human.n == entry.human_ratings.n_twice < 60
    single = rows.drop_duplicates("essay_id")
    single.to_csv(tmp_path / "single.csv", index=False)
    assert "ratings_by_rater" not in read_predictions(tmp_path / "single.csv").table


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.assign(judge="Ann"), ["more than one row of rater 'Ann' for essay 'a'", "prompt"]),
        (lambda rows: rows.assign(raw=range(6)), ["rows of essay 'a'", "different values of 'raw'"]),
        (lambda rows: rows.assign(raw=range(6), words=range(6)), ["rows of essay 'a'", "values of 'raw', 'words'"]),
        (lambda rows: rows.assign(second_reference=2), ["'second_reference' as well", "its rater"]),
        (lambda rows: rows.rename(columns={"judge": "judges"}), ["did you mean 'judges'", "--rater-column"]),
        (lambda rows: rows.rename(columns={"reference": "mark"}), ["no column 'reference'", "--reference-column"]),
        (lambda rows: rows.assign(judge=["Ann", "Bo", None, "Bo", "Ann", "Bo"]), ["Row 4 of scores.csv", "rater"]),
        (lambda rows: rows.assign(reference=[2, 3, 4, 5, 3, 9]), ["rating 9", "range 1 to 6"]),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path, change, words):
    with pytest.raises(DataError) as caught:
        read(tmp_path, change(ROWS), ranges={"1": SPAN})
    assert all(word in str(caught.value) for word in words), caught.value


def test_groups_that_are_read_are_the_same_in_all_rows_of_an_essay(tmp_path):
    rows = ROWS.assign(group=["x", "x", "y", "x", "x", "x"])
    with pytest.raises(DataError, match="rows of essay 'a' hold different values of 'group'"):
        read(tmp_path, rows, kept=["group"])
    assert len(read(tmp_path, rows).table) == 3  # nobody reads it


def test_a_row_without_a_score_needs_no_rater(tmp_path):
    rows = ROWS.assign(judge=["Ann", None, "Cy", "Bo", "Ann", "Bo"])  # of the second row, which has no score
    assert read(tmp_path, rows).table["ratings_by_rater"].map(len).tolist() == [3, 1, 1]
    again = pd.concat([rows, rows.iloc[[1]]])
    assert read(tmp_path, again).table["ratings_by_rater"].map(len).tolist() == [3, 1, 1]
    scores = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", "raw": [2.2, 3.1, 4.4, 3.0]})
    unrated = pd.concat([rows, rows.iloc[[1]].assign(essay_id="d")]).drop(columns="raw")
    found = read(tmp_path, scores, unrated)
    assert found.table["essay_id"].tolist() == ["a", "b", "c"]
    assert any("d" in note for note in found.notes)


def test_human_scores_may_be_in_the_column_that_a_machine_has_elsewhere(tmp_path):
    """As in the README: `--references ratings.csv --rater-column rater --map reference=score`."""
    scores = pd.DataFrame({"essay_id": ["c", "b", "a"], "prompt_id": "1", "raw": [4.4, 3.1, 2.2]})
    ratings = ROWS.drop(columns=["raw", "prompt_id"]).rename(columns={"reference": "score"})
    found = read(tmp_path, scores, ratings, names={"mapped": (("reference", "score"),)})
    assert found.table.set_index("essay_id")["reference"].to_dict() == {"a": 2, "b": 3, "c": 5}
