"""Files of images with labelled boxes: one parquet file, or a folder of images beside COCO's JSON."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from picture_files import opened, read_columns
from PIL import Image

from aes_dynloss import DataError

logger = logging.getLogger("aes_dynloss.vision")

COLUMNS = ("image", "split", "width", "height", "boxes", "labels")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class BoxedImage:
    """An image, still encoded, and what is in it.

    Args:
        where: Where it stands, for messages.
        image: Its file, or the bytes of one.
        size: Width and height that the boxes are counted in, though the image itself may be smaller.
        boxes: Corners x1, y1, x2, y2 in such pixels, (M, 4).
        labels: Words, or numbers of classes.
    """

    where: str
    image: bytes | Path
    size: tuple[float, float]
    boxes: NDArray[np.float64]
    labels: Sequence[str | int]

    def decoded(self) -> Image.Image:
        """The image in RGB.

        Raises:
            DataError: It cannot be read.
        """
        return opened(self.image, "image", self.where).convert("RGB")


def read_parquet(path: Path) -> dict[str, list[BoxedImage]]:
    """The images of each part that the column split names.

    Args:
        path: A file with the columns :data:`COLUMNS`, and an id if it has one.

    Raises:
        DataError: The file cannot be read, lacks a column, or a row is not as expected.
    """
    table = read_columns(path, COLUMNS, optional=["id"])
    parts: dict[str, list[BoxedImage]] = {name: [] for name in SPLITS}
    for number, row in enumerate(table.to_pylist(), start=1):
        where = f"Row {number} of {path}" + (f" ({row['id']})" if "id" in row else "")
        if not isinstance(row["split"], str) or row["split"] not in parts:
            raise DataError(f"{where}: split is {row['split']!r}, expected one of {', '.join(SPLITS)}. Mend the row.")
        parts[row["split"]].append(_checked(where, row["image"], row))
    return parts


def read_coco(folder: Path, annotations: Path) -> tuple[list[BoxedImage], list[str]]:
    """The images and the names of the categories, as torchvision.datasets.CocoDetection reads them.

    Args:
        folder: Of the images.
        annotations: Their JSON, such as instances_train2017.json.

    Raises:
        DataError: The JSON is not COCO's, or an image is missing.
    """
    import torchvision.datasets

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            known = torchvision.datasets.CocoDetection(folder, annotations)
        names = {number: known.coco.cats[number]["name"] for number in sorted(known.coco.cats)}
        images = [_of_coco(known.coco, number, folder, names) for number in known.ids]
        if not names:
            raise ValueError("there are no categories")
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        raise DataError(
            f"{annotations} cannot be read as COCO's instances: {type(error).__name__}: {error}. Name such a JSON file."
        ) from None
    return images, list(names.values())


def _of_coco(coco: Any, number: int, folder: Path, names: Mapping[int, str]) -> BoxedImage:  # noqa: ANN401
    values = coco.imgs[number]
    file = folder / values["file_name"]
    if not file.is_file():
        raise DataError(f"There is no image {file}, which the annotations name. Complete data.source.")
    # A crowd's box is no box of one thing.
    found = [known for known in coco.loadAnns(coco.getAnnIds(number)) if not known.get("iscrowd")]
    boxes = [[x, y, x + width, y + height] for x, y, width, height in (known["bbox"] for known in found)]
    labels = [names[known["category_id"]] for known in found]
    return _checked(str(file), file, {**values, "boxes": boxes, "labels": labels})


def _checked(where: str, image: bytes | Path, values: Mapping[str, Any]) -> BoxedImage:
    """One image, its boxes checked and cut off at its borders."""
    try:
        labels = list(values["labels"] or [])
        boxes = np.asarray(values["boxes"] or [], dtype=np.float64).reshape(-1, 4)
        width, height = float(values["width"]), float(values["height"])
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: expected a width, a height, a list of boxes of four numbers each and one of labels, found "
            f"{values['width']}, {values['height']}, {values['boxes']} and {values['labels']}. Mend the row."
        ) from None
    if not all(isinstance(label, str | int) for label in labels):
        raise DataError(f"{where}: labels should be words or whole numbers, found {labels}. Mend the row.")
    if len(boxes) != len(labels):
        raise DataError(f"{where}: {len(boxes)} boxes and {len(labels)} labels, expected as many. Mend the row.")
    if image is None or not (0 < width < np.inf and 0 < height < np.inf):
        raise DataError(f"{where}: expected an image with width and height above 0, found {width} x {height}.")
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    inside = (low <= [width, height]).all(1) & (high >= 0).all(1) & np.isfinite(boxes).all(1)
    if not inside.all():
        raise DataError(
            f"{where}: the box {boxes[~inside][0].tolist()} lies outside the image of {width:g} x {height:g}. Expected "
            "corners x1, y1, x2, y2 in pixels of width and height; mend the box or the size."
        )
    return BoxedImage(where, image, (width, height), boxes.clip(0, [width, height, width, height]), labels)


def without_empty_boxes(parts: Mapping[str, Sequence[BoxedImage]]) -> dict[str, list[BoxedImage]]:
    """The same without boxes that have no area; a warning counts them."""
    kept: dict[str, list[BoxedImage]] = {}
    empty: list[str] = []
    for name, images in parts.items():
        kept[name] = []
        for image in images:
            good = (image.boxes[:, 2:] > image.boxes[:, :2]).all(1)
            empty += [f"{image.boxes[place].tolist()} in {image.where}" for place in np.flatnonzero(~good)]
            labels = [label for label, is_good in zip(image.labels, good, strict=True) if is_good]
            kept[name].append(replace(image, boxes=image.boxes[good], labels=labels))
    if empty:
        logger.warning("Boxes without an area that are left out: %d, the first is %s.", len(empty), empty[0])
    return kept


def class_names(parts: Mapping[str, Sequence[BoxedImage]], names: Sequence[str] | None) -> list[str]:
    """Names of all classes, in the order of their numbers.

    Args:
        parts: All images.
        names: What a configuration says; None: the words that occur, sorted, or the numbers up to the highest.

    Raises:
        DataError: A label is none of them, or some labels are words and some are numbers.
    """
    seen = Counter(label for images in parts.values() for image in images for label in image.labels)
    words = sorted(label for label in seen if isinstance(label, str))
    numbers = sorted(label for label in seen if isinstance(label, int))
    if not seen or (words and numbers):
        found = ", ".join(repr(label) for label in list(seen)[:5]) or "none"
        raise DataError(f"The labels of boxes should be all words or all whole numbers; found {found}. Mend them.")
    known = list(names) if names is not None else words or [str(number) for number in range(numbers[-1] + 1)]
    wrong = [word for word in words if word not in known] or [n for n in numbers if not 0 <= n < len(known)]
    if wrong:
        where = next(image.where for image in _all(parts) if wrong[0] in image.labels)
        expected = f"one of {', '.join(known[:8])}" if words else f"0 to {len(known) - 1}"
        raise DataError(f"{where}: the label {wrong[0]!r} is not {expected}. Mend it, or data.classes.")
    return known


def _all(parts: Mapping[str, Sequence[BoxedImage]]) -> Iterator[BoxedImage]:
    for images in parts.values():
        yield from images
