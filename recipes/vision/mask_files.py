"""Files with images and masks: a parquet file, or a folder laid out as CamVid's; they are found, and opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from picture_files import opened, read_columns
from PIL import Image

from aes_dynloss import DataError

SPLITS = ("train", "val", "test")
COLUMNS = ("id", "split", "image", "mask")


@dataclass(frozen=True)
class Pair:
    """An image and its mask, not yet read; ``where`` is for messages."""

    name: str
    where: str
    image: bytes | Path
    mask: bytes | Path


def find_pairs(source: Path) -> Mapping[str, Sequence[Pair]]:
    """The pairs of train, val and test, at least one each.

    Raises:
        DataError: The source is neither such a file nor such a folder.
    """
    if not source.exists():
        raise DataError(
            f"data.source: there is nothing at {source}. Name a .parquet file or a folder of CamVid's kind."
        )
    return _of_folder(source) if source.is_dir() else _of_parquet(source)


def open_pair(pair: Pair) -> tuple[Image.Image, Image.Image]:
    """A pair's image, in RGB, and its mask, of the same size and one number a pixel.

    Raises:
        DataError: They are not such, or cannot be read.
    """
    image, mask = opened(pair.image, "image", pair.where).convert("RGB"), opened(pair.mask, "mask", pair.where)
    if mask.mode not in ("L", "P"):
        raise DataError(
            f"{pair.where}: the mask is of the mode {mask.mode}, expected one number of 8 bits a pixel, its class. "
            "Make numbers of its colours first."
        )
    if image.size != mask.size:
        raise DataError(
            f"{pair.where}: the image is {image.width} x {image.height}, its mask {mask.width} x {mask.height}. Make "
            "them alike."
        )
    return image, mask


def _of_parquet(path: Path) -> dict[str, list[Pair]]:
    table = read_columns(path, COLUMNS)
    pairs_of: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    for number, row in enumerate(table.to_pylist(), start=1):
        where = f"Row {number} of {path} ({row['id']})"
        if not isinstance(row["split"], str) or row["split"] not in pairs_of:
            raise DataError(f"{where}: split is {row['split']!r}, expected {', '.join(SPLITS)}. Mend the row.")
        pairs_of[row["split"]].append(Pair(str(row["id"]), where, row["image"], row["mask"]))
    empty = [split for split, pairs in pairs_of.items() if not pairs]
    if empty:
        raise DataError(f"{path} has no row whose split is {empty[0]}. It takes some of each of {', '.join(SPLITS)}.")
    return pairs_of


def _of_folder(folder: Path) -> dict[str, list[Pair]]:
    pairs_of = {}
    for split in SPLITS:
        images, masks = ({p.name: p for p in (folder / f"{split}{end}").glob("*.png")} for end in ("", "annot"))
        if not images:
            raise DataError(f"{folder / split} holds no .png file. Name CamVid's folder, with train, trainannot, ...")
        alone = min(images.keys() ^ masks.keys(), default=None)
        if alone is not None:
            has, lacks = (split, f"{split}annot") if alone in images else (f"{split}annot", split)
            raise DataError(f"{folder / has / alone} has no fellow in {folder / lacks}. Add it or take this one away.")
        pairs_of[split] = [Pair(Path(n).stem, str(images[n]), images[n], masks[n]) for n in sorted(images)]
    return pairs_of
