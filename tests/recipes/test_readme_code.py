"""Code in READMEs: commands and their options exist, scripts are there, configurations are valid, imports work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from readmes import READMES, ROOT, each_readme
from small_run import read_rows, small_essays, write_rows

import aes_dynloss
from aes_dynloss.cli.main import group
from aes_dynloss.configfile import validate
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.reports.flags import CRITERIA, JUDGED, read_criteria

# Blocks that tests/serving/test_readme.py and tests/essays/model/test_sharing.py run, with a server, a hub, an encoder.
ELSEWHERE = ("urllib.request", "push_to_hub", "sentence_transformers")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
START = re.compile(r"(?:\$ )?(?:\w+=\S+ )*(aes-dynloss|python) (.*)")


def blocks(readme: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(readme.read_text(encoding="utf-8")) if found == language]


def command_lines(readme: Path) -> list[tuple[str, list[str]]]:
    """Programs with their words, in blocks and in backticks that hold whole commands."""
    text = "\n".join(blocks(readme, "")).replace("\\\n", " ")
    lines = [part for line in text.splitlines() for part in re.split(r"(?:&&|\|) ", line)]
    lines += re.findall(r"`(python recipes/[^`]+)`", re.sub(r"\s+", " ", readme.read_text(encoding="utf-8")))
    starts = [START.match(line) for line in lines]
    return [(start[1], shlex.split(start[2], comments=True)) for start in starts if start]


def check_options(command: click.Command, words: list[str]) -> None:
    """Parse as the command does, without its checks of values."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        check_options(found, words[1:])
    else:
        command.make_parser(context).parse_args(words)


@each_readme
def test_commands_and_their_options_exist(readme):
    for program, words in command_lines(readme):
        if program == "aes-dynloss":
            check_options(group, words)
        elif words[0].startswith("recipes/"):
            assert (ROOT / words[0]).is_file(), words[0]


@each_readme
def test_recipes_that_are_named_exist(readme):
    for name in re.findall(r"recipes/[\w/]+\.yaml", readme.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file() or "NAME" in name, name


@each_readme
def test_configurations_are_valid(readme, tmp_path):
    for body in blocks(readme, "yaml"):
        values = yaml.safe_load(body)
        if "arms" in values:
            grid = validate(BenchmarkConfig, values, "the README")
            assert grid_cells(grid, ["phones", "river"], Path("grid"))
        elif values.keys() <= set(JUDGED):
            (tmp_path / "criteria.yaml").write_text(body, encoding="utf-8")
            assert read_criteria(tmp_path / "criteria.yaml") != CRITERIA
        else:
            validate(FinetuneConfig, {"data": {"source": "essays.csv"}} | values, "the README")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what examples in Python name: scored essays, a run, predictions."""
    folder = tmp_path_factory.mktemp("readme")
    write_rows(folder / "essays.csv", small_essays())
    overrides = {"evaluation.page": False, "evaluation.floors": False, "evaluation.explained": 0}
    run = aes_dynloss.finetune(folder / "essays.csv", folder / "quickstart-run", preset="fast", overrides=overrides)
    predictions = read_rows(run.folder / "predictions_test.csv")
    write_rows(
        folder / "predictions.csv", [row | {"prompt_id": "1"} for row in predictions if row["prompt_id"] == "phones"]
    )
    return folder


@pytest.mark.parametrize(
    "readme", [readme for readme in READMES if blocks(readme, "python")], ids=lambda path: path.parent.name
)
def test_examples_in_python_run(readme, place, own_parts, monkeypatch):
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for body in blocks(readme, "python"):
        if not any(word in body for word in ELSEWHERE):
            exec(body, names)


@each_readme
def test_imported_names_are_public(readme):
    for names in re.findall(r"from aes_dynloss import ([\w, ]+)", readme.read_text(encoding="utf-8")):
        for name in names.split(","):
            assert hasattr(aes_dynloss, name.strip()), name


def test_commands_are_found():
    assert len([words for readme in READMES for words in command_lines(readme)]) > 30
    with pytest.raises(click.NoSuchOption):
        check_options(group, ["score", "model", "essays.csv", "--outptu", "scores.csv"])
