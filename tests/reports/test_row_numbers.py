"""Messages name rows as a spreadsheet or an editor counts them, whichever reader finds the fault: header is row 1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.reports.adjudication import adjudicated, decisions_of_sheets, read_decisions
from aes_dynloss.reports.features import read_features
from aes_dynloss.reports.human_scores import HumanScores
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"1": ScoreRange(1, 6), "1/form": ScoreRange(1, 6), "1/style": ScoreRange(1, 6)}
SCORES = "essay_id,prompt_id,raw,score\n" + "".join(f"{essay},1,2.5,3\n" for essay in "abcdef")
TRAITS = "essay_id,prompt_id,form,form_raw,style,style_raw\n" + "".join(f"{one},1,3,2.5,3,2.5\n" for one in "abcdef")


@pytest.fixture
def write(tmp_path):
    def file(name: str, text: str):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return file


def row(path, number: int) -> str:
    """What the message must say of the line with this number in an editor, whose first cell is the essay."""
    essay = path.read_text(encoding="utf-8").splitlines()[number - 1].split(",")[0]
    return rf"Row {number} of {path.name} \(essay '{essay}'\)"


@pytest.mark.parametrize(
    "text",
    [
        SCORES.replace("d,1,2.5,3", "d,1,2.5,9"),
        SCORES.replace("d,1,2.5,3", "d,1,two,3"),
        SCORES.replace("d,1,2.5,3", "d,1,,3"),
        TRAITS.replace("d,1,3,2.5,3", "d,1,3,2.5,9"),
        TRAITS.replace("d,1,3,2.5,3", "d,1,3,two,3"),
    ],
)
def test_predictions(write, text):
    path = write("scores.csv", text)
    with pytest.raises(DataError, match=row(path, 5)):
        read_predictions(path, ranges=RANGES)


def test_predictions_of_which_some_have_human_scores(write):
    path = write("scores.csv", SCORES.replace("d,1,2.5,3", "d,1,2.5,9"))
    human = write("human.csv", "essay_id,reference\nb,3\nd,3\ne,2\n")
    with pytest.raises(DataError, match=row(path, 5)):
        read_predictions(path, references=human, ranges=RANGES, sampled=True)


@pytest.mark.parametrize("text", ["essay_id,reference\nb,3\nd,three\n", "essay_id,reference\nb,3\nd,\n"])
def test_human_scores(write, text):
    path = write("human.csv", text)
    with pytest.raises(DataError, match=row(path, 3)):
        HumanScores.read(path)


def test_human_scores_of_traits(write):
    human = write("human.csv", "essay_id,form,style\n" + "".join(f"{e},3,{'x' if e == 'd' else 3}\n" for e in "abcdef"))
    with pytest.raises(DataError, match=row(human, 5)):
        read_predictions(write("scores.csv", TRAITS), references=human, ranges=RANGES)


@pytest.mark.parametrize("second", ["9", "good"])
def test_ratings(write, second):
    path = write("human.csv", f"essay_id,reference,rater\na,3,Ann\nb,3,Ann\na,{second},Bo\n")
    scores = write("scores.csv", "essay_id,prompt_id,score\na,1,3\nb,1,3\n")
    with pytest.raises(DataError, match=row(path, 4)):
        read_predictions(scores, references=path, columns=ColumnNames(rater="rater"), ranges=RANGES)


@pytest.mark.parametrize("score", ["9", "good"])
@pytest.mark.parametrize("traits", [False, True])
def test_sheets(write, score, traits):
    columns = "human_score" if not traits else "form,style"
    cells = score if not traits else f"2,{score}"
    path = write("sheet.csv", f"essay_id,prompt_id,{columns}\na,1,{cells.replace(score, '2')}\nd,1,{cells}\n")
    machine = read_predictions(write("scores.csv", TRAITS if traits else SCORES), ranges=RANGES)
    scales = list(machine.ranges) if traits else []
    if score == "good":
        with pytest.raises(DataError, match=row(path, 3)):
            read_decisions(path, scales)
        return
    sheet = read_decisions(path, scales)
    with pytest.raises(DataError, match=row(path, 3)):
        adjudicated(machine, sheet)
    with pytest.raises(DataError, match=row(path, 3)):
        decisions_of_sheets([replace(sheet, readers=[name]) for name in "ab"], machine, "mean")


def test_features(write):
    path = write("features.csv", "essay_id,prompt_id,commas\na,1,3\nb,1,4\nc,1,many\nd,1,3\ne,1,2\nf,1,1\n")
    table = read_predictions(write("scores.csv", SCORES), ranges=RANGES).table
    with pytest.raises(DataError, match=row(path, 4)):
        read_features(path, table, ColumnNames())
