"""All recipes are valid; those that need no data of others run, short and with a tiny encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import command
from tiny_encoder import write_tiny_encoder

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.finetune.config import FinetuneConfig

ROOT = Path(__file__).parents[2]
SHORT = ["training.epochs=1", "training.batch_size=64", "evaluation.resamples=100", "evaluation.floors=false"]
RECIPES = {
    "l2t_dlf": (["teacher.episodes=2", "teacher.steps=2"], "loss_coefficients.svg"),
    "l2t_dln": (["teacher.window=1"], "loss_network.svg"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_taught_on_the_bundled_essays(name, tmp_path):
    overrides, plot = RECIPES[name]
    encoder = write_tiny_encoder(tmp_path / "encoder")
    words = [f"model.encoder={encoder}", *SHORT, *overrides]
    outcome = command("finetune", ROOT / f"recipes/essays/{name}.yaml", *words, "--output-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "teacher" / "teacher.safetensors").is_file()
    assert (tmp_path / "run" / "plots" / plot).is_file()
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in steps if "loss" in line]
    assert len(steps) == 2
    if name == "l2t_dlf":
        episodes = (tmp_path / "run" / "teaching.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in episodes] == [1, 2]
    else:
        assert all(line["teacher"]["hypergradient_norm"] > 0 for line in steps)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/essays").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_configuration(path):
    validate(FinetuneConfig, read_mapping(path), path.name)
