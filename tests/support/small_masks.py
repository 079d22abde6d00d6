"""Images that a test paints, with masks, and what the segmentation recipe makes of them."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from PIL import Image
from pyarrow import parquet

VISION = Path(__file__).parents[2] / "recipes/vision"
HEIGHT, WIDTH = 20, 28
COLOURS = np.array([[20, 30, 200], [200, 60, 20], [40, 220, 60], [128, 128, 128]], dtype=np.uint8)
NAMES = ["sea", "red roof", "tree"]
VOID = 3
COUNTS = {"train": 8, "val": 3, "test": 3}


def painted(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of plain colours and its mask: sea, a roof, a tree somewhere, and a strip of void."""
    generator = np.random.default_rng(number)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[generator.integers(8, 12) :, : generator.integers(8, 20)] = 1
    top, left = generator.integers(0, 8), generator.integers(10, 18)
    mask[top : top + 9, left : left + 8] = 2
    mask[:, -2:] = VOID
    return COLOURS[mask], mask


def png(pixels: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def rows() -> list[dict[str, Any]]:
    found = []
    for place, split in enumerate(split for split, count in COUNTS.items() for _ in range(count)):
        image, mask = painted(place)
        found.append({"id": f"film{place % 2}_{place:03}", "split": split, "image": png(image), "mask": png(mask)})
    return found


def written(path: Path, table: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(table), path)
    return path


def unpacked(folder: Path, table: list[dict[str, Any]]) -> Path:
    for row in table:
        for part, content in ((row["split"], row["image"]), (f"{row['split']}annot", row["mask"])):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / f"{row['id']}.png").write_bytes(content)
    return folder


def data_config(source: Path, **changes: Any) -> Any:
    from mask_data import MaskDataConfig

    values = {"source": str(source), "classes": NAMES, "void": VOID, "pixels": 64, "stretch": 1, **changes}
    return MaskDataConfig.model_validate(values)


def tables(source: Path, **changes: Any) -> Any:
    from mask_data import read_masks

    return read_masks(data_config(source, **changes), torch.device("cpu"))


def configured(source: Path, **sections: Any) -> Any:
    from segmentation import SegmentationConfig

    data = {**data_config(source).model_dump(mode="json"), **sections.pop("data", {})}
    training = {"epochs": 1, "batch_size": 4, "optimizer": "sgd", "learning_rate": 0.05, "head_learning_rate": 0.05}
    training |= {"precision": "float32", "device": "cpu", **sections.pop("training", {})}
    model = {"width": 8, **sections.pop("model", {})}
    return SegmentationConfig.model_validate({"data": data, "model": model, "training": training, **sections})


def student_of(source: Path, model: dict[str, Any] | None = None) -> Any:
    from pyramid_network import PyramidNetwork, PyramidNetworkConfig

    train = tables(source)["train"]
    torch.manual_seed(0)
    config = PyramidNetworkConfig.model_validate({"width": 8, **(model or {})})
    return PyramidNetwork(config, train.images, train.masks, len(NAMES))


def done(source: Path, folder: Path, **sections: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Report and logged steps of a run."""
    from segmentation import build
    from vision_run import run

    report = run(build, configured(source, **sections), folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return report, lines
