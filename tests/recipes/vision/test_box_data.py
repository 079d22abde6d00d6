"""Tables of images with boxes: sizes, parts and variation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_boxes import built, configured, small_rows, write_rows

from aes_dynloss import DataError


def test_boxes_go_where_their_images_go(recipe: Any) -> None:
    images = torch.zeros(16, 3, 64, 96, dtype=torch.uint8)
    images[:, :, 20:40, 30:60] = 255
    boxes, labels = torch.tensor([30.0, 20.0, 60.0, 40.0]).expand(16, 1, 4), torch.zeros(16, 1, dtype=torch.int64)
    vary = recipe.box_data.Variation(mirror=True, turn=True, scale=0.3, shift=0.2)
    torch.manual_seed(0)
    moved, places, kept = recipe.box_data.varied(images, boxes, labels, vary)
    assert (kept == 0).all()
    assert len({tuple(place) for place in places[:, 0].tolist()}) == 16
    for image, place in zip(moved, places[:, 0], strict=True):
        rows, columns = (image[0] > 180).nonzero(as_tuple=True)
        seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (seen - place).abs().max() <= 1.0
    moved, places, _ = recipe.box_data.varied(images, boxes, labels, recipe.box_data.Variation(mirror=True))
    mirrored = torch.tensor([[36.0, 20.0, 66.0, 40.0], [30.0, 20.0, 60.0, 40.0]])
    assert {tuple(p) for p in places[:, 0].round().tolist()} == {tuple(p) for p in mirrored.tolist()}


def test_a_box_that_leaves_the_image_becomes_padding(recipe: Any) -> None:
    images = torch.zeros(200, 3, 16, 16, dtype=torch.uint8)
    boxes, labels = torch.tensor([12.0, 0.0, 16.0, 16.0]).expand(200, 1, 4), torch.zeros(200, 1, dtype=torch.int64)
    torch.manual_seed(0)
    _, places, kept = recipe.box_data.varied(images, boxes, labels, recipe.box_data.Variation(shift=0.25))
    inside = (places[:, 0, 2:] - places[:, 0, :2]).prod(1) / 64
    assert torch.equal(kept[:, 0] == -1, inside <= 0.3)
    assert 0 < int((kept == -1).sum()) < 200
    assert places.min() >= 0
    assert places.max() <= 16


def test_the_same_seed_draws_the_same_batch(recipe: Any, source: Path) -> None:
    vary = {"mirror": True, "turn": True, "scale": 0.2, "shift": 0.1}
    task = built(recipe, configured(recipe, source, data={"vary": vary}))
    batches = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        batches.append(task.train.batch([3, 1]))
    assert torch.equal(batches[0].inputs["images"], batches[1].inputs["images"])
    assert torch.equal(batches[0].targets, batches[1].targets)
    assert not torch.equal(batches[0].targets, batches[2].targets)
    still = task.dev.batch([0])
    assert torch.equal(still.inputs["images"], task.dev.known.images[:1])


def test_boxes_of_an_original_are_scaled_to_its_smaller_image(recipe: Any, tmp_path: Path) -> None:
    whole = write_rows(tmp_path / "whole.parquet", small_rows())
    small = write_rows(tmp_path / "small.parquet", small_rows(shrunk=2))
    tasks = [built(recipe, configured(recipe, path)) for path in (whole, small)]
    assert torch.equal(tasks[0].train.known.boxes, tasks[1].train.known.boxes)
    taller = built(recipe, configured(recipe, small, data={"size": [64, 64]}))
    assert torch.equal(taller.train.known.boxes, tasks[0].train.known.boxes)
    assert (taller.train.known.images[:, :, 48:] == recipe.box_data.GREY).all()


def test_parts_are_disjoint_and_test_is_apart(recipe: Any, tmp_path: Path) -> None:
    task = built(recipe, configured(recipe, write_rows(tmp_path / "a.parquet", small_rows())))
    sizes = [len(getattr(task, name)) for name in ("train", "teacher_dev", "dev", "test")]
    assert sizes == [6, 2, 4, 4]
    rows = [row for row in small_rows() if row["split"] != "test"]
    data = {"dev_fraction": 0.25}
    task = built(recipe, configured(recipe, write_rows(tmp_path / "b.parquet", rows), data=data))
    assert [len(getattr(task, name)) for name in ("train", "teacher_dev", "dev", "test")] == [4, 2, 2, 4]
    parts = [getattr(task, name).known.images for name in ("train", "teacher_dev", "dev", "test")]
    images = {image.numpy().tobytes() for part in parts for image in part}
    assert len(images) == 12


def test_numbers_are_classes_by_the_names_that_are_given(recipe: Any, tmp_path: Path) -> None:
    rows = [{**row, "labels": [2 * (label == "light") for label in row["labels"]]} for row in small_rows()]
    path = write_rows(tmp_path / "a.parquet", rows)
    assert built(recipe, configured(recipe, path)).names == ["0", "1", "2"]
    named = built(recipe, configured(recipe, path, data={"classes": ["dark", "other", "light", "last"]}))
    assert named.names == ["dark", "other", "light", "last"]
    assert set(named.train.known.labels.flatten().tolist()) == {-1, 0, 2}
    with pytest.raises(DataError, match=r"the label 2 is not 0 to 1\. Mend it, or data\.classes"):
        built(recipe, configured(recipe, path, data={"classes": ["dark", "light"]}))
