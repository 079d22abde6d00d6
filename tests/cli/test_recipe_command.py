"""The command line of recipes: what reaches the run, and what is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from command_line import Outcome, outcome_of

from aes_dynloss.cli.recipe_command import recipe_command
from aes_dynloss.configfile import ConfigModel
from aes_dynloss.errors import DataError


class Settings(ConfigModel):
    steps: int = 3
    name: str = "plain"


def call(folder: Path, *words: object, run: Any) -> Outcome:
    file = folder / "settings.yaml"
    file.write_text("steps: 5\n")

    def ended() -> int:
        with pytest.raises(SystemExit) as exited:
            recipe_command("recipe.py", Settings, run)
        return exited.value.code

    with mock.patch.object(sys, "argv", ["recipe.py", str(file), *map(str, words)]):
        return outcome_of(ended)


def test_a_run_is_given_its_settings_and_its_test_is_printed(tmp_path: Path) -> None:
    run = mock.Mock(return_value={"test": {"accuracy": 0.5, "bleu": 31.23456}, "steps": 7})
    outcome = call(tmp_path, "name=odd", "-o", tmp_path / "run", "--resume", run=run)
    assert (outcome.code, outcome.out) == (0, "accuracy 0.5000\nbleu 31.2346\n")
    expected = Settings(steps=5, name="odd"), tmp_path / "run"
    run.assert_called_once_with(*expected, resume=True, force=False, force_precision=False)


def test_print_config_runs_nothing(tmp_path: Path) -> None:
    run = mock.Mock()
    assert call(tmp_path, "name=odd", "--print-config", run=run).out == "steps: 5\nname: odd\n"
    run.assert_not_called()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--output-dir is missing"),
        (["-o", "run", "--resume", "--force"], "--resume and --force exclude each other"),
        (["-o", "run", "step=1"], "step: there is no such key; did you mean steps"),
    ],
)
def test_what_makes_no_run(tmp_path: Path, words: list[str], message: str) -> None:
    run = mock.Mock()
    outcome = call(tmp_path, *words, run=run)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in " ".join(outcome.err.split())
    run.assert_not_called()


def test_an_error_of_the_run_is_one_message(tmp_path: Path) -> None:
    outcome = call(tmp_path, "-o", tmp_path / "run", run=mock.Mock(side_effect=DataError("No pairs. Name some.")))
    assert (outcome.code, outcome.error) == (2, "No pairs. Name some.")
