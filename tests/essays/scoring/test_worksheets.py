"""Grading worksheets of Moodle and Canvas, made by hand: grades and feedback come in, and nothing else changes."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import command
from facts import facts
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import TWO_PROMPTS, tiny_scorer

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.scoring.worksheets import Worksheet, plain_text
from aes_dynloss.tables.provenance import verify
from aes_dynloss.tables.score_range import ScoreRange

SAMPLES = Path(__file__).parent / "worksheets_made_by_hand"
MOODLE, CANVAS = SAMPLES / "moodle_grading_worksheet.csv", SAMPLES / "canvas_gradebook.csv"
ESSAYS = [
    {"key": "S-008", "text": "Phones in the school of the head teacher. They are a bridge."},
    {"key": "S-007", "text": "The otter and the river are by the bridge."},
    {"key": "S-010", "text": "An otter by the river is a lesson."},
    {"key": "S-009", "text": " "},
]
TRAITS = ("content", "style")
BOOK = ["--format", "canvas", "--grade-column", "301", "--scale", "0:10", "--id-column", "key"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("worksheets")
    tiny_scorer(write_tiny_encoder(folder / "encoder"), scales=TWO_PROMPTS[:1]).save_pretrained(folder / "model")
    write_rows(folder / "essays.csv", ESSAYS)
    traits = [replace(TWO_PROMPTS[0], prompt=Prompt(f"letter/{name}", ScoreRange(1, 6), trait=name)) for name in TRAITS]
    tiny_scorer(folder / "encoder", scales=traits).save_pretrained(folder / "traits")
    return folder


def grid(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def scores(place: Path, essays: Path, *words: object) -> dict[str, str]:
    outcome = command("score", place / "model", essays, "--scale", "0:100", *words)
    return {row["essay_id"]: row["reported"] for row in csv.DictReader(io.StringIO(outcome.out))}


def test_moodle_from_its_own_texts(place, tmp_path):
    output, why = tmp_path / "filled.csv", tmp_path / "why.jsonl"
    words = ["--format", "moodle", "--scale", "0:100", "-o", output, "--explain", why]
    outcome = command("score", place / "model", MOODLE, *words)
    assert outcome.code == 0, outcome.err
    assert "have a grade already, which stays: 1." in outcome.err
    before, after = grid(MOODLE.read_bytes()), grid(output.read_bytes())
    texts = ["Dear editor,\n\nThe \"otter\" & the river are by the bridge.",
             "Phones in the school of the head teacher. They are a bridge.\nAnd a lesson."]  # fmt: skip
    plain = write_rows(tmp_path / "plain.csv", [{"essay_id": str(n), "text": text} for n, text in enumerate(texts)])
    expected = [f"{float(grade):g}" for grade in scores(place, plain).values()]
    assert [row[4] for row in after[1:]] == [*expected, "", "85.00", ""]  # none handed in, graded, withheld
    told = [row[10] for row in after[1:]]
    assert all("<p>Raised the score most: " in words or "<p>Lowered it most: " in words for words in told[:2])
    assert "&amp; the river" in told[0]
    assert told[2:] == ["", "<p>Well done.</p>", ""]
    for old, new in zip(before, after, strict=True):
        assert [cell for n, cell in enumerate(old) if n not in (4, 10)] == [
            cell for n, cell in enumerate(new) if n not in (4, 10)
        ]
    assert len(why.read_text().splitlines()) == 4  # the blank one too, whose score is withheld
    for product in (output, why):
        assert verify(product, [MOODLE]).found == []


def test_every_other_byte_stays(place, tmp_path):
    output = tmp_path / "filled.csv"
    assert command("score", place / "model", MOODLE, "--format", "moodle", "--scale", "0:100", "-o", output).code == 0
    first, second = (row[4] for row in grid(output.read_bytes())[1:3])
    given = MOODLE.read_bytes()
    for grade in (first, second):
        given = given.replace(
            b'"Submitted for grading",,"100.00"', f'"Submitted for grading",{grade},"100.00"'.encode(), 1
        )
    assert output.read_bytes() == given


def test_moodle_by_a_folder_of_its_downloads(place, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "Made Up, Ada_1001_assignsubmission_file_draft.txt").write_text("The otter is by the river.")
    output = tmp_path / "filled.csv"
    words = ["--format", "moodle", "--worksheet", MOODLE, "--scale", "0:100", "-o", output]
    assert command("score", place / "model", texts, *words).code == 0
    (expected,) = scores(place, texts).values()
    assert [row[4] for row in grid(output.read_bytes())[1:]] == [f"{float(expected):g}", "", "", "85.00", ""]


def test_canvas(place, tmp_path):
    output = tmp_path / "filled.csv"
    words = ["--format", "canvas", "--worksheet", CANVAS, "--id-column", "key", "--scale", "0:10:0.5", "-o", output]
    outcome = command("score", place / "model", place / "essays.csv", *words, "--grade-column", "301")
    assert outcome.code == 0, outcome.err
    before, after = grid(CANVAS.read_bytes()), grid(output.read_bytes())
    ids = scores(place, place / "essays.csv", "--id-column", "key", "--scale", "letter=0:10:0.5")
    expected = {row[2]: f"{float(ids[row[2]]):g}" for row in before if row[2] in {"S-007", "S-008"}}
    assert [row[6] for row in after[3:]] == [expected["S-007"], expected["S-008"], "N/A", "7.50", ""]
    given = CANVAS.read_bytes().replace(b"4.00,,80.00", f"4.00,{expected['S-007']},80.00".encode())
    given = given.replace(b'North",,,,\r\n"Nobody', f'North",,{expected["S-008"]},,\r\n"Nobody'.encode())
    assert output.read_bytes() == given
    for name in ("Essay, first draft", "Essay, first draft (301)"):
        again = [*words, "--force", "--grade-column", name]
        assert command("score", place / "model", place / "essays.csv", *again).code == 0
        assert output.read_bytes() == given


def test_the_scores_as_grades_where_scales_agree(place, tmp_path):
    sheet = tmp_path / "six.csv"
    sheet.write_bytes(MOODLE.read_bytes().replace(b"100.00", b"6,00"))
    output = tmp_path / "filled.csv"
    assert command("score", place / "model", sheet, "--format", "moodle", "-o", output).code == 0
    rows = grid(output.read_bytes())
    assert all(1 <= float(row[4]) <= 6 for row in rows[1:3])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "moodle"], facts("100", "1 to 6", "--scale 0:100")),
        (["--format", "moodle", "--scale", "0:200"], facts("100", "200", "--scale")),
        (["--format", "moodle", "--encoding", "nope"], facts("--encoding", "'nope'")),
        (["--format", "canvas"], facts("Canvas", "--worksheet")),
        ([*BOOK, "--worksheet", CANVAS, "-o", CANVAS, "--force"], facts("--worksheet", "--output")),
        (["--format", "csv", "--worksheet", MOODLE], facts("--worksheet", "moodle")),
        (["--format", "moodle", "--keep-columns"], facts("--keep-columns")),
        (["--format", "canvas", "--worksheet", CANVAS], facts("--grade-column", "Warm-up (300)", "first draft (301)")),
        (["--format", "canvas", "--worksheet", MOODLE], facts("gradebook", "ID", "Points Possible")),
        (["--format", "moodle", "--worksheet", CANVAS], facts("'Identifier'", "'Grade'")),
    ],
)
def test_what_is_refused(place, tmp_path, words, message):
    outcome = command("score", place / "model", MOODLE, "-o", tmp_path / "filled.csv", *words)
    assert outcome.code == 2
    assert re.search(message, outcome.err), outcome.err
    assert not list(tmp_path.iterdir())


def test_standard_output_is_refused(place):
    outcome = command("score", place / "model", MOODLE, "--format", "moodle", "--scale", "0:100")
    assert outcome.code == 2
    assert "moodle cannot be written to standard output" in outcome.err


def test_essays_without_a_row_and_two_of_one(place, tmp_path):
    words = [
        "--format",
        "canvas",
        "--worksheet",
        CANVAS,
        "--grade-column",
        "301",
        "--scale",
        "0:10",
        "--id-column",
        "key",
    ]
    for rows, message in (
        (
            [*ESSAYS, {"key": "S-999", "text": "An otter."}],
            facts("'S-999'", "ID, SIS Login ID, SIS User ID", "--id-column"),
        ),
        ([*ESSAYS, ESSAYS[0]], facts("'S-008'", "one row")),
        ([*ESSAYS, {"key": "15", "text": "An otter."}], facts("no row")),  # by another column than the others
    ):
        essays = write_rows(tmp_path / "essays.csv", rows)
        outcome = command("score", place / "model", essays, *words, "-o", tmp_path / "filled.csv", "--force")
        assert outcome.code == 2
        assert re.search(message, outcome.err), outcome.err
        assert not (tmp_path / "filled.csv").exists()


def test_a_gradebook_in_another_form(place, tmp_path):
    """With semicolons and decimal commas, as Canvas writes it in some languages."""
    rows = [";".join(f'"{cell}"' if ";" in cell else cell for cell in row) for row in grid(CANVAS.read_bytes())]
    sheet = tmp_path / "book.csv"
    sheet.write_bytes("\n".join(rows).replace("10.00", "10,00").encode())
    words = [
        "--format",
        "canvas",
        "--worksheet",
        sheet,
        "--grade-column",
        "301",
        "--scale",
        "0:10",
        "--id-column",
        "key",
    ]
    output = tmp_path / "filled.csv"
    assert command("score", place / "model", place / "essays.csv", *words, "-o", output).code == 0
    found = [line.split(";") for line in output.read_text().splitlines()]
    assert all(float(row[6]) <= 10 for row in found[3:5])
    assert json.dumps([row[:6] for row in found]) == json.dumps([line.split(";")[:6] for line in rows])


def test_prompts_on_a_reported_scale_and_on_their_own(place, tmp_path):
    model = tmp_path / "model"
    tiny_scorer(place / "encoder").save_pretrained(model)
    sheet, output = tmp_path / "two.csv", tmp_path / "filled.csv"
    sheet.write_bytes(CANVAS.read_bytes().replace(b"10.00", b"2.00"))
    rows = [{**row, "prompt_id": prompt} for row, prompt in zip(ESSAYS, ("letter", "notice"), strict=False)]
    essays = write_rows(tmp_path / "essays.csv", rows)
    scale = ["--id-column", "key", "--scale", "letter=0:2:0.1"]
    plain = command("score", model, essays, *scale)
    letter, notice = csv.DictReader(io.StringIO(plain.out))
    assert letter["reported"]
    assert not notice["reported"]
    words = ["--format", "canvas", "--worksheet", sheet, "--grade-column", "301", *scale, "-o", output]
    outcome = command("score", model, essays, *words)
    assert outcome.code == 0, outcome.err
    expected = [f"{float(grade):g}" for grade in (notice["score"], letter["reported"])]
    assert [row[6] for row in grid(output.read_bytes())[3:5]] == expected


def test_prompts_on_several_scales_are_refused_where_no_highest_grade_tells(place, tmp_path):
    model = tmp_path / "model"
    tiny_scorer(place / "encoder").save_pretrained(model)
    sheet, output = tmp_path / "open.csv", tmp_path / "filled.csv"
    sheet.write_bytes(MOODLE.read_bytes().replace(b"Maximum Grade", b"Highest"))
    outcome = command("score", model, sheet, "--format", "moodle", "--scale", "letter=0:100", "-o", output)
    assert outcome.code == 2
    assert re.search(facts("open.csv", "letter 100", "notice 2", "--scale"), outcome.err), outcome.err


def test_feedback_in_characters_that_the_encoding_lacks(place, tmp_path):
    sheet, output = tmp_path / "western.csv", tmp_path / "filled.csv"
    text = MOODLE.read_text(encoding="utf-8").replace("Ada", "Åda").replace('The ""otter', 'The &#129446; ""otter')
    sheet.write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    words = ["--format", "moodle", "--scale", "0:100", "--encoding", "latin-1", "-o", output]
    outcome = command("score", place / "model", sheet, *words, "--explain", tmp_path / "why.jsonl")
    assert outcome.code == 0, outcome.err
    rows = list(csv.reader(io.StringIO(output.read_bytes().decode("latin-1"), newline="")))
    assert rows[1][1] == "Made Up, Åda"
    assert 'The &#129446; "otter" &amp; the river' in rows[1][10]


def test_essays_are_refused_as_they_come():
    book = Worksheet.read(CANVAS, "canvas", ["301"])
    for ids, message in (
        (["S-007", "S-008", "15"], facts("'15'", "no row", "by SIS User ID,", "but by ID")),
        (["S-007", "S-008", "S-007"], facts("'S-007'", "one row")),
        (["Ada_11_1_a.txt", "Ada_late_11_2_b.txt"], facts("Ada_11_1_a.txt", "Ada_late_11_2_b.txt", "one row")),
    ):
        essays = (UnscoredEssay(one, "letter", "An otter.") for one in ids)
        found = book.essays(essays, own=False)
        for one in ids[:-1]:
            assert next(found).essay_id == one
        with pytest.raises(DataError, match=message):
            next(found)


def of_traits(place: Path, essays: Path, *words: object) -> dict[str, dict[str, str]]:
    """What a model of two traits says of essays, by id."""
    outcome = command("score", place / "traits", essays, *words)
    assert outcome.code == 0, outcome.err
    return {row["essay_id"]: row for row in csv.DictReader(io.StringIO(outcome.out))}


def test_an_assignment_of_canvas_for_each_trait(place, tmp_path):
    output = tmp_path / "filled.csv"
    scale = ["--id-column", "key", "--scale", "letter/content=0:10", "--scale", "letter/style=0:5"]
    words = ["--format", "canvas", "--worksheet", CANVAS, *scale, "-o", output]
    columns = ["--grade-column", "content=Essay, first draft", "--grade-column", "style=300"]
    outcome = command("score", place / "traits", place / "essays.csv", *words, *columns)
    assert outcome.code == 0, outcome.err
    assert "have a grade already, which stays: 3." in outcome.err
    known = of_traits(place, place / "essays.csv", *scale)
    before, after = grid(CANVAS.read_bytes()), grid(output.read_bytes())
    for old, new in zip(before[3:], after[3:], strict=True):
        told = known.get(old[2], {})
        expected = [*old]
        for column, trait in ((5, "style"), (6, "content")):
            if not old[column] and told.get(f"{trait}_reported"):
                expected[column] = f"{float(told[f'{trait}_reported']):g}"
        assert new == expected
    assert all((after[4][5], after[3][6], after[4][6]))


def test_one_trait_in_moodles_only_column(place, tmp_path):
    output, why = tmp_path / "filled.csv", tmp_path / "why.jsonl"
    scale = ["--scale", "letter/style=0:100", "--scale", "letter/content=0:10"]
    words = ["--format", "moodle", *scale, "--grade-column", "style=Grade", "-o", output, "--explain", why]
    outcome = command("score", place / "traits", MOODLE, *words)
    assert outcome.code == 0, outcome.err
    rows = grid(output.read_bytes())[1:]
    text = "Phones in the school of the head teacher. They are a bridge.\nAnd a lesson."
    plain = write_rows(tmp_path / "plain.csv", [{"essay_id": "1", "text": text}])
    told = of_traits(place, plain, *scale)["1"]
    assert told["style_reported"] != told["content_reported"]
    assert rows[1][4] == f"{float(told['style_reported']):g}"
    assert "<p>style: Raised the score most: " in rows[1][10] or "<p>style: Lowered it most: " in rows[1][10]
    assert "content" not in rows[1][10]


@pytest.mark.parametrize(
    ("model", "columns", "message"),
    [
        ("traits", [], facts("the traits content, style", "--grade-column TRAIT=COLUMN")),
        ("traits", ["Grade"], facts("the traits content, style", "--grade-column TRAIT=COLUMN")),
        ("traits", ["form=Grade"], facts("the traits content, style", "--grade-column TRAIT=COLUMN")),
        ("traits", ["style=Grades"], facts("'style=Grades'", "'Grade'")),
        ("traits", ["style=Grade", "content=Grade"], facts("content=Grade", "same column")),
        ("traits", ["style=Grade", "style=Status"], facts("style=Status", "same trait")),
        ("model", ["style=Grade"], facts("no traits", "without TRAIT=")),
    ],
)
def test_which_trait_goes_where_is_said(place, tmp_path, model, columns, message):
    named = [word for column in columns for word in ("--grade-column", column)]
    words = ["--format", "moodle", "--scale", "0:100", *named, "-o", tmp_path / "filled.csv"]
    outcome = command("score", place / model, MOODLE, *words)
    assert outcome.code == 2
    assert re.search(message, outcome.error), outcome.error
    assert not list(tmp_path.iterdir())


@settings(max_examples=1000)
@given(st.text(" \t\r\n\u2003x", max_size=20))
def test_blanks_of_html_are_taken_away_around_line_ends_alone(text):
    """Looked for from every blank, which takes the square of the length of a run of blanks."""
    slow = re.sub(r"[ \t]*\n[ \t]*", "\n", re.sub(r"\s*\n\s*\n\s*", "\n\n", f"a{text}")).strip()
    assert plain_text(f"<b>a</b>{text}") == slow


@given(st.text("<>/a ", max_size=12))
def test_what_has_no_whole_tag_stays_as_it_is(text):
    assert re.search(r"</?[a-zA-Z][^>]*>", text) or plain_text(text) == text


@pytest.mark.parametrize("run", [" ", "\t", "\r", "\n", " \n", "x "])
def test_a_run_of_blanks_is_no_trap(run):
    """Time that grows with the square of a run's length would be minutes here."""
    text = run * (100_000 // len(run))
    assert plain_text(f"<p>a{text}b</p>").split() == f"a{text}b".split()


def test_a_run_of_tags_that_are_never_closed_is_no_trap():
    text = "<a" * 100_000
    assert plain_text(text) == text


def test_a_column_whose_own_name_has_an_equals_sign(tmp_path):
    sheet = tmp_path / "odd.csv"
    sheet.write_text('Identifier,"a=b",b\n1,,\n')
    assert Worksheet.read(sheet, "moodle", ["a=b"]).grades[None].place == 1
    assert Worksheet.read(sheet, "moodle", ["c=b"]).grades["c"].place == 2
    with pytest.raises(ConfigError, match="it is open which column has the grades"):
        Worksheet.read(sheet, "moodle")
