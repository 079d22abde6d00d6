"""The table of robustness is made of the results files, and those of the recipe of their name."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.reports.robustness import read_robustness

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes/essays/results/robustness"
GRID = FOLDER / "asap_augmentation.json"
MEASURED = sorted(path for path in FOLDER.glob("*.json") if path != GRID)


@pytest.fixture(scope="module")
def lines():
    path = ROOT / "recipes/essays/collect_robustness.py"
    spec = importlib.util.spec_from_file_location("collect_robustness", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.robustness_lines(FOLDER)


def test_every_run_of_the_grid_was_measured():
    config = json.loads(GRID.read_text(encoding="utf-8"))["config"]
    runs = {f"{arm}_seed_{seed}" for arm in config["arms"] for seed in range(config["seeds"])}
    assert {path.stem for path in MEASURED} == runs


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_a_file_is_whole(path):
    found, first = read_robustness(path), read_robustness(MEASURED[0])
    assert (found["settings"], found["essays"]) == (first["settings"], first["essays"])
    assert {name: kind["total"]["n"] for name, kind in found["kinds"].items()} == {
        name: kind["total"]["n"] for name, kind in first["kinds"].items()
    }


def test_the_grid_is_the_recipe():
    recipe = read_mapping(ROOT / "recipes/essays/grids/asap_augmentation.yaml")
    expected = validate(BenchmarkConfig, recipe, "the recipe").model_dump(mode="json", by_alias=True)
    made_by = json.loads(GRID.read_text(encoding="utf-8"))["config"]
    # Keys that grids have got since have their defaults.
    found = validate(BenchmarkConfig, made_by, "the results").model_dump(mode="json", by_alias=True)
    # The same essays: measured on the original file, repeated on the parquet.
    assert found["finetune"]["data"].pop("source") == "data/asap/training_set_rel3.tsv"
    assert expected["finetune"]["data"].pop("source") == "data/asap/asap_aes.parquet"
    # Measured where bf16 had to be asked for; since then a processor that has it takes it by itself.
    assert found["finetune"]["training"].pop("precision") == "bf16"
    assert found == expected


def test_the_table_has_every_kind_and_arm(lines):
    measured = read_robustness(FOLDER / "mse_seed_0.json")
    told = [name for name, kind in measured["kinds"].items() if kind["expected"] != "stay"]
    assert len(lines) == 2 + len(told) + 3
    arms = json.loads(GRID.read_text(encoding="utf-8"))["config"]["arms"]
    assert lines[0] == f"| change | {' | '.join(arms)} |"
    (babble,) = [line for line in lines if line.startswith("| fluent nonsense (should fall) * |")]
    shares = [
        read_robustness(FOLDER / f"mse_seed_{seed}.json")["kinds"]["babble"]["total"]["rises"]["share"]
        for seed in (0, 1)
    ]
    assert babble.split("|")[2].split("%")[0].strip() == f"{50 * sum(shares):.0f}"
