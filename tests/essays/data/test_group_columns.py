"""Columns of writers, classes or schools that nobody named, and whose values stand in several parts of the split."""

from __future__ import annotations

import random
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import command
from essay_files import config, csv_file, jsonl_file
from small_run import RANGES, report_of, small_essays, write_rows

from aes_dynloss.configfile import read_mapping
from aes_dynloss.essays.data.data_check import check_data
from aes_dynloss.essays.data.group_columns import GroupLeak, is_likely_group

LENGTHS = [50 + (7 * number) % 60 for number in range(120)]


def column(make) -> list[str | None]:
    return [make(number) for number in range(120)]


LIKELY = {
    "names of writers": ("sid", lambda number: f"w{number // 3}"),
    "numbers of writers": ("sid", lambda number: str(1000 + (number * 37) % 40)),
    "a few schools": ("School", lambda number: f"school {number % 3}"),
    "of numbers": ("studentId", lambda number: str(number % 40)),
    "with blanks": ("class_code", lambda number: None if number % 2 else f"c{number % 5}"),
    "in capitals": ("TEACHER", lambda number: f"t{number % 4}"),
}
UNLIKELY = {
    "levels": ("cohesion", lambda number: str(number % 6)),
    "half points": ("grammar", lambda number: str((number % 40) / 2)),
    "genders": ("gender", lambda number: "FM"[number % 2]),
    "ids": ("url", lambda number: f"u{number}"),
    "words": ("word_count", lambda number: str(LENGTHS[number])),
    "one school": ("school", lambda number: "the only one"),
    "a writer each": ("writer", lambda number: f"w{number}"),
    "classical": ("classic", lambda number: "ab"[number % 2]),
    "nothing": ("writer", lambda number: None),
}


@pytest.mark.parametrize("case", LIKELY)
def test_likely(case):
    name, make = LIKELY[case]
    assert is_likely_group(name, column(make), LENGTHS)


@pytest.mark.parametrize("case", UNLIKELY)
def test_unlikely(case):
    name, make = UNLIKELY[case]
    assert not is_likely_group(name, column(make), LENGTHS)


def rows(per_writer: int = 3) -> list[dict[str, object]]:
    order = list(range(120))
    random.Random(0).shuffle(order)
    essays = small_essays(60)
    return [row | {"student": f"s{place // per_writer}"} for row, place in zip(essays, order, strict=True)]


def checked(folder: Path, **values: object) -> list[GroupLeak]:
    source = csv_file(folder, rows())
    return check_data(config(source, prompts=RANGES, **values), check_splits="split" in values).group_leaks


@pytest.mark.parametrize("values", [{}, {"split": {"cross_fit": 3}}, {"split": {"fractions": {"test": 0.2}}}])
def test_a_column_that_leaks(tmp_path, values):
    (leak,) = checked(tmp_path, **values)
    assert (leak.column, leak.of) == ("student", 40)
    assert 10 < leak.values <= 40
    assert leak.essays == 3 * leak.values
    assert str(leak).endswith("data.split.group=student, or --group-column student")


@pytest.mark.parametrize("kind", ["parquet", "hub"])
def test_a_column_that_leaks_in_formats_of_which_some_columns_are_read(tmp_path, monkeypatch, kind):
    own = [row | {"task": "Write a letter to the editor. " * 9, "vector": [0.5] * 4, "n": 1.0} for row in rows()]
    source = tmp_path / "essays.parquet"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(own), source)
    else:
        source = "owner/essays"
        monkeypatch.setattr(datasets, "load_dataset", lambda path, split: datasets.Dataset.from_list(own))
    assert check_data(config(source, prompts=RANGES), check_splits=False).group_leaks == checked(tmp_path)


@pytest.mark.parametrize(
    "values", [{"split": {"group": "student"}}, {"split": {"cross_fit": 3, "group": "student"}}, {"subgroups": []}]
)
def test_one_that_does_not(tmp_path, values):
    """It is the split's own, or a part holds all essays of a writer anyway."""
    if "subgroups" in values:
        split = {f"s{place}": ("train", "dev", "test")[place % 3] for place in range(40)}
        source = csv_file(tmp_path, [row | {"part": split[row["student"]]} for row in rows()])
        values = {"split": {"column": "part"}}
        report = check_data(config(source, prompts=RANGES, **values), check_splits=True)
        assert report.group_leaks == []
    else:
        assert checked(tmp_path, **values) == []


def test_a_subgroup_leaks_too(tmp_path):
    (leak,) = checked(tmp_path, subgroups=["student"])
    assert leak.column == "student"


def infinite(folder: Path) -> Path:
    """Essays with a column of numbers, one of which is beyond float64."""
    path = jsonl_file(folder, [row | {"speed": float(number)} for number, row in enumerate(rows())])
    path.write_text(path.read_text("utf-8").replace('"speed": 0.0', '"speed": 1e999'), encoding="utf-8")
    return path


def test_an_infinite_number_in_a_column_without_a_role_is_a_blank(tmp_path):
    report = check_data(config(infinite(tmp_path), prompts=RANGES), check_splits=False)
    assert (report.used, report.lost) == (120, [])


@pytest.mark.parametrize(
    "role", [{"subgroups": ["speed"]}, {"split": {"group": "speed"}}, {"columns": {"rater": "speed"}}]
)
def test_an_infinite_number_in_a_column_of_groups_is_told_with_its_row(tmp_path, role):
    report = check_data(config(infinite(tmp_path), prompts=RANGES, **role), check_splits=False)
    assert [lost.row for lost in report.lost] == [1]
    assert report.lost[0].reason.startswith("speed is inf; expected the name of a group.")


def test_the_commands_say_so_and_take_the_advice(tmp_path):
    table = write_rows(tmp_path / "essays.csv", rows())
    words = ["data", "check", table, "--range", "phones=1:6", "--range", "river=0:4"]
    outcome = command(*words)
    assert outcome.code == 0
    assert "column 'student' looks like one of writers, classes or schools, and " in outcome.out
    advised = command(
        "data", "check", table, "--range", "phones=1:6", "--range", "river=0:4", "--group-column", "student"
    )
    assert (advised.code, "looks like" in advised.out) == (0, False)
    words = ["model.kind=strings", "evaluation.resamples=100", "evaluation.floors=false", "evaluation.page=false"]
    outcome = command("finetune", table, *words, "-o", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "data.split.group=student" in outcome.err
    assert any("column 'student' looks like" in note for note in report_of(tmp_path / "run")["notes"])
    outcome = command("finetune", table, *words, "--group-column", "student", "-o", tmp_path / "grouped")
    assert outcome.code == 0, outcome.err
    assert not any("looks like" in note for note in report_of(tmp_path / "grouped")["notes"])
    assert read_mapping(tmp_path / "grouped/config.yaml")["data"]["split"]["group"] == "student"
    outcome = command("init", table, "--group-column", "student", "--preset", "none", "-o", tmp_path / "f.yaml")
    assert outcome.code == 0, outcome.err
    assert read_mapping(tmp_path / "f.yaml")["data"]["split"] == {"group": "student"}
    outcome = command("finetune", table, "--group-column", "pupil", "-o", tmp_path / "none")
    assert outcome.code == 2
    assert "no column 'pupil'" in outcome.error
    assert "--group-column" in outcome.error
