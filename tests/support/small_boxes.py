"""Small images with boxes in them, light ones and dark ones on grey, and what the detection recipe makes of them."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from aes_dynloss.configfile import validate

FOLDER = Path(__file__).parents[2] / "recipes/vision"
MODULES = (
    "anchors",
    "box_data",
    "box_files",
    "box_measures",
    "detection",
    "pictures",
    "single_stage_network",
    "vision_run",
)
SHORT = {"epochs": 1, "batch_size": 4, "optimizer": "sgd", "learning_rate": 0.1, "head_learning_rate": 0.1}
SHORT |= {"weight_decay": 0.0, "warmup": 0.0, "precision": "float32", "log_every": 1}


def small_rows(train: int = 8, shrunk: int = 1) -> list[dict[str, Any]]:
    """Images to train on, four for dev, four for test; boxes count pixels of 64 x 48, images may be smaller."""
    size = (64, 48)
    generator = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(["train"] * train + ["val"] * 4 + ["test"] * 4):
        pixels = generator.normal(128, 10, (size[1], size[0], 3))
        boxes, labels = [], []
        for place in range(1 + number % 2):
            light = (number + place) % 3 > 0
            side = generator.integers(10, 14, 2) if light else generator.integers(18, 24, 2)
            corner = generator.integers(0, [size[0] // 2 - side[0], size[1] - side[1]])
            corner[0] += place * size[0] // 2
            boxes.append([int(value) for value in (*corner, *(corner + side))])
            pixels[corner[1] : boxes[-1][3], corner[0] : boxes[-1][2]] = 250 if light else 10
            labels.append("light" if light else "dark")
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((size[0] // shrunk, size[1] // shrunk))
        image.save(memory := io.BytesIO(), format="png")
        row = {"id": f"i{number}", "split": split, "image": memory.getvalue(), "width": size[0], "height": size[1]}
        rows.append({**row, "boxes": boxes, "labels": labels})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def configured(recipe: Any, source: Path, **sections: Any) -> Any:
    values: dict[str, Any] = {
        "data": {"source": str(source), "size": [48, 64], "teacher_dev_fraction": 0.25},
        "model": {"width": 4, "anchors": 2, "stride": 16},
        "training": SHORT,
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return validate(recipe.detection.DetectionConfig, values, "config")


def built(recipe: Any, config: Any) -> Any:
    return recipe.detection.build(config, SimpleNamespace(device=torch.device("cpu")))


def grid_of(recipe: Any, sizes: list[list[float]], stride: int = 16, size: tuple[int, int] = (32, 48)) -> Any:
    return recipe.anchors.AnchorGrid(torch.tensor(sizes), stride, size)


def perfect_outputs(targets: torch.Tensor, grid: Any, classes: int, recipe: Any) -> torch.Tensor:
    """What a network would have to answer to be right in everything: YOLO's encoding, the inverse of ``decode``."""
    matched = recipe.anchors.Matched.unpacked(targets, len(grid))
    priors = grid.priors()
    raw = torch.full((len(targets), len(grid), 5 + classes), -20.0)
    for image, place in (matched.labels >= 0).nonzero().tolist():
        box, anchor = matched.boxes[image, place], int(matched.anchors[image, place])
        centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        raw[image, anchor, :2] = ((centre - priors[anchor, :2]) / grid.stride + 0.5).logit(1e-6)
        raw[image, anchor, 2:4] = (sides / priors[anchor, 2:]).log()
        raw[image, anchor, [4, 5 + int(matched.labels[image, place])]] = 20.0
    return raw.flatten(1)


def changed(place: int, **values: Any) -> Any:
    """A change of one row."""
    return lambda rows: [{**row, **values} if n == place else row for n, row in enumerate(rows)]
