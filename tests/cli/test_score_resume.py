"""`aes-dynloss score` killed and gone on with: nothing is scored twice, and no row is lost."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import command
from explained_scorers import classical
from small_run import read_rows, write_rows
from small_screen import small_screen
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.scoring import score as module

ESSAYS = 60
KEYWORDS = module.score_essays.__kwdefaults__
WORDS = ("otter", "bridge", "river", "head", "teacher", "phone", "lesson", "town", "fish", "letter")


def made_up(number: int) -> str:
    generator = random.Random(number)
    return " ".join(generator.choice(WORDS) for _ in range(20))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    tiny_scorer(write_tiny_encoder(folder / "encoder")).save_pretrained(folder / "model")
    rows = [{"essay_id": f"{n}", "prompt_id": "letter", "text": made_up(n)} for n in range(ESSAYS)]
    rows[40]["text"] = rows[3]["text"].upper()  # a duplicate that only a memory of the first part finds
    rows[50]["text"] = ""
    write_rows(folder / "essays.jsonl", rows)
    return folder


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(module.score_essays, "__kwdefaults__", KEYWORDS | {"window": 7})


def run(place: Path, output: Path, *words: object):
    return command("score", place / "model", place / "essays.jsonl", "-o", output, *words)


def stop_after(monkeypatch, windows: int) -> None:
    """Let scoring fail after so many windows."""
    scored = []

    def digest(essays):
        if len(scored) == windows:
            raise KeyboardInterrupt
        scored.append(1)
        return true_digest(essays)

    true_digest = module.window_digest
    monkeypatch.setattr("aes_dynloss.essays.scoring.run.window_digest", digest)


def test_a_stopped_run_goes_on(place, tmp_path, monkeypatch):
    whole = tmp_path / "whole.csv"
    assert run(place, whole, "--review", tmp_path / "whole_review.csv").code == 0
    rows = read_rows(whole)
    assert [row["essay_id"] for row in rows] == [str(n) for n in range(ESSAYS)]
    assert (rows[40]["advisories"], rows[50]["advisories"], rows[50]["score"]) == ("duplicate", "empty", "")
    output, review = tmp_path / "scores.csv", tmp_path / "review.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(place, output, "--review", review).code != 0
    assert not output.exists()
    assert not review.exists()
    again = run(place, output, "--review", review)
    assert (again.code, "holds scores of a run that was stopped" in again.error) == (2, True)
    with monkeypatch.context() as patch:
        counted = []
        true_score = module.Scores

        def counting(*values):
            counted.append(len(values[0]))
            return true_score(*values)

        patch.setattr("aes_dynloss.essays.model.protocol.Scores", counting)
        assert run(place, output, "--review", review, "--resume").code == 0
    assert sum(counted) == ESSAYS - 4 * 7
    assert output.read_bytes() == whole.read_bytes()
    assert review.read_bytes() == (tmp_path / "whole_review.csv").read_bytes()
    assert not (tmp_path / "scores.csv.parts").exists()
    done = run(place, output, "--resume")
    assert (done.code, "is complete; INPUT was not looked at. --force" in done.err) == (0, True)


def test_other_essays_options_and_models_are_refused(place, tmp_path, monkeypatch):
    output = tmp_path / "scores.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run(place, output)
    assert "other settings (coverage)" in run(place, output, "--resume", "--coverage", "0.8").error
    assert "other settings (policy)" in run(place, output, "--resume", "--policy", "duplicate=off").error
    with monkeypatch.context() as patch:
        patch.setattr("aes_dynloss.essays.scoring.run.package_version", lambda package: f"{package} 9")
        assert "other settings (aes-dynloss)" in run(place, output, "--resume").error
    rows = [json.loads(line) for line in (place / "essays.jsonl").read_text().splitlines()]
    rows[2]["text"] += " more"
    other = write_rows(tmp_path / "other.jsonl", rows)
    outcome = command("score", place / "model", other, "-o", output, "--resume")
    assert (outcome.code, "The essays are not those" in outcome.error) == (2, True)
    (tmp_path / "scores.csv.parts" / "0000001.json").write_text('{"digest": "x"')
    outcome = run(place, output, "--resume")
    assert (outcome.code, "0000001.json is damaged" in outcome.error) == (2, True)
    assert run(place, output, "--force").code == 0
    assert len(read_rows(output)) == ESSAYS


def test_the_policy_of_short_answers_counts(tmp_path, monkeypatch):
    """What follows from gibberish by default is another thing for them than for essays."""
    scorer, output = classical(), tmp_path / "scores.csv"
    scorer.screen = replace(small_screen(), texts="answers")
    scorer.save_pretrained(tmp_path / "model")
    answers = write_rows(tmp_path / "new.jsonl", [{"essay_id": f"{n}", "text": made_up(n)} for n in range(20)])
    words = ("score", tmp_path / "model", answers, "-o", output)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        command(*words)
    changed = command(*words, "--resume", "--policy", "gibberish=withhold")
    assert (changed.code, "other settings (policy)" in changed.error) == (2, True)
    kept = []
    with monkeypatch.context() as patch:
        explain = "aes_dynloss.essays.explaining.run.explain_to_file"
        patch.setattr(explain, lambda _scorer, _essays, _path, options, **_: kept.append(options["policy"]) or 20)
        also = ("--policy", "gibberish=advise", "--explain", tmp_path / "why.jsonl")
        outcome = command(*words, "--resume", *also)
    assert outcome.code == 0, outcome.err
    assert [(policy.gibberish, policy.off_topic, policy.too_short) for policy in kept] == [("advise", "advise", "off")]


def test_what_a_run_that_was_killed_at_its_very_end_has_left_goes(place, tmp_path):
    output, left = tmp_path / "scores.csv", tmp_path / "scores.csv.parts" / "0000003.json"
    assert run(place, output).code == 0
    left.parent.mkdir()
    left.write_text('{"digest": "an essay"}')
    (left.parent / ".lock").touch()
    assert "is complete" in run(place, output, "--resume").err
    assert not left.parent.exists()


def test_parts_without_settings_count_for_nothing(place, tmp_path, monkeypatch):
    """What is left where the end of a run, or the beginning of a forced one, was killed."""
    whole, output = tmp_path / "whole.csv", tmp_path / "scores.csv"
    assert run(place, whole).code == 0
    parts = tmp_path / "scores.csv.parts"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        run(place, output, "--coverage", "0.5")
    (parts / "settings.json").unlink()
    (parts / "0000008.json").write_bytes((parts / "0000003.json").read_bytes())
    (parts / "0000009.json").write_bytes((parts / "0000003.json").read_bytes())
    assert run(place, output, "--resume").code == 0
    assert output.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_parts_behind_a_gap_count_for_nothing(place, tmp_path, monkeypatch):
    whole, output = tmp_path / "whole.csv", tmp_path / "scores.csv"
    assert run(place, whole).code == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run(place, output)
    parts = tmp_path / "scores.csv.parts"
    (parts / "0000009.json").write_bytes((parts / "0000001.json").read_bytes())
    assert run(place, output, "--resume").code == 0
    assert output.read_bytes() == whole.read_bytes()


def test_a_forced_run_that_was_stopped_at_once_is_not_complete(place, tmp_path, monkeypatch):
    output = tmp_path / "scores.csv"
    output.write_text("scores of old")
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert run(place, output, "--force").code != 0
    assert output.read_text() == "scores of old"
    assert run(place, output, "--resume").code == 0
    assert len(read_rows(output)) == ESSAYS


def test_what_others_keep_in_the_folder_of_parts_stays(place, tmp_path):
    own = tmp_path / "scores.csv.parts" / "thesis.txt"
    own.parent.mkdir()
    own.write_text("mine")
    outcome = command("score", place / "model", place / "essays.jsonl", "-o", tmp_path / "scores.csv", "--prompt", "x")
    assert outcome.code == 2
    assert run(place, tmp_path / "scores.csv").code == 0
    assert own.read_text() == "mine"


class TestResumeAndReview:
    def test_a_sheet_of_an_earlier_run_stays(self, place, tmp_path):
        sheet = tmp_path / "review.csv"
        sheet.write_text("decisions")
        outcome = run(place, tmp_path / "scores.csv", "--review", sheet, "--resume")
        assert (outcome.code, "review.csv is there already" in outcome.error) == (2, True)
        assert sheet.read_text() == "decisions"

    @pytest.mark.parametrize("name", ["other.csv", "other/review.csv"], ids=["another name", "another folder"])
    def test_another_sheet_stays(self, place, tmp_path, monkeypatch, name):
        output = tmp_path / "scores.csv"
        with monkeypatch.context() as patch:
            stop_after(patch, 2)
            run(place, output, "--review", tmp_path / "review.csv")
        other = tmp_path / name
        other.parent.mkdir(exist_ok=True)
        other.write_text("decisions")
        outcome = run(place, output, "--review", other, "--resume")
        assert (outcome.code, "other settings (review)" in outcome.error) == (2, True)
        assert other.read_text() == "decisions"
        monkeypatch.chdir(tmp_path)
        assert run(place, "scores.csv", "--review", "review.csv", "--resume").code == 0

    def test_halves_of_a_killed_process_go(self, place, tmp_path):
        halves = [tmp_path / ".scores.csv.123.tmp", tmp_path / ".review.csv.123.tmp"]
        for half in (*halves, tmp_path / ".other.csv.123.tmp"):
            half.write_text("half")
        assert run(place, tmp_path / "scores.csv", "--review", tmp_path / "review.csv").code == 0
        made = {"review.csv", "scores.csv"}
        expected = {".other.csv.123.tmp", *made, *(f"{name}.provenance.json" for name in made)}
        assert {path.name for path in tmp_path.iterdir()} == expected

    def test_complete_without_the_sheet(self, place, tmp_path):
        output, sheet = tmp_path / "scores.csv", tmp_path / "review.csv"
        assert run(place, output).code == 0
        outcome = run(place, output, "--review", sheet, "--resume")
        assert (outcome.code, "is complete, but there is no" in outcome.error) == (2, True)
        assert run(place, output, "--review", sheet, "--force").code == 0
        assert "is complete" in run(place, output, "--review", sheet, "--resume").err

    def test_one_file_by_two_names(self, place, tmp_path):
        (tmp_path / "sub").mkdir()
        outcome = run(place, tmp_path / "s.csv", "--review", tmp_path / "sub" / ".." / "s.csv")
        assert (outcome.code, "name one file" in outcome.error) == (2, True)


def test_two_processes_do_not_write_one_file(place, tmp_path):
    from accelerate import Accelerator

    from aes_dynloss.essays.scoring.resume import score_parts

    output = tmp_path / "scores.csv"
    with score_parts(Accelerator(), output, {}):
        outcome = run(place, output)
    assert (outcome.code, "Another process is writing" in outcome.error) == (2, True)
