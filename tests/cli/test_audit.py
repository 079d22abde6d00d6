"""`--audit` of score, serve and evaluate, and `aes-dynloss audit verify`."""

from __future__ import annotations

import hashlib
import json
import random
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from command_line import command
from explained_scorers import TEXTS, classical
from forked import finish, start
from killed_scoring import KILLS, kill_at
from small_run import write_rows
from small_screen import small_screen

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.model_folder import CONFIG
from aes_dynloss.tables.audit_log import Verification, verify_log

ROWS = [{"essay_id": str(number), "text": text} for number, text in enumerate([*TEXTS, "Word \U0001f600.", ""])]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    classical().save_pretrained(folder / "model")
    write_rows(folder / "essays.jsonl", ROWS)
    return folder


def entries(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def test_a_line_an_essay_without_its_text(place, tmp_path):
    log, output = tmp_path / "logs" / "audit.jsonl", tmp_path / "scores.jsonl"
    outcome = command("score", place / "model", place / "essays.jsonl", "-o", output, "--audit", log)
    assert outcome.code == 0, outcome.err
    scores, lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()], entries(log)
    assert len(lines) == len(scores) == len(ROWS)
    for line, score, row in zip(lines, scores, ROWS, strict=True):
        assert line["essay"] == hashlib.sha256(row["text"].encode()).hexdigest()
        assert (line["event"], line["essay_id"], line["prompt_id"]) == ("score", row["essay_id"], "a")
        assert (line["withheld"], line["advisories"]) == (score["withheld"], score["advisories"])
        assert line["scores"]["raw"] == score["raw"]
        assert line["scores"]["score"] == score["score"]
        assert line["model"] == hashlib.sha256((place / "model" / CONFIG).read_bytes()).hexdigest()
        assert line["policy"]["empty"] == "withhold"
    assert lines[-1]["withheld"] is True
    assert len({line["run"] for line in lines}) == 1
    assert "Word" not in log.read_text("utf-8")

    again = command("score", place / "model", place / "essays.jsonl", "--audit", log, "-o", "-")
    assert again.code == 0, again.err
    assert len(entries(log)) == 2 * len(ROWS)
    outcome = command("audit", "verify", log)
    assert (outcome.code, outcome.out) == (0, f"{log}: {2 * len(ROWS)} lines, as they were written.\n")


class TestTheLoggedPolicyOfShortAnswers:
    """It is the one that they are scored by, which without a word of the user's is another than that of essays."""

    @staticmethod
    def model(folder: Path) -> Path:
        scorer = classical()
        scorer.screen = replace(small_screen(), texts="answers")
        scorer.save_pretrained(folder / "model")
        return folder / "model"

    @staticmethod
    def check(policy: dict) -> None:
        kinds = {"gibberish": "withhold", "off_topic": "advise", "too_short": "off", "empty": "withhold"}
        assert {kind: policy[kind] for kind in kinds} == kinds

    @pytest.mark.parametrize("parts", [False, True], ids=["a table", "a folder of tables"])
    def test_of_score(self, tmp_path, parts):
        (tmp_path / "new").mkdir()
        answers, log = write_rows(tmp_path / "new" / "answers.jsonl", ROWS), tmp_path / "audit.jsonl"
        given, output = (answers.parent, "scores") if parts else (answers, "scores.jsonl")
        words = ("--audit", log, "--policy", "gibberish=withhold")
        outcome = command("score", self.model(tmp_path), given, "-o", tmp_path / output, *words)
        assert outcome.code == 0, outcome.err
        for line in entries(log):
            self.check(line["policy"])

    def test_of_serve(self, tmp_path, monkeypatch):
        pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
        services = []
        monkeypatch.setattr("aes_dynloss.serving.app.create_app", services.append)
        monkeypatch.setattr("aes_dynloss.serving.server.run_server", lambda *_, **__: 0)
        words = ("--port", 0, "--audit", tmp_path / "audit.jsonl", "--policy", "gibberish=withhold")
        outcome = command("serve", self.model(tmp_path), *words)
        assert outcome.code == 0, outcome.err
        (service,) = services
        self.check(service.audit.entry("score", UnscoredEssay("1", "a", ""), {}, True, [])["policy"])


def test_verify_tells_of_a_changed_line_with_exit_code_3(place, tmp_path):
    log = tmp_path / "audit.jsonl"
    assert command("score", place / "model", place / "essays.jsonl", "-o", "-", "--audit", log).code == 0
    log.write_bytes(log.read_bytes().replace(b'"essay_id": "3"', b'"essay_id": "4"'))
    outcome = command("audit", "verify", log)
    assert (outcome.code, outcome.out) == (3, "Changed: line 4 was changed.\n")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    refused = command("score", place / "model", place / "essays.jsonl", "-o", tmp_path / "s.csv", "--audit", log)
    assert refused.code == 2
    assert "its end was cut off" in refused.error
    assert f"aes-dynloss audit verify {log}" in refused.error
    assert not (tmp_path / "s.csv").exists()


def test_decisions_are_logged(place, tmp_path):
    scores, log = tmp_path / "scores.csv", tmp_path / "audit.jsonl"
    sheet = tmp_path / "sheet.jsonl"
    words = ("score", place / "model", place / "essays.jsonl", "-o", scores, "--review", sheet, "--uncertain", "0")
    assert command(*words).code == 0
    rows = [json.loads(line) for line in sheet.read_text("utf-8").splitlines()]
    assert rows
    write_rows(tmp_path / "filled.csv", [{**row, "human_score": 2} for row in rows])
    references = [{"essay_id": row["essay_id"], "reference": number % 6 + 1} for number, row in enumerate(ROWS)]
    write_rows(tmp_path / "human.csv", references)
    evaluate = ("evaluate", scores, "--references", tmp_path / "human.csv", "--range", "1:6", "--audit", log)
    refused = command(*evaluate)
    assert refused.code == 2
    assert "--audit logs the decisions of --adjudicated" in refused.error
    outcome = command(*evaluate, "--adjudicated", tmp_path / "filled.csv")
    assert outcome.code == 0, outcome.err
    found = entries(log)
    assert [line["essay_id"] for line in found] == [row["essay_id"] for row in rows]
    assert {line["event"] for line in found} == {"decision"}
    assert {line["human"] for line in found} == {2.0}
    assert found[-1]["machine"] is None  # the empty essay was withheld
    assert verify_log(log) == Verification(len(rows))


@pytest.mark.parametrize(("human", "message"), [(33, "33"), (2, "has no such essay")])
def test_a_decision_that_is_refused_is_not_logged(place, tmp_path, human, message):
    scores, log = tmp_path / "scores.csv", tmp_path / "audit.jsonl"
    assert command("score", place / "model", place / "essays.jsonl", "-o", scores).code == 0
    essay = "1" if human == 33 else "none"
    write_rows(tmp_path / "sheet.csv", [{"essay_id": essay, "prompt_id": "a", "human_score": human}])
    write_rows(tmp_path / "human.csv", [{"essay_id": row["essay_id"], "reference": 3} for row in ROWS])
    words = ("--references", tmp_path / "human.csv", "--range", "1:6", "--adjudicated", tmp_path / "sheet.csv")
    refused = command("evaluate", scores, *words, "--audit", log)
    assert refused.code == 2
    assert message in refused.error
    assert not log.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--audit", "scores.jsonl"), "--audit and --output name one file"),
        (("--audit", "essays.jsonl"), "--audit names "),
    ],
)
def test_a_log_is_a_file_of_its_own(place, tmp_path, words, message):
    (tmp_path / "essays.jsonl").write_bytes((place / "essays.jsonl").read_bytes())
    option, name = words
    given = ("score", place / "model", tmp_path / "essays.jsonl", "-o", tmp_path / "scores.jsonl")
    refused = command(*given, option, tmp_path / name)
    assert refused.code == 2
    assert message in refused.error
    assert (tmp_path / "essays.jsonl").read_bytes() == (place / "essays.jsonl").read_bytes()


@pytest.mark.slow
def test_kills_of_four_writers_lose_and_double_nothing(place, tmp_path):
    log, generator = tmp_path / "audit.jsonl", random.Random(0)
    kills, begun, running = 0, 0, {}

    def go_on(run: int) -> None:
        step = generator.randint(1, 60) if kills < KILLS else 0
        words = ("score", place / "model", place / "essays.jsonl", "-o", tmp_path / f"{run}.jsonl", "--audit", log)
        running[run] = start(*words, "--resume", folder=tmp_path, prepare=partial(kill_at, step))

    while kills < KILLS or running:
        while kills < KILLS and len(running) < 4:
            go_on(begun)
            begun += 1
        run, process = next(iter(running.items()))
        code = finish(process)
        assert code in {0, -signal.SIGKILL}, (tmp_path / "err").read_text()
        del running[run]
        if code:
            kills += 1
            go_on(run)
    assert verify_log(log) == Verification(begun * len(ROWS))
    runs: dict[str, list[str]] = {}
    for line in entries(log):
        runs.setdefault(line["run"], []).append(line["essay_id"])
    assert len(runs) == begun
    assert all(ids == [row["essay_id"] for row in ROWS] for ids in runs.values())
