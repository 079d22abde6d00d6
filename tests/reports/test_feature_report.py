"""Features held against the human scores: figures, table, section, and the tables that are refused."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from facts import facts
from read_page import read_page
from sample_report import bare_report, made_up_essays

from aes_dynloss.errors import DataError
from aes_dynloss.reports.features import (
    FEATURE_COLUMNS,
    MOST_SHOWN,
    OWN,
    FeatureTable,
    compared_with_themselves,
    features_words,
    read_features,
)
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.prompts import build_report, read_report
from aes_dynloss.reports.report_files import FEATURES, REPORT, TABLE, write_report_files
from aes_dynloss.reports.report_tables import report_text
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

TWO = {"10": ScoreRange(1, 4), "9": ScoreRange(0, 30)}
KEYS = ["prompt_id", "essay_id"]
MANY = [f"noise_{number}" for number in range(24)]
DESCRIBED = {"quality": ("meaning", "points"), **dict.fromkeys(MANY, ("noise", "none"))}


def made_up_features(essays, seed=3):
    """One that goes with the score, one that goes with length alone, noise, and one that hardly varies."""
    random = np.random.default_rng(seed)
    columns = {
        "quality": 2.0 * essays["reference"] + random.normal(0, 1, len(essays)),
        "long": np.log1p(essays["words"]) + random.normal(0, 0.01, len(essays)),
        "same": 7.1,
        "rare": (np.arange(len(essays)) == 5).astype(float),
        **{name: random.normal(0, 1, len(essays)) for name in MANY},
    }
    return pd.DataFrame(columns).set_index(pd.MultiIndex.from_frame(essays[KEYS]))


@pytest.fixture(scope="module")
def essays():
    return made_up_essays(TWO, 60).drop(columns=["L1", "gender"])


@pytest.fixture(scope="module")
def values(essays):
    return made_up_features(essays)


def report_on(essays, table):
    return build_report(essays, ranges=TWO, features=table, resamples=0)


def themselves(values, most_sd=4.0):
    return compared_with_themselves(values, "f.csv", most_sd, DESCRIBED)


@pytest.fixture(scope="module")
def report(essays, values):
    # The features' order is no matter.
    return report_on(essays, themselves(values.sample(frac=1, random_state=0)))


def residual(column, length):
    design = np.stack([np.ones_like(length), length], axis=1)
    return column - design @ np.linalg.lstsq(design, column, rcond=None)[0]


def test_figures_are_those_of_other_code(essays, values, report):
    assert list(report.features.by_name) == list(values)
    for prompt, part in essays.groupby("prompt_id"):
        human, length = part["reference"].to_numpy(), np.log1p(part["words"].to_numpy())
        for name in ("quality", "long", "rare", *MANY[:3]):
            column = values.loc[prompt][name].to_numpy()
            found = report.features.by_name[name].prompts[prompt]
            assert found.n == 60
            assert found.mean == pytest.approx(statistics.fmean(column))
            assert found.sd == pytest.approx(statistics.stdev(column)) or name == "rare"
            if column.any():
                assert found.r == pytest.approx(statistics.correlation(human, column))
                expected = statistics.correlation(residual(human, length), residual(column, length))
                assert found.partial_r == pytest.approx(expected, abs=1e-9)


def test_partial_correlation_by_hand():
    """r_xy = 0.6, r_xz = 0.8, r_yz = 0: the length takes nothing from the score and hides part of the feature."""
    length = np.array([1.0, -1, 1, -1])
    human = np.array([1.0, 1, -1, -1])
    feature = 0.8 * length + 0.6 * human
    essays = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", "reference": human + 2, "raw": [1, 2, 2, 3]})
    table = pd.DataFrame({"log_words": length + 5, "x": feature}, index=pd.MultiIndex.from_frame(essays[KEYS]))
    ranges = {"1": ScoreRange(1, 3)}
    report = build_report(essays, ranges=ranges, features=themselves(table), resamples=0)
    found = report.features.by_name["x"].prompts["1"]
    assert found.r == pytest.approx(0.6)
    assert found.partial_r == pytest.approx((0.6 - 0.8 * 0) / math.sqrt((1 - 0.8**2) * (1 - 0)))
    # Nothing of the length itself is left given length.
    assert report.features.by_name["log_words"].prompts["1"].partial_r is None
    # The essays' own lengths come before the feature.
    words = essays.assign(words=np.expm1([5.0, 5, 4, 4]))
    found = build_report(words, ranges=ranges, features=themselves(table), resamples=0).features.by_name["x"]
    assert found.prompts["1"].partial_r is None


def test_clamped_is_counted_against_what_it_is_compared_with(essays, values):
    mean = pd.DataFrame({name: {"9": 0.0, "10": 100.0} for name in values})
    sd = pd.DataFrame({name: {"9": 0.5, "10": 0.5} for name in values}).assign(same=math.inf, rare=0.0)
    table = FeatureTable(values, mean, sd, "the training essays", 3.0, DESCRIBED)
    report = report_on(essays, table)
    for name in MANY[:3]:
        column = values.loc["9"][name]
        found = report.features.by_name[name].prompts
        assert found["9"].clamped == pytest.approx((column.abs() > 1.5).mean())
        assert 0 < found["9"].clamped < 1
        assert found["10"].clamped == 1
    for name in ("same", "rare"):
        assert [one.clamped for one in report.features.by_name[name].prompts.values()] == [None, None]
    assert (report.features.most_sd, report.features.compared_with) == (3.0, "the training essays")


def test_own_means_are_those_of_all_essays_of_the_prompt_in_the_table(essays, values):
    evaluated = essays[essays["prompt_id"] == "9"].iloc[:20]
    (found,) = report_on(evaluated, themselves(values, 1.0)).features.by_name["quality"].prompts.values()
    column = values.loc["9"]["quality"]
    inside = column.loc[evaluated["essay_id"]]
    assert found.n == 20
    assert found.clamped == pytest.approx(((inside - column.mean()).abs() > column.std(ddof=0)).mean())


def test_what_does_not_vary_is_no_error(report):
    for found in report.features.by_name["same"].prompts.values():
        assert (found.mean, found.sd, found.clamped, found.r, found.partial_r) == (pytest.approx(7.1), 0, *[None] * 3)
    rare = report.features.by_name["rare"].prompts
    assert rare["9"].r is None
    assert rare["10"].r is not None


def test_prompts_of_one_essay(essays, values):
    little = report_on(essays.groupby("prompt_id").head(1), themselves(values))
    for feature in little.features.by_name.values():
        assert {(one.n, one.sd, one.r, one.partial_r) for one in feature.prompts.values()} == {(1, None, None, None)}
    assert features_words(little.features) == ""
    assert "Features" not in report_text(little)
    assert "features-table" in report_page(little, title="T")


def test_without_lengths_there_is_no_partial_r(essays, values):
    report = report_on(essays.drop(columns="words"), themselves(values))
    assert {one.partial_r for one in report.features.by_name["quality"].prompts.values()} == {None}
    assert "human score: quality 0." in features_words(report.features)
    page = read_page(report_page(report, title="T"))
    (cell,) = rows_of(page, "features-table")["quality"][-1].all("span")[:1]
    assert cell.attributes["title"] == Missing.NO_LENGTHS.value
    assert "largest r with the score" in page.all("main")[0].text


def test_the_json_holds_all_and_comes_back(report, essays, tmp_path):
    write_report_files(report, tmp_path, title="T", page=False)
    assert read_report(tmp_path / REPORT) == report
    assert list(report.prompts) == list(report.features.by_name["quality"].prompts) == ["9", "10"]
    assert "features" not in bare_report()
    assert report != replace(report, features=None)


def test_the_csv_has_a_row_a_feature_and_prompt(report, tmp_path):
    write_report_files(report, tmp_path, title="T", page=False)
    written = pd.read_csv(tmp_path / FEATURES, dtype={"prompt_id": str}, keep_default_na=False, na_values=[""])
    assert tuple(written) == FEATURE_COLUMNS
    assert len(written) == 2 * len(report.features.by_name)
    numbers = written.set_index(["feature", "prompt_id"])
    assert numbers.loc[("quality", "9"), "unit"] == "points"
    assert numbers.loc[("rare", "9"), "group"] == OWN
    for name, feature in report.features.by_name.items():
        for prompt, figures in feature.prompts.items():
            row = numbers.loc[(name, prompt)]
            assert {key: None if pd.isna(row[key]) else row[key] for key in figures} == dict(figures)


def test_an_old_table_goes_with_its_report_and_a_users_own_stays(report, tmp_path):
    plain = replace(report, features=None)
    write_report_files(report, tmp_path, title="T", page=False)
    assert {path.name for path in tmp_path.iterdir()} == {REPORT, TABLE, FEATURES}
    write_report_files(plain, tmp_path, title="T", page=False)
    assert {path.name for path in tmp_path.iterdir()} == {REPORT, TABLE}
    (tmp_path / FEATURES).write_text("essay_id,mine\na,1\n")
    write_report_files(plain, tmp_path, title="T", page=False)
    assert (tmp_path / FEATURES).read_text() == "essay_id,mine\na,1\n"


def rows_of(document, name):
    """Cells of a table's rows by their first, without the smaller line below it."""
    (table,) = [one for one in document.all("table") if one.attributes["id"] == name]
    rows = [row.all("td", "th") for row in table.all("tr")[1:]]
    return {row[0].attributes["data-v"]: row for row in rows}


def test_the_page_shows_the_strongest_first_and_folds_the_others(report):
    document = read_page(report_page(report, title="T"))
    assert "Features" in [one.text for one in document.all("h2")]
    shown, others = (rows_of(document, f"features-{name}") for name in ("table", "others"))
    assert next(iter(shown)) == "quality"
    assert (len(shown), len(others)) == (MOST_SHOWN, len(report.features.by_name) - MOST_SHOWN)
    assert {*shown, *others} == set(report.features.by_name)

    def strength(name):
        known = [one.partial_r for one in report.features.by_name[name].prompts.values() if one.partial_r is not None]
        return abs(statistics.fmean(known)) if known else 0

    ranked = [strength(name) for name in (*shown, *others)]
    assert ranked == sorted(ranked, reverse=True)
    (folded,) = [
        one for one in document.all("details") if one.all("table")[:1] and "other" in one.all("summary")[0].text
    ]
    assert folded.all("table")[0].attributes["id"] == "features-others"
    quality = [cell.text for cell in shown["quality"]]
    assert quality[:2] == ["qualitypoints", "meaning"]
    figures = report.features.by_name["quality"].prompts.values()
    for place, measure in ((2, "mean"), (3, "sd"), (5, "r"), (6, "partial_r")):
        known = [figure[measure] for figure in figures]
        assert quality[place] == f"{statistics.fmean(known):.3f}{min(known):.3f} to {max(known):.3f}"
    by_prompt = rows_of(document, "features-prompts")["quality"]
    assert [cell.text for cell in by_prompt[1:]] == [f"{one.partial_r:.3f}" for one in figures]
    text = document.all("main")[0].text
    assert "28 features of 120 essays" in text
    assert "4 standard deviations from the mean of the essays of f.csv to the same prompt" in text


def test_missing_cells_say_why_and_partial_means_on_how_many_prompts(report):
    others = rows_of(read_page(report_page(report, title="T")), "features-others")
    reasons = [
        span.attributes["title"] for cell in others["same"] for span in cell.all("span") if "title" in span.attributes
    ]
    assert reasons == [Missing.CONSTANT_FEATURE.value] * 3
    tables = {**others, **rows_of(read_page(report_page(report, title="T")), "features-table")}
    hints = [span.attributes["title"] for cell in tables["rare"] for span in cell.all("span")]
    assert hints == ["Defined on 1 of 2 prompts."] * 3


def test_one_prompt_has_no_range(essays, values):
    report = report_on(essays[essays["prompt_id"] == "9"], themselves(values[["quality", "long"]]))
    document = read_page(report_page(report, title="T"))
    assert " to " not in rows_of(document, "features-table")["quality"][2].text
    assert not [one for one in document.all("table") if one.attributes["id"] in {"features-others", "features-prompts"}]


def test_the_text_names_the_strongest(report):
    (line,) = [line for line in report_text(report).splitlines() if line.startswith("Features")]
    assert line.startswith("Features: 28; largest correlations with the human score given length: quality 0.")


def test_essays_without_features_are_refused(essays, values):
    with pytest.raises(DataError, match=facts("2 of 120", "'e1004'", "prompt '10'")):
        report_on(essays, themselves(values.drop([("10", "e1004"), ("9", "e2003")])))


def written(folder, essays, values, *, prompts=True, essay_id="essay_id"):
    table = values.reset_index().rename(columns={"essay_id": essay_id})
    path = folder / "f.csv"
    (table if prompts else table.drop(columns="prompt_id")).to_csv(path, index=False)
    return path


def test_a_table_is_read_by_prompt_and_essay(essays, values, tmp_path):
    for path, columns in (
        (written(tmp_path, essays, values), None),
        (written(tmp_path, essays, values, essay_id="id"), ColumnNames(essay_id="id")),
        (written(tmp_path, essays, values), ColumnNames(essay_id="id", prompt_id="set")),
    ):
        pd.testing.assert_frame_equal(read_features(path, essays, columns), values)


def test_a_table_without_prompts_takes_those_of_the_predictions(essays, values, tmp_path):
    path = written(tmp_path, essays, values, prompts=False)
    pd.testing.assert_frame_equal(read_features(path, essays), values)
    few = essays.iloc[50:70]
    pd.testing.assert_frame_equal(read_features(path, few), values.iloc[50:70])
    blank = pd.read_csv(path).assign(prompt_id="")
    blank.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_features(path, essays), values)
    # Predictions without a column of prompts have one prompt.
    path = written(tmp_path, essays, values)
    one = read_features(path, essays.assign(prompt_id="all"))
    assert set(one.index.get_level_values("prompt_id")) == {"all"}
    np.testing.assert_array_equal(one, values)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table.rename(columns={"essay_id": "essay"}), ["f.csv", "essay_id", "aes-dynloss features"]),
        (lambda table: table.assign(text="Words."), ["f.csv", "'text'", "Row 2", "'e1000'", "not a finite number"]),
        (lambda table: table.assign(a="x", b="y", c="1"), ["'a', 'b'", "x", "Row 2"]),
        (lambda table: table.assign(rare=[1.0, None, *[2.0] * 118]), ["'rare'", "Row 3", "'e1001'", "blank"]),
        (lambda table: table.assign(rare=1e300), ["'rare'", "beyond 1e+50"]),
        (lambda table: table[["prompt_id", "essay_id"]], ["f.csv", "no feature"]),
        (lambda table: pd.concat([table, table.iloc[:1]]), ["f.csv", "more than one row", "'e1000'", "'10'"]),
        (lambda table: table.assign(essay_id=None), ["essay_id is empty"]),
    ],
)
def test_tables_that_are_refused(essays, values, tmp_path, change, expected):
    path = tmp_path / "f.csv"
    change(values.reset_index()).to_csv(path, index=False)
    with pytest.raises(DataError) as refused:
        read_features(path, essays)
    assert all(fact in str(refused.value) for fact in expected), refused.value
    assert "'c'" not in str(refused.value)


def test_ids_that_meet_twice_are_refused(essays, values, tmp_path):
    read = partial(read_features, written(tmp_path, essays, values, prompts=False))
    twice = pd.concat([essays, essays.iloc[:1].assign(prompt_id="9")])
    with pytest.raises(DataError, match=facts("f.csv", "prompt_id", "'e1000'", "two prompts")):
        read(twice)
    table = values.reset_index().drop(columns="prompt_id")
    pd.concat([table, table.iloc[:1]]).to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(DataError, match=facts("f.csv", "more than one row", "'e1000'")):
        read(essays)
