from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from command_line import command
from small_run import read_rows

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports.adjudication import adjudicated, adjudication_entry, read_decisions
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.reports.prompts import build_report

HEADER = ["essay_id", "prompt_id", "reference", "raw", "score", "withheld"]
ROWS = [
    ["a", "1", 4, 3.6, 4, "false"],
    ["b", "1", 2, 3.4, 3, "false"],
    ["c", "1", 5, "", "", "true"],
    ["d", "1", 1, 1.2, 1, ""],
    ["e", "1", 3, "", "", "True"],
    ["f", "1", 2, 2.2, 2, "false"],
    ["f", "2", 2, 1.8, 2, "false"],
    ["g", "2", 1, 2.9, 3, "false"],
    ["h", "2", 3, 2.9, 3, "false"],
]
RANGES = ["--range", "1=1:6", "--range", "2=1:3"]
SHEET = ["essay_id", "prompt_id", "because", "human_score"]


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def predictions(tmp_path):
    return write(tmp_path / "p.csv", HEADER, ROWS)


def sheet(tmp_path, rows):
    return write(tmp_path / "review.csv", SHEET, rows)


def test_withheld_essays_are_set_aside_and_told(predictions):
    read = read_predictions(predictions)
    assert read.table["essay_id"].tolist() == ["a", "b", "d", "f", "f", "g", "h"]
    assert read.withheld["essay_id"].tolist() == ["c", "e"]
    assert any(note.startswith("2 of 9 essays in p.csv have no score") for note in read.notes)
    assert build_report(read, resamples=0)["prompts"]["1"]["n"] == 4


def test_a_blank_that_was_not_withheld_is_refused(tmp_path):
    rows = [list(row) for row in ROWS]
    rows[2][5] = "false"
    with pytest.raises(DataError, match=r"Row 4 of p\.csv \(essay 'c'\): raw is blank"):
        read_predictions(write(tmp_path / "p.csv", HEADER, rows))
    rows[2][5] = "maybe"
    with pytest.raises(DataError, match=r"Row 4 of p\.csv: withheld is 'maybe'; expected true or false"):
        read_predictions(write(tmp_path / "p.csv", HEADER, rows))
    rows = [[*row[:3], "", "", "true"] for row in ROWS]
    with pytest.raises(DataError, match="the machine withheld them all"):
        read_predictions(write(tmp_path / "p.csv", HEADER, rows))


def test_decisions_take_the_place_of_scores(tmp_path, predictions):
    machine = read_predictions(predictions)
    made = read_decisions(sheet(tmp_path, [["b", "1", "uncertain", 2], ["c", "1", "off_topic", 5], ["e", "1", "", ""]]))
    final = adjudicated(machine, made)
    known = dict(
        zip(zip(final.table["prompt_id"], final.table["essay_id"], strict=True), final.table["score"], strict=True)
    )
    assert (known["1", "b"], known["1", "c"], known["1", "a"], known["2", "f"]) == (2, 5, 4, 2)
    assert final.withheld["essay_id"].tolist() == ["e"]
    report = build_report(machine, resamples=0)
    entry = adjudication_entry(report, machine, made)
    assert (entry["decided"], entry["undecided"], entry["without_score"]) == (2, 1, 1)
    one = entry["prompts"]["1"]
    assert (one["decided"], one["machine"]["n"], one["final"]["n"]) == (2, 4, 5)
    wanted = quadratic_weighted_kappa(np.array([4, 2, 5, 1, 2.0]), np.array([4, 2, 5, 1, 2.0]))
    assert one["final"]["qwk"] == pytest.approx(wanted)
    assert one["machine"]["qwk"] == pytest.approx(report["prompts"]["1"]["qwk"])
    assert entry["prompts"]["2"]["machine"] == entry["prompts"]["2"]["final"]
    assert entry["mean"]["final"]["qwk"] > entry["mean"]["machine"]["qwk"]


def test_a_prompt_of_which_everything_was_withheld(tmp_path):
    rows = [*ROWS, ["z", "3", 2, "", "", "true"], ["y", "3", 1, "", "", "true"]]
    path = write(tmp_path / "p.csv", HEADER, rows)
    machine = read_predictions(path)
    report = build_report(machine, resamples=0)
    assert list(report["prompts"]) == ["1", "2"]
    made = read_decisions(sheet(tmp_path, [["z", "3", "", 2], ["y", "3", "", 1]]))
    entry = adjudication_entry(report, machine, made)
    assert entry["prompts"]["3"] == {
        "decided": 2,
        "machine": None,
        "final": pytest.approx(entry["prompts"]["3"]["final"]),
    }
    assert entry["prompts"]["3"]["final"]["n"] == 2
    for which in ("machine", "final"):
        own = [entry["prompts"][prompt][which]["qwk"] for prompt in ("1", "2")]
        assert entry["mean"][which]["qwk"] == pytest.approx(np.mean(own))
    words = ["evaluate", path, *RANGES, "--range", "3=1:3", "--export", "rsmeval", tmp_path / "rsm"]
    assert command(*words).code == 0
    assert sorted(folder.name for folder in (tmp_path / "rsm").glob("prompt_*")) == ["prompt_1", "prompt_2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["x", "1", "", 2]], r"Row 2 of review\.csv \(essay 'x'\): prompt '1' has no such essay"),
        (
            [["a", "1", "", 4], ["b", "1", "", 2.5]],
            r"Row 3 of review\.csv \(essay 'b'\): human_score 2\.5 is no score point",
        ),
        ([["a", "1", "", "four"]], r"human_score 'four' is not a finite number"),
        ([["a", "1", "", ""]], r"holds no decision: its column human_score is blank"),
        ([["a", "1", "", 4], ["a", "1", "", 5]], "more than one row for essay"),
    ],
)
def test_sheets_that_cannot_be_used(tmp_path, predictions, rows, message):
    machine = read_predictions(predictions)
    with pytest.raises(DataError, match=message):
        adjudicated(machine, read_decisions(sheet(tmp_path, rows)))


def test_the_command_reports_both(tmp_path, predictions):
    made = sheet(tmp_path, [["b", "1", "uncertain", 2], ["c", "1", "off_topic", 5], ["e", "1", "", 3]])
    words = ["evaluate", predictions, *RANGES, "--adjudicated", made]
    outcome = command(*words, "--output-dir", tmp_path / "out")
    assert outcome.code == 0
    assert "Human review:" in outcome.out
    assert "Essays that humans decided on: 3; of the review sheet still undecided: 0." in outcome.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["adjudicated"]["prompts"]["1"]["final"]["n"] == 6
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Human review" in page
    assert "The machine alone, and after human review" in page
    rows = read_rows(tmp_path / "out" / "report.csv")
    found = {
        (row["prompt"], row["item"], row["measure"]): row["value"] for row in rows if row["table"] == "adjudicated"
    }
    assert float(found["1", "final", "n"]) == 6
    assert float(found["", "final", "qwk"]) == pytest.approx(report["adjudicated"]["mean"]["final"]["qwk"])
    bare = write(tmp_path / "bare.csv", ["essay_id", "human_score"], [["a", 4]])
    outcome = command("evaluate", predictions, *RANGES, "--adjudicated", bare)
    assert (outcome.code, "has no column 'prompt_id'" in outcome.error) == (2, True)


class TestEssaysWithoutAHumanScore:
    """Of prompt 1, c (withheld) and d have none."""

    @pytest.fixture
    def words(self, tmp_path):
        def evaluation(*sheets, by_prompt=True):
            rows = [row for row in ROWS if by_prompt or row[1] == "1"]
            ids = 2 if by_prompt else 1
            header, machine = [*HEADER[:ids], *HEADER[3:]], [[*row[:ids], *row[3:]] for row in rows]
            human = [row[:3] for row in rows if row[0] not in "cd"]
            write(tmp_path / "human.csv", HEADER[:3], human)
            words = ["evaluate", write(tmp_path / "p.csv", header, machine), "--references", tmp_path / "human.csv"]
            for number, rows in enumerate(sheets):
                words += ["--adjudicated", write(tmp_path / f"sheet_{number}.csv", SHEET, rows)]
            return [*words, *RANGES[: 4 if by_prompt else 2], "--audit", tmp_path / "audit.jsonl", "--json"]

        return evaluation

    @pytest.mark.parametrize("by_prompt", [True, False])
    def test_decisions_on_them_are_left_out_and_counted(self, tmp_path, words, by_prompt):
        """Also where only the references know the prompts."""
        rows = [["b", "1", "", 2], ["c", "1", "", 5], ["d", "1", "", 2]]
        outcome = command(*words(rows, by_prompt=by_prompt))
        assert outcome.code == 0, outcome.err
        report = json.loads(outcome.out)
        assert (report["adjudicated"]["decided"], report["adjudicated"]["undecided"]) == (1, 0)
        assert report["adjudicated"]["prompts"]["1"]["final"]["n"] == 3
        assert report["notes"][-1].startswith("2 of 3 decisions in sheet_0.csv are on essays without a human score")
        lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [(line["essay_id"], line["human"]) for line in lines] == [("b", 2)]

    def test_of_several_sheets(self, words):
        """An essay that both decide on is one decision; what is undecided is none."""
        first = [["b", "1", "", 2], ["c", "1", "", 5], ["d", "1", "", ""]]
        second = [["b", "1", "", 3], ["c", "1", "", 4], ["d", "1", "", ""]]
        report = json.loads(command(*words(first, second)).out)
        assert (report["adjudicated"]["decided"], report["adjudicated"]["undecided"]) == (1, 0)
        assert report["notes"][-1].startswith("1 of 2 decisions in sheet_0.csv with sheet_1.csv are on essays without")

    def test_a_sheet_of_none_but_them(self, words):
        report = json.loads(command(*words([["c", "1", "", 5]])).out)
        assert report["adjudicated"]["decided"] == 0
        assert report["adjudicated"]["mean"]["machine"] == report["adjudicated"]["mean"]["final"]
        assert report["notes"][-1].startswith("1 of 1 decisions in sheet_0.csv")

    @pytest.mark.parametrize("row", [["x", "1", "", 2], ["c", "2", "", 2]])
    def test_an_essay_that_is_not_among_the_predictions_is_refused_all_the_same(self, words, row):
        outcome = command(*words([["b", "1", "", 2], row]))
        assert outcome.code == 2
        assert "has no such essay among the predictions" in outcome.error

    def test_a_trait_without_a_human_score(self, tmp_path):
        header = ["essay_id", "prompt_id", "form", "form_raw", "style", "style_raw"]
        write(tmp_path / "p.csv", header, [["a", "1", 3, 3.1, 2, 2.2], ["b", "1", 4, 3.9, 3, 3.3]])
        write(tmp_path / "human.csv", ["essay_id", "form", "style"], [["a", 3, 2], ["b", 4, ""]])
        made = write(tmp_path / "review.csv", ["essay_id", "prompt_id", "form", "style"], [["b", "1", 5, 4]])
        words = ["evaluate", tmp_path / "p.csv", "--references", tmp_path / "human.csv", "--adjudicated", made]
        outcome = command(*words, "--range", "1:6", "--json")
        assert outcome.code == 0, outcome.err
        report = json.loads(outcome.out)
        assert report["adjudicated"]["prompts"]["1/form"]["decided"] == report["adjudicated"]["decided"] == 1
        assert report["notes"][-1].startswith("1 of 2 decisions in review.csv are on essays without a human score")


def test_an_essay_is_decided_on_once_whatever_it_is_scored_on(tmp_path):
    header = ["essay_id", "prompt_id", "trait", *HEADER[2:]]
    rows = [[*row[:2], trait, *row[2:]] for row in ROWS for trait in ("form", "style")]
    machine = read_predictions(write(tmp_path / "p.csv", header, rows))
    sheet = write(
        tmp_path / "review.csv",
        ["essay_id", "prompt_id", "form", "style"],
        [["b", "1", 2, 3], ["c", "1", 5, ""], ["e", "1", "", ""]],
    )
    entry = adjudication_entry(build_report(machine, resamples=0), machine, read_decisions(sheet, list(machine.ranges)))
    assert (entry["decided"], entry["undecided"], entry["without_score"]) == (2, 1, 2)
    assert (entry["prompts"]["1/form"]["decided"], entry["prompts"]["1/style"]["decided"]) == (2, 1)


@pytest.mark.parametrize(("column", "value"), [(3, 3.5), (4, 4)])
def test_a_score_where_the_machine_gave_none_is_refused(tmp_path, column, value):
    rows = [list(row) for row in ROWS]
    rows[2][column] = value
    path = write(tmp_path / "p.csv", HEADER, rows)
    with pytest.raises(DataError, match=r"Row 4 of p\.csv \(essay 'c'\): withheld, yet (raw|score) is filled in"):
        read_predictions(path)


def test_a_decision_beyond_an_inferred_range_names_the_option(tmp_path, predictions):
    sheet = write(tmp_path / "r.csv", SHEET, [["c", "1", "empty", 6]])
    with pytest.raises(DataError, match=r"range 1 to 5\. Fix the row or the range \(--range\)"):
        adjudicated(read_predictions(predictions), read_decisions(sheet))
