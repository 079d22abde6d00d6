"""Where the classification recipe's images come from, how they are divided and varied, and what it starts from."""

from __future__ import annotations

import gzip
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from facts import facts
from PIL import Image
from pyarrow import parquet
from recipe_line import VISION, recipe

from aes_dynloss.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

CPU = torch.device("cpu")


def pixels_of(number: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, side, side, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png")
    return content.getvalue()


SMALL, LARGE = encoded(pixels_of(1)[0]), encoded(pixels_of(1, 8)[0])


def write_parquet(folder: Path, *, train: int = 40, test: int = 9, broken: int | None = None) -> Path:
    """Files as data sets on a hub have them; every third image is grey, labels 0, 1, 2 in turn."""
    folder.mkdir(exist_ok=True)
    for name, number in (("train-00000-of-00001", train), ("test-00000-of-00001", test)):
        images = [encoded(image[:, :, 0] if place % 3 == 0 else image) for place, image in enumerate(pixels_of(number))]
        if broken is not None:
            images[broken] = images[broken][:40]
        table = pyarrow.table({"image": images, "label": [place % 3 for place in range(number)]})
        parquet.write_table(table, folder / f"{name}.parquet")
    return folder


def write_cifar(folder: Path) -> Path:
    """The pickles of CIFAR-10's python version, six images each; torchvision tells them by their digests."""
    inside = folder / "cifar-10-batches-py"
    inside.mkdir()
    for place, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        data = np.random.default_rng(place).integers(0, 256, (6, 3072), dtype=np.uint8)
        (inside / name).write_bytes(pickle.dumps({"data": data, "labels": [(place + n) % 10 for n in range(6)]}))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (inside / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return folder


def read(source: object, **changed: Any) -> tuple[Any, dict[str, Any]]:
    from image_data import ImageDataConfig, read_images

    values = {"source": str(source), "dev_fraction": 0.2, "teacher_dev_fraction": 0.2}
    return read_images(ImageDataConfig.model_validate(values | changed), CPU)


def test_digits() -> None:
    names, parts = read("digits", padding=2)
    assert names == [str(number) for number in range(10)]
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 722,
        "teacher_dev": 239,
        "dev": 237,
        "test": 599,
    }
    assert parts["train"].images.shape == (722, 1, 8, 8)
    assert parts["train"].images.dtype == torch.uint8
    assert int(parts["train"].images.max()) == 255
    assert [parts[name].padding for name in parts] == [0, 0, 2, 0]
    from sklearn.datasets import load_digits

    assert parts["test"].labels.tolist() == load_digits().target[1198:].tolist()


def test_parquet(tmp_path: Path) -> None:
    names, parts = read(write_parquet(tmp_path), flip=True)
    assert names == ["0", "1", "2"]
    assert {name: len(part) for name, part in parts.items()} == {"train": 23, "teacher_dev": 8, "dev": 9, "test": 9}
    pixels = torch.from_numpy(pixels_of(9)).permute(0, 3, 1, 2).clone()
    pixels[::3] = pixels[::3, :1]  # grey ones have three equal channels
    assert torch.equal(parts["test"].images, pixels)
    assert parts["test"].labels.tolist() == [0, 1, 2] * 3
    assert [parts[name].flip for name in ("train", "teacher_dev", "dev", "test")] == [True, False, False, False]
    known = {bytes(image.numpy().tobytes()): place % 3 for place, image in enumerate(_all_train())}
    for name in ("train", "teacher_dev", "dev"):
        for image, label in zip(parts[name].images, parts[name].labels.tolist(), strict=True):
            assert known.pop(image.numpy().tobytes()) == label
    assert not known


def write_idx(folder: Path, *, compressed: bool = False) -> Path:
    """The four files as MNIST is published: big-endian lengths, then bytes."""
    folder.mkdir(exist_ok=True)
    for part, number in (("train", 40), ("t10k", 9)):
        images, labels = pixels_of(number)[:, :, :, 0], np.arange(number, dtype=np.uint8) % 3
        for what, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes()
            content = head + values.tobytes()
            path = folder / f"{part}-{what}-ubyte{'.gz' * compressed}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_files_as_mnist_is_published(tmp_path: Path, compressed: bool) -> None:
    names, parts = read(write_idx(tmp_path, compressed=compressed))
    assert names == ["0", "1", "2"]
    assert {name: len(part) for name, part in parts.items()} == {"train": 23, "teacher_dev": 8, "dev": 9, "test": 9}
    assert torch.equal(parts["test"].images, torch.from_numpy(pixels_of(9)[:, :, :, 0].copy())[:, None])
    assert parts["test"].labels.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"holds no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz\. Put all four"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), r"no whole IDX file of bytes: cannot reshape"),
        (lambda path: path.write_bytes(b""), r"no whole IDX file of bytes"),
        (lambda path: path.write_bytes(b"\0\0\x0d" + path.read_bytes()[3:]), r"begins with 00000d, expected 000008"),
        (lambda path: path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])), r"\(9, 6, 6\), .*\(2,\), expected \(N,"),
    ],
)  # fmt: skip
def test_damaged_idx_files(tmp_path: Path, damage: Any, message: str) -> None:
    damage(write_idx(tmp_path) / "t10k-labels-idx1-ubyte")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_names_of_files_and_of_classes(tmp_path: Path) -> None:
    """`latest` is no test; ten classes are CIFAR-10's only where the files say so."""
    write_parquet(tmp_path)
    (tmp_path / "latest.parquet").write_text("of something else")
    assert read(tmp_path)[0] == ["0", "1", "2"]
    table = pyarrow.table({"image": [encoded(pixels_of(1)[0])] * 40, "label": [place % 10 for place in range(40)]})
    for folder, start in (("plain", ""), ("cifar", "cifar10_")):
        (tmp_path / folder).mkdir()
        for part in ("train", "test"):
            parquet.write_table(table, tmp_path / folder / f"{start}{part}.parquet")
    assert read(tmp_path / "plain")[0] == [str(number) for number in range(10)]
    assert read(tmp_path / "cifar")[0][:2] == ("airplane", "automobile")


def _all_train() -> torch.Tensor:
    pixels = torch.from_numpy(pixels_of(40)).permute(0, 3, 1, 2).clone()
    pixels[::3] = pixels[::3, :1]
    return pixels


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    names, parts = read(write_cifar(tmp_path), teacher_dev_fraction=0.0, dev_fraction=0.4)
    assert names[:2] == ["airplane", "automobile"]
    assert {name: len(part) for name, part in parts.items()} == {"train": 19, "teacher_dev": 0, "dev": 11, "test": 6}
    data = np.random.default_rng(5).integers(0, 256, (6, 3072), dtype=np.uint8)
    assert np.array_equal(parts["test"].images.numpy(), data.reshape(6, 3, 32, 32))
    assert parts["test"].labels.tolist() == [5, 6, 7, 8, 9, 0]


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=facts("data.source", tmp_path, "cifar-10-batches-py", "*train*.parquet")):
        read(tmp_path)


def test_train_and_test_are_of_one_size(tmp_path: Path) -> None:
    for part, image in (("train", SMALL), ("test", LARGE)):
        table = pyarrow.table({"image": [image] * 20, "label": [0, 1] * 10})
        parquet.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(DataError, match=r"are 6 x 6 and 8 x 8, expected one size\. Make all alike"):
        read(tmp_path)


def test_classes_may_be_seen_in_one_part_alone(tmp_path: Path) -> None:
    """A test of few images need not hold every class, nor does a gap hurt."""
    for part, labels in (("train", [0, 1, 2, 4] * 10), ("test", [4])):
        table = pyarrow.table({"image": [SMALL] * len(labels), "label": labels})
        parquet.write_table(table, tmp_path / f"{part}.parquet")
    assert read(tmp_path)[0] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("value", [b"", b"no image", None])
def test_an_image_that_cannot_be_read(tmp_path: Path, value: bytes | None) -> None:
    table = pyarrow.table({"image": [encoded(pixels_of(1)[0]), value], "label": [0, 1]})
    for part in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(DataError, match=r"Row 2 of .*train.parquet: the image cannot be read: .* Mend or remove it"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [SMALL, LARGE], "label": [0, 1]}, r"Row 2 of .*: the image is 8 x 8, those before it 6 x 6\."),
        (
            {"image": [{"bytes": SMALL}] * 2, "label": [0, 1]},
            r"Row 1 of .*: the image is of type dict, expected the bytes",
        ),
        ({"image": [SMALL, SMALL], "label": [0, -1]}, r"Row 2 of .*: the label is -1, expected a class's number"),
        ({"image": [SMALL, SMALL], "label": [0, None]}, r"Row 2 of .*: the label is None, expected a class's number"),
        ({"image": [SMALL, SMALL], "label": ["a", "b"]}, r"Row 1 of .*: the label is 'a', expected a class's number"),
        (
            {"image": [SMALL, SMALL, SMALL], "label": [0, 1, 10**9]},
            r"Row 3 of .*train.parquet: the label 1000000000 makes 1000000001 classes, and only 3 of them occur\. "
            r"Expected numbers from 0 on without large gaps\. Number the classes anew\.",
        ),
        (
            {"image": [SMALL, SMALL], "label": pyarrow.array([0, 2**63], pyarrow.uint64())},
            r"Row 2 of .*: the label 9223372036854775808 makes",
        ),
        ({"image": [SMALL, SMALL], "label": [1, 4]}, r"Row 2 of .*: the label 4 makes 5 classes, and only 2 of them"),
        ({"image": [SMALL, SMALL], "label": [1, 1]}, r"All training images of .* are of one class"),
        ({"image": [], "label": []}, r"train\.parquet has no rows"),
        ({"picture": [SMALL], "label": [0]}, r"has the columns picture, label, and image is not among them"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    for part in ("train", "test"):
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{part}.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.parquet").write_text("words")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as parquet"):
        read(tmp_path)


def test_cifar_that_is_not_whole(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    write_cifar(tmp_path)  # whose digests are not CIFAR-10's
    with pytest.raises(DataError, match=r"Dataset not found or corrupted.* Download it again, whole"):
        read(tmp_path)


def test_a_broken_image_ends_the_recipe_with_a_message(tmp_path: Path) -> None:
    write_parquet(tmp_path / "source", broken=4)
    words = [f"data.source={tmp_path / 'source'}", "--output-dir", tmp_path / "run"]
    outcome = recipe("classification.py", VISION / "digits.yaml", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Row 5 of " in outcome.error
    assert outcome.err.count("Error: ") == 1


def shifts_of(image: torch.Tensor, pad: int) -> dict[bytes, tuple[int, int, bool]]:
    """Every way to shift and mirror an image, by a plain loop over its pixels."""
    _, height, width = image.shape
    found = {}
    for down in range(-pad, pad + 1):
        for right in range(-pad, pad + 1):
            moved = torch.zeros_like(image)
            for row in range(height):
                for column in range(width):
                    if 0 <= row - down < height and 0 <= column - right < width:
                        moved[:, row, column] = image[:, row - down, column - right]
            for mirrored in (False, True):
                found[(moved.flip(2) if mirrored else moved).numpy().tobytes()] = (down, right, mirrored)
    return found


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (1, False), (0, True), (2, True)])
def test_varied_images_against_a_plain_loop(padding: int, flip: bool) -> None:
    from image_data import Images

    images = torch.from_numpy(pixels_of(3)).permute(0, 3, 1, 2)[:, :, :5].contiguous()
    table = Images(images, torch.tensor([4, 5, 6]), padding=padding, flip=flip)
    known = [shifts_of(image, padding) for image in images]
    torch.manual_seed(0)
    rows = [2, 0, 1] * 200
    batch = table.batch(rows)
    ways = [known[row][image.numpy().tobytes()] for row, image in zip(rows, batch.inputs["images"], strict=True)]
    assert len(set(ways)) == (2 * padding + 1) ** 2 * (1 + flip)
    assert sum(mirrored for _, _, mirrored in ways) == pytest.approx(300 * flip, abs=60)
    assert batch.targets.tolist() == [table.labels[row] for row in rows]
    assert batch.index.tolist() == rows
    assert torch.equal(table.images, images)
    torch.manual_seed(0)
    assert torch.equal(table.batch(rows).inputs["images"], batch.inputs["images"])


def built(source: object, **model: Any) -> Any:
    from classification import ClassificationConfig, build

    from aes_dynloss.training.accelerator import build_accelerator

    values = {"data": {"source": str(source), "most": 40}, "model": {"width": 4, **model}}
    config = ClassificationConfig.model_validate(
        {**values, "training": {"device": "cpu", "precision": "float32", "seed": model.pop("seed", 0)}}
    )
    return build(config, build_accelerator(config.training)).student


def test_weights_to_start_from(tmp_path: Path) -> None:
    """Where names and shapes fit they are taken: all of the same network, all but the head with other classes."""
    from safetensors.torch import save_file

    first = built("digits").state_dict()
    for name, tensor in first.items():
        first[name] = tensor + (0.5 if tensor.is_floating_point() else 3)
    save_file(first, tmp_path / "weights.safetensors")
    path = str(tmp_path / "weights.safetensors")
    same = built("digits", weights=path).state_dict()
    assert all(torch.equal(same[name], first[name]) for name in first)
    write_parquet(tmp_path / "colour")
    plain, other = built(tmp_path / "colour").state_dict(), built(tmp_path / "colour", weights=path).state_dict()
    fresh = {"stem.0.weight", "mean", "deviation", "head.weight", "head.bias"}  # three channels, three classes
    weights = first.keys()
    assert all(torch.equal(other[name], (plain if name in fresh else first)[name]) for name in weights)
    save_file({"head.weight": torch.zeros(1, 1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"model.weights: nothing in .* fits this student, which has stem"):
        built("digits", weights=str(tmp_path / "other.safetensors"))
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ConfigError, match=r"text.safetensors cannot be read: .* Name a .safetensors file"):
        built("digits", weights=str(tmp_path / "text.safetensors"))


def test_what_is_not_installed_is_said_at_once() -> None:
    from extras import needs

    needs("torch", "json")
    with pytest.raises(ConfigError, match=r"no_such_module is not installed. Install the extra: pip install"):
        needs("torch", "no_such_module")
