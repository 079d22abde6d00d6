"""Images with a class for each pixel: a parquet file, or a folder laid out as CamVid's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from image_table import ImageTable
from mask_files import Pair, find_pairs, open_pair
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PositiveInt, model_validator
from splits import apart
from torch import Tensor
from torch.nn import functional

from aes_dynloss import Batch, DataError
from aes_dynloss.configfile import ConfigModel, user_path

CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
VOID = -1


class MaskDataConfig(ConfigModel):
    """Which images, how they are divided, how training images are varied, and which pixels a step looks at."""

    source: str = Field(
        description="A .parquet file (columns id, split, image, mask; split is train, val or test), or a folder with "
        "train, trainannot, val, valannot, test and testannot of .png files, a mask named as its image."
    )
    classes: list[str] = Field(
        default=list(CAMVID), min_length=2, description="Names of the classes: the first is 0 in a mask."
    )
    void: int = Field(default=11, ge=0, le=255, description="What a mask holds where no class is true.")
    size: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="[height, width] that images are brought to; null: as they are, all alike."
    )
    dev_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Part of train on which epochs are chosen, in place of val, which is then not used; 0: on val. "
        "CamVid's val is 7 seconds of one film, train is three films.",
    )
    teacher_dev_fraction: float = Field(default=0.0, ge=0, lt=1, description="Part of train that a teacher learns on.")
    stretch: int = Field(
        default=10,
        ge=1,
        description="Images of a sequence (the id up to its last _) that stay together when train is divided, since a "
        "film's neighbours are alike; 1 where images have nothing to do with each other, 1000 for whole sequences.",
    )
    seed: int = Field(default=0, ge=0, description="Of the division.")
    flip: bool = Field(default=False, description="Training images are mirrored, one in two.")
    zoom: float = Field(
        default=1.0, ge=1, le=8, description="And enlarged by up to this factor, then cut to their size at random."
    )
    pixels: int = Field(default=4096, ge=1, description="Pixels of an image that a step looks at.")

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.void < len(self.classes):
            raise ValueError(
                f"void is {self.void}, which is the class {self.classes[self.void]}; expected a number that is no "
                f"class's, {len(self.classes)} to 255"
            )
        twice = next((name for name in self.classes if self.classes.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"classes: {twice!r} stands twice; give each class a name of its own")
        return self


@dataclass(frozen=True)
class Masks(ImageTable):
    """A table of images and masks, see :class:`aes_dynloss.training.batching.Examples`.

    Args:
        images: (N, 3, H, W) uint8.
        masks: The class of each pixel, (N, H, W) int16; -1 where none is true.
        pixels: Pixels of an image that a loss sees.
        drawn: Whether they are drawn anew for each batch; else they are the same always, and nothing is random.
        flip: Whether a batch's images are mirrored at times.
        zoom: The factor by which they are enlarged at most.
    """

    images: Tensor
    masks: Tensor
    pixels: int
    drawn: bool = False
    flip: bool = False
    zoom: float = 1.0

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The images in these rows, varied anew: what is drawn stays in the batch, so that a step can be replayed.

        Returns:
            Targets are (B, P, 2) int64: a pixel's place in the flattened mask, and its class or -1.
        """
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        here = index.to(self.images.device)
        images, masks = self._zoomed(self.images[here], self.masks[here])
        if self.flip:
            mirrored = (torch.rand(len(index)) < 0.5).to(images.device)[:, None, None]
            images = torch.where(mirrored[:, None], images.flip(3), images)
            masks = torch.where(mirrored, masks.flip(2), masks)
        places = self._places(len(index)).to(masks.device)
        classes = masks.flatten(1).gather(1, places).long()
        return Batch({"images": images}, torch.stack([places, classes], dim=2), torch.zeros_like(here), index)

    def _places(self, count: int) -> Tensor:
        """One pixel of each of P equal stretches of a flattened mask, (B, P)."""
        size = self.masks[0].numel()
        shape = (count, self.pixels)
        within = torch.rand(shape, dtype=torch.float64) if self.drawn else torch.full(shape, 0.5, dtype=torch.float64)
        return ((torch.arange(self.pixels) + within) * (size / self.pixels)).long().clamp(max=size - 1)

    def _zoomed(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        if self.zoom == 1:
            return images, masks
        height, width = masks.shape[1:]
        parts = 1 / (1 + (self.zoom - 1) * torch.rand(len(images)))
        starts = torch.rand(len(images), 2)
        large, marked = [], []
        for image, mask, part, (down, right) in zip(images, masks, parts.tolist(), starts.tolist(), strict=True):
            high, wide = max(1, round(height * part)), max(1, round(width * part))
            top, left = int(down * (height - high + 1)), int(right * (width - wide + 1))
            window = (slice(top, top + high), slice(left, left + wide))
            cut = image[:, *window][None].float()
            large.append(functional.interpolate(cut, (height, width), mode="bilinear", align_corners=False)[0])
            known = mask[window][None, None].float()
            marked.append(functional.interpolate(known, (height, width), mode="nearest-exact")[0, 0])
        return torch.stack(large).round().to(images.dtype), torch.stack(marked).to(masks.dtype)


def read_masks(config: MaskDataConfig, device: torch.device) -> dict[str, Masks]:
    """Read train, teacher_dev, dev and test.

    Raises:
        DataError: The source holds no such images.
        ConfigError: Nothing of train is left for a part of it.
    """
    source = user_path(config.source, "data.source")
    splits = find_pairs(source)
    tables: dict[str, Masks] = {}
    size = None
    for split, pairs in splits.items():
        read = []
        for pair in pairs:
            read.append(_read(pair, config, size))
            size = read[0][1].shape
        images = torch.from_numpy(np.stack([image for image, _ in read])).permute(0, 3, 1, 2).contiguous()
        masks = torch.from_numpy(np.stack([mask for _, mask in read]))
        tables[split] = Masks(images.to(device), masks.to(device), config.pixels)
        _check_labelled(masks, 1, f"{source}, {split}")
    train = tables["train"]
    parts = {
        name: replace(train, images=train.images[rows], masks=train.masks[rows], drawn=True)
        for name, rows in _divided([pair.name for pair in splits["train"]], config).items()
    }
    for name, part in parts.items():
        if len(part):
            _check_labelled(part.masks, 2 if name == "train" else 1, f"{source}, {name}")
    parts["train"] = replace(parts["train"], flip=config.flip, zoom=config.zoom)
    dev = replace(parts["dev"], drawn=False) if config.dev_fraction else tables["val"]
    return {**parts, "dev": dev, "test": tables["test"]}


def _divided(names: Sequence[str], config: MaskDataConfig) -> Mapping[str, NDArray[np.int64]]:
    """Rows of train, teacher_dev and dev: whole stretches of a sequence, each sequence in the same proportions."""
    sequences = np.asarray([name.rpartition("_")[0] for name in names])
    stretches = np.empty(len(names), dtype=np.int64)
    kinds: list[int] = []
    for kind, sequence in enumerate(np.unique(sequences)):
        rows = np.flatnonzero(sequences == sequence)
        rows = rows[np.argsort(np.asarray(names)[rows], kind="stable")]
        stretches[rows] = len(kinds) + np.arange(len(rows)) // config.stretch
        kinds += [kind] * -(-len(rows) // config.stretch)
    fractions = {"teacher_dev": config.teacher_dev_fraction, "dev": config.dev_fraction}
    parts = apart(kinds, fractions, seed=config.seed)
    return {name: np.flatnonzero(np.isin(stretches, chosen)) for name, chosen in parts.items()}


def _read(
    pair: Pair, config: MaskDataConfig, size: tuple[int, ...] | None
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    image, mask = open_pair(pair)
    if config.size is not None:
        wanted = config.size[::-1]
        image, mask = image.resize(wanted, Image.Resampling.BILINEAR), mask.resize(wanted, Image.Resampling.NEAREST)
    if size is not None and (image.height, image.width) != size:
        raise DataError(
            f"{pair.where}: the image is {image.width} x {image.height}, those before it {size[1]} x {size[0]}. Set "
            "data.size, to which all are brought."
        )
    numbers, count = np.asarray(mask).astype(np.int16), len(config.classes)
    wrong = numbers[(numbers >= count) & (numbers != config.void)]
    if wrong.size:
        raise DataError(
            f"{pair.where}: the mask holds {wrong[0]}, expected 0 to {count - 1}, or {config.void} for void. Mend it, "
            "or set data.classes and data.void."
        )
    return np.asarray(image), np.where(numbers == config.void, np.int16(VOID), numbers)


def _check_labelled(masks: Tensor, least: int, where: str) -> None:
    count = len(masks[masks != VOID].unique())  # type: ignore[no-untyped-call]
    if count < least:
        raise DataError(f"{where}: the masks name {count} classes, expected {least} or more. Look at data.void.")
