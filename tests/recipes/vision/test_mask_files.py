"""What is wrong with files of masks is said, with where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_masks import (
    HEIGHT,
    VOID,
    WIDTH,
    painted,
    png,
    rows,
    tables,
    unpacked,
    written,
)

from aes_dynloss import DataError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")


def changed(place: int, **values: Any) -> list[dict[str, Any]]:
    table = rows()
    table[place] |= values
    return table


def spoiled(place: int, value: int) -> bytes:
    mask = painted(place)[1]
    mask[3, 3] = value
    return png(mask)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            changed(2, mask=spoiled(2, 7)),
            r"Row 3 of .*painted.parquet \(film0_002\): the mask holds 7, expected 0 to 2",
        ),
        (changed(1, image=b"nothing"), r"Row 2 of .*: the image cannot be read: .*Mend or remove it"),
        (changed(1, image=None), r"Row 2 of .*: the image cannot be read"),
        (changed(1, mask=png(painted(1)[1])[:60]), r"Row 2 of .*: the mask cannot be read"),
        (changed(4, mask=png(painted(4)[0])), r"Row 5 of .*: the mask is of the mode RGB, expected one number"),
        (changed(4, mask=png(painted(4)[1][:10])), r"Row 5 of .*: the image is 28 x 20, its mask 28 x 10"),
        (
            changed(9, image=png(painted(9)[0][:10]), mask=png(painted(9)[1][:10])),
            r"Row 10 of .*: the image is 28 x 10, those before it 28 x 20. Set data.size",
        ),
        (changed(5, split="dev"), r"Row 6 of .*: split is 'dev', expected train, val, test"),
        (rows()[:11], r"has no row whose split is test"),
        ([{"id": "1", "picture": b""}], r"has the columns id, picture, and split, image, mask is not among them"),
        (
            [
                {**row, "mask": png(np.full((HEIGHT, WIDTH), VOID, np.uint8))} if row["split"] == "val" else row
                for row in rows()
            ],
            r"painted.parquet, val: the masks name 0 classes, expected 1 or more",
        ),
        (
            [{**row, "mask": png(np.zeros((HEIGHT, WIDTH), np.uint8))} for row in rows()],
            r"painted.parquet, train: the masks name 1 classes, expected 2 or more",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, table: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tables(written(tmp_path / "painted.parquet", table))


def test_a_bad_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.source: there is nothing at .*none.parquet"):
        tables(tmp_path / "none.parquet")
    (tmp_path / "words.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"words.parquet cannot be read as parquet"):
        tables(tmp_path / "words.parquet")
    folder = unpacked(tmp_path / "folder", rows())
    lost = next((folder / "valannot").iterdir())
    lost.unlink()
    with pytest.raises(DataError, match=rf"val/{lost.name} has no fellow in .*valannot"):
        tables(folder)
    (folder / "val" / lost.name).unlink()
    lost = next((folder / "train").iterdir())
    lost.unlink()
    with pytest.raises(DataError, match=rf"trainannot/{lost.name} has no fellow in .*train\. Add"):
        tables(folder)
    with pytest.raises(DataError, match=r"train holds no .png file"):
        tables(tmp_path)
