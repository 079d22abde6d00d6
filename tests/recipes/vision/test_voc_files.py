"""Pascal VOC's folders hold what a parquet file does, and what is missing in them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_boxes import built, configured, small_rows, write_rows

from aes_dynloss import ConfigError, DataError

OBJECT = """<object><name>{label}</name><difficult>0</difficult><bndbox>
<xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""
IMAGE = "<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{objects}</annotation>"


def write_voc(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows of a table as VOC's files; its corners count from 1."""
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for row in rows:
        corners = [[x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2 in row["boxes"]]
        objects = [OBJECT.format(*box, label=label) for box, label in zip(corners, row["labels"], strict=True)]
        text = IMAGE.format(width=row["width"], height=row["height"], objects="".join(objects))
        (folder / "Annotations" / f"{row['id']}.xml").write_text(text)
        (folder / "JPEGImages" / f"{row['id']}.jpg").write_bytes(row["image"])
    for split in ("train", "val", "test"):
        ids = [row["id"] for row in rows if row["split"] == split]
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join([*ids, ""]))
    return folder


def test_the_folders_hold_what_the_table_does(recipe: Any, source: Path, tmp_path: Path) -> None:
    plain = built(recipe, configured(recipe, source))
    found = built(recipe, configured(recipe, write_voc(tmp_path / "VOC2012", small_rows())))
    assert found.names == plain.names
    for part in ("train", "teacher_dev", "dev", "test"):
        mine, theirs = getattr(found, part).known, getattr(plain, part).known
        assert (len(mine) > 0, mine.images.equal(theirs.images)) == (True, True)
        assert (mine.boxes.equal(theirs.boxes), mine.labels.equal(theirs.labels)) == (True, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("JPEGImages/i2.jpg", None, r"There is no image .*i2\.jpg, which ImageSets/Main names"),
        ("Annotations/i2.xml", None, r"i2\.xml cannot be read as VOC's annotation: .*No such file"),
        ("Annotations/i2.xml", b"<annotation>", r"i2\.xml cannot be read as VOC's annotation: no element found"),
        ("Annotations/i2.xml", OBJECT.encode(), r"i2\.xml cannot be read .* could not convert string to float"),
        ("Annotations/i2.xml", b"<annotation/>", r"i2\.xml: expected a width, a height"),
        ("ImageSets/Main/train.txt", b"\xff\n", r"train\.txt cannot be read: .*Expected an image's id on each line"),
    ],
)
def test_faults(recipe: Any, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = write_voc(tmp_path / "VOC2012", small_rows())
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        built(recipe, configured(recipe, folder))


def test_a_folder_of_no_known_kind(recipe: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", small_rows())
    with pytest.raises(ConfigError, match=r"is a folder\. COCO's needs data\.annotations, .*VOC's holds Annotations"):
        built(recipe, configured(recipe, tmp_path))
