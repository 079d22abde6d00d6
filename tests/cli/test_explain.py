"""`aes-dynloss explain`: pages and lines, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext

import pytest
from command_line import command
from filelock import FileLock, Timeout
from read_page import read_page
from small_run import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining import explanation
from aes_dynloss.essays.explaining.run import explain_to_file
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.scoring.score import window_digest
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.tables.provenance import read_provenance
from aes_dynloss.tables.score_range import ScoreRange

HOSTILE = "<script>alert(1)</script> I say. \u202eabc. Is it?"
ROWS = [
    {"essay_id": "7", "prompt_id": "letter", "text": "The otter is big. I can't see the bridge!\nIt is a lesson."},
    {"essay_id": "<b>8", "prompt_id": "notice", "text": HOSTILE},
    {"essay_id": "9", "prompt_id": "letter", "text": ""},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    tiny_scorer(write_tiny_encoder(folder / "encoder"), linguistic=["counts"]).save_pretrained(folder / "model")
    write_rows(folder / "essays.csv", ROWS)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "explanations.jsonl").read_text("utf-8").splitlines()]


def files(folder):
    """What lies in a folder, but for the lock that nobody holds."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_page_and_a_line_an_essay(place, tmp_path):
    outcome = command("explain", place / "model", place / "essays.csv", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    found = lines(tmp_path / "out")
    assert [line["essay_id"] for line in found] == [row["essay_id"] for row in ROWS]
    for line, row in zip(found, ROWS, strict=True):
        assert "".join(span["text"] for span in line["sentences"]) == row["text"]
    pages = sorted((tmp_path / "out" / "essays").iterdir())
    assert [page.name for page in pages] == ["00001.html", "00002.html", "00003.html"]
    hostile = pages[1].read_text("utf-8")
    assert "<script>alert" not in hostile
    assert "&lt;script&gt;alert(1)" in hostile
    index = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert 'href="essays/00002.html"' in index
    assert "&lt;b&gt;8" in index
    assert read_page(index) is not None
    assert found[2]["withheld"] is True
    assert "would be withheld" in pages[2].read_text("utf-8")


def test_remarks_on_language(place, tmp_path):
    pytest.importorskip("harper")
    write_rows(place / "wrong.csv", [ROWS[0] | {"text": "I like teh otter. Its is big <b>."}])
    arguments = ("explain", place / "model", place / "wrong.csv", "-o", tmp_path, "--feedback", "british")
    outcome = command(*arguments)
    assert outcome.code == 0, outcome.err
    (line,) = lines(tmp_path)
    assert {"start": 7, "end": 10, "text": "teh"}.items() <= line["language"][0].items()
    assert "It is no reason for the score" in (tmp_path / "essays" / "00001.html").read_text("utf-8")
    outcome = command(*arguments[:-1], "klingon", "--force")
    assert outcome.code == 2
    assert "klingon" in outcome.err


def test_some_essays_and_exactly(place, tmp_path):
    write_rows(
        place / "long.csv", [*ROWS[1:], ROWS[0] | {"text": f"{ROWS[0]['text']} " * 3}]
    )  # few are always read anew
    arguments = ("explain", place / "model", place / "long.csv", "-o", tmp_path, "--essays", "7")
    assert command(*arguments).code == 0
    (estimate,) = lines(tmp_path)
    assert (estimate["essay_id"], estimate["method"]) == ("7", "estimate")
    assert command(*arguments, "--exact").code == 2  # the files are there
    assert command(*arguments, "--exact", "--force").code == 0
    (exact,) = lines(tmp_path)
    assert exact["method"] == "exact"
    assert exact["scores"][0]["left_out"] != estimate["scores"][0]["left_out"]
    assert "was read anew" in (tmp_path / "essays" / "00001.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--essays", "7,11"], "--essays: there is no essay 11 in INPUT"),
        (["--trait", "style"], "The model has no trait 'style'; it knows one score"),
        (["--coverage", "2"], "--coverage"),
    ],
)
def test_refusals(place, tmp_path, arguments, words):
    outcome = command("explain", place / "model", place / "essays.csv", "-o", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out" / "explanations.jsonl").exists()


# The command, killed at the third essay.
KILLED = """
import os
from aes_dynloss.cli.main import main
from aes_dynloss.essays.explaining import explanation

seen, plain = [], explanation.sentence_contributions

def killed(*args, **kwargs):
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), 9)
    return plain(*args, **kwargs)

explanation.sentence_contributions = killed
main()
"""


def command_that_fails_at(monkeypatch, essay):
    """The command, interrupted at an essay."""
    seen, plain = [], explanation.sentence_contributions

    def interrupted(*args, **kwargs):
        seen.append(1)
        if len(seen) == essay:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(explanation, "sentence_contributions", interrupted)
    return command


@pytest.fixture(scope="module")
def killed(place, tmp_path_factory):
    """A run that was killed while it wrote its third line, and what it would have written."""
    parent = tmp_path_factory.mktemp("killed")
    assert command("explain", place / "model", place / "essays.csv", "-o", parent / "whole").code == 0
    words = ["explain", place / "model", place / "essays.csv", "-o", parent / "stopped"]
    outcome = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], check=False, capture_output=True)
    assert outcome.returncode == -9, outcome.stderr
    return parent


class TestStoppedRuns:
    @pytest.fixture
    def stopped(self, killed, tmp_path):
        """The run that was killed, to be changed, and what it would have written."""
        return tuple(shutil.copytree(killed / name, tmp_path / name) for name in ("stopped", "whole"))

    def test_goes_on_where_it_was(self, place, stopped):
        folder, whole = stopped
        part = folder / ".explanations.jsonl.part"
        assert len(part.read_text().splitlines()) == 3  # settings and two essays
        with part.open("a") as file:
            file.write('{"essay_id": "9", "prom')  # cut off
        outcome = command("explain", place / "model", place / "essays.csv", "-o", folder, "--resume")
        assert outcome.code == 0, outcome.err
        assert "Going on behind 2 essays" in outcome.err
        for name in ("explanations.jsonl", "index.html", "essays/00003.html"):
            assert (folder / name).read_text() == (whole / name).read_text()
        expected = ["essays", "explanations.jsonl", "index.html", "provenance.json"]
        assert sorted(path.name for path in folder.iterdir()) == expected

    def test_what_was_explained_is_not_lost(self, place, stopped):
        """Neither without --resume, nor where a page is missing, nor where only the end was."""
        folder, whole = stopped
        words = ("explain", place / "model", place / "essays.csv", "-o", folder)
        outcome = command(*words)
        assert (outcome.code, "holds essays of a run that was stopped" in outcome.err) == (2, True)
        assert {path.name for path in (folder / "essays").iterdir()} >= {"00001.html", "00002.html"}
        assert command(*words, "--resume").code == 0
        again = command(*words, "--resume")
        assert (again.code, "is complete" in again.err) == (0, True)
        assert command(*words).code == 2
        assert command(*words, "--force").code == 0
        assert (folder / "index.html").read_text() == (whole / "index.html").read_text()

    def test_an_empty_file_of_a_run_that_had_not_begun(self, place, tmp_path):
        (tmp_path / ".explanations.jsonl.part").write_bytes(b'{"model"')
        words = ("explain", place / "model", place / "essays.csv", "-o", tmp_path, "--resume")
        assert command(*words).code == 0

    def test_a_damaged_file(self, place, stopped):
        part = stopped[0] / ".explanations.jsonl.part"
        lines = part.read_bytes().splitlines(keepends=True)
        part.write_bytes(lines[0] + b"no json\n" + lines[2])
        outcome = command("explain", place / "model", place / "essays.csv", "-o", stopped[0], "--resume")
        assert (outcome.code, "is damaged. Begin again with --force" in outcome.err) == (2, True)

    def test_advisories_know_the_essays_before(self, place, tmp_path, monkeypatch):
        """The third essay is the first one again; whoever goes on behind two knows that."""
        write_rows(tmp_path / "twice.csv", [ROWS[0], ROWS[1], ROWS[0] | {"essay_id": "again"}])
        words = ("explain", place / "model", tmp_path / "twice.csv", "-o")
        assert command(*words, tmp_path / "whole").code == 0
        assert command_that_fails_at(monkeypatch, 3)(*words, tmp_path / "part").code != 0
        monkeypatch.undo()
        assert command(*words, tmp_path / "part", "--resume").code == 0
        assert lines(tmp_path / "part") == lines(tmp_path / "whole")
        assert any("7" in reason for reason in lines(tmp_path / "whole")[2]["advisories"])

    @pytest.mark.parametrize(
        ("words", "expected"),
        [(["--exact"], "is of a run with another exact"), (["--force"], "--resume goes on with a run")],
    )
    def test_not_as_another_run(self, place, stopped, words, expected):
        outcome = command("explain", place / "model", place / "essays.csv", "-o", stopped[0], "--resume", *words)
        assert outcome.code == 2
        assert expected in outcome.err

    def test_not_with_other_essays(self, place, stopped, tmp_path):
        write_rows(tmp_path / "other.csv", [ROWS[0], ROWS[1] | {"text": "Another text."}])
        outcome = command("explain", place / "model", tmp_path / "other.csv", "-o", stopped[0], "--resume")
        assert outcome.code == 2
        assert "The essays are not those of the saved scores" in outcome.err

    @pytest.mark.parametrize("words", [["--force"], ["--resume"], []])
    def test_no_page_of_a_stopped_run_stays(self, place, stopped, words):
        """Neither by --force, nor behind what is gone on with, nor where only its pages are left."""
        folder, _ = stopped
        (folder / "essays" / "00003.html").write_text("Of another student.")
        count = 1
        if words == ["--resume"]:
            write_rows(place / "fewer.csv", ROWS[:2])
            count = 2
        else:
            write_rows(place / "fewer.csv", ROWS[2:])
        if not words:
            (folder / ".explanations.jsonl.part").unlink()
        outcome = command("explain", place / "model", place / "fewer.csv", "-o", folder, *words)
        assert outcome.code == 0, outcome.err
        expected = [f"essays/{number:05d}.html" for number in range(1, count + 1)]
        assert sorted(name for name in files(folder) if name.startswith("essays")) == expected
        assert set(read_provenance(folder).products) == {*expected, "explanations.jsonl", "index.html"}

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["essays.csv", "--essays", "11"], "there is no essay 11 in INPUT"),
            (["essays.csv", "--essays", "7,11"], "there is no essay 11 in INPUT"),
            (["essays.csv", "--text-column", "essay"], "has no column 'essay'"),
            (["poems.csv"], "not trained on prompt 'poem'"),
        ],
    )
    @pytest.mark.parametrize("whole", [True, False])
    def test_what_cannot_be_explained_replaces_nothing(self, place, stopped, words, expected, whole):
        """Neither finished explanations nor those of a run that can be gone on with."""
        folder = stopped[whole]
        before = files(folder)
        write_rows(place / "poems.csv", [ROWS[0] | {"prompt_id": "poem"}])
        outcome = command("explain", place / "model", place / words[0], *words[1:], "-o", folder, "--force")
        assert (outcome.code, expected in outcome.err) == (2, True), outcome.err
        assert files(folder) == before

    def test_what_is_refused_leaves_no_run_to_go_on_with(self, place, tmp_path):
        words = ("explain", place / "model", place / "essays.csv", "-o", tmp_path)
        assert command(*words, "--essays", "11").code == 2
        assert command(*words).code == 0

    def test_a_check_beside_stays_told_of(self, place, tmp_path):
        words = ("explain", place / "model", place / "essays.csv", "-o", tmp_path)
        assert command(*words, "--check", "--most", "1").code == 0
        assert command(*words).code == 0
        assert {"check.json", "explanations.jsonl"} <= set(read_provenance(tmp_path).products)

    def test_one_process_at_a_time(self, place, tmp_path):
        with FileLock(tmp_path / ".explanations.jsonl.lock"):
            outcome = command("explain", place / "model", place / "essays.csv", "-o", tmp_path)
        assert outcome.code == 2
        assert "Another process is writing" in outcome.err

    @pytest.mark.parametrize("whole", [True, False])
    def test_nothing_goes_while_another_process_writes(self, place, stopped, whole):
        before = files(stopped[whole])
        with FileLock(stopped[whole] / ".explanations.jsonl.lock"):
            outcome = command("explain", place / "model", place / "essays.csv", "-o", stopped[whole], "--force")
        assert (outcome.code, "Another process is writing" in outcome.err) == (2, True)
        assert files(stopped[whole]) == before

    def test_whoever_takes_the_lock_next_has_it_alone(self, place, tmp_path, monkeypatch):
        """A process that takes it as soon as it is free keeps a third one out."""
        release, taken = FileLock.release, []

        def released(lock, *words, **named):
            release(lock, *words, **named)
            if not taken:
                taken.append(FileLock(lock.lock_file, is_singleton=False))
                taken[0].acquire(timeout=0)

        with monkeypatch.context() as patch:
            patch.setattr(FileLock, "release", released)
            assert command("explain", place / "model", place / "essays.csv", "-o", tmp_path).code == 0
        with pytest.raises(Timeout):
            FileLock(taken[0].lock_file, is_singleton=False).acquire(timeout=0)
        taken[0].release()

    def test_many_explanations_are_never_in_memory_together(self, place, tmp_path):
        """Forty lines of a megabyte each are gone on behind."""
        essays = [UnscoredEssay(str(number), "letter", ROWS[0]["text"]) for number in range(40)]
        policy = Policy(duplicate="off")  # whose table takes as much, however many essays there are
        with (tmp_path / ".why.jsonl.part").open("w") as file:
            file.write(json.dumps({"model": "m", "policy": policy.model_dump()}) + "\n")
            for essay in essays:
                line = {"essay_id": essay.essay_id, "why": "x" * 1_000_000}
                file.write(json.dumps({"essay": window_digest([essay]), "line": line}) + "\n")
        scorer, path = tiny_scorer(place / "encoder"), tmp_path / "why.jsonl"
        how = {"model_digest": "m", "sealing": nullcontext(), "resume": True}
        tracemalloc.start()
        count = explain_to_file(scorer, essays, path, {"policy": policy}, **how)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (count, len(path.read_text().splitlines())) == (40, 40)
        assert most < 20_000_000


class TestBesideScores:
    def test_the_lines_are_those_of_explain(self, place, tmp_path):
        assert command("explain", place / "model", place / "essays.csv", "-o", tmp_path / "why").code == 0
        words = ("score", place / "model", place / "essays.csv", "-o", tmp_path / "scores.csv", "--explain")
        outcome = command(*words, tmp_path / "why.jsonl")
        assert outcome.code == 0, outcome.err
        assert (tmp_path / "why.jsonl").read_text() == (tmp_path / "why/explanations.jsonl").read_text()
        refused = command(*words, tmp_path / "why.jsonl", "--resume")
        assert refused.code == 0
        assert "is complete" in refused.err

    def test_scores_and_a_review_sheet_that_are_there_stay(self, place, tmp_path):
        """Asked for explanations afterwards, it explains and scores nothing anew."""
        scores, review = tmp_path / "scores.csv", tmp_path / "review.csv"
        words = ("score", place / "model", place / "essays.csv", "-o", scores, "--review", review)
        assert command(*words).code == 0
        review.write_text(review.read_text() + "mine\n")
        before = scores.stat().st_mtime_ns
        outcome = command(*words, "--resume", "--explain", tmp_path / "why.jsonl")
        assert outcome.code == 0, outcome.err
        assert review.read_text().endswith("mine\n")
        assert scores.stat().st_mtime_ns == before
        assert len((tmp_path / "why.jsonl").read_text().splitlines()) == 3

    def test_what_is_refused(self, place, tmp_path):
        words = ("score", place / "model")
        outcome = command(*words, "-", "-o", tmp_path / "a.csv", "--explain", tmp_path / "b.jsonl")
        assert (outcome.code, "reads INPUT a second time" in outcome.err) == (2, True)
        (tmp_path / "b.jsonl").write_text("")
        outcome = command(*words, place / "essays.csv", "-o", tmp_path / "a.csv", "--explain", tmp_path / "b.jsonl")
        assert (outcome.code, "is there already" in outcome.err) == (2, True)
        assert not (tmp_path / "a.csv").exists()
        outcome = command(*words, place / "essays.csv", "-o", tmp_path / "a.jsonl", "--explain", tmp_path / "a.jsonl")
        assert (outcome.code, "names a file that is written already" in outcome.err) == (2, True)
        more = ("-o", tmp_path / "a.csv", "--explain", tmp_path / "c.jsonl", "--precision", "bf16", "--force-precision")
        outcome = command(*words, place / "essays.csv", *more)
        assert (outcome.code, "explains scores in float32" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--essays", " ,"], "--essays names no essay"),
        (["--check", "--exact"], "--check tests both ways"),
        (
            ["--check", "--language", "en"],
            "--check tests both ways to explain and writes no pages: leave out --language.",
        ),
        (["--check", "--no-neighbours", "--coverage", "0.8"], "no pages: leave out --no-neighbours, --coverage."),
        (["--check", "--trait", "style"], "The model has no trait 'style'"),
        (["--trait", "style"], "The model has no trait 'style'"),
        (["--feedback", "klingon"], "klingon"),
        (["--feedback", "klingon", "--language", "de"], "klingon"),
    ],
)
def test_options_that_are_refused_before_the_first_essay(place, tmp_path, words, expected):
    outcome = command("explain", place / "model", place / "essays.csv", "-o", tmp_path, *words)
    assert outcome.code == 2
    assert expected in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_all_essays_of_an_id(place, tmp_path):
    words = ("explain", place / "model", place / "essays.csv", place / "essays.csv", "--essays", "7", "-o", tmp_path)
    assert command(*words).code == 0
    assert [line["essay_id"] for line in lines(tmp_path)] == ["7", "7"]


def test_a_prompt_without_the_trait(place, tmp_path):
    """Its essays are explained, with no score."""
    prompts = [
        Prompt("p/content", ScoreRange(1, 6), trait="content"),
        Prompt("p/style", ScoreRange(1, 6), trait="style"),
        Prompt("q/content", ScoreRange(1, 6), trait="content"),
    ]
    scales = [PromptScale(one, 0.5, 0.2, (1 / 6,) * 6, 2.0, 0.7) for one in prompts]
    tiny_scorer(place / "encoder", scales=scales).save_pretrained(tmp_path / "model")
    write_rows(tmp_path / "essays.csv", [ROWS[0] | {"prompt_id": prompt} for prompt in "pq"])
    outcome = command(
        "explain", tmp_path / "model", tmp_path / "essays.csv", "-o", tmp_path / "out", "--trait", "style"
    )
    assert outcome.code == 0, outcome.err
    assert [len(line["scores"]) for line in lines(tmp_path / "out")] == [1, 0]
