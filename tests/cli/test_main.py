"""The command as such: help at once, words and exit codes."""

from __future__ import annotations

import errno
import json
import logging
import re
import subprocess
import sys

import click
import pytest
from command_line import command, outcome_of

from aes_dynloss.cli import main
from aes_dynloss.errors import DataError

HEAVY = ["torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "pyarrow"]
HELP = """
import json, sys
from aes_dynloss.cli.main import COMMANDS, run
words = [["--help"], ["--version"], ["data", "check", "--help"], *([name, "--help"] for name in COMMANDS)]
found = {"codes": [run(each) for each in words], "heavy": [name for name in sys.argv[1:] if name in sys.modules]}
print(json.dumps(found), file=sys.stderr)
"""


def test_help_and_version_import_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HELP, *HEAVY], capture_output=True, text=True, check=True)
    found = json.loads(done.stderr)
    assert found == {"codes": [0] * (3 + len(main.COMMANDS)), "heavy": []}
    assert "\naes-dynloss, version " in done.stdout
    for name in main.COMMANDS:
        assert f"\n  {name} " in done.stdout
        assert f"Usage: aes-dynloss {name} " in done.stdout


USAGE = """
import json, os, sys
from aes_dynloss.cli.main import run
os.chdir(sys.argv[1])
found = {"code": run(json.loads(sys.argv[2])), "heavy": [name for name in sys.argv[3:] if name in sys.modules]}
print(json.dumps(found), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune"], "Missing argument 'INPUT'"),
        (["finetune", "none.csv", "-o", "x"], "There is no file none.csv"),
        (["finetune", "bad.yaml", "-o", "x"], "data.sauce: there is no such key; did you mean source?"),
        (["finetune", "bad.yaml", "teacher.kind=dlf", "-o", "x"], "there is no loss 'msse'; did you mean mse?"),
        (["finetune", "gone.yaml", "-o", "x"], "There is no file or folder none.csv"),
        (["init", "none.csv"], "There is no file none.csv"),
        (["score", "none", "essays.csv"], "There is no model folder none"),
        (["score", "folder", "none.csv"], "There is no file or folder none.csv"),
        (["score", "folder", "essays.csv", "-o", "scores.txt"], "expected a suffix"),
        (["score", "folder", "essays.csv", "-o", "essays.csv"], "essays.csv is there already"),
        (["serve", "none"], "There is no model folder none"),
        (["evaluate", "none.csv"], "There is no file none.csv"),
        (["evaluate", "essays.csv", "--references", "none.csv"], "There is no file none.csv"),
        (["compare", "folder", "none"], "There is no file or folder none"),
        (["ensemble", "folder", "none", "-o", "x"], "There is no model folder none"),
        (["robustness", "folder", "none.csv"], "There is no file or folder none.csv"),
        (["benchmark", "none.yaml", "-o", "x"], "There is no file none.yaml"),
        (["benchmark", "bad.yaml", "-o", "x"], "arms: this key is required"),
        (["features", "none.csv"], "There is no file or folder none.csv"),
        (["data", "check", "none.csv"], "There is no file or folder none.csv"),
        (["data", "raters", "none.csv"], "There is no file or folder none.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "said",
)
def test_usage_errors_import_nothing_heavy(tmp_path, words, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "essays.csv").write_text("text,score\nSome words.,1\n", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("data: {sauce: a.csv}\nloss: {terms: {msse: 1.0}}\n", encoding="utf-8")
    (tmp_path / "gone.yaml").write_text("data: {source: none.csv}\nloss: {terms: {mae: 1.0}}\n", encoding="utf-8")
    script = [sys.executable, "-c", USAGE, str(tmp_path), json.dumps(words), *HEAVY]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    *_, found = done.stderr.splitlines()
    assert message in done.stderr
    assert json.loads(found) == {"code": 2, "heavy": []}


def test_mistakes_of_the_command_line():
    for words, message in (
        (["score"], "Missing argument 'MODEL'."),
        (["nothing"], "No such command 'nothing'."),
        (["finetune", "a.yaml", "--nothing"], "No such option"),
        (["init", "a", "b"], "Got unexpected extra argument (b)"),
    ):
        outcome = command(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.error
    assert command().code == 2


class TestErrors:
    def answer(self, monkeypatch, error: BaseException):
        @click.command()
        def failing() -> None:
            click.echo("data")
            raise error

        monkeypatch.setitem(main.COMMANDS, "failing", "failing_command:failing")
        monkeypatch.setitem(sys.modules, "failing_command", type(sys)("failing_command"))
        monkeypatch.setattr(sys.modules["failing_command"], "failing", failing, raising=False)
        monkeypatch.setattr(main, "_drop_output", lambda: None)
        return command("failing")

    def test_of_ours(self, monkeypatch):
        outcome = self.answer(monkeypatch, DataError("Row 3: no score.\nFix it."))
        assert outcome == type(outcome)(2, "data\n", "Error: Row 3: no score.\nFix it.\n")

    def test_are_said_by_the_first_process_alone(self, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        assert self.answer(monkeypatch, DataError("Row 3: no score.")).err == ""

    def test_with_what_no_terminal_should_get(self, monkeypatch):
        outcome = self.answer(monkeypatch, DataError(f"a\x1b[2J\0\ud800\té {'x' * 100_000}\nend"))
        assert outcome.error.startswith("a\\x1b[2J\\x00\\ud800\\té xxx")
        assert outcome.error.endswith("x ...\nend")
        assert len(outcome.error) < 2100

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE])
    def test_of_the_system(self, monkeypatch, number):
        outcome = self.answer(monkeypatch, OSError(number, "Refused", "there/x"))
        assert outcome.code == 2
        assert outcome.error == "there/x cannot be used: Refused. Look at the disk, its rights and its limits."
        assert "A file cannot be read or written: Refused" in self.answer(monkeypatch, OSError(number, "Refused")).error

    def test_bugs_are_raised(self, monkeypatch):
        for bug in (KeyError("bug"), ValueError("bug"), FileNotFoundError(errno.ENOENT, "bug"), OSError("bug")):
            with pytest.raises(type(bug), match="bug"):
                self.answer(monkeypatch, bug)

    def test_interrupt(self, monkeypatch):
        outcome = self.answer(monkeypatch, KeyboardInterrupt())
        assert outcome.code == 130
        assert "Stopped. What was finished is kept; --help says how to go on." in outcome.err

    def test_a_reader_that_has_gone(self, monkeypatch):
        outcome = self.answer(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe"))
        assert (outcome.code, outcome.err) == (0, "")


def test_logging(monkeypatch, tmp_path):
    @click.command()
    def telling() -> None:
        for name in ("aes_dynloss.essays", "other"):
            logging.getLogger(name).info("%s tells", name)
            logging.getLogger(name).warning("%s warns", name)

    monkeypatch.setitem(main.COMMANDS, "telling", "telling_command:telling")
    monkeypatch.setitem(sys.modules, "telling_command", type(sys)("telling_command"))
    monkeypatch.setattr(sys.modules["telling_command"], "telling", telling, raising=False)
    lines = ["aes_dynloss.essays tells", "aes_dynloss.essays warns", "other warns"]
    stamped = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)")  # no terminal
    assert command("telling").err.splitlines() == lines
    assert command("--quiet", "telling").err.splitlines() == lines[1:]
    written = outcome_of(lambda: main.run(["telling"]), terminal=False).err.splitlines()
    assert [stamped.fullmatch(line)[1] for line in written] == lines
    monkeypatch.setenv("RANK", "3")
    assert "aes_dynloss" not in command("telling").err
