"""Images of one class each: scikit-learn's digits, torchvision's folders, IDX or parquet files."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from extras import needs
from image_table import ImageTable, check_numbering
from label_noise import NOISE, choose_trusted, misread
from numpy.typing import NDArray
from picture_files import opened, read_columns
from pyarrow import Table
from pydantic import Field, model_validator
from splits import Rows, apart
from torch import Tensor
from torch.nn import functional

from aes_dynloss import Batch, DataError
from aes_dynloss.configfile import ConfigModel, user_path

DIGITS = "digits"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class ImageDataConfig(ConfigModel):
    """Which images, how they are divided, and how training images are varied."""

    source: str = Field(
        default=DIGITS,
        description="digits (8 x 8, of scikit-learn); a folder that torchvision.datasets.CIFAR10 reads; one with "
        "*train*.parquet and *test*.parquet (columns image, label); one with the four IDX files in which MNIST and "
        "Fashion-MNIST are published; or one file .parquet of grey squares (columns part, label, and pixels, a byte "
        "each).",
    )
    dev_fraction: float = Field(default=0.1, gt=0, lt=1, description="Part of train on which epochs are chosen.")
    teacher_dev_fraction: float = Field(default=0.0, ge=0, lt=1, description="Part of train that a teacher learns on.")
    most: int | None = Field(default=None, ge=10, description="Training images, at most, with those set apart.")
    labels: Literal["clean", "zero40", "pair45"] = Field(
        default="clean", description="How labels of train, and of teacher_dev, are read; see label_noise.py."
    )
    trusted: int = Field(
        default=0, ge=0, description="Training images whose labels are right, and told; a teacher learns on them."
    )
    untrusted: Literal["keep", "leave_out"] = Field(default="keep", description="The training images beside those.")
    seed: int = Field(default=0, ge=0, description="Of the division, of what is trusted and of what is misread.")
    padding: int = Field(default=0, ge=0, description="Training images are shifted by up to so many pixels.")
    flip: bool = Field(default=False, description="And mirrored, one in two.")

    @model_validator(mode="after")
    def _check_trusted(self) -> Self:
        if self.trusted and self.teacher_dev_fraction:
            raise ValueError(
                "trusted images are what a teacher learns on; leave teacher_dev_fraction out beside trusted"
            )
        if self.untrusted == "leave_out" and not self.trusted:
            raise ValueError("untrusted leave_out needs trusted images to train on; set trusted")
        return self


@dataclass(frozen=True)
class Images(ImageTable):
    """A table of images, see :class:`aes_dynloss.training.batching.Examples`.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        padding: Pixels by which a batch's images are shifted at most.
        flip: Whether they are mirrored at times.
        trusted: Which labels are known to be right, (N,) bool, where others may be wrong.
    """

    images: Tensor
    labels: Tensor
    padding: int = 0
    flip: bool = False
    trusted: Tensor | None = None

    @property
    def trusted_rows(self) -> NDArray[np.int64] | None:
        """Rows whose labels are known to be right."""
        return None if self.trusted is None else np.flatnonzero(self.trusted.cpu().numpy())

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def select(self, rows: Rows) -> Images:
        """The images in these rows, as they are, without what is drawn."""
        trusted = None if self.trusted is None else self.trusted[rows]
        return Images(self.images[rows], self.labels[rows], trusted=trusted)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The images in these rows, varied anew: what is drawn stays in the batch, so that a step can be replayed."""
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        here = index.to(self.labels.device)
        images, labels = self._shifted(self.images[here]), self.labels[here]
        if self.flip:
            mirrored = (torch.rand(len(index)) < 0.5).to(images.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        targets = labels if self.trusted is None else torch.stack([labels, (~self.trusted[here]).long()], dim=1)
        return Batch({"images": images}, targets, torch.zeros_like(labels), index)

    def _shifted(self, images: Tensor) -> Tensor:
        if not self.padding:
            return images
        count, _, height, width = images.shape
        wide = functional.pad(images, (self.padding,) * 4)
        start = torch.randint(2 * self.padding + 1, (2, count, 1)).to(images.device)
        rows = start[0] + torch.arange(height, device=images.device)
        columns = start[1] + torch.arange(width, device=images.device)
        number = torch.arange(count, device=images.device)[:, None, None]
        return wide[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def read_images(config: ImageDataConfig, device: torch.device) -> tuple[Sequence[str], dict[str, Images]]:
    """Names of the classes, and train, teacher_dev, dev and test.

    Raises:
        DataError: The source holds no such images, or only those of one class.
    """
    names, train, test = _read(config.source)
    if len(train.labels.unique()) < 2:  # type: ignore[no-untyped-call]
        raise DataError(f"All training images of {config.source} are of one class, expected two or more.")
    parts = apart(
        train.labels.numpy(),
        {"teacher_dev": config.teacher_dev_fraction, "dev": config.dev_fraction},
        most=config.most,
        seed=config.seed,
    )
    read, trusted = _labels_as_read(config, train.labels.numpy(), parts, len(names))
    if config.untrusted == "leave_out":
        parts["train"], trusted = parts["train"][trusted], None
    images, labels = train.images.to(device), torch.from_numpy(read).to(device)
    tables = {name: Images(images[rows], labels[rows]) for name, rows in parts.items()}
    train = replace(tables["train"], padding=config.padding, flip=config.flip)
    if trusted is not None:
        train = replace(train, trusted=torch.from_numpy(trusted).to(device))
        tables["teacher_dev"] = train.select(np.flatnonzero(trusted))
    return names, {**tables, "train": train, "test": Images(test.images.to(device), test.labels.to(device))}


def _labels_as_read(
    config: ImageDataConfig, labels: Rows, parts: Mapping[str, Rows], classes: int
) -> tuple[Rows, NDArray[np.bool_] | None]:
    """All labels, those of train and teacher_dev as they are read; which of train's are trusted, if some are."""
    random = np.random.default_rng([config.seed, len(NOISE)])
    noisy = misread(labels, NOISE[config.labels](classes), random)
    read = labels.copy()
    for name in ("train", "teacher_dev"):
        read[parts[name]] = noisy[parts[name]]
    if not config.trusted:
        return read, None
    trusted = choose_trusted(len(parts["train"]), config.trusted, random)
    read[parts["train"][trusted]] = labels[parts["train"][trusted]]
    return read, trusted


def _read(source: str) -> tuple[Sequence[str], Images, Images]:
    if source == DIGITS:
        return _digits()
    folder = user_path(source, "data.source")
    if folder.is_file():
        return _grey_squares(folder)
    if any(folder.glob("train-images-idx3-ubyte*")):
        return _published_squares(folder)
    if (folder / "cifar-10-batches-py").is_dir():
        needs("torchvision")
        import torchvision.datasets

        try:
            parts = [torchvision.datasets.CIFAR10(folder, train=train) for train in (True, False)]
        except RuntimeError as error:  # incomplete, or not as it was downloaded
            raise DataError(f"data.source: {folder}: {error} Download it again, whole.") from None
        images = [Images(torch.from_numpy(p.data).permute(0, 3, 1, 2), torch.tensor(p.targets)) for p in parts]
        return parts[0].classes, *images
    known = sorted(folder.glob("*.parquet"))
    files = [[path for path in known if re.search(rf"(?<![a-z]){part}", path.name)] for part in ("train", "test")]
    if [len(paths) for paths in files] != [1, 1]:
        raise DataError(
            f"data.source: {folder} holds neither cifar-10-batches-py, nor train-images-idx3-ubyte, nor one "
            "*train*.parquet and one *test*.parquet. Name the folder that torchvision.datasets.CIFAR10 downloads to, "
            "or one with such files."
        )
    tables = {path: read_columns(path, ("image", "label")) for (path,) in files}
    labels = {path: _labels(table, path) for path, table in tables.items()}
    seen = set[int]().union(*labels.values())
    check_numbering(seen, lambda label: _where(labels, label), "Number the classes anew.")
    train, test = (_images(table, labels[path], path) for path, table in tables.items())
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = [f"{part.images.shape[3]} x {part.images.shape[2]}" for part in (train, test)]
        raise DataError(
            f"The images of {', '.join(map(str, tables))} are {' and '.join(sizes)}, expected one size. Make all alike."
        )
    count = max(seen) + 1
    is_cifar = count == len(CIFAR10) and "cifar10" in files[0][0].name
    return CIFAR10 if is_cifar else [str(number) for number in range(count)], train, test


def _digits() -> tuple[Sequence[str], Images, Images]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels; the last third is test."""
    from sklearn.datasets import load_digits

    known = load_digits()
    images = torch.from_numpy((known.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(known.target.astype(np.int64))
    first = 2 * len(labels) // 3
    names = [str(name) for name in known.target_names]
    return names, Images(images[:first], labels[:first]), Images(images[first:], labels[first:])


def _grey_squares(path: Path) -> tuple[Sequence[str], Images, Images]:
    """One file with both parts, as MNIST is kept: a byte a pixel, row by row."""
    table = read_columns(path, ("part", "label", "pixels"))
    labels = _labels(table, path)
    check_numbering(set(labels), lambda label: _where({path: labels}, label), "Number the classes anew.")
    pixels, parts = table["pixels"].to_pylist(), np.array(table["part"].to_pylist())
    side = math.isqrt(len(pixels[0]))
    odd = next((number for number, one in enumerate(pixels, start=1) if len(one) != side**2), None)
    if odd is not None:
        raise DataError(
            f"Row {odd} of {path}: the image has {len(pixels[odd - 1])} pixels, expected {side} x {side}. Make all "
            "images squares of one size."
        )
    images = torch.frombuffer(bytearray(b"".join(pixels)), dtype=torch.uint8).view(-1, 1, side, side)
    tables = []
    for part in ("train", "test"):
        rows = np.flatnonzero(parts == part)
        if len(rows) == 0:
            raise DataError(
                f"{path}: the column part holds {', '.join(sorted(set(parts)))}, expected train and test. Name them so."
            )
        tables.append(Images(images[rows], torch.tensor(labels)[rows]))
    return [str(number) for number in range(max(labels) + 1)], tables[0], tables[1]


def _published_squares(folder: Path) -> tuple[Sequence[str], Images, Images]:
    """The four files of MNIST, compressed or not."""
    tables = []
    for part in ("train", "t10k"):
        images, labels = (_idx(folder, f"{part}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{folder}: {part}-images-idx3-ubyte has the shape {images.shape}, {part}-labels-idx1-ubyte "
                f"{labels.shape}, expected (N, height, width) and (N,). Copy the files again, whole."
            )
        tables.append(Images(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64))))
    return [str(number) for number in range(int(tables[0].labels.max()) + 1)], tables[0], tables[1]


def _idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """An array of bytes in IDX: two zeros, the type 8, the number of axes, their lengths, and the values."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder} holds no {name} or {name}.gz. Put all four files there.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        axes = content[3]
        shape = np.frombuffer(content, dtype=">i4", offset=4, count=axes)
        if content[:3] != b"\0\0\x08":
            raise ValueError(f"begins with {content[:3].hex()}, expected 000008")
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(f"{path} is no whole IDX file of bytes: {error}. Copy it again.") from None


def _labels(table: Table, path: Path) -> list[int]:
    labels: list[int] = table["label"].to_pylist()
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, int) or label < 0:
            raise DataError(f"Row {number} of {path}: the label is {label!r}, expected a class's number, 0 or more.")
    return labels


def _where(labels: Mapping[Path, Sequence[int]], label: int) -> str:
    """The first row with a label."""
    return next(f"Row {known.index(label) + 1} of {path}" for path, known in labels.items() if label in known)


def _images(table: Table, labels: Sequence[int], path: Path) -> Images:
    images = np.stack(list(_decoded(table["image"].to_pylist(), path)))
    return Images(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


def _decoded(values: Sequence[object], path: Path) -> Iterator[NDArray[np.uint8]]:
    size = None
    for number, value in enumerate(values, start=1):
        image = opened(value, "image", f"Row {number} of {path}").convert("RGB")
        size = size or image.size
        if image.size != size:
            raise DataError(
                f"Row {number} of {path}: the image is {image.width} x {image.height}, those before it "
                f"{size[0]} x {size[1]}. Make all alike."
            )
        yield np.asarray(image)
