"""The same hostile cells in every kind of table: one verdict, row by row, from all that read tables."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import command
from facts import facts
from small_run import write_small_run
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import gather_essays
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.formats import MOST_COLUMNS, read_cells
from aes_dynloss.tables.rows import FaultLog
from aes_dynloss.tables.score_range import ScoreRange

COLUMNS = ["essay_id", "prompt_id", "text", "score", "raw"]
PREDICTIONS = ColumnNames(reference="score", raw="raw")
# The hostile cell's column and value, and what messages say of it; None: it is a good one.
HOSTILE = {
    "a decimal": ("score", Decimal("3.0"), None),
    "a full-width digit": ("score", "\uff13", "not a finite number"),
    "non-breaking spaces": ("score", "\u00a03\u202f", None),
    "the word nan": ("score", "nan", "not a finite number"),
    "a blank": ("score", "\u00a0", "empty|blank"),
    "a missing value": ("score", None, "empty|blank"),
    "a decimal comma": ("score", "3,0", "decimal comma"),
    "a blank id": ("essay_id", "\u00a0", "essay_id is empty"),
    "a control character": ("essay_id", "a\x1bb", "control character"),
    "a whole number for an id": ("essay_id", 7, None),
    "leading zeros": ("essay_id", "007", None),
    "half of a surrogate pair": ("essay_id", "a\ud800", "surrogate pair|expected utf-8"),
}
SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"]


def hostile_table(folder, name, suffix):
    """Four rows, of which the second holds the cell; None where such a file cannot hold it."""
    column, value, _ = HOSTILE[name]
    rows = [[f"e{number}", "letter", "Otters, and more", "234"[number % 3], "2.5"] for number in range(4)]
    rows[1][COLUMNS.index(column)] = value
    path = folder / f"t{suffix}"
    if suffix in {".csv", ".tsv"}:
        sign = "," if suffix == ".csv" else "\t"
        lines = [COLUMNS, *([f'"{"" if cell is None else cell}"' for cell in row] for row in rows)]
        text = "".join(sign.join(line) + "\n" for line in lines)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    elif suffix == ".jsonl":
        lines = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        path.write_text("".join(json.dumps(line, default=float) + "\n" for line in lines))
    elif suffix == ".parquet":
        table = {}
        for index, title in enumerate(COLUMNS):
            cells = [row[index] for row in rows]
            if isinstance(value, Decimal | int) and title == column:
                cells = [type(value)(str(cell).removeprefix("e")) for cell in cells]
            table[title] = cells
        if name == "half of a surrogate pair":
            return None
        pq.write_table(pa.table(table), path)
    else:
        if name in {"a control character", "half of a surrogate pair"}:
            return None
        book = openpyxl.Workbook()
        for row in [COLUMNS, *rows]:
            book.active.append(row)
        book.save(path)
    return path


def data_config(path):
    return DataConfig(source=str(path), prompts={"letter": {"low": 1, "high": 6}})


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", HOSTILE)
def test_essays_and_predictions_are_judged_alike(tmp_path, name, suffix):
    path, message = hostile_table(tmp_path, name, suffix), HOSTILE[name][2]
    if path is None:
        return
    row = 2 if suffix in {".jsonl", ".parquet"} else 3
    faults = FaultLog()
    essays = gather_essays(data_config(path), faults).essays
    told = [str(fault) for fault in faults.faults] + [faults.stopped] * (faults.stopped is not None)
    if message is None:
        assert (told, len(essays)) == ([], 4)
        table = read_predictions(path, columns=PREDICTIONS, ranges={"letter": ScoreRange(1, 6)}).table
        assert table["essay_id"].tolist() == [essay["essay_id"] for essay in essays]
        assert table["reference"].tolist() == [essay["score"] for essay in essays]
        return
    with pytest.raises(DataError) as caught:
        read_predictions(path, columns=PREDICTIONS, ranges={"letter": ScoreRange(1, 6)})
    for words in (*told, str(caught.value)):
        assert re.search(message, words)
        assert re.search(rf"(Row|Line) {row} of t\{suffix}", words)
    assert len(told) == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdicts")
    tiny_scorer(write_tiny_encoder(folder / "tiny")).save_pretrained(folder / "model")
    values = yaml.safe_load(write_small_run(folder).read_text())
    values["data"] = {"prompts": {"letter": {"low": 1, "high": 6}}}
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["a decimal", "a whole number for an id", "a blank id", "a full-width digit"])
def test_all_commands_agree(place, tmp_path, name, suffix):
    path, (column, _, message) = hostile_table(tmp_path, name, suffix), HOSTILE[name]
    options = ["--reference-column", "score", "--raw-column", "raw", "--range", "letter=1:6"]
    outcomes = [command("data", "check", path, "--range", "letter=1:6"), command("evaluate", path, *options)]
    if column == "essay_id":  # scoring does not look at scores
        outcomes.append(command("score", place / "model", path))
    if message is not None:
        run = [f"data.source={path}", "--output-dir", tmp_path / "run"]
        outcomes.append(command("finetune", place / "run.yaml", *run))
    assert [outcome.code for outcome in outcomes] == [0 if message is None else 2] * len(outcomes)
    assert message is None or all(re.search(message, outcome.out + outcome.err) for outcome in outcomes)


def test_a_key_of_its_own_in_each_row(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({f"key{number}": 1}) + "\n" for number in range(8000)))
    with pytest.raises(DataError, match=facts("t.jsonl", MOST_COLUMNS, f"row {MOST_COLUMNS + 1}")):
        read_cells(tmp_path / "t.jsonl")


def test_many_keys_in_one_row(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({f"key{number}": 1 for number in range(40_000)}) + "\n")
    with pytest.raises(DataError, match="more than"):
        read_cells(tmp_path / "t.jsonl")


def test_a_sheet_as_spreadsheets_write_it(tmp_path):
    book = openpyxl.Workbook()
    for row in [[None], COLUMNS, ["e1", 1, "x", 3, 2.5], [None], ["e2", 1, "y", None, 2.5]]:
        book.active.append(row)
    book.create_sheet("notes").append(["not read"])
    book.save(tmp_path / "t.xlsx")
    cells = read_cells(tmp_path / "t.xlsx")
    assert cells.index.tolist() == [3, 5]
    assert cells["score"].tolist() == [3, None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ([["essay_id"]], "header .* but no rows"),
        ([["essay_id", None, "raw"], [1, 2, 3]], "Column 2 of t.xlsx has no name"),
        ([["essay_id", "essay_id"], [1, 2]], "names the column 'essay_id' 2 times"),
        ([["essay_id"], [1, 2]], "Row 2 of t.xlsx has 2 values, the header 1"),
    ],
)
def test_sheets_that_cannot_be_read(tmp_path, rows, message):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match=message):
        read_cells(tmp_path / "t.xlsx")
