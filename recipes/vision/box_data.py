"""Images of one size with boxes, divided, varied, and matched to anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import torch
from anchors import AnchorGrid, match
from box_files import BoxedImage, class_names, read_coco, read_parquet, without_empty_boxes
from image_table import ImageTable
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator, model_validator
from splits import apart
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from voc_files import is_voc, read_voc

from aes_dynloss import Batch, ConfigError, DataError
from aes_dynloss.configfile import ConfigModel, user_path

GREY = 114
# A training image's variation may push a box over the border; with less than this part left it is no longer a thing.
LEAST_VISIBLE = 0.3

Side = Annotated[int, Field(ge=8, le=4096)]


class Variation(ConfigModel):
    """How training images are varied, drawn anew each time."""

    mirror: bool = Field(default=False, description="Left and right are exchanged, one in two.")
    turn: bool = Field(default=False, description="And top and bottom, for pictures that have no upper side.")
    scale: float = Field(default=0.0, ge=0, lt=1, description="0.2: everything is .8 to 1.2 times as large.")
    shift: float = Field(default=0.0, ge=0, lt=1, description="0.1: moved by up to a tenth of the image's sides.")

    @property
    def none(self) -> bool:
        """Whether images stay as they are."""
        return self == Variation()


class BoxDataConfig(ConfigModel):
    """Which images, how they are divided, and how training images are varied."""

    source: str = Field(
        description="A parquet file with the columns image, split (train, val, test), width, height, boxes (x1, y1, "
        "x2, y2 in pixels of width and height) and labels (words or numbers); or Pascal VOC's "
        "folder; or COCO's folder of training images."
    )
    annotations: str | None = Field(default=None, description="With COCO's folder: its boxes, instances_*.json.")
    test_source: str | None = Field(default=None, description="With COCO's folder: the one of test images.")
    test_annotations: str | None = Field(default=None, description="With COCO's folder: the boxes of the test images.")
    classes: list[str] | None = Field(
        default=None, min_length=1, description="Names of the classes; null: as the labels or COCO's categories say."
    )
    size: tuple[Side, Side] = Field(default=(320, 320), description="Height and width that images are fitted into.")
    dev_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Part of train on which epochs are chosen, where there is no val beside a test.",
    )
    teacher_dev_fraction: float = Field(default=0.0, ge=0, lt=1, description="Part of train that a teacher learns on.")
    most: int | None = Field(default=None, ge=4, description="Training images, at most, with those set apart.")
    seed: int = Field(default=0, ge=0, description="Of the division.")
    vary: Variation = Field(default=Variation())

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("the same name stands twice; name each class once")
        return names

    @model_validator(mode="after")
    def _check_folders(self) -> Self:
        given = [value is not None for value in (self.annotations, self.test_source, self.test_annotations)]
        if any(given) and not all(given):
            raise ValueError("a folder of images needs annotations, test_source and test_annotations, all three")
        return self


@dataclass(frozen=True)
class BoxedImages:
    """Images of one size, and what is in them.

    Args:
        images: (N, 3, H, W) uint8.
        boxes: Corners x1, y1, x2, y2 in pixels, (N, M, 4) float32, on the CPU.
        labels: Their classes, -1 for padding, (N, M) int64, on the CPU.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class BoxTable(ImageTable):
    """A table of images, see :class:`aes_dynloss.training.batching.Examples`.

    Args:
        known: The images.
        grid: Anchors that boxes are matched to.
        vary: How images are varied.
    """

    known: BoxedImages
    grid: AnchorGrid
    vary: Variation

    def __len__(self) -> int:
        """Number of images."""
        return len(self.known)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The images in these rows, varied anew: what is drawn stays in the batch, so that a step can be replayed."""
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        known = self.known
        images, boxes, labels = known.images[index.to(known.images.device)], known.boxes[index], known.labels[index]
        if not self.vary.none:
            images, boxes, labels = varied(images, boxes, labels, self.vary)
        targets = match(boxes, labels, self.grid).packed()
        return Batch({"images": images}, targets, torch.zeros_like(index), index)


def varied(images: Tensor, boxes: Tensor, labels: Tensor, vary: Variation) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror, scale and shift images with their boxes, by draws of torch's generator.

    Args:
        images: (B, 3, H, W) uint8.
        boxes: (B, M, 4).
        labels: (B, M), -1 for padding.
        vary: What may happen.

    Returns:
        The three anew; what is new in an image is grey, and a box of which too little is left becomes padding.
    """
    draws = torch.rand(len(images), 5)
    grown = 1 + vary.scale * (2 * draws[:, :1] - 1)
    turned = torch.tensor([vary.mirror, vary.turn]) & (draws[:, 1:3] < 0.5)
    factor = torch.where(turned, -grown, grown)
    moved = 2 * vary.shift * (2 * draws[:, 3:] - 1)
    # A place p of the old image, on [-1, 1], is at factor * p + moved of the new one; the grid asks the other way.
    back = torch.cat([torch.diag_embed(1 / factor), (-moved / factor)[:, :, None]], dim=2).to(images.device)
    places = functional.affine_grid(back, list(images.shape), align_corners=False)
    around = functional.grid_sample(images.float() - GREY, places, align_corners=False) + GREY
    side = torch.tensor([images.shape[3], images.shape[2]])
    corners = boxes.unflatten(2, (2, 2))  # type: ignore[no-untyped-call]
    corners = (corners / side * 2 - 1) * factor[:, None, None] + moved[:, None, None]
    corners = ((corners + 1) / 2 * side).sort(dim=2).values
    cut = torch.minimum(corners.clamp(min=0), side)
    before, after = ((ends[:, :, 1] - ends[:, :, 0]).prod(2) for ends in (corners, cut))
    kept = (labels >= 0) & (after > LEAST_VISIBLE * before)
    return around.round().clamp(0, 255).to(torch.uint8), cut.flatten(2), torch.where(kept, labels, -1)


def read_boxes(config: BoxDataConfig, device: torch.device) -> tuple[list[str], dict[str, BoxedImages]]:
    """Names of the classes, and train, teacher_dev, dev and test.

    Where the source has no test, its val is the test, and dev is set apart from train.

    Raises:
        DataError: The source holds no such images, or a part has no boxes.
    """
    given, names = _given(config)
    given = without_empty_boxes(given)
    if not given["test"]:
        given["test"], given["val"] = given["val"], []
    empty = [name for name in ("train", "test") if not given[name]]
    if empty:
        raise DataError(
            f"data.source: {config.source} has no images for {empty[0]}. Expected some whose split is train, and some "
            "whose split is test or, without those, val."
        )
    names = class_names(given, config.classes or names)
    fractions = {"teacher_dev": config.teacher_dev_fraction, "dev": 0.0 if given["val"] else config.dev_fraction}
    rows = apart([0] * len(given["train"]), fractions, most=config.most, seed=config.seed)
    parts = {name: [given["train"][row] for row in chosen] for name, chosen in rows.items()}
    parts["dev"] = given["val"] or parts["dev"]
    parts["test"] = given["test"]
    most = max(len(image.labels) for images in parts.values() for image in images)
    numbers = {name: number for number, name in enumerate(names)}
    tables = {name: _fitted(images, numbers, config.size, most, device) for name, images in parts.items()}
    for name, part in tables.items():
        if len(part) and not (part.labels >= 0).any():
            raise DataError(f"The {len(part)} images of {name} in {config.source} have no boxes. Add images with some.")
    return names, tables


def _given(config: BoxDataConfig) -> tuple[dict[str, list[BoxedImage]], list[str] | None]:
    source = user_path(config.source, "data.source")
    if is_voc(source):
        return read_voc(source), None
    if source.is_dir() and (config.annotations is None or config.test_source is None):
        raise ConfigError(
            f"data.source: {source} is a folder. COCO's needs data.annotations, data.test_source and "
            "data.test_annotations beside it; VOC's holds Annotations, ImageSets/Main and JPEGImages. Else name a "
            ".parquet file."
        )
    if config.annotations is None or config.test_source is None or config.test_annotations is None:
        return read_parquet(source), None
    train, names = read_coco(source, user_path(config.annotations, "data.annotations"))
    test, others = read_coco(
        user_path(config.test_source, "data.test_source"), user_path(config.test_annotations, "data.test_annotations")
    )
    if others != names:
        raise DataError(
            f"data.test_annotations: {config.test_annotations} has the categories {', '.join(others[:5])}, expected "
            f"those of {config.annotations}, {', '.join(names[:5])}. Name two files of the same categories."
        )
    return {"train": train, "val": [], "test": test}, names


def _fitted(
    images: Sequence[BoxedImage], numbers: dict[str, int], size: tuple[int, int], most: int, device: torch.device
) -> BoxedImages:
    """All images in one size, and their boxes padded to as many each."""
    pixels = torch.full((len(images), 3, *size), GREY, dtype=torch.uint8)
    boxes = torch.full((len(images), most, 4), -1.0)
    labels = torch.full((len(images), most), -1)
    for row, image in enumerate(tqdm(images, desc="images", unit="image", disable=len(images) < 1000)):
        inside, here = fitted(image, size)
        pixels[row, :, : inside.shape[0], : inside.shape[1]] = torch.from_numpy(inside).permute(2, 0, 1)
        count = len(image.labels)
        boxes[row, :count] = torch.from_numpy(here).float()
        known = [label if isinstance(label, int) else numbers[label] for label in image.labels]
        labels[row, :count] = torch.tensor(known, dtype=torch.int64)
    return BoxedImages(pixels.to(device), boxes, labels)


def fitted(image: BoxedImage, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """An image as large as it can be within a size, its proportions kept, and its boxes in its new pixels.

    Args:
        image: The image.
        size: Largest height and width.

    Returns:
        (H, W, 3), and (M, 4).
    """
    picture = image.decoded()
    factor = min(size[0] / picture.height, size[1] / picture.width)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    resized = picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BILINEAR)
    # The boxes may be counted in the pixels of an original that was larger than the image is.
    across, down = width / image.size[0], height / image.size[1]
    return np.array(resized), image.boxes * [across, down, across, down]
