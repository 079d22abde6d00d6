"""Essay recipes and grids are valid, and results of grids were made by the grid of their name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.finetune.config import FinetuneConfig

FOLDER = Path(__file__).parents[2] / "recipes/essays"
RECIPES = sorted(FOLDER.glob("*.yaml"))
GRIDS = sorted((FOLDER / "grids").glob("*.yaml"))
RESULTS = sorted((FOLDER / "results/grids").glob("*.json"))


# The original, and the same essays as parquet.
ASAP_FILES = {"data/asap/training_set_rel3.tsv", "data/asap/asap_aes.parquet"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_configuration(path):
    validate(FinetuneConfig, read_mapping(path), path.name)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_grid_is_valid_with_all_its_arms(path):
    grid = validate(BenchmarkConfig, read_mapping(path), path.name)
    assert grid_cells(grid, [str(number) for number in range(1, 9)], Path("grid"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_were_made_by_the_grid_of_their_name(path):
    """But for the place of the encoder, which has no other name without a hub, and the file of the same ASAP essays.

    The precision is the processor's matter: the results file says it, and a recipe asks for none.

    Keys that the configuration has got since have their defaults.
    """
    made_by = json.loads(path.read_text(encoding="utf-8"))["config"]
    recipe = read_mapping(FOLDER / "grids" / f"{path.stem}.yaml")
    found, expected = (
        validate(BenchmarkConfig, values, path.name).model_dump(mode="json", by_alias=True)
        for values in (made_by, recipe)
    )
    for config in (found, expected):
        if "mpnet" in config["finetune"]["model"].get("encoder", ""):
            config["finetune"]["model"]["encoder"] = "mpnet"
        if config["finetune"]["data"]["source"] in ASAP_FILES:
            config["finetune"]["data"]["source"] = "the essays of ASAP-AES"
        config["finetune"].get("training", {}).pop("precision", None)
    assert found == expected
