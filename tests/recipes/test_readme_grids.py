"""The README's tables of grids are those of the results files, which `aes-dynloss benchmark` wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.reports.comparison_text import benchmark_markdown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDER = "recipes/essays/results/grids"
RESULTS = sorted((ROOT / FOLDER).glob("*.json"))
RECIPES = sorted((ROOT / "recipes/essays/grids").glob("*.yaml"))
# A comment that names the file, then the table, up to an empty line.
TABLES = re.findall(rf"<!-- {FOLDER}/(\w+)\.json -->\n((?:\|.*\n)+)", README)


def report(name: str) -> dict:
    return json.loads((ROOT / FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_every_results_file_has_a_table_in_the_readme():
    assert {name for name, _ in TABLES} == {path.stem for path in RESULTS}
    assert TABLES


@pytest.mark.parametrize(("name", "table"), TABLES, ids=[f"{number}_{name}" for number, (name, _) in enumerate(TABLES)])
def test_every_line_of_a_table_is_one_of_its_results(name, table):
    lines = set(benchmark_markdown(report(name)).splitlines())
    for line in table.splitlines():
        assert line in lines


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_were_made_by_the_recipe_of_their_name(path):
    """But for where the encoder and the essays lay: another machine, and another form of the same table."""
    found = report(path.stem)["config"]
    recipe = read_mapping(ROOT / f"recipes/essays/grids/{path.stem}.yaml")
    expected = validate(BenchmarkConfig, recipe, path.name).model_dump(mode="json", by_alias=True)
    for config in (found, expected):
        assert Path(config["finetune"]["data"].pop("source")).parent == Path("data/asap")
        if "mpnet" in config["finetune"]["model"]["encoder"]:
            config["finetune"]["model"]["encoder"] = "mpnet"
    assert found == expected


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_hold_no_path_of_a_machine(path):
    assert not any(word in path.read_text(encoding="utf-8") for word in ("/home/", "/tmp/", "/work/", "/root/"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_grid_is_valid_with_all_its_arms(path):
    grid = validate(BenchmarkConfig, read_mapping(path), path.name)
    assert grid_cells(grid, [str(number) for number in range(1, 9)], Path("grid"))
