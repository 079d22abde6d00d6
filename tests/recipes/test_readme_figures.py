"""The figures of recipes/essays/README.md are those of the results files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from aes_dynloss.configfile import validate
from aes_dynloss.essays.finetune.config import FinetuneConfig

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "recipes/essays/results").glob("*.json"))
RECIPES = sorted((ROOT / "recipes/essays").glob("*.yaml"))


def collector():
    spec = importlib.util.spec_from_file_location("collect_results", ROOT / "recipes/essays/collect_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_results_file_stands_in_the_readme(path):
    row = collector().table_row(json.loads(path.read_text(encoding="utf-8")))
    assert row in (ROOT / "recipes/essays/README.md").read_text(encoding="utf-8").splitlines()


def test_every_row_of_the_readme_has_a_results_file():
    lines = (ROOT / "recipes/essays/README.md").read_text(encoding="utf-8").splitlines()
    named = {line.split("|")[1].strip() for line in lines if line.startswith("| asap") and ".yaml" not in line}
    assert named == {path.stem for path in RESULTS}
    assert named


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_hold_no_path_of_a_machine(path):
    assert not any(word in path.read_text(encoding="utf-8") for word in ("/home/", "/tmp/", "/work/", "/root/"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_configuration(path):
    validate(FinetuneConfig, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
