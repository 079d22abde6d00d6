"""The detection recipe on small made-up images: light boxes and dark ones on grey."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_boxes import FOLDER, SHORT, configured, small_rows, write_rows

from aes_dynloss import ConfigError
from aes_dynloss.configfile import read_mapping, validate

pytestmark = pytest.mark.slow

ADAM = {"optimizer": "adam", "learning_rate": 0.01, "keep": "last"}
GOLDEN = {
    "plain": [6.630921, 6.669263],
    "focal": [6.012414, 6.008174],
    "dln": [6.663972, 6.716922],
    "dlf": [-1.275668, -3.179184],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_two_steps_lose_what_they_lost(recipe: Any, source: Path, tmp_path: Path, name: str) -> None:
    sections: dict[str, dict[str, Any]] = {
        "plain": {"data": {"vary": {"mirror": True, "turn": True, "scale": 0.2, "shift": 0.1}}},
        "focal": {"loss": {"terms": {"focal": 1.0}}},
        "dln": {"teacher": {"kind": "dln", "window": 1, "dev_batch": 2, "measure": "cross_entropy"}},
        "dlf": {"teacher": {"kind": "dlf", "episodes": 1, "steps": 2, "measure": "expected_error", **ADAM}},
    }
    config = configured(recipe, source, **sections[name])
    report = recipe.vision_run.run(recipe.detection.build, config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses == pytest.approx(GOLDEN[name], abs=1e-4), losses
    assert set(report["test"]) == {"map", "map50", "map50_dark", "map50_light"}
    assert all(0 <= value <= 1 for value in report["test"].values())
    assert (tmp_path / "run/predictions.png").stat().st_size > 0


def test_a_short_training_finds_the_boxes(recipe: Any, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "small.parquet", small_rows(train=32))
    training = SHORT | {"epochs": 25, "optimizer": "adamw", "learning_rate": 0.01, "head_learning_rate": 0.01}
    config = configured(recipe, source, data={"teacher_dev_fraction": 0.0}, model={"width": 8}, training=training)
    report = recipe.vision_run.run(recipe.detection.build, config, tmp_path / "run")
    assert report["test"]["map50"] > 0.3, report


def test_the_command_refuses_in_one_message(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"data: {{source: {source}, size: [50, 64]}}\n")
    words = [sys.executable, FOLDER / "detection.py", config, "-o", tmp_path / "run"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "data.size: expected a height and a width that model.stride = 16 divides, found [50, 64]" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("name", ["bccd", "coco128"])
def test_recipes_are_configurations(recipe: Any, name: str) -> None:
    values = read_mapping(FOLDER / f"{name}.yaml")
    config = validate(recipe.detection.DetectionConfig, values, name)
    assert config.teacher is None


def test_a_teacher_with_fewer_bins_than_columns(recipe: Any, source: Path, tmp_path: Path) -> None:
    teacher = {"kind": "dlf", "bins": 3, "measure": "expected_error"}
    with pytest.raises(ConfigError, match=r"teacher\.bins is 3, expected at least 4, one for each class"):
        recipe.vision_run.run(recipe.detection.build, configured(recipe, source, teacher=teacher), tmp_path / "run")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"annotations": "a.json"}}, "a folder of images needs annotations, test_source and test_annotations"),
        ({"data": {"classes": ["a", "a"]}}, "the same name stands twice"),
        ({"model": {"pretrained": True}}, "pretrained goes with backbone resnet18 and without weights"),
        ({"data": {"size": [48, 60]}}, "that model.stride = 16 divides"),
    ],
)
def test_faults_of_configurations_are_named(recipe: Any, source: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(recipe, source, **sections)
