"""Tables of essays with several scores: what is read, what is refused, and parts that tear no essay apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import command
from essay_files import config, csv_file
from facts import facts

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.augmentation import augment
from aes_dynloss.essays.data.data_check import check_data
from aes_dynloss.essays.data.data_config import AugmentationConfig, Columns, SplitConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import cross_fit_splits, split_essays, write_ids
from aes_dynloss.essays.data.table_layout import table_layout
from aes_dynloss.tables.score_range import ScoreRange

SCORES = {"overall": "overall", "style": "st", "content": "content"}
RANGES = {"1": {"low": 1, "high": 6, "traits": {"content": {"low": 0, "high": 3, "step": 0.5}}}}


def rows(count: int = 40) -> list[dict[str, object]]:
    return [
        {
            "essay_id": f"e{number}",
            "prompt_id": "1",
            "text": f"Essay {number} has words.",
            "overall": number % 6 + 1,
            "st": "" if number == 3 else number % 4 + 2,
            "content": number % 7 / 2,
        }
        for number in range(count)
    ]


def traits_of(tmp_path: Path, made: list[dict[str, object]] | None = None, **values: object) -> object:
    columns = {"score": SCORES, **values.pop("columns", {})}
    path = csv_file(tmp_path, made or rows())
    return config(path, **{"columns": columns, "prompts": RANGES, **values})


def test_a_row_for_each_score(tmp_path):
    table = read_essays(traits_of(tmp_path))
    assert (len(table), table.essay_count, table.traits) == (119, 40, ["overall", "style", "content"])
    assert table.values("prompt_id")[:4] == ["1/overall", "1/style", "1/content", "1/overall"]
    third = [row for row, essay in enumerate(table.essay_ids) if essay == "e3"]
    assert [table.values("prompt_id")[row] for row in third] == ["1/overall", "1/content"]
    assert table.scores[third].tolist() == [4.0, 1.5]
    assert table.prompts["1/content"].range == ScoreRange(0, 3, 0.5)
    assert table.prompts["1/style"].range == ScoreRange(1, 6)
    assert {prompt.prompt_id for prompt in table.prompts.values()} == {"1"}


def test_one_trait_called_score_is_no_trait(tmp_path):
    path = csv_file(tmp_path, rows())
    plain = read_essays(config(path, columns={"score": "overall"}))
    named = read_essays(config(path, columns={"score": {"score": "overall"}}))
    assert named.all_values() == plain.all_values()
    assert (named.prompts, named.traits) == (plain.prompts, [])


def test_a_second_rater_of_some_traits(tmp_path):
    made = [row | {"again": "" if number % 2 else row["overall"]} for number, row in enumerate(rows())]
    table = read_essays(traits_of(tmp_path, made, columns={"score": SCORES, "second_score": {"overall": "again"}}))
    second = table.values("second_score")[:6]
    assert second == [1.0, None, None, None, None, None]
    assert table.rater_columns == ("score", "second_score")


def test_seen_ranges_are_those_of_each_trait(tmp_path, caplog):
    table = read_essays(config(csv_file(tmp_path, rows()), columns={"score": SCORES}))
    assert {name: str(prompt.range) for name, prompt in table.prompts.items()} == {
        "1/overall": "1 to 6",
        "1/style": "2 to 5",
        "1/content": "0 to 3 in steps of 0.5",
    }
    assert "prompt 1/style: 2 to 5" in caplog.text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"overall": 7}, ["Row 2", "e0", "overall 7 is outside", "prompt 1", "1 to 6"]),
        ({"st": 2.5}, ["Row 2", "st 2.5 is no score point"]),
        (
            {"overall": "", "st": "", "content": ""},
            ["Row 2", "overall, st, content are all blank", "at least one score"],
        ),
        ({"content": "x"}, ["Row 2", "content 'x' is not a finite number"]),
    ],
)
def test_rows_at_fault(tmp_path, change, told):
    made = rows()
    made[0] |= change
    with pytest.raises(DataError, match=facts(*told)):
        read_essays(traits_of(tmp_path, made))


def test_a_trait_without_a_range(tmp_path):
    ranges = {"1": {"traits": {"content": {"low": 0, "high": 3, "step": 0.5}}}}
    with pytest.raises(DataError, match=facts("overall has a score", "no range in data.prompts.1.traits")):
        read_essays(traits_of(tmp_path, prompts=ranges))


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (["a", "a"], "names a column twice: a, a"),
        ({"a": "x", "a_raw": "y"}, "a trait 'a_raw'"),
        ({"prompt_id": "x", "b": "y"}, "a trait 'prompt_id'"),
        ({"a/b": "x", "c": "y"}, "a trait 'a/b'"),
        ({"a": "x", "b": "x"}, "two of the columns have one name"),
        ([], "names no column"),
    ],
)
def test_names_that_cannot_be(score, told):
    with pytest.raises(ConfigError, match=told):
        validate(Columns, {"score": score}, "test")


def test_ranges_of_traits_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match=facts("prompts.1.traits has tone", "known are overall, style, content")):
        traits_of(tmp_path, prompts={"1": {"low": 1, "high": 6, "traits": {"tone": {"low": 1, "high": 2}}}})


@pytest.mark.parametrize("split", [{}, {"cross_fit": 4}, {"group": "text"}])
def test_parts_tear_no_essay_apart(tmp_path, split):
    table = read_essays(traits_of(tmp_path, split=split))
    wanted = SplitConfig(**split)
    if wanted.cross_fit is None:
        parts = list(split_essays(table, wanted).tables().values())[:3]
    else:
        parts = [fold.test for fold in cross_fit_splits(table, wanted, with_dev=False)[0]]
    ids = [set(part.essay_ids) for part in parts]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 40
    assert sum(map(len, parts)) == 119
    assert all(part.traits == table.traits for part in parts)


def test_files_of_ids_name_an_essay_once(tmp_path):
    write_ids(split_essays(read_essays(traits_of(tmp_path)), SplitConfig()), tmp_path / "fold")
    ids = [line for path in (tmp_path / "fold").iterdir() for line in path.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 40
    again = split_essays(read_essays(traits_of(tmp_path)), SplitConfig(folds_dir=str(tmp_path / "fold")))
    assert sum(len(part) for part in again.tables().values()) == 119


def test_a_prompt_is_left_out_with_all_its_traits(tmp_path):
    made = [row | {"prompt_id": str(1 + number % 2)} for number, row in enumerate(rows())]
    table = read_essays(traits_of(tmp_path, made, prompts=dict.fromkeys("12", RANGES["1"])))
    parts = split_essays(table, SplitConfig(target_prompt="2"))
    assert {table.prompts[scale].prompt_id for scale in parts.test.values("prompt_id")} == {"2"}
    assert {table.prompts[scale].prompt_id for scale in parts.train.values("prompt_id")} == {"1"}


def test_the_check_counts_essays_and_scores(tmp_path):
    report = check_data(traits_of(tmp_path, split={"fractions": {}}), check_splits=True)
    assert (report.rows, report.used, report.clean) == (40, 40, True)
    assert {name: part.n for name, part in report.prompts.items()} == {"1/content": 40, "1/overall": 40, "1/style": 39}
    assert sum(report.splits.values()) == 40


def test_the_layout_of_a_table(tmp_path):
    path = csv_file(tmp_path, rows())
    layout = table_layout(path, {}, {"1/content": ScoreRange(0, 3, 0.5)}, traits=SCORES)
    assert layout.data["columns"] == {"score": SCORES}
    assert layout.data["prompts"]["1"]["traits"]["content"] == {"low": 0, "high": 3, "step": 0.5}
    assert layout.data["prompts"]["1"]["traits"]["style"] == {"low": 2, "high": 5}
    same = table_layout(
        path, {}, {"all": ScoreRange(0, 6, 0.5)}, traits={name: name for name in ("overall", "content")}
    )
    assert same.data["columns"] == {"score": ["overall", "content"]}
    assert same.data["prompts"] == {"1": {"low": 0, "high": 6, "step": 0.5}}


def test_words_of_a_rubric(tmp_path):
    levels = {
        "1": {
            "low": 1,
            "high": 6,
            "levels": {"6": "Excellent."},
            "traits": {"content": RANGES["1"]["traits"]["content"]},
        }
    }
    table = read_essays(traits_of(tmp_path, prompts=levels))
    assert (table.prompts["1/style"].levels, table.prompts["1/content"].levels) == ({"6": "Excellent."}, {})
    levels["1"]["levels"] = {"7": "Beyond."}
    with pytest.raises(ConfigError, match=facts("levels has words on '7'", "no score point of 1 to 6")):
        traits_of(tmp_path, prompts=levels)


def test_copies_are_of_essays_with_all_their_scores(tmp_path):
    made = [
        row | {"text": f"Essay {number} has words. " + "More of them stand here. " * 3}
        for number, row in enumerate(rows())
    ]
    table = read_essays(traits_of(tmp_path, made))
    copies = augment(table, AugmentationConfig(share=0.5, kinds=["shuffle_words", "repeat_paragraph"], penalty=1))
    ids = copies.table.essay_ids
    assert copies.table.essay_count == sum(copies.kinds.values()) == 20
    by_id = {}
    for essay, text in zip(ids, copies.table.values("text"), strict=True):
        by_id.setdefault(essay, set()).add(text)
    assert all(len(texts) == 1 for texts in by_id.values())
    assert len(ids) > 50


def test_ranges_of_traits_on_the_command_line(tmp_path):
    path = csv_file(tmp_path, rows())
    words = [
        "--score-column",
        "overall",
        "--score-column",
        "style=st",
        "--range",
        "1/overall=0:7",
        "--range",
        "1/style=1:6",
    ]
    outcome = command("data", "check", path, *words)
    assert outcome.code == 0, outcome.err
    assert "0 to 7" in outcome.out
