"""What columns are taken for, and what is asked where that remains open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from essay_files import write_rows
from facts import facts

from aes_dynloss.configfile import validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.table_layout import TableLayout, table_layout, unscored_columns
from aes_dynloss.tables.score_range import ScoreRange

LONG = "My dog runs over the green field and comes back with a stick, and then he sleeps until the sun goes down."


def layout_of(folder: Path, rows: list[dict[str, Any]], **options: Any) -> TableLayout:
    path = write_rows(folder / "essays.jsonl", rows)
    return table_layout(path, options.pop("named", {}), options.pop("ranges", {}), **options)


def numbered(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_default_names_need_no_columns(tmp_path):
    rows = numbered(essay_id=["a", "b"], prompt_id=["p", "q"], text=["x", "y"], score=[1, 4])
    found = layout_of(tmp_path, [*rows, *numbered(essay_id=["c"], prompt_id=["p"], text=["z"], score=[3])])
    assert found.data == {
        "source": str(tmp_path / "essays.jsonl"),
        "prompts": {"p": {"low": 1, "high": 3}, "q": {"low": 3, "high": 5}},
    }
    assert found.said == [
        "text: column 'text', by its name",
        "score: column 'score', by its name",
        "id: column 'essay_id', by its name",
        "prompt: column 'prompt_id', by its name",
        "score points of prompt p: 1 to 3, from the scores seen",
        "score points of prompt q: 3 to 5, from the scores seen",
    ]


def test_names_of_other_data_sets(tmp_path):
    asap = numbered(essay_id=[1, 2], essay_set=[7, 7], Essay=["x", "y"], rater1=[1, 2], domain1_score=[2, 9])
    found = layout_of(tmp_path, asap)
    assert found.data["columns"] == {"text": "Essay", "score": "domain1_score", "prompt_id": "essay_set"}
    assert found.data["prompts"] == {"7": {"low": 2, "high": 9}}
    table = read_essays(validate(DataConfig, found.data, "layout"))
    assert (table.essay_ids, table.values("prompt_id"), table.scores.tolist()) == (["1", "2"], ["7", "7"], [2, 9])


def test_the_longest_column_and_the_only_numbers(tmp_path):
    rows = numbered(writer=["Ann", "Bo"], work=[LONG, LONG + " He is old."], given=["3", "3.5"])
    found = layout_of(tmp_path, rows)
    assert found.data["columns"] == {"essay_id": None, "text": "work", "score": "given"}
    assert found.data["prompt"] == "all"
    assert found.data["prompts"] == {"all": {"low": 3, "high": 3.5, "step": 0.5}}
    assert found.said[0] == "text: column 'work', the longest, 24 words in the median"
    assert found.said[1:4] == [
        "score: column 'given', the only other column of numbers",
        "id: rows are numbered (--id-column names a column)",
        "prompt: one for all, called 'all'",
    ]
    table = read_essays(validate(DataConfig, found.data, "layout"))
    assert (table.essay_ids, table.scores.tolist()) == (["1", "2"], [3, 3.5])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 2, 5], {"low": 1, "high": 5}),
        ([1.5, 2, 4], {"low": 1.5, "high": 4, "step": 0.5}),
        ([0.1, 0.7, 0.3], {"low": 0.1, "high": 0.7, "step": 0.1}),
        ([1.25, 2], {"low": 1.25, "high": 2, "step": 0.25}),
        ([None, 3, 4], {"low": 3, "high": 4}),
    ],
)
def test_score_points(tmp_path, scores, expected):
    named = {"score": "score"}
    found = layout_of(tmp_path, numbered(text=["x"] * len(scores), score=scores), named=named)
    assert found.data["prompts"] == {"all": expected}


def test_no_step_that_is_known(tmp_path):
    with pytest.raises(DataError, match=facts("essays.jsonl", "1.333", "no multiple of", "--range")):
        layout_of(tmp_path, numbered(text=["x", "y"], score=[1, 1.333]))


def test_what_is_given_counts(tmp_path):
    rows = numbered(text=[LONG, LONG], other=["a", "b"], score=[1, 2], mark=[3, 4], second=[3, 5], prompt_id=["p", "q"])
    found = layout_of(
        tmp_path,
        rows,
        named={"text": "other", "score": "mark", "second_score": "second"},
        ranges={"all": ScoreRange(0, 9), "q": ScoreRange(0, 6, 0.5)},
        subgroups=["score"],
        encoding="cp1252",
    )
    assert found.data["columns"] == {
        "essay_id": None, "text": "other", "score": "mark", "second_score": "second",
    }  # fmt: skip
    assert found.data["prompts"] == {"p": {"low": 0, "high": 9}, "q": {"low": 0, "high": 6, "step": 0.5}}
    assert (found.data["subgroups"], found.data["encoding"]) == (["score"], "cp1252")
    assert found.said[0] == "text: column 'other', as named"
    assert found.said[-1] == "score points of prompt q: 0 to 6 in steps of 0.5, as given"


@pytest.mark.parametrize(
    ("column", "values", "taken"),
    [
        ("id", ["a", "b"], "id"),
        ("id", ["a", "a"], None),  # of a writer, perhaps
        ("id", ["a", ""], None),
    ],
)
def test_ids_stand_once(tmp_path, column, values, taken):
    found = layout_of(tmp_path, [{column: value, "text": "x", "score": 1 + n} for n, value in enumerate(values)])
    assert found.data["columns"] == {"essay_id": taken}


def numbers_and(count: int, **others: list[Any]) -> list[dict[str, Any]]:
    """Rows of essays whose scores repeat, with further columns."""
    return numbered(text=[LONG] * count, score=[number % 4 for number in range(count)], **others)


def refs(count: int) -> list[str]:
    return [f"S{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("rows", "taken"),
    [
        (numbers_and(20, ref=refs(20)), "ref"),
        (numbers_and(20, ref=refs(20), density=[number / 7 for number in range(20)]), "ref"),
        (numbers_and(100, pupil=list(range(100)), ref=["x"] * 100), "pupil"),
        (numbers_and(20, ref=[*refs(19), "S0"]), None),
        (numbers_and(20, ref=[*refs(19), ""]), None),
        (numbers_and(20, name=[f"Ann {ref}" for ref in refs(20)]), None),
        (numbers_and(20, ref=refs(20), submitted=[f"{day} May" for day in range(20)]), "ref"),
        (numbers_and(20, ref=refs(20), mail=[f"{ref}@a.b" for ref in refs(20)]), None),  # which of the two?
        (numbers_and(19, ref=refs(19)), None),
        (numbers_and(99, words=list(range(99))), None),  # by chance
        (numbers_and(100, density=[number / 7 for number in range(100)]), None),
    ],
)
def test_the_one_column_whose_values_all_differ(tmp_path, rows, taken):
    found = layout_of(tmp_path, rows)
    why = "rows are numbered (--id-column names a column)"
    if taken is not None:
        why = f"column {taken!r}, the only one whose values all differ"
    assert found.data["columns"] == {"essay_id": taken}
    assert f"id: {why}" in found.said
    unscored = write_rows(tmp_path / "new.jsonl", [{key: row[key] for key in row if key != "score"} for row in rows])
    assert unscored_columns(unscored, {}).data == ({} if taken is None else {"essay_id": taken})


def test_columns_of_other_roles_are_no_ids(tmp_path):
    found = layout_of(tmp_path, numbers_and(20, class_=refs(20)), group="class_")
    assert found.data["columns"] == {"essay_id": None}


def test_a_prompt_s_text_is_not_its_id(tmp_path):
    rows = numbered(text=["x", "y"], score=[1, 2], prompt=["Write to the head teacher about telephones.", "Short"])
    found = layout_of(tmp_path, rows)
    assert found.data["prompt"] == "all"
    assert "prompt_id" not in found.data["columns"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": ["x", "y"], "score": [1, 2]}, ["which column holds the essays", "--text-column", "'a', 'score'"]),
        ({"a": [LONG, LONG], "b": [LONG, LONG], "score": [1, 2]}, ["which column holds the essays", "'a', 'b'"]),
        ({"text": ["x", "y"], "a": ["1", "2"], "b": [3, 4]}, ["the human score", "'a', 'b'", "--score-column"]),
        (
            {"text": ["x", "y"], "a": ["good", "bad"]},
            ["the human score", "No other column has numbers alone: 'a'", "--score-column"],
        ),
        ({"text": ["x", "y"]}, ["the human score", "No other column has numbers alone: none", "--score-column"]),
    ],
)
def test_what_remains_open_is_asked(tmp_path, columns, words):
    with pytest.raises(DataError, match=facts("essays.jsonl", *words)):
        layout_of(tmp_path, numbered(**columns))


def test_named_columns_must_be_there(tmp_path):
    with pytest.raises(DataError, match=facts("no column 'scores'", "did you mean 'score'", "--score-column")):
        layout_of(tmp_path, numbered(text=["x"], score=[1]), named={"score": "scores"})


def test_rows_that_cannot_be_read_are_told_when_the_table_is(tmp_path):
    path = tmp_path / "essays.csv"
    path.write_text("text,score\nx,1\ny\nz,many\nw,3\n", encoding="utf-8")
    found = table_layout(path, {}, {})
    assert found.data["prompts"] == {"all": {"low": 1, "high": 3}}
    with pytest.raises(DataError, match=facts("Row 3", "Row 4")):
        read_essays(validate(DataConfig, found.data, "layout"))


def strays(tmp_path, scores, ranges=()):
    """What is said of scores that stand apart."""
    rows = [f"word {number},{score}" for number, score in enumerate(scores)]
    (tmp_path / "essays.csv").write_text("text,score\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return table_layout(tmp_path / "essays.csv", {}, dict(ranges)).slips


HALVES = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5] * 12


def test_slips_are_named_with_their_rows(tmp_path):
    assert strays(tmp_path, HALVES) == []
    assert strays(tmp_path, [*HALVES, 35]) == [
        "Look at row 110: its score 35 is far from the others, 1 to 5. Correct it, or give --range."
    ]
    assert strays(tmp_path, [3.3, *HALVES]) == [
        "Look at row 2: its score 3.3 is no multiple of 0.5, as the others are. Correct it, or give --range."
    ]
    assert strays(tmp_path, [3.3, *HALVES], {"all": ScoreRange(1, 5, 0.1)}) == []
    assert strays(tmp_path, [3.3, *HALVES[:40]]) == []  # too few to tell
    many = strays(tmp_path, [*HALVES * 4, *range(30, 38)])
    assert len(many) == 4
    assert many[-1] == "Look at 5 more such scores of prompt all."


def test_slips_among_second_scores_are_told_as_they_are(tmp_path):
    """The other score of the row is no slip."""
    path = tmp_path / "essays.csv"
    for place, both in ((0, (44, 1)), (1, (1, 44))):
        rows = [f"word {number},{1 + number % 5},{1 + number % 5}\n" for number in range(120)]
        rows[50 + place] = f"word,{both[0]},{both[1]}\n"
        path.write_text("text,score,second\n" + "".join(rows), encoding="utf-8")
        assert table_layout(path, {"second_score": "second"}, {}).slips == [
            f"Look at row {52 + place}: its score 44 is far from the others, 1 to 5. Correct it, or give --range."
        ]


@pytest.mark.parametrize(
    ("prompts", "traits", "given", "words"),
    [
        (["phones", "river"], None, {"phone": ScoreRange(1, 6)}, ("'phone'", "did you mean 'phones'?")),
        (None, None, {"phones": ScoreRange(1, 6)}, ("'phones'", "found 'all'")),
        (["p", "q"], ["form", "style"], {"p/forms": ScoreRange(1, 6)}, ("'p/forms'", "did you mean 'p/form'?")),
        (["p", "q"], None, {"all": ScoreRange(0, 9), "r": ScoreRange(1, 6)}, ("'r'", "found 'p', 'q'")),
    ],
)
def test_a_range_of_a_prompt_that_is_not_there_is_told(tmp_path, prompts, traits, given, words):
    columns = {"text": ["x", "y"], "score": [1, 2], "form": [1, 2], "style": [2, 3]}
    rows = numbered(**columns, **({} if prompts is None else {"prompt_id": prompts}))
    options = {} if traits is None else {"traits": dict(zip(traits, traits, strict=True))}
    (told,) = layout_of(tmp_path, rows, ranges=given, named={} if traits else {"score": "score"}, **options).unused
    assert re.search(facts("A range is given for prompt", "essays.jsonl holds no essay", *words), told)


def test_ranges_of_all_prompts_and_traits_are_known(tmp_path):
    rows = numbered(prompt_id=["p", "q"], text=["x", "y"], form=[1, None], style=[2, 3])
    spans = {"all": ScoreRange(0, 9), "p": ScoreRange(0, 5), "q/form": ScoreRange(0, 4)}
    found = layout_of(tmp_path, rows, ranges=spans, traits={"form": "form", "style": "style"})
    assert (found.data["prompts"]["p"], found.unused) == ({"low": 0, "high": 5}, [])
    found = layout_of(tmp_path, numbered(text=["x"], score=[1]), ranges={"p": ScoreRange(0, 5)}, prompt="p")
    assert (found.data["prompt"], found.data["prompts"], found.unused) == ("p", {"p": {"low": 0, "high": 5}}, [])


class TestUnscored:
    @pytest.mark.parametrize(
        ("header", "named", "columns"),
        [
            ("essay_id,text", {}, {}),
            ("id,essay", {}, {"text": "essay", "essay_id": "id"}),
            ("pupil,composition", {}, {"text": "composition"}),
            ("id,essay", {"text": "essay"}, {"essay_id": "id"}),
            ("id,text", {"essay_id": "id"}, {}),
        ],
    )
    def test_columns(self, tmp_path, header, named, columns):
        path = tmp_path / "new.csv"
        path.write_text(f"{header}\n7,{'my dog runs ' * 20}\n8,{'my cat runs ' * 20}\n", encoding="utf-8")
        assert unscored_columns(path, named).data == columns

    def test_what_remains_open_is_asked(self, tmp_path):
        (tmp_path / "new.csv").write_text("a,b\nx,y\n", encoding="utf-8")
        (tmp_path / "bare.csv").write_text("a,b\n", encoding="utf-8")
        with pytest.raises(DataError, match="no rows"):
            unscored_columns(tmp_path / "bare.csv", {})
        with pytest.raises(DataError, match="which column holds the essays"):
            unscored_columns(tmp_path / "new.csv", {})
