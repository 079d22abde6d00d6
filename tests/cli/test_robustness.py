"""`aes-dynloss robustness`: what it writes, what it refuses, and the way into a report."""

from __future__ import annotations

import csv
import json

import pytest
from command_line import command, output_without
from forked import finish_together
from read_page import read_page
from small_run import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS
from aes_dynloss.essays.robustness import measure_robustness

ROWS = [
    {
        "essay_id": f"{number:03}",
        "prompt_id": ("letter", "notice")[number % 3 // 2],
        "text": f"The otter {number} is big. I can't see the bridge!\nIt is a lesson. " * (number % 5 + 1),
    }
    for number in range(24)
]
FILES = {"robustness.json", "robustness.csv", "robustness.html"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    encoder = write_tiny_encoder(folder / "encoder")
    tiny_scorer(encoder).save_pretrained(folder / "model")
    write_rows(folder / "essays.csv", ROWS)
    write_rows(folder / "one.csv", ROWS[:1])
    write_rows(folder / "other.csv", [row | {"prompt_id": "speech"} for row in ROWS])
    write_rows(folder / "odd.csv", [{"nr": row["essay_id"], "words": row["text"]} for row in ROWS])
    (folder / "nothing.csv").write_text("essay_id,prompt_id,text\n")
    return folder


def run(place, *words):
    return command("robustness", place / "model", *words)


@pytest.fixture(scope="module")
def expected(place):
    scorer = EncoderScorer.from_pretrained(place / "model")
    essays = [UnscoredEssay(*row.values()) for row in ROWS]
    return json.loads(json.dumps(measure_robustness(scorer, essays)))


@pytest.fixture(scope="module")
def written(place):
    outcome = run(place, place / "essays.csv", "--output-dir", place / "found")
    assert outcome.code == 0, outcome.err
    return outcome


def test_the_command_is_the_function(place, expected):
    outcome = run(place, place / "essays.csv", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == expected


def test_what_is_written(place, written, expected):
    assert {path.name for path in (place / "found").iterdir()} == FILES | {"provenance.json"}
    assert json.loads((place / "found/robustness.json").read_text()) == expected
    assert written.out.startswith("change ")
    assert "The score rises, though it should fall or at most stay, in" in written.out
    assert written.err.splitlines()[-1].startswith(f"Wrote {place / 'found/robustness.json'}, ")
    rows = list(csv.DictReader((place / "found/robustness.csv").read_text().splitlines()))
    assert {row["kind"] for row in rows} == set(expected["kinds"])
    page = read_page((place / "found/robustness.html").read_text())
    assert page.all("h1")[0].text == f"Robustness of {place.name}"
    assert page.all("figure")


def test_what_is_there_is_not_replaced_without_force(place, written):
    before = (place / "found/robustness.json").read_bytes()
    for name in FILES:
        others = {other: (place / "found" / other).read_bytes() for other in FILES - {name}}
        for other in others:
            (place / "found" / other).unlink()
        outcome = run(place, place / "essays.csv", "--seed", 1, "--output-dir", place / "found")
        assert outcome.code == 2
        assert f"{name} is there already. Choose another --output-dir, or give --force" in outcome.error
        for other, content in others.items():
            (place / "found" / other).write_bytes(content)
    again = run(
        place, place / "essays.csv", "--seed", 1, "--output-dir", place / "found", "--force", "--kinds", "babble"
    )
    assert again.code == 0
    assert (place / "found/robustness.json").read_bytes() != before
    (place / "found/robustness.json").write_bytes(before)


def test_kinds_are_listed(place):
    outcome = command("robustness", "--list")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == list(PERTURBATIONS)
    assert "fluent nonsense (should fall)" in outcome.out


def test_kinds_by_name(place, expected):
    outcome = run(place, place / "essays.csv", "--kinds", "typos, babble,", "--json")
    found = json.loads(outcome.out)["kinds"]
    assert list(found) == ["typos", "babble"]
    for name, kind in found.items():  # other batches round otherwise
        assert kind["total"]["raw_change_sd"] == pytest.approx(
            expected["kinds"][name]["total"]["raw_change_sd"], abs=1e-4
        )


def test_prompts_of_a_file(place, tmp_path):
    """The model holds the text of notice; a file may say another, and that of letter."""
    texts = tmp_path / "prompts.yaml"
    texts.write_text("letter: {text: Write to the school., low: 1, high: 6}\nnotice: {low: 0, high: 2}\n")
    found = json.loads(run(place, place / "essays.csv", "--kinds", "copy_prompt", "--prompts", texts, "--json").out)
    assert set(found["kinds"]["copy_prompt"]["prompts"]) == {"letter", "notice"}
    assert not found["notes"]
    without = json.loads(run(place, place / "essays.csv", "--kinds", "copy_prompt", "--json").out)
    assert set(without["kinds"]["copy_prompt"]["prompts"]) == {"notice"}


def test_essays_by_their_ids(place, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("000\n001\n005\n")
    found = json.loads(run(place, place / "essays.csv", "--ids", ids, "--kinds", "typos", "--json").out)
    assert found["essays"] == {"letter": 2, "notice": 1}
    ids.write_text("000\n999\n")
    outcome = run(place, place / "essays.csv", "--ids", ids)
    assert outcome.code == 2
    assert "expected ids of essays of the data, found 1 that are not there, such as 999" in outcome.error
    ids.write_text("\n")
    assert "found none" in run(place, place / "essays.csv", "--ids", ids).error
    assert "There is no file" in run(place, place / "essays.csv", "--ids", tmp_path / "no" / "ids.txt").error


def test_essays_by_their_prompts(place, expected):
    found = json.loads(run(place, place / "essays.csv", "--keep-prompts", "notice, ", "--kinds", "typos", "--json").out)
    assert found["essays"] == {"notice": expected["essays"]["notice"]}
    outcome = run(place, place / "essays.csv", "--keep-prompts", "notice,speech")
    assert outcome.code == 2
    assert "--keep-prompts: expected prompts out of letter, notice, found 'speech', which has no essay" in outcome.error
    assert "found none" in run(place, place / "essays.csv", "--keep-prompts", ",").error


def test_other_layouts(place):
    words = ["--text-column", "words", "--id-column", "nr", "--prompt", "letter", "--json", "--kinds", "repeat_essay"]
    found = json.loads(run(place, place / "odd.csv", *words).out)
    assert found["essays"] == {"letter": 24}
    assert found["notes"] == [
        "The essays answer one prompt, so that the made-up essays of the package stand for those off topic."
    ]


def test_standard_input(place, expected):
    outcome = command("robustness", place / "model", "-", "--json", stdin=(place / "essays.csv").read_bytes())
    assert json.loads(outcome.out) == expected


def test_an_ensemble_is_measured_too(place, tmp_path):
    members = [tmp_path / name for name in ("one", "two")]
    for number, member in enumerate(members):
        scorer = tiny_scorer(place / "encoder")
        scorer.model.feature_mean.add_(number)
        scorer.save_pretrained(member)
    EssayEnsemble.from_members(members).save_pretrained(tmp_path / "both")
    outcome = command("robustness", tmp_path / "both", place / "essays.csv", "--kinds", "babble", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["kinds"]["babble"]["total"]["n"] == 24


def test_one_essay(place, tmp_path):
    outcome = run(place, place / "one.csv", "--output-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"provenance.json"}
    assert not any(word in (tmp_path / "out/robustness.html").read_text() for word in (">nan<", ">None<"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["essays.csv", "--kinds", "babel"], "There is no perturbation 'babel'. Did you mean babble?"),
        (["essays.csv", "--kinds", " ,"], "--kinds names no kind of change"),
        (["essays.csv", "--most", "0"], "--most"),
        (["essays.csv", "--seed", "-1"], "--seed"),
        (["essays.csv", "--encoding", "klingon"], "--encoding: there is no text encoding 'klingon'"),
        (["essays.csv", "--kinds", "append_prompt", "--prompts", "none.yaml"], "There is no file none.yaml"),
        (["nothing.csv"], "nothing.csv holds a header (essay_id, prompt_id, text) but no rows"),
        (["other.csv"], "not trained on prompt 'speech'"),
        (["odd.csv"], "text: column 'words', the longest, "),
        (["none.csv"], "none.csv"),
        (["essays.csv", "--prompt", "letter"], "Give one of the two"),
    ],
)
def test_what_is_wrong_is_said(place, monkeypatch, words, message):
    monkeypatch.chdir(place)
    outcome = run(place, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("letter: {text: 3}\n", "the text of prompt letter is no text"),
        ("letter: [x]\n", "the text of prompt letter is no text"),
        ("- x\n", "expected a mapping"),
        ("speech: Talk.\n", "None of the prompts whose texts are given (speech) is one that the model knows"),
        ("letter: {low: 1}\n", "no text of a prompt in it"),
        ("{}", "no text of a prompt in it"),
        ("a: b: c", "not valid YAML"),
    ],
)
def test_wrong_files_of_prompts(place, tmp_path, text, message):
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    outcome = run(place, place / "essays.csv", "--prompts", path)
    assert outcome.code == 2
    assert message in outcome.error


def test_two_processes_measure_as_one(place, expected):
    words = ["robustness", "model", "essays.csv", "--cpu", "--output-dir", "both/two"]
    assert finish_together(place, *words) == [0, 0], (place / "err").read_text()
    found = json.loads((place / "both/two/robustness.json").read_text())
    assert found["essays"] == expected["essays"]
    for name, kind in found["kinds"].items():
        other = expected["kinds"][name]["total"]
        assert (kind["total"]["n"], kind["total"]["unchanged"]) == (other["n"], other["unchanged"])
        assert kind["total"]["raw_change_sd"] == pytest.approx(other["raw_change_sd"], abs=1e-4)
    assert (place / "out").read_text().count("The score rises") == 1


PREDICTIONS = "essay_id,prompt_id,reference,raw\n" + "".join(
    f"{row['essay_id']},{row['prompt_id']},{number % 2 + 1},{number % 3 * 0.5 + 0.5}\n"
    for number, row in enumerate(ROWS)
)
RANGES = ["--range", "letter=1:6", "--range", "notice=0:2:0.5"]


@pytest.fixture(scope="module")
def predictions(place):
    path = place / "predictions.csv"
    path.write_text(PREDICTIONS)
    return path


def test_a_report_takes_it(place, written, predictions, expected, tmp_path):
    words = ["--robustness", place / "found/robustness.json", "--output-dir", tmp_path / "report", *RANGES]
    outcome = command("evaluate", predictions, *words)
    assert outcome.code == 0, outcome.err
    assert "The score rises, though it should fall or at most stay, in" in outcome.out
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["robustness"] == expected
    plain = json.loads(command("evaluate", predictions, "--json", *RANGES).out)
    assert {name: part for name, part in report.items() if name != "robustness"} == plain
    page = read_page((tmp_path / "report/report.html").read_text())
    assert "Robustness" in {one.text for one in page.all("h2")}
    rows = list(csv.DictReader((tmp_path / "report/report.csv").read_text().splitlines()))
    assert {row["item"] for row in rows if row["table"] == "robustness"} >= set(expected["kinds"])


def test_a_report_refuses_what_is_no_robustness(place, written, predictions, tmp_path):
    outcome = command("evaluate", predictions, "--robustness", predictions, *RANGES)
    assert outcome.code == 2
    assert "cannot be read as a robustness" in outcome.error
    other = tmp_path / "other.csv"
    other.write_text(PREDICTIONS.replace("notice", "speech"))
    outcome = command(
        "evaluate", other, "--robustness", place / "found/robustness.json", "--output-dir", tmp_path / "out"
    )
    assert outcome.code == 2
    assert "was measured on essays to prompt notice, and the predictions answer" in outcome.error
    assert not (tmp_path / "out").exists()


def test_help_loads_no_heavy_library():
    code = "from aes_dynloss.cli.robustness import robustness\nrobustness(['--help'], standalone_mode=False)"
    assert "--kinds" in output_without(code, {"numpy", "pandas", "scipy", "torch", "transformers"})
