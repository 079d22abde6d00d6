"""Files of images with labelled boxes: one parquet file, or a folder of images beside COCO's JSON."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from image_table import check_numbering
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
            DataError: It cannot be read, or is not in proportion to the size that its boxes are counted in.
        """
        image = opened(self.image, "image", self.where).convert("RGB")
        exchanged = self.size == image.size[::-1] != image.size
        if exchanged or not _in_proportion(self.size, image.size):
            exchanged = exchanged or _in_proportion(self.size[::-1], image.size)
            raise DataError(
                f"{self.where}: width and height are {self.size[0]:g} and {self.size[1]:g}, expected the image's own "
                f"{image.width} and {image.height}, or those of an original in proportion to it. "
                + ("Exchange the two." if exchanged else "Mend the row.")
            )
        return image


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
        parts[row["split"]].append(checked(where, row["image"], row))
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
    annotations = [known for known in coco.loadAnns(coco.getAnnIds(number)) if not known.get("iscrowd")]
    boxes = [[x, y, x + width, y + height] for x, y, width, height in (known["bbox"] for known in annotations)]
    labels = [names[known["category_id"]] for known in annotations]
    return checked(str(file), file, {**values, "boxes": boxes, "labels": labels})


def checked(where: str, image: bytes | Path, values: Mapping[str, Any]) -> BoxedImage:
    """One image, its boxes checked and cut off at its borders.

    Args:
        where: Where it stands, for messages.
        image: Its file, or the bytes of one.
        values: ``width``, ``height``, ``boxes`` and ``labels``, see :class:`BoxedImage`.

    Raises:
        DataError: A value is not as expected.
    """
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
    boxed = BoxedImage(where, image, (width, height), boxes, labels)
    _check_places(boxed)
    return replace(boxed, boxes=boxes.clip(0, [width, height, width, height]))


def _check_places(image: BoxedImage) -> None:
    """Refuse boxes whose corners are exchanged, or that lie outside their image."""
    boxes, size = image.boxes, image.size
    turned = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(1))
    if turned.size:
        raise DataError(
            f"{image.where}: box {turned[0] + 1}, {boxes[turned[0]].tolist()}, ends before it begins. Expected corners "
            "x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, not a corner and two sides; mend the row."
        )
    inside = (boxes[:, :2] <= size).all(1) & (boxes[:, 2:] >= 0).all(1) & np.isfinite(boxes).all(1)
    if not inside.all():
        image.decoded()  # which says so where it is the size that is wrong
        raise DataError(
            f"{image.where}: the box {boxes[~inside][0].tolist()} lies outside the image of {size[0]:g} x {size[1]:g}. "
            "Expected corners x1, y1, x2, y2 in pixels of width and height; mend the box or the size."
        )


def _in_proportion(original: tuple[float, float], image: tuple[int, int]) -> bool:
    """Whether an image may be a copy of an original in another size, each side rounded by less than a pixel."""
    factors = [((pixels - 1) / side, (pixels + 1) / side) for pixels, side in zip(image, original, strict=True)]
    return max(low for low, _ in factors) <= min(high for _, high in factors)


def without_empty_boxes(parts: Mapping[str, Sequence[BoxedImage]]) -> dict[str, list[BoxedImage]]:
    """The same without boxes that have no area; a warning counts them."""
    kept: dict[str, list[BoxedImage]] = {}
    empty: list[str] = []
    for name, images in parts.items():
        kept[name] = []
        for image in images:
            good = np.all(image.boxes[:, 2:] > image.boxes[:, :2], axis=1)
            empty += [f"{image.boxes[row].tolist()} in {image.where}" for row in np.flatnonzero(~good)]
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
    texts = sorted(label for label in seen if isinstance(label, str))
    numbers = sorted(label for label in seen if isinstance(label, int))
    if not seen or (texts and numbers):
        examples = ", ".join(repr(label) for label in list(seen)[:5]) or "none"
        raise DataError(f"The labels of boxes should be all words or all whole numbers; found {examples}. Mend them.")
    if names is None and numbers:
        check_numbering(numbers, lambda label: _where(parts, label), "Mend them, or name all classes in data.classes.")
    known = list(names) if names is not None else texts or [str(number) for number in range(numbers[-1] + 1)]
    wrong: list[str | int] = [text for text in texts if text not in known]
    wrong += [number for number in numbers if not 0 <= number < len(known)]
    if wrong:
        expected = f"one of {', '.join(known[:8])}" if texts else f"0 to {len(known) - 1}"
        raise DataError(
            f"{_where(parts, wrong[0])}: the label {wrong[0]!r} is not {expected}. Mend it, or data.classes."
        )
    return known


def _where(parts: Mapping[str, Sequence[BoxedImage]], label: str | int) -> str:
    """The first image with a label."""
    return next(image.where for images in parts.values() for image in images if label in image.labels)
