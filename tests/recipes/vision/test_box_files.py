"""Files of images with boxes, and what may be wrong with them."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_boxes import built, changed, configured, small_rows, write_rows

from aes_dynloss import DataError


def test_boxes_end_where_their_image_ends(recipe: Any, tmp_path: Path) -> None:
    rows = changed(0, boxes=[[-2, 5, 10, 52]])(small_rows())
    (image, *_) = recipe.box_files.read_parquet(write_rows(tmp_path / "a.parquet", rows))["train"]
    assert image.boxes.tolist() == [[0, 5, 10, 48]]


def test_boxes_without_an_area_are_left_out_with_a_warning(
    recipe: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = small_rows()
    plain = built(recipe, configured(recipe, write_rows(tmp_path / "a.parquet", rows)))
    rows[0]["boxes"].insert(0, [5, 5, 5, 9])
    rows[0]["labels"].insert(0, "light")
    rows[9]["boxes"].append([3, 3, 3, 3])
    rows[9]["labels"].append("light")
    with caplog.at_level(logging.WARNING):
        task = built(recipe, configured(recipe, write_rows(tmp_path / "b.parquet", rows)))
    (record,) = caplog.records
    assert "left out: 2, the first is [5.0, 5.0, 5.0, 9.0] in Row 1 of" in record.getMessage()
    assert torch.equal(task.train.known.labels, plain.train.known.labels)
    assert torch.equal(task.dev.known.boxes, plain.dev.known.boxes)


@pytest.mark.parametrize(
    ("original", "image"),
    [((64, 48), (64, 48)), ((101, 100), (101, 100)), ((427, 640), (214, 320)), ((1000, 7), (320, 2))],
)
def test_an_image_may_be_a_smaller_copy(recipe: Any, original: tuple[int, int], image: tuple[int, int]) -> None:
    """Its sides are rounded, by whoever made it, up or down."""
    Image.new("RGB", image).save(memory := io.BytesIO(), format="png")
    known = recipe.box_files.BoxedImage("here", memory.getvalue(), original, np.zeros((0, 4)), [])
    assert known.decoded().size == image
    with pytest.raises(DataError, match=r"Exchange the two\."):
        replace(known, size=original[::-1]).decoded()


def test_numbers_may_leave_few_gaps(recipe: Any) -> None:
    image = recipe.box_files.BoxedImage("here", b"", (4, 4), np.zeros((2, 4)), [1, 3])
    assert recipe.box_files.class_names({"train": [image]}, None) == ["0", "1", "2", "3"]
    sparse = replace(image, labels=[1, 4])
    with pytest.raises(DataError, match=r"here: the label 4 makes 5 classes, and only 2 of them occur"):
        recipe.box_files.class_names({"train": [sparse]}, None)
    assert len(recipe.box_files.class_names({"train": [sparse]}, list("abcde"))) == 5


def test_cocos_folders_are_read_as_parquet_is(recipe: Any, tmp_path: Path) -> None:
    rows = [row for row in small_rows() if row["split"] != "val"]
    categories = [{"id": 3, "name": "dark"}, {"id": 7, "name": "light"}]
    data: dict[str, Any] = {}
    for split, key in (("train", ""), ("test", "test_")):
        folder = tmp_path / split
        folder.mkdir()
        images, known = [], []
        for number, row in enumerate((row for row in rows if row["split"] == split), start=1):
            (folder / f"{number}.png").write_bytes(row["image"])
            images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
            for (x1, y1, x2, y2), label in zip(row["boxes"], row["labels"], strict=True):
                own = {"id": len(known) + 1, "image_id": number, "category_id": {"dark": 3, "light": 7}[label]}
                known.append({**own, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0})
            known.append(
                {"id": len(known) + 1, "image_id": number, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
            )
        (tmp_path / f"{split}.json").write_text(
            json.dumps({"images": images, "annotations": known, "categories": categories})
        )
        data |= {f"{key}source": str(folder), f"{key}annotations": str(tmp_path / f"{split}.json")}
    config = configured(recipe, tmp_path, data={**data, "teacher_dev_fraction": 0.25, "dev_fraction": 0.25})
    task = built(recipe, config)
    parquet = built(recipe, configured(recipe, write_rows(tmp_path / "a.parquet", rows), data={"dev_fraction": 0.25}))
    assert task.names == ["dark", "light"]
    for name in ("train", "teacher_dev", "dev", "test"):
        for field in ("images", "boxes", "labels"):
            mine, other = (getattr(getattr(one, name).known, field) for one in (task, parquet))
            assert torch.equal(mine, other), (name, field)
    (tmp_path / "train/2.png").unlink()
    with pytest.raises(DataError, match=r"There is no image .*2\.png, which the annotations name"):
        built(recipe, config)
    (tmp_path / "test.json").write_text("{}")
    (tmp_path / "train/2.png").write_bytes(rows[1]["image"])
    with pytest.raises(DataError, match=r"test\.json cannot be read as COCO's instances"):
        built(recipe, config)


def test_other_categories_in_test_are_refused(recipe: Any, tmp_path: Path) -> None:
    data: dict[str, Any] = {"source": str(tmp_path), "test_source": str(tmp_path)}
    for key, name in (("annotations", "a"), ("test_annotations", "b")):
        data[key] = str(tmp_path / f"{key}.json")
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": name}]}
        Path(data[key]).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"test_annotations.json has the categories b, expected those of .*, a\."):
        built(recipe, configured(recipe, tmp_path, data=data))


def _without(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != column} for row in rows]


FAULTS = {
    "column": (lambda rows: _without(rows, "boxes"), r"bad\.parquet has the columns .*, and boxes is not among them"),
    "split": (changed(2, split="dev"), r"Row 3 of .*bad\.parquet \(i2\): split is 'dev', expected one of train, val"),
    "count": (changed(1, labels=["dark"]), r"Row 2 of .*: 2 boxes and 1 labels, expected as many"),
    "outside": (changed(0, boxes=[[70, 0, 90, 9]]), r"Row 1 .* box \[70\.0, .*\] lies outside the image of 64 x 48"),
    "exchanged, seen by a box": (
        changed(0, width=48, height=64, boxes=[[50, 0, 60, 9]]),
        r"Row 1 of .*: width and height are 48 and 64, expected the image's own 64 and 48, .*\. Exchange the two\.",
    ),
    "exchanged, no box outside": (
        changed(0, width=48, height=64, boxes=[[1, 2, 9, 9]]),
        r"Row 1 of .*: width and height are 48 and 64, .*\. Exchange the two\.",
    ),
    "exchanged, of an original": (changed(0, width=480, height=640), r"are 480 and 640, .* Exchange the two\."),
    "out of proportion": (
        changed(0, width=640, height=500),
        r"Row 1 of .*: width and height are 640 and 500, expected .* 64 and 48, or those of an .* Mend the row\.",
    ),
    "turned": (
        changed(4, boxes=[[1, 2, 9, 9], [30, 5, 20, 9]], labels=["dark", "light"]),
        r"Row 5 of .*: box 2, \[30\.0, 5\.0, 20\.0, 9\.0\], ends before it begins\. Expected corners .* mend the row",
    ),
    "turned downwards": (changed(0, boxes=[[1, 9, 9, 2]]), r"Row 1 of .*: box 1, .* ends before it begins"),
    "huge number": (
        lambda rows: [
            {**row, "labels": [(place == 9) * 10**9 for _ in row["labels"]]} for place, row in enumerate(rows)
        ],
        r"Row 10 of .*: the label 1000000000 makes 1000000001 classes, and only 2 of them occur\. .* data\.classes\.",
    ),
    "negative": (
        lambda rows: [{**row, "labels": [-3 for _ in row["labels"]]} for row in rows],
        r"Row 1 of .*: the label is -3, expected a class's number, 0 or more\. Mend them",
    ),
    "numbers": (
        changed(0, boxes=[[1, 2, 3]]),
        r"Row 1 .* boxes of four numbers each and one of labels, found 64, 48, \[\[1, 2, 3\]\]",
    ),
    "size": (changed(0, width=0), r"Row 1 .* expected an image with width and height above 0, found 0.* x 48"),
    "image": (changed(0, image=b"no image"), r"Row 1 .*: the image cannot be read: .* Mend or remove it"),
    "no bytes": (
        lambda rows: [{**row, "image": {"bytes": row["image"]}} for row in rows],
        r"Row \d+ .*: the image is of type dict, expected the bytes of a picture's file",
    ),
    "kind": (
        lambda rows: [{**row, "labels": [1.5] * len(row["labels"])} for row in rows],
        r"Row 1 of .*: labels should be words or whole numbers, found \[1\.5\]",
    ),
    "no list": (lambda rows: [{**row, "labels": 7} for row in rows], r"Row 1 of .* one of labels, found .* and 7\."),
    "no test": (
        lambda rows: [{**row, "split": "train"} for row in rows],
        r"has no images for test\. Expected some whose split is train",
    ),
    "no boxes": (
        lambda rows: [{**row, **({"boxes": [], "labels": []} if row["split"] == "val" else {})} for row in rows],
        r"The 4 images of dev in .* have no boxes",
    ),
    "no labels": (
        lambda rows: [{**row, "boxes": [], "labels": []} for row in rows],
        r"should be all words or all whole numbers; found none",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_files_are_named(recipe: Any, tmp_path: Path, name: str) -> None:
    change, message = FAULTS[name]
    path = write_rows(tmp_path / "bad.parquet", change(small_rows()))
    with pytest.raises(DataError, match=message):
        built(recipe, configured(recipe, path))


def test_what_is_no_parquet(recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("words")
    for path in (tmp_path / "a.parquet", tmp_path / "none.parquet"):
        with pytest.raises(DataError, match=r"data\.source: .* cannot be read as parquet"):
            built(recipe, configured(recipe, path))


def test_words_in_one_file_and_numbers_in_another(recipe: Any) -> None:
    image = recipe.box_files.BoxedImage("here", b"", (4, 4), np.zeros((1, 4)), ["dark"])
    other = recipe.box_files.BoxedImage("there", b"", (4, 4), np.zeros((1, 4)), [3])
    with pytest.raises(DataError, match=r"all words or all whole numbers; found 'dark', 3\. Mend them"):
        recipe.box_files.class_names({"train": [image], "test": [other]}, None)


def test_a_label_that_is_no_class(recipe: Any, source: Path) -> None:
    with pytest.raises(DataError, match=r"Row 1 of .*: the label 'dark' is not one of light, other"):
        built(recipe, configured(recipe, source, data={"classes": ["light", "other"]}))
