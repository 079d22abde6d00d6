"""Where products come from: every command that writes leaves it beside, and `aes-dynloss verify` finds what differs."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import pytest
from command_line import command
from explained_scorers import TEXTS, classical
from small_run import write_rows

from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.provenance import PROVENANCE, provenance_path, read_provenance, verify

ROWS = [{"essay_id": str(number), "prompt_id": "a", "text": text} for number, text in enumerate(TEXTS)]
SCORED = [{**row, "score": number % 6 + 1} for number, row in enumerate(ROWS * 4)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run of each kind of product, with the commands that made them."""
    folder = tmp_path_factory.mktemp("provenance")
    classical().save_pretrained(folder / "model")
    write_rows(folder / "essays.csv", ROWS)
    write_rows(folder / "scored.csv", [{**row, "essay_id": str(number)} for number, row in enumerate(SCORED)])
    write_rows(folder / "human.csv", [{"essay_id": row["essay_id"], "reference": 3} for row in ROWS])
    essays, model = folder / "essays.csv", folder / "model"
    train = ("finetune", folder / "scored.csv", "--preset", "fast", "--range", "1:6", "evaluation.resamples=100")
    ok(*train, "-o", folder / "run")
    ok(*train, "-o", folder / "other", "model.solver=ridge")
    ok("ensemble", folder / "run", folder / "other", "-o", folder / "ensemble")
    ok("score", model, essays, "-o", folder / "scores.csv", "--review", folder / "review.csv", "--uncertain", "0")
    ok("features", essays, "-o", folder / "features.csv", "--groups", "counts")
    human = ("--references", folder / "human.csv", "--range", "1:6")
    ok("evaluate", folder / "scores.csv", *human, "-o", folder / "report")
    ok("compare", folder / "run", folder / "other", "-o", folder / "comparison", "--resamples", "100")
    ok("explain", model, essays, "-o", folder / "why", "--essays", "1,2")
    ok("robustness", model, essays, "-o", folder / "robustness", "--kinds", "shuffle_sentences")
    ok("explain", model, essays, "-o", folder / "tests", "--check", "--most", "2")
    ok(*train, "-o", folder / "calibrated")
    ok("calibrate", folder / "calibrated", "--postprocessing", "none")
    ok("calibrate", folder / "calibrated" / "model", "--scale", "0:100")
    ok("score", folder / "ensemble", essays, "-o", folder / "of_ensemble.csv")
    return folder


def ok(*words: object) -> None:
    outcome = command(*words)
    assert outcome.code == 0, outcome.err


PRODUCTS = {
    "run": ("finetune", "scored.csv"),
    "ensemble": ("ensemble", "run"),
    "scores.csv": ("score", "essays.csv"),
    "review.csv": ("score", "essays.csv"),
    "of_ensemble.csv": ("score", "essays.csv"),
    "features.csv": ("features", "essays.csv"),
    "report": ("evaluate", "scores.csv"),
    "comparison": ("compare", "run"),
    "why": ("explain", "essays.csv"),
    "robustness": ("robustness", "essays.csv"),
    "tests": ("explain", "essays.csv"),
    "calibrated": ("calibrate", "scored.csv"),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_product_says_where_it_comes_from(place, name):
    made = read_provenance(place / name)
    verb, source = PRODUCTS[name]
    assert made.version is not None
    assert made.made.endswith("+00:00")
    assert made.command.startswith(f"aes-dynloss {verb} ")
    assert str(place) not in made.command
    assert source in made.sources
    if (place / source).is_file():
        assert made.sources[source] == file_sha256(place / source)
    assert made.products
    outcome = command("verify", place / name, *([place / source] if (place / source).is_file() else []))
    assert outcome.code == 0, outcome.out
    assert f"{place / name}: " in outcome.out


@pytest.mark.parametrize("name", ["report/report.html", "comparison/comparison.html", "robustness/robustness.html"])
def test_pages_say_at_their_foot_where_they_come_from(place, name):
    page, made = (place / name).read_text("utf-8"), read_provenance((place / name).parent)
    for words in made.about().values():
        assert html.escape(words, quote=False) in html.unescape(page).replace("\u200b", "") or words in html.unescape(
            page
        )


def test_nothing_that_commands_write_is_left_out(place):
    """Each file below the folder is a source made by hand, or told of by what stands beside it."""
    told = {place / name for name in ("essays.csv", "scored.csv", "human.csv")}
    for path in place.rglob(f"*{PROVENANCE}"):
        single = path.name != PROVENANCE
        product = path.with_name(path.name.removesuffix(f".{PROVENANCE}")) if single else path.parent
        folder = product.parent if single else product
        told |= {path, *(folder / name for name in read_provenance(product).products)}
    files = {path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert {path for path in files - told if path.relative_to(place).parts[0] != "model"} == set()


def test_verify_names_what_was_changed_and_what_is_gone(place, tmp_path):
    write_rows(tmp_path / "essays.csv", ROWS)
    scores = tmp_path / "scores.jsonl"
    ok("score", place / "model", tmp_path / "essays.csv", "-o", scores)
    assert verify(scores).found == []
    scores.write_bytes(scores.read_bytes().replace(b'"a"', b'"b"', 1))
    write_rows(tmp_path / "essays.csv", ROWS[1:])
    outcome = command("verify", scores, tmp_path / "essays.csv")
    assert outcome.code == 3
    assert outcome.out.splitlines()[-2:] == [
        "Differs: scores.jsonl was changed.",
        "Differs: it was made from another essays.csv.",
    ]
    (place / "report" / "report.csv").rename(tmp_path / "report.csv")
    outcome = command("verify", place / "report", tmp_path / "scores.jsonl")
    (tmp_path / "report.csv").rename(place / "report" / "report.csv")
    assert outcome.code == 3
    assert "Differs: report.csv is gone." in outcome.out
    assert "Differs: it was not made from a scores.jsonl; it was from scores.csv, human.csv." in outcome.out


def test_what_nothing_is_told_of_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("a")
    outcome = command("verify", tmp_path / "own.csv")
    assert outcome.code == 2
    assert "there is no own.csv.provenance.json" in outcome.error
    provenance_path(tmp_path / "own.csv").write_text(json.dumps({"made": 1}))
    assert "is damaged" in command("verify", tmp_path / "own.csv").error


def test_two_sources_of_one_name_are_told_apart(place, tmp_path):
    for name, rows in (("a", ROWS), ("b", ROWS[1:])):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "essays.csv", [{**row, "essay_id": f"{name}{row['essay_id']}"} for row in rows])
    inputs = [tmp_path / name / "essays.csv" for name in ("a", "b")]
    ok("score", place / "model", *inputs, "-o", tmp_path / "scores.csv")
    assert list(read_provenance(tmp_path / "scores.csv").sources) == ["a/essays.csv", "b/essays.csv"]
    assert verify(tmp_path / "scores.csv", inputs).found == []


def test_a_command_hides_absolute_paths_behind_an_equals_sign_too(place, tmp_path):
    ok("score", place / "model", place / "essays.csv", f"--output={tmp_path / 'scores.csv'}")
    assert str(tmp_path) not in read_provenance(tmp_path / "scores.csv").command


def test_another_report_in_the_folder_has_its_own_sources_alone(place, tmp_path):
    human = ("--references", place / "human.csv", "--range", "1:6", "-o", tmp_path / "out", "--force")
    for name in ("first", "second"):
        (tmp_path / f"{name}.csv").write_bytes((place / "scores.csv").read_bytes())
        ok("evaluate", tmp_path / f"{name}.csv", *human)
    made = read_provenance(tmp_path / "out")
    assert list(made.sources) == ["second.csv", "human.csv"]
    assert made.earlier == []


def test_what_was_changed_by_hand_is_not_certified_by_another_command(place, tmp_path):
    shutil.copytree(place / "calibrated", tmp_path / "out" / "run")
    (tmp_path / "out" / PROVENANCE).write_bytes((place / "report" / PROVENANCE).read_bytes())  # of another product
    (tmp_path / "out" / "run" / "predictions_test.csv").write_text("forged")
    ok("calibrate", tmp_path / "out" / "run", "--scale", "0:50")
    assert verify(tmp_path / "out" / "run").found == ["predictions_test.csv was changed"]
    assert [one["command"].split()[1] for one in read_provenance(tmp_path / "out" / "run").earlier][-1] == "calibrate"
