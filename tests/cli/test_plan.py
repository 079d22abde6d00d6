"""A double-scoring plan from the shell: planned, filled in, taken back, measured."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from command_line import command
from planned_essays import OPTIONS, RANGES, SCALES, fill_in, read_sheet, write_scored, write_traits

from aes_dynloss.measures.agreement import quadratic_weighted_kappa, standardized_mean_difference
from aes_dynloss.programme.sheets import take_back


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """The file of scores, and what humans would give."""
    monkeypatch.chdir(tmp_path)
    return write_scored(tmp_path)


def planned(path, *more):
    return command("plan", path.name, "-o", "plan", "--half-width", "qwk=.08", *OPTIONS, *more)


def test_from_plan_to_report(scores, tmp_path):
    path, human = scores
    outcome = planned(path, "--half-width", "smd=.1", "--subgroup", "group", "--markers", 3)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].split("  ")[0] == "prompt"
    assert "essays are to be read by marker_1, marker_2, marker_3" in outcome.err
    fill_in(tmp_path / "plan", human)
    outcome = command(
        *("evaluate", path.name, "--adjudicated", "plan", "--subgroup", "group", "--audit", "audit.jsonl"),
        *("--output-dir", "report"),
    )
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    every = pd.read_csv(path, dtype={"essay_id": str}).dropna(subset=["score"])
    every["reference"] = [human[key] for key in zip(every["prompt_id"], every["essay_id"], strict=True)]
    for prompt, entry in report["prompts"].items():
        own = every[every["prompt_id"] == prompt]
        assert entry["stands_for"] == pytest.approx(149)
        assert entry["n"] < 149
        low, high = entry["qwk_interval"]
        assert low <= quadratic_weighted_kappa(own["reference"], own["score"]) <= high
        low, high = entry["smd_interval"]
        assert low <= standardized_mean_difference(own["reference"], own["raw"]) <= high
        assert entry["kappa"] is entry["prmse"] is None, "what has no weighted form is left out"
        assert entry["score_points"] == entry["confusion"] == []
        assert entry["human_human"]["qwk"] == 1
        assert set(entry["fairness"]["columns"]["group"]["groups"]) == {"x", "y"}
    assert "stand for" in outcome.out
    assert "design weights" in outcome.out
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "Stand for" in page
    assert "not estimated with design weights" in page
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(read_sheet(tmp_path / "plan/essays.csv"))
    assert {line["event"] for line in lines} == {"decision"}
    withheld = next(line for line in lines if line["essay_id"] == "000")
    assert withheld["machine"] is None
    assert set(withheld["readings"]) == {withheld["human"]}
    assert command("verify", "plan").code == command("audit", "verify", "audit.jsonl").code == 0
    again = command("evaluate", path.name, "--adjudicated", "plan", "--audit", "audit.jsonl")
    assert f"audit.jsonl has {len(lines)} decisions of this evaluation already" in again.err
    assert len((tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()) == len(lines)
    (tmp_path / "plan/essays.csv").write_text("changed", encoding="utf-8")
    assert command("verify", "plan").code == 3


def test_the_table_of_readings_has_the_same_figures(scores, tmp_path):
    path, human = scores
    assert planned(path).code == 0
    fill_in(tmp_path / "plan", human)
    ranges = [*OPTIONS[2:], "--json"]
    one = command("evaluate", path.name, "--adjudicated", "plan", *ranges)
    marked = ["--references", "plan/marked.csv", "--weight-column", "design_weight"]
    other = command("evaluate", path.name, *marked, *ranges)
    assert one.code == other.code == 0
    assert json.loads(one.out) == json.loads(other.out)


def test_a_report_on_a_plans_readers(scores, tmp_path):
    path, human = scores
    assert planned(path, "--markers", 3).code == 0
    fill_in(tmp_path / "plan", human)
    outcome = command("evaluate", path.name, "--adjudicated", "plan", "--rater-column", "marker")
    assert outcome.code == 2
    readings = "--references plan/readings.csv --rater-column marker --reference-column human_score"
    assert outcome.error.endswith(f"evaluate the same scores with {readings}.")
    outcome = command("evaluate", path.name, *readings.split(), *OPTIONS[2:], "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert {one["rater"] for one in report["raters"]["raters"]} == {"marker_1", "marker_2", "marker_3"}
    assert any("have no human score in readings.csv" in note for note in report["notes"])


def test_a_plan_beside_all_human_scores_is_as_a_review_sheet(scores, tmp_path):
    path, human = scores
    human.rename("reference").reset_index().to_csv(tmp_path / "human.csv", index=False)
    assert planned(path).code == 0
    fill_in(tmp_path / "plan", human)
    outcome = command("evaluate", path.name, "--references", "human.csv", "--adjudicated", "plan", "--json")
    report = json.loads(outcome.out)
    assert report["adjudicated"]["decided"] == len(read_sheet(tmp_path / "plan/essays.csv"))
    assert "stands_for" not in report["prompts"]["a"]
    assert report["prompts"]["a"]["kappa"] is not None


def test_an_essay_of_several_review_sheets_has_one_score(scores, tmp_path):
    path, human = scores
    human.rename("reference").reset_index().to_csv(tmp_path / "human.csv", index=False)
    for name, readings in (("one", [2, 3, 2]), ("two", [5, 4, None])):
        sheet = pd.DataFrame({"essay_id": ["002", "003", "004"], "prompt_id": "a", "human_score": readings})
        sheet.to_csv(tmp_path / f"{name}.csv", index=False)
    words = ["evaluate", path.name, "--references", "human.csv", "--adjudicated", "one.csv", "--adjudicated", "two.csv"]
    words += [*OPTIONS[2:], "--json", "--rule", "higher", "--audit", "audit.jsonl"]
    report = json.loads(command(*words).out)
    assert (report["adjudicated"]["decided"], report["adjudicated"]["undecided"]) == (2, 1)
    (tmp_path / "two (copy).csv").write_bytes((tmp_path / "two.csv").read_bytes())
    copied = [*words[:-2], "--adjudicated", "two (copy).csv"]
    assert "two.csv and two (copy).csv have the same scores of the same essays" in command(*copied).error
    for name in ("two", "two (copy)"):
        read_sheet(tmp_path / f"{name}.csv").assign(reader=name).to_csv(tmp_path / f"{name}.csv", index=False)
    assert "copy" not in command(*copied).error, "two readers who agree"
    pd.DataFrame({"essay_id": ["002"], "prompt_id": "c", "human_score": [2]}).to_csv(
        tmp_path / "three.csv", index=False
    )
    assert "three.csv" in command(*words, "--adjudicated", "three.csv").error
    for name, score in (("four", 3), ("five", 4)):
        sheet.assign(human_score=score).to_csv(tmp_path / f"{name}.csv", index=False)
    fourth = command(*words, "--adjudicated", "four.csv", "--adjudicated", "five.csv").error
    assert "Essay '002' of prompt 'a' has 4 readings in one.csv with two.csv" in fourth, "none is passed over"
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["essay_id"]: (line["human"], line["readings"]) for line in lines} == {
        "003": (4.0, [3.0, 4.0]),
        "004": (2.0, [2.0]),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adjudicated", "plan", "--dev", "scores.csv"], "--dev would give figures of a sample without its weights"),
        (["--adjudicated", "plan", "--export", "rsmeval", "out"], "--export would give figures"),
        (["--adjudicated", "plan", "--adjudicated", "scores.csv"], "--adjudicated takes one plan's folder"),
        (["--adjudicated", "."], "is no folder of `aes-dynloss plan`"),
        (["--references", "plan/marked.csv", "--weight-column", "weights"], "'weights'"),
        (["--references", "plan/marked.csv"], "has scores of a sample, with the column design_weight"),
        (["--adjudicated", "plan", "--weight-column", "weight"], "A plan has design weights of its own"),
        (["--references", "plan/marked.csv", "--weight-column", "stratum"], "A design weight is"),
        (["--audit", "audit.jsonl"], "--audit logs the decisions of --adjudicated"),
    ],
)
def test_what_has_no_weighted_figures_is_refused(scores, tmp_path, words, message):
    path, human = scores
    assert planned(path).code == 0
    fill_in(tmp_path / "plan", human)
    take_back(tmp_path / "plan", "mean")
    outcome = command("evaluate", path.name, *words)
    assert outcome.code == 2
    assert message in outcome.error
    assert "\n" not in outcome.error


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ("plan/sheets/marker_1.csv", "--adjudicated puts decisions in the place of scores, which has no weighted"),
        ("plan", "A plan has design weights of its own. Leave out --weight-column, and --references of a sample."),
    ],
)
def test_decisions_beside_weights_are_refused_before_anything_is_written(scores, tmp_path, decisions, message):
    path, human = scores
    assert planned(path).code == 0
    fill_in(tmp_path / "plan", human)
    take_back(tmp_path / "plan", "mean")
    (tmp_path / "plan/marked.csv").rename(tmp_path / "sample.csv")
    words = ["--references", "sample.csv", "--weight-column", "design_weight", "--adjudicated", decisions]
    outcome = command("evaluate", path.name, *words, "--audit", "audit.jsonl", "--output-dir", "report")
    assert outcome.code == 2
    assert message in outcome.error
    assert not any((tmp_path / name).exists() for name in ("audit.jsonl", "report", "plan/marked.csv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--half-width", "kappa=.1"], "--half-width kappa=.1"),
        (["--blind-share", ".2"], "--blind-share needs a second marker"),
        (["--markers", "2", "--marker", "Ann"], "Give one of them"),
        (["--markers", "500"], "essays are too few for 500 markers"),
        (["--subgroup", "school"], "has no column 'school'"),
        (["--map", "essay_id=candidate"], "'candidate'"),
        (["--report", "scores.csv"], "cannot be read as a report"),
        (["--half-width", "qwk=.02"], "--half-width names qwk twice"),
        (["--seed", "1", "--seed", "2"], "--seed is given 2 times. Give it once."),
        (["--subgroup", "group", "--subgroup", "group"], "--subgroup: group is named 2 times"),
    ],
)
def test_plans_that_cannot_be(scores, tmp_path, words, message):
    outcome = planned(scores[0], *words)
    assert outcome.code == 2
    assert message in outcome.error
    assert not (tmp_path / "plan").exists()


def test_other_names_and_workbooks(scores, tmp_path):
    pytest.importorskip("openpyxl")
    path, human = scores
    table = pd.read_csv(path, dtype={"essay_id": str}).rename(columns={"essay_id": "candidate", "text": "script"})
    table.to_csv(path, index=False)
    renamed = ["--map", "essay_id=candidate", "--map", "text=script"]
    outcome = planned(path, *renamed, "--format", "xlsx", "--marker", "Ann", "--marker", "Ben")
    assert outcome.code == 0, outcome.err
    for sheet in (tmp_path / "plan/sheets").glob("*.xlsx"):
        rows = pd.read_excel(sheet, dtype={"essay_id": str})
        assert rows["text"].str.startswith("Essay ").all()
        rows["human_score"] = [human[key] for key in zip(rows["prompt_id"], rows["essay_id"], strict=True)]
        rows.to_excel(sheet, index=False)
    outcome = command("evaluate", path.name, "--adjudicated", "plan", "--map", "essay_id=candidate", "--json")
    assert outcome.code == 0, outcome.err
    assert set(json.loads(outcome.out)["prompts"]) == set(RANGES)


def test_without_texts_sheets_have_ids(scores, tmp_path):
    path, _ = scores
    pd.read_csv(path, dtype={"essay_id": str}).drop(columns="text").to_csv(path, index=False)
    outcome = planned(path)
    assert "score with --keep-columns" in outcome.err
    assert list(read_sheet(tmp_path / "plan/sheets/marker_1.csv")) == ["essay_id", "prompt_id", "human_score"]


def test_several_traits_from_plan_to_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, human = write_traits(tmp_path)
    assumed = ["--assume-qwk", "0.9", "--assume-qwk", "a/style=0.7", *OPTIONS[2:]]
    outcome = command("plan", path.name, "-o", "plan", "--half-width", "qwk=.08", "--markers", 2, *assumed)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1] == (
        "Prompt a: the trait that needs most sets the number of essays: style for QWK."
    )
    fill_in(tmp_path / "plan", human)
    outcome = command("evaluate", path.name, "--adjudicated", "plan", "--subgroup", "group", "--output-dir", "report")
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    every = pd.read_csv(path, dtype={"essay_id": str}).dropna(subset=["form"])
    for scale in SCALES:
        prompt, trait = scale.split("/")
        own = every[every["prompt_id"] == prompt]
        expected = quadratic_weighted_kappa([human[scale, essay] for essay in own["essay_id"]], own[trait])
        entry = report["traits"][trait]["prompts"][prompt]
        assert entry["stands_for"] == pytest.approx(149)
        assert entry["n"] < 149
        low, high = entry["qwk_interval"]
        assert low <= expected <= high
    assert report["trait_means"]["over_prompts_first"]["qwk_interval"] is not None
    beside = ["--references", "plan/marked.csv", "--weight-column", "design_weight"]
    one, other = (
        command("evaluate", path.name, *human, *OPTIONS[2:], "--json").out
        for human in (["--adjudicated", "plan"], beside)
    )
    assert json.loads(one) == json.loads(other)
