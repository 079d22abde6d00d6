"""Every recipe's own file runs for two steps on a few images, and says what it said when it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import small_boxes
import small_masks
from PIL import Image
from pyarrow import parquet
from recipe_line import VISION, recipe

from aes_dynloss.configfile import read_mapping, validate

pytestmark = pytest.mark.slow

SHORT = ["training.epochs=1", "training.log_every=1", "training.device=cpu", "training.precision=float32"]


def _digits(_: Path) -> list[str]:
    return ["classification.py", "data.most=80", "model.width=4"]


def _small_pictures(folder: Path) -> list[str]:
    """Ten classes of 32 x 32 pixels, each of a shade of its own."""
    generator = np.random.default_rng(0)
    for name, count in (("train", 300), ("test", 20)):
        labels = [number % 10 for number in range(count)]
        contents = []
        for label in labels:
            pixels = generator.normal(20 + 22 * label, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(memory := BytesIO(), "png")
            contents.append(memory.getvalue())
        parquet.write_table(pyarrow.table({"image": contents, "label": labels}), folder / f"{name}.parquet")
    return ["classification.py", f"data.source={folder}", "model.width=4"]


def _squares(folder: Path) -> list[str]:
    """MNIST's layout; each class has a shade of its own."""
    labels = [number % 10 for number in range(320)]
    shades = np.random.default_rng(0).normal(20 + 22 * np.array(labels)[:, None], 20, (320, 784))
    pixels = [row.tobytes() for row in shades.clip(0, 255).astype(np.uint8)]
    parts = ["train"] * 300 + ["test"] * 20
    parquet.write_table(pyarrow.table({"part": parts, "label": labels, "pixels": pixels}), folder / "squares.parquet")
    return [
        "classification.py",
        f"data.source={folder / 'squares.parquet'}",
        "data.dev_fraction=0.15",
        "data.trusted=20",
    ]


def _boxes(folder: Path, names: dict[str, str]) -> list[str]:
    rows = [{**row, "labels": [names[label] for label in row["labels"]]} for row in small_boxes.small_rows(train=24)]
    source = small_boxes.write_rows(folder / "boxes.parquet", rows)
    return ["detection.py", f"data.source={source}", "data.size=[48, 64]", "model.width=4"]


def _masks(folder: Path) -> list[str]:
    source = small_masks.written(folder / "masks.parquet", small_masks.rows())
    sizes = ["data.size=[24, 32]", "data.classes=[sea, roof, tree]", "data.void=3", "data.pixels=16", "model.width=4"]
    return ["segmentation.py", f"data.source={source}", *sizes, "training.batch_size=4"]


# What makes a recipe short, and the losses of its two steps.
RECIPES: dict[str, tuple[Callable[[Path], list[str]], list[str], list[float]]] = {
    "digits": (_digits, [], [2.5117, 2.30274]),
    "cifar10": (_small_pictures, [], [2.36489, 2.16735]),
    "cifar10_l2t_dlf": (_small_pictures, ["teacher.episodes=1", "teacher.steps=2"], [0.13229, 0.11387]),
    "cifar10_l2t_dln": (_small_pictures, ["teacher.window=1", "teacher.dev_batch=16"], [2.36489, 2.16869]),
    "mnist": (_squares, [], [2.36589, 2.01315]),
    "bccd": (
        lambda folder: _boxes(folder, {"light": "WBC", "dark": "RBC"}),
        ["training.batch_size=11"],
        [6.81145, 6.84852],
    ),
    "coco128": (
        lambda folder: _boxes(folder, {"light": "bird", "dark": "zebra"}),
        ["training.batch_size=12"],
        [10.92702, 10.74596],
    ),
    "camvid": (_masks, [], [0.98765, 0.94798]),
}
# And how large the gradients were from which its teacher learnt.
TAUGHT = {"cifar10_l2t_dlf": [0.016475], "cifar10_l2t_dln": [0.053292, 0.03397]}


def test_no_recipe_is_forgotten() -> None:
    assert {path.stem for path in VISION.glob("*.yaml")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("pycocotools")
    write, words, golden = RECIPES[name]
    script, *data = write(tmp_path)
    outcome = recipe(script, VISION / f"{name}.yaml", *data, *SHORT, *words, "--output-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(golden, abs=1e-4)
    if name in TAUGHT:
        episodes = tmp_path / "run" / "teaching.jsonl"
        found = [json.loads(line) for line in episodes.read_text().splitlines()] if episodes.exists() else []
        found = found or [line["teacher"] for line in lines if "teacher" in line]
        norms = [line["hypergradient_norm"] for line in found]
        assert norms == pytest.approx(TAUGHT[name], rel=1e-2)


@pytest.mark.parametrize("path", sorted((VISION / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_arm_of_every_grid_is_a_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(VISION))
    import grid

    known = validate(grid.GridConfig, read_mapping(path), path.name)
    assert len(grid.cells_of(known, Path("runs"))) == len(known.arms) * known.seeds
