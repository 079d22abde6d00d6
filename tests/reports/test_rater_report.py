from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.reports.prompts import build_report, report_json
from aes_dynloss.reports.rater_report import adjusted_scores, measure_raters
from aes_dynloss.reports.report_files import report_rows
from aes_dynloss.reports.report_tables import report_text
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"1": ScoreRange(0, 12), "2": ScoreRange(0, 12)}
NAMES = ["Ann", "Bo", "Cy", "Di", "Ed"]
SEVERITY = np.array([-1.5, 0.0, 0.0, 0.0, 1.5])


def ratings(seed=0, essays=300, twice=0.4, chosen=False, drift=0.0):
    """Rows of ratings: Ann is severe, Ed lenient, Di does not look; the machine is a point more lenient than all."""
    random = np.random.default_rng(seed)
    truth = random.normal(6, 1.5, essays)
    raw = 7 + 0.7 * (truth - 6) + random.normal(0, 0.7, essays)
    first = random.integers(0, 5, essays)
    if chosen:
        first = np.argsort(np.argsort(truth)) * 5 // essays
    again = np.flatnonzero(random.random(essays) < twice)
    essay = np.r_[np.arange(essays), again]
    rater = np.r_[first, (first[again] + random.integers(1, 5, len(again))) % 5]
    day = random.integers(0, 90, len(essay))
    score = np.where(rater == 3, random.normal(6, 1.5, len(essay)), truth[essay] + random.normal(0, 0.8, len(essay)))
    score = np.clip(np.rint(score + SEVERITY[rater] + drift * (rater == 1) * day / 90), 0, 12)
    return pd.DataFrame({
        "essay_id": essay, "prompt_id": essay % 2 + 1, "reference": score, "raw": raw[essay],
        "rater": [NAMES[one] for one in rater], "date": pd.Timestamp("2026-01-05") + pd.to_timedelta(day, unit="D"),
        "words": np.rint(100 + 30 * truth[essay]),
    })  # fmt: skip


def read(tmp_path, rows, **names):
    rows.to_csv(tmp_path / "ratings.csv", index=False)
    return read_predictions(tmp_path / "ratings.csv", columns=ColumnNames(rater="rater", **names), ranges=RANGES)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    table = read(tmp_path_factory.mktemp("raters"), ratings(essays=900, twice=0.6, drift=3.0), date="date")
    return build_report(table, resamples=0)


def test_who_is_severe_inconsistent_and_drifting(report):
    found = {one.rater: one for one in report.raters.raters}
    assert list(found) == NAMES
    assert "severe" in found["Ann"].remarks
    assert "lenient" in found["Ed"].remarks
    assert found["Ann"].severity < -0.4 < 0.4 < found["Ed"].severity
    assert "inconsistent" in found["Di"].remarks
    assert report.raters.compared_with == "other raters"
    assert [name for name, one in found.items() if "drifting" in one.remarks] == ["Bo"]
    assert found["Bo"].drift > 0.5
    assert report.raters.severity_p < 0.001


def test_the_machine_is_one_more_rater(report):
    machine = report.raters.machine
    assert machine.n == report.prompts["1"].n + report.prompts["2"].n == 900
    assert 0.2 < machine.severity < 0.8
    assert machine.severity_interval[0] < machine.severity < machine.severity_interval[1]
    assert machine.sd_ratio < 0.9
    assert machine.consistency > {one.rater: one for one in report.raters.raters}["Di"].consistency


def test_adjusted_scores_agree_better_with_the_machine(report):
    for one in report.raters.adjusted.values():
        assert one.pearson_adjusted > one.pearson
        assert one.rmse_adjusted < one.rmse


def test_json_csv_page_and_text_have_them(report):
    assert Report.from_dict(json.loads(report_json(report))) == report
    rows = [row for row in report_rows(report) if row["table"] == "raters" and row["item"] == "Ann"]
    assert {row["measure"] for row in rows} >= {"n", "severity", "consistency", "drift"}
    html = report_page(report, title="Raters")
    for name in ("human-raters-table", "drift-table", "adjusted-table"):
        assert f'id="{name}"' in html
    assert "Ann: severe" in html
    assert "machine: severity 0." in html  # the picture's description
    assert "Raters: Raters differ in severity: the SD between them is" in report_text(report)
    assert 'id="human-raters-table"' not in report_page(replace(report, raters=None), title="None")


def test_a_warning_where_raters_were_not_assigned_by_chance(tmp_path, report):
    assert not [note for note in report.notes if "by chance" in note]
    chosen = build_report(read(tmp_path, ratings(chosen=True)), resamples=0)
    warnings = [note for note in chosen.notes if note.startswith("Raters were not assigned to essays by chance")]
    assert len(warnings) == 2  # by the machine's score, and by length
    assert all(one.p_holm < 0.01 for one in chosen.raters.assignment.values())


def few_of_cy(rows):
    """The same ratings, of which Cy has nine."""
    rows.loc[rows.index[rows["rater"] == "Cy"][9:], "rater"] = "Bo"
    return rows.drop_duplicates(["essay_id", "rater"])


def test_raters_of_few_ratings_are_not_told(tmp_path):
    found = build_report(read(tmp_path, few_of_cy(ratings())), resamples=0).raters
    assert [one.rater for one in found.raters] == ["Ann", "Bo", "Di", "Ed"]
    assert found.untold == 1
    assert "1 rater has rated fewer than 10 essays, and has no figures here." in found.conclusions
    assert found.compared_with == "other raters"
    assert not [one for one in found.conclusions if "consistency is that with the machine's scores" in one]


def test_raters_and_essays_of_few_ratings_are_both_counted(tmp_path):
    rows = few_of_cy(ratings(twice=0.05))
    twice = rows["essay_id"].duplicated().sum()
    assert 0 < twice < 30
    found = build_report(read(tmp_path, rows), resamples=0).raters
    assert [one for one in found.conclusions if "fewer than" in one] == [
        "1 rater has rated fewer than 10 essays, and has no figures here.",
        f"{twice} essays have two ratings or more, fewer than 30: consistency is that with the machine's scores.",
    ]


def test_without_essays_scored_twice_the_machine_is_the_reference(tmp_path):
    found = build_report(read(tmp_path, ratings(twice=0.0)), resamples=0).raters
    assert found.compared_with == "machine"
    assert found.machine.consistency is None
    assert all(one.consistency is not None for one in found.raters)
    assert found.raters[0].drift is None


@pytest.mark.parametrize(("twice", "compared"), [(29, "machine"), (30, "other raters")])
def test_consistency_is_that_with_other_raters_from_a_stated_number_of_essays_on(tmp_path, twice, compared):
    rows = ratings(twice=1.0)
    again = rows.duplicated("essay_id").to_numpy()
    keep = ~again | rows["essay_id"].isin(rows["essay_id"].unique()[:twice]).to_numpy()
    found = build_report(read(tmp_path, rows[keep]), resamples=0).raters
    assert found.compared_with == compared
    said = [one for one in found.conclusions if one.startswith("29 essays have two ratings or more, fewer than 30: ")]
    assert len(said) == (compared == "machine")
    assert (found.machine.consistency is None) == (compared == "machine")


def test_a_rater_who_is_called_as_the_machine_is_refused(tmp_path):
    rows = ratings()
    with pytest.raises(DataError, match="A rater is called 'machine'"):
        build_report(read(tmp_path, rows.replace({"rater": {"Ann": "machine"}})), resamples=0)


def test_one_rater_is_none_to_compare(tmp_path):
    rows = ratings(twice=0.0).assign(rater="Ann")
    assert build_report(read(tmp_path, rows), resamples=0).raters is None
    plain = rows.drop(columns="rater")
    assert measure_raters(plain, RANGES, 10) is None
    assert adjusted_scores(plain) is None


def test_adjusted_scores_of_each_essay(tmp_path):
    table = read(tmp_path, ratings()).table
    found = adjusted_scores(table).set_index("essay_id")
    assert list(found.columns) == ["prompt_id", "ratings", "mean_rating", "adjusted"]
    assert len(found) == len(table)
    sole = [row for row in table.itertuples() if len(row.ratings_by_rater) == 1]
    severe = [row.essay_id for row in sole if row.ratings_by_rater[0].rater == "Ann"]
    assert (found.loc[severe, "adjusted"] - found.loc[severe, "mean_rating"]).between(0.8, 2.0).all()
    assert found["adjusted"].mean() == pytest.approx(found["mean_rating"].mean(), abs=0.3)


def test_dates_are_iso_dates(tmp_path):
    rows = ratings(essays=40)
    blank = rows.assign(date=rows["date"].astype(str).where(rows.index > 0, ""))
    found = read(tmp_path, blank, date="date").table
    assert np.isnan(found["ratings_by_rater"].iloc[0][0].day)
    assert found["ratings_by_rater"].iloc[1][0].day == (rows["date"][1] - pd.Timestamp(0)).days
    with pytest.raises(Exception, match=r"Row 3 of ratings\.csv: '5\.1\.2026' is no date\. Write dates as 2026-11-30"):
        read(tmp_path, blank.assign(date=["2026-01-05", "5.1.2026", *blank["date"][2:]]), date="date")


@pytest.mark.parametrize("date", ["0001-01-01", "9999-12-31", "1500-06-01T12:00:00+02:00"])
def test_dates_of_all_times_are_days(tmp_path, date):
    rows = ratings(essays=40)
    found = read(tmp_path, rows.assign(date=[date, *rows["date"].astype(str)[1:]]), date="date").table
    expected = np.datetime64(date[:10], "D").astype(int)
    assert found["ratings_by_rater"].iloc[0][0].day == pytest.approx(expected, abs=0.5)


def test_raters_whom_nothing_connects_are_not_compared(tmp_path):
    rows = ratings(essays=200, twice=0.0)
    rows = rows[rows["rater"].isin(["Ann", "Bo"])].assign(prompt_id=lambda table: table["rater"])
    found = build_report(read(tmp_path, rows), resamples=0)
    assert found.raters.severity_p is None
    assert found.raters.conclusions[0].startswith("Raters' severities cannot be compared: ")


def on_traits(rows, traits=("content", "form")):
    """The same ratings on several traits."""
    return pd.concat([rows.assign(trait=trait) for trait in traits], ignore_index=True)


def test_an_essay_on_several_traits_is_one_essay(tmp_path):
    rows = ratings(drift=3.0, chosen=True)
    one, three = (
        measure_raters(table.table, table.ranges, 10)
        for table in (read(tmp_path, each, date="date") for each in (rows, on_traits(rows, "abc")))
    )
    assert three.assignment.keys() == one.assignment.keys() == {"the machine's score", "length"}
    for name, test in one.assignment.items():
        assert dict(three.assignment[name]) == pytest.approx(dict(test))
    assert (three.severity_sd, three.severity_p) == pytest.approx((one.severity_sd, one.severity_p))
    for found, expected in zip([*three.raters, three.machine], [*one.raters, one.machine], strict=True):
        assert found.n == expected.n * (1 if found is three.machine else 3)
        assert {**found, "n": 0} == {
            key: value if value is None or isinstance(value, str) else pytest.approx(value)
            for key, value in {**expected, "n": 0}.items()
        }
    assert three.conclusions == one.conclusions
    assert list(three.adjusted) == [f"{prompt}/{trait}" for trait in "abc" for prompt in "12"]


def test_few_essays_are_few_on_several_traits_too(tmp_path):
    rows = few_of_cy(ratings(twice=0.05))
    twice = rows["essay_id"].duplicated().sum()
    assert 5 < twice < 30
    found = build_report(read(tmp_path, on_traits(rows, "abcdef")), resamples=0).raters
    assert found.compared_with == "machine"
    assert found.machine.n == 300
    assert [one for one in found.conclusions if "fewer than" in one] == [
        "1 rater has rated fewer than 10 essays, and has no figures here.",
        f"{twice} essays have two ratings or more, fewer than 30: consistency is that with the machine's scores.",
    ]


def test_adjusted_scores_of_each_essay_and_trait(tmp_path):
    rows = ratings()
    one, two = (adjusted_scores(read(tmp_path, each).table) for each in (rows, on_traits(rows)))
    keys = ["essay_id", "prompt_id"]
    for trait in ("content", "form"):
        own = two[two["trait"] == trait].drop(columns="trait")
        pd.testing.assert_frame_equal(own.set_index(keys).sort_index(), one.set_index(keys).sort_index())


def test_the_machines_sd_ratio_has_the_raters_denominator(tmp_path):
    """Raters of other severity: SDs are within raters, of the machine as of each of them."""
    rows = ratings(essays=600, twice=0.0)
    raw = rows["reference"] - rows["rater"].map(dict(zip(NAMES, SEVERITY, strict=True)))
    found = measure_raters(*_of(read(tmp_path, rows.assign(raw=raw))), 10)
    assert found.machine.sd_ratio == pytest.approx(np.mean([one.sd_ratio for one in found.raters]), abs=0.06)


def _of(table):
    return table.table, table.ranges
