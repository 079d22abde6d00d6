"""The segmentation recipe on images that the test paints, from their files to a trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from recipe_line import recipe
from small_masks import (
    HEIGHT,
    NAMES,
    VISION,
    VOID,
    WIDTH,
    configured,
    done,
    painted,
    png,
    rows,
    written,
)
from torch.nn import functional

from aes_dynloss import ConfigError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

LOSSES = [1.122011, 1.087070]


def test_a_run_repeats_its_golden_losses(mask_source: Path, tmp_path: Path) -> None:
    report, lines = done(mask_source, tmp_path / "run", data={"flip": True, "zoom": 1.5})
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(LOSSES, abs=1e-4)
    assert set(report["test"]) == {"mean_iou", "pixel_accuracy", "iou_sea", "iou_red_roof", "iou_tree"}
    assert report["steps"] == 2
    assert report["dev"].keys() == {"mean_iou"}
    made = json.loads((tmp_path / "run/manifest.json").read_text())
    assert made["images"] == {"train": 8, "teacher_dev": 0, "dev": 3, "test": 3}
    assert (tmp_path / "run/predictions.png").stat().st_size > 0


@pytest.mark.parametrize(
    "teacher",
    [
        {"kind": "dln", "window": 2, "dev_batch": 2, "measure": "cross_entropy"},
        {"kind": "dlf", "episodes": 1, "steps": 2, "measure": "expected_error", "bins": 3},
        {"kind": "mwn", "dev_batch": 2, "width": 5},
    ],
    ids=["dln", "dlf", "mwn"],
)
def test_a_teacher_learns_from_pixels(mask_source: Path, tmp_path: Path, teacher: dict[str, Any]) -> None:
    report, lines = done(mask_source, tmp_path / "run", data={"teacher_dev_fraction": 0.25}, teacher=teacher)
    if teacher["kind"] == "dlf":
        lines = [json.loads(line) for line in (tmp_path / "run/teaching.jsonl").read_text().splitlines()]
    norms = [line.get("teacher", line).get("hypergradient_norm") for line in lines]
    assert max(norm for norm in norms if norm is not None) > 0
    assert (tmp_path / "run/teacher").is_dir()
    assert 0 <= report["test"]["mean_iou"] <= 1


def test_overlap_is_that_computed_by_hand() -> None:
    from segmentation import confusion, overlaps

    truths = torch.tensor([[0, 0, 0, 1], [1, -1, -1, 0]])
    answers = torch.tensor([[0, 0, 1, 1], [2, 2, 0, 0]])
    counts = confusion(answers, truths, 4)
    assert counts.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    found = overlaps(counts)
    # 3 of 3 + 1; 1 of 1 + 1 + 1; none of 1, answered alone; and a class that is nowhere.
    assert found[:3].tolist() == pytest.approx([3 / 4, 1 / 3, 0.0])
    assert found[3].isnan()


def test_measures_are_over_the_whole_split(mask_source: Path) -> None:
    from segmentation import build

    task = build(configured(mask_source), Accelerator(cpu=True))
    torch.manual_seed(0)
    outputs = torch.randn(3, 36)
    answers = functional.interpolate(outputs.view(3, 3, 3, 4), (HEIGHT, WIDTH), mode="bilinear").argmax(1)
    masks = task.test.masks
    known = masks >= 0
    ious = [
        float(((answers == c) & (masks == c)).sum() / (((answers == c) & known) | (masks == c)).sum()) for c in range(3)
    ]
    found = task.measures(outputs, task.test)
    assert found["mean_iou"] == pytest.approx(np.mean(ious))
    assert found["iou_red_roof"] == pytest.approx(ious[1])
    assert found["pixel_accuracy"] == pytest.approx(float((answers == masks).sum() / known.sum()))


def test_a_class_that_is_nowhere_is_left_out(mask_source: Path) -> None:
    from segmentation import build

    config = configured(
        mask_source, data={"classes": [*NAMES, "boat"], "void": 9, "source": str(_without_void(mask_source))}
    )
    task = build(config, Accelerator(cpu=True))
    outputs = torch.zeros(3, 4, 12)
    outputs[:, 0] = 1.0
    found = task.measures(outputs.flatten(1), task.test)
    assert set(found) == {"mean_iou", "pixel_accuracy", "iou_sea", "iou_red_roof", "iou_tree"}
    assert found["mean_iou"] == pytest.approx(found["iou_sea"] / 3)
    assert found["iou_sea"] == pytest.approx(found["pixel_accuracy"])


def _without_void(mask_source: Path) -> Path:
    table = rows()
    for place, row in enumerate(table):
        mask = painted(place)[1]
        row["mask"] = png(np.where(mask == VOID, 0, mask).astype(np.uint8))
    return written(mask_source.with_name("all.parquet"), table)


def test_pictures_show_void_as_it_is() -> None:
    from pictures import draw_masks

    images = torch.full((2, 3, 4, 6), 51, dtype=torch.uint8)
    masks = torch.zeros(2, 4, 6, dtype=torch.int16)
    masks[:, 0] = -1
    figure = draw_masks(images, masks, torch.ones(2, 4, 6, dtype=torch.int64), NAMES)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    assert np.allclose(shown[0], 0.2)
    assert np.allclose(shown[1][0], 0.2)
    assert not np.allclose(shown[1][1], 0.2)
    assert np.allclose(shown[2], shown[2][0, 0])
    assert not np.allclose(shown[2][1], shown[1][1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"void": 2}}, "void is 2, which is the class tree; expected a number that is no class's, 3 to 255"),
        ({"data": {"classes": ["sea", "sea"]}}, "classes: 'sea' stands twice"),
        ({"model": {"pretrained": True}}, "pretrained is for the backbone resnet18"),
        ({"model": {"pretrained": True, "backbone": "resnet18", "weights": "a"}}, "pretrained and weights exclude"),
    ],
)
def test_settings_that_do_not_fit_are_refused(mask_source: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configured(mask_source, **sections)


def test_a_teacher_with_fewer_bins_than_classes_is_refused(mask_source: Path, tmp_path: Path) -> None:
    teacher = {"kind": "dlf", "bins": 2, "measure": "cross_entropy"}
    with pytest.raises(ConfigError, match=r"teacher\.bins is 2, expected at least 3, one for each class"):
        done(mask_source, tmp_path / "run", teacher=teacher)


def test_the_command_answers_bad_input_with_one_message(tmp_path: Path) -> None:
    words = (VISION / "camvid.yaml", f"data.source={tmp_path / 'none'}")
    answer = recipe("segmentation.py", *words, "--output-dir", tmp_path / "run")
    assert answer.code == 2
    assert answer.error.startswith("data.source: there is nothing at")
    assert "Traceback" not in answer.err
    shown = recipe("segmentation.py", *words, "--print-config")
    assert shown.code == 0
    assert "- sign symbol" in shown.out
