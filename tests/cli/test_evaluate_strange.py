"""Tables at the edge of what can be measured: each ends in whole reports, or in one message and no file."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from command_line import command, judge
from sample_report import made_up_essays

from aes_dynloss.tables.score_range import ScoreRange

SPANS = {"1": ScoreRange(1, 6), "2": ScoreRange(0, 3)}
GROUPS = ("--subgroup", "L1", "--subgroup", "gender")
FILES = {"report.html", "report.json", "report.csv", "provenance.json"}
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def essays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made_up_essays(SPANS, 12)


def evaluated(table, *words):
    """The report of a table, of which page and export were made too."""
    table.to_csv("p.csv", index=False)
    outcome = command("evaluate", "p.csv", *words, "--output-dir", "out", "--export", "rsmeval", "rsm", "--json")
    assert (outcome.code, outcome.error) == (0, "")
    return json.loads(outcome.out)


def of_prompt(table, prompt, **values):
    """The table with values for one prompt's essays."""
    table.loc[table["prompt_id"] == prompt, list(values)] = list(values.values())
    return table


CONSTANT = {"raw": 3.0, "score": 3.0}
STRANGE = {
    "one essay": lambda table: table.head(1),
    "two essays": lambda table: table.head(2),
    "human scores of a prompt are equal": lambda table: of_prompt(table, "1", reference=3, second_reference=3),
    "predictions of a prompt are equal": lambda table: of_prompt(table, "1", **CONSTANT),
    "all scores of a prompt are equal": lambda table: of_prompt(
        table, "1", reference=3, second_reference=3, **CONSTANT
    ),
    "no second rater": lambda table: table.assign(second_reference=np.nan),
    "one essay scored twice": lambda table: table.assign(
        second_reference=table["second_reference"].where(table.index < 1)
    ),
    "a group of one": lambda table: table.assign(L1=np.where(table.index == 0, "alone", "others")),
    "one group": lambda table: table.assign(L1="all"),
    "no group is known": lambda table: table.assign(L1=np.nan),
    "every essay a group": lambda table: table.assign(L1=table["essay_id"]),
    "equal lengths": lambda table: table.assign(words=100),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_strange_table_has_a_whole_report(change, essays, tmp_path):
    table = change(essays)
    report = evaluated(table, *GROUPS)
    assert sum(entry["n"] for entry in report["prompts"].values()) == len(table)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    folders = {f"prompt_{prompt}" for prompt in report["prompts"]}
    assert {path.name for path in (tmp_path / "rsm").iterdir()} == {*folders, "provenance.json"}


def test_a_column_that_is_named_twice_is_one(essays):
    once, twice = (evaluated_again(essays, *words) for words in (("--subgroup", "L1"), ("--subgroup", "L1") * 2))
    assert once == twice


def evaluated_again(table, *words):
    return evaluated(table, *words, "--force")


def test_markup_in_every_name_stays_words(essays, tmp_path):
    table = essays.assign(
        prompt_id=essays["prompt_id"] + MARKUP,
        essay_id=essays["essay_id"] + MARKUP,
        L1=essays["L1"] + MARKUP,
        text=MARKUP,
    ).rename(columns={"gender": MARKUP})
    evaluated(table, "--subgroup", "L1", "--subgroup", MARKUP, "--text-column", "text")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count("&lt;img src=x") > 10


REFUSED = {
    "empty": (b"", "p.csv is empty"),
    "a header alone": (b"essay_id,prompt_id,reference,raw\n", "but no rows"),
    "no human scores": (b"essay_id,reference,score,L1\na,,1,x\nb,,2,y\n", "There are no human scores"),
    "no predictions": (b"essay_id,reference\na,1\n", "Neither a column raw nor a column score"),
    "a missing prediction": (b"essay_id,reference,raw\na,1,\nb,2,1\n", "raw is blank"),
    "another encoding": ("essay_id,reference,raw,L1\nCafé,1,1,x\n".encode("cp1252"), "Save it as UTF-8."),
    "a column that is not there": (b"essay_id,reference,raw,words\na,1,1,9\n", "p.csv has no column 'L1'"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_measured_leaves_nothing(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_bytes(content)
    outcome = command("evaluate", "p.csv", "--subgroup", "L1", "--output-dir", "out", "--export", "rsmeval", "rsm")
    assert judge(outcome) == 2
    assert message in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_very_many_prompts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    prompts, points = np.repeat([f"p{number}" for number in range(120)], 3), random.integers(1, 5, 360)
    table = pd.DataFrame({"essay_id": range(360), "prompt_id": prompts, "reference": points, "raw": 2.5 + points / 5})
    assert len(evaluated(table)["prompts"]) == 120
    assert (tmp_path / "out" / "report.html").stat().st_size < 3e6
