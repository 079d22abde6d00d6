"""Labels that are misread: how often, as what, and which are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from aes_dynloss.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

SIDE, TRAIN, TEST = 4, 600, 40


def write_squares(path: Path, **changes: Any) -> Path:
    """Grey squares as MNIST is kept, ten classes in turn; the first pixels tell a row's number."""
    count = TRAIN + TEST
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE * SIDE), dtype=np.uint8)
    pixels[:, 0], pixels[:, 1] = np.divmod(np.arange(count), 256)
    columns = {
        "part": ["test"] * TEST + ["train"] * TRAIN,
        "label": [number % 10 for number in range(count)],
        "pixels": [row.tobytes() for row in pixels],
    }
    parquet.write_table(pyarrow.table(columns | changes), path)
    return path


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    return write_squares(tmp_path / "squares.parquet")


def read(source: Path, **changed: Any) -> tuple[Any, dict[str, Any]]:
    from image_data import ImageDataConfig, read_images

    values = {"source": str(source), "dev_fraction": 0.1, **changed}
    return read_images(ImageDataConfig.model_validate(values), torch.device("cpu"))


def truth(images: Any) -> torch.Tensor:
    """True classes, by the rows' numbers in the pixels."""
    flat = images.images.flatten(1).long()
    return (256 * flat[:, 0] + flat[:, 1]) % 10


def test_one_file_of_grey_squares(squares: Path) -> None:
    names, parts = read(squares)
    assert names == [str(number) for number in range(10)]
    assert {name: len(part) for name, part in parts.items()} == {
        "teacher_dev": 0, "dev": 60, "train": 540, "test": TEST,
    }  # fmt: skip
    assert parts["train"].images.shape[1:] == (1, SIDE, SIDE)
    assert all(torch.equal(part.labels, truth(part)) for part in parts.values())
    assert parts["train"].trusted_rows is None
    assert parts["train"].batch([0, 3]).targets.shape == (2,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": ["train"] * (TRAIN + TEST)}, r"the column part holds train, expected train and test\. Name them so"),
        (
            {"pixels": [bytes(16)] * 5 + [bytes(15)] * (TRAIN + TEST - 5)},
            r"Row 6 of .*: the image has 15 pixels, expected 4 x 4\. Make all images squares",
        ),
        ({"pixels": [bytes(15)] * (TRAIN + TEST)}, r"Row 1 of .*: the image has 15 pixels, expected 3 x 3"),
        ({"label": [-1] * (TRAIN + TEST)}, r"Row 1 of .*: the label is -1"),
    ],
)
def test_squares_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write_squares(tmp_path / "odd.parquet", **changes))


def test_the_rules() -> None:
    """Each row a distribution; the shares that the names tell."""
    from label_noise import NOISE

    matrices = {name: noise(10) for name, noise in NOISE.items()}
    assert all(np.allclose(matrix.sum(1), 1.0) and (matrix >= 0).all() for matrix in matrices.values())
    assert matrices["zero40"][3].tolist() == pytest.approx([0.4, 0, 0, 0.6, 0, 0, 0, 0, 0, 0])
    assert matrices["zero40"][0, 0] == pytest.approx(1.0)
    assert matrices["pair45"][9].tolist() == pytest.approx([0.45, 0, 0, 0, 0, 0, 0, 0, 0, 0.55])


@pytest.mark.parametrize("labels", ["clean", "zero40", "pair45"])
def test_labels_are_misread_as_often_as_the_rule_says(labels: str) -> None:
    from label_noise import NOISE, misread

    matrix = NOISE[labels](10)
    true = np.arange(200_000) % 10
    read_as = misread(true, matrix, np.random.default_rng(1))
    found = np.zeros((10, 10))
    np.add.at(found, (true, read_as), 10 / len(true))
    assert found == pytest.approx(matrix, abs=0.015)
    assert (found[matrix == 0] == 0).all()


def test_what_is_trusted_dev_and_test_is_right(squares: Path) -> None:
    _, parts = read(squares, labels="pair45", trusted=50)
    train, teacher_dev = parts["train"], parts["teacher_dev"]
    rows = train.trusted_rows
    assert len(rows) == len(teacher_dev) == 50
    assert all(torch.equal(parts[name].labels, truth(parts[name])) for name in ("dev", "test", "teacher_dev"))
    assert torch.equal(train.labels[rows], truth(train)[rows])
    assert torch.equal(train.images[rows], teacher_dev.images)  # they are in training too
    wrong = (train.labels != truth(train)).float()
    assert float(wrong.sum()) / 490 == pytest.approx(0.45, abs=0.08)
    assert torch.equal(train.labels[wrong.bool()], (truth(train)[wrong.bool()] + 1) % 10)
    targets = train.batch(list(range(540))).targets
    assert torch.equal(targets[:, 0], train.labels)
    assert np.flatnonzero(targets[:, 1].numpy() == 0).tolist() == rows.tolist()


def test_draws_follow_the_seed_alone(squares: Path) -> None:
    """And what is trusted does not depend on the rule."""
    draws = [read(squares, labels="zero40", trusted=50, seed=seed)[1]["train"] for seed in (0, 0, 1)]
    assert torch.equal(draws[0].labels, draws[1].labels)
    assert not torch.equal(draws[0].labels, draws[2].labels)
    assert draws[0].trusted_rows.tolist() != draws[2].trusted_rows.tolist()
    other = read(squares, labels="pair45", trusted=50)[1]["train"]
    assert other.trusted_rows.tolist() == draws[0].trusted_rows.tolist()


def test_trusted_alone(squares: Path) -> None:
    _, parts = read(squares, labels="zero40", trusted=50, untrusted="leave_out")
    assert len(parts["train"]) == 50
    assert torch.equal(parts["train"].labels, truth(parts["train"]))
    assert parts["train"].trusted_rows is None
    assert len(parts["teacher_dev"]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trusted": 540}, "data.trusted is 540, expected fewer than the 540 training images"),
        ({"trusted": 5, "teacher_dev_fraction": 0.1}, "leave teacher_dev_fraction out beside trusted"),
        ({"untrusted": "leave_out"}, "untrusted leave_out needs trusted images to train on; set trusted"),
    ],
)
def test_what_does_not_go_together(squares: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        read(squares, **changes)
