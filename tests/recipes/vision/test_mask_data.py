"""The table of images and masks: how it is divided, and what it draws for a batch."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import facts
from PIL import Image
from small_masks import (
    COLOURS,
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

from aes_dynloss import ConfigError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")


def test_a_folder_holds_what_a_parquet_file_does(mask_source: Path, tmp_path: Path) -> None:
    ours, theirs = tables(unpacked(tmp_path / "folder", rows())), tables(mask_source)
    assert {name: len(table) for name, table in ours.items()} == {"train": 8, "teacher_dev": 0, "dev": 3, "test": 3}
    for name, first in (("train", 0), ("dev", 8), ("test", 11)):
        order = sorted(range(len(ours[name])), key=lambda i: rows()[first + i]["id"])
        assert torch.equal(ours[name].images, theirs[name].images[order])
        assert torch.equal(ours[name].masks, theirs[name].masks[order])
    image, mask = painted(11)
    assert torch.equal(theirs["test"].images[0].permute(1, 2, 0), torch.from_numpy(image))
    assert np.array_equal(theirs["test"].masks[0].numpy(), np.where(mask == VOID, -1, mask.astype(int)))


def test_images_are_brought_to_one_size(mask_source: Path) -> None:
    half = tables(mask_source, size=[HEIGHT // 2, WIDTH // 2])["test"]
    assert half.images.shape == (3, 3, HEIGHT // 2, WIDTH // 2)
    assert half.masks.shape == (3, HEIGHT // 2, WIDTH // 2)
    assert set(half.masks.unique().tolist()) == {-1, 0, 1, 2}
    # Classes are numbers without an order: nothing may lie between two of them.
    table = [{**row, "mask": png(painted(place)[1] // 2 * 2)} for place, row in enumerate(rows())]
    odd = tables(written(mask_source.with_name("two.parquet"), table), size=[HEIGHT - 7, WIDTH - 9])["test"]
    assert set(odd.masks.unique().tolist()) == {0, 2}


def test_stretches_of_a_film_stay_together(tmp_path: Path) -> None:
    table = [{**rows()[0], "id": f"{film}_{place:03}"} for film in "ab" for place in range(16)]
    for row, kept in zip(table, np.random.default_rng(0).permutation(32), strict=True):
        row["image"] = png(np.full((HEIGHT, WIDTH, 3), kept, dtype=np.uint8))
    marks = {(row["id"][0], int(row["id"][2:]) // 4): set() for row in table}
    for row in table:
        marks[row["id"][0], int(row["id"][2:]) // 4].add(int(np.asarray(Image.open(BytesIO(row["image"])))[0, 0, 0]))
    mixed = [table[place] for place in np.random.default_rng(1).permutation(32)]
    path = written(tmp_path / "films.parquet", [*mixed, *rows()[8:]])
    found = tables(path, stretch=4, teacher_dev_fraction=0.25)
    parts = {name: set(found[name].images[:, 0, 0, 0].tolist()) for name in ("train", "teacher_dev")}
    assert not parts["train"] & parts["teacher_dev"]
    assert parts["train"] | parts["teacher_dev"] == set(range(32))
    for stretch in marks.values():
        assert stretch <= parts["train"] or stretch <= parts["teacher_dev"]
    for film in "ab":
        assert sum(stretch <= parts["teacher_dev"] for (name, _), stretch in marks.items() if name == film) == 1


def test_dev_may_be_stretches_of_train(mask_source: Path) -> None:
    """In place of val; by default val is dev and train is whole."""
    usual, other = tables(mask_source), tables(mask_source, dev_fraction=0.25, teacher_dev_fraction=0.25, flip=True)
    assert {name: len(table) for name, table in other.items()} == {"train": 4, "teacher_dev": 2, "dev": 2, "test": 3}
    assert torch.equal(usual["test"].images, other["test"].images)
    parts = [other[name].images for name in ("train", "teacher_dev", "dev")]
    images = sorted(image.numpy().tobytes() for part in parts for image in part)
    assert images == sorted(image.numpy().tobytes() for image in usual["train"].images)
    assert not other["dev"].drawn
    assert not other["dev"].flip
    # Whole films, of which there are two.
    whole = tables(mask_source, dev_fraction=0.5, stretch=1000, seed=1)
    films = [
        {int(np.flatnonzero([torch.equal(i, p) for p in usual["train"].images])[0]) % 2 for i in whole[name].images}
        for name in ("train", "dev")
    ]
    assert sorted(map(sorted, films)) == [[0], [1]]
    with pytest.raises(ConfigError, match=facts("train", "data.teacher_dev_fraction", "data.dev_fraction")):
        tables(mask_source, dev_fraction=0.99, stretch=1000)


def test_a_batch_tells_each_place_and_its_class(mask_source: Path) -> None:
    train = tables(mask_source, pixels=56)["train"]
    torch.manual_seed(3)
    batch, again = train.batch([5, 2]), train.batch([5, 2])
    places, classes = batch.targets.unbind(2)
    assert batch.targets.shape == (2, 56, 2)
    assert batch.targets.dtype == torch.int64
    assert batch.index.tolist() == [5, 2]
    assert torch.equal(classes, train.masks[[5, 2]].flatten(1).gather(1, places).long())
    assert (classes == -1).any()
    assert not torch.equal(places, again.targets[..., 0])
    # One place of each ten.
    assert torch.equal(places // 10, torch.arange(56).expand(2, -1))


def test_nothing_is_random_where_nothing_is_learnt(mask_source: Path) -> None:
    found = tables(mask_source, flip=True, zoom=2.0, teacher_dev_fraction=0.25)
    for name in ("dev", "test", "teacher_dev"):
        before = torch.random.get_rng_state()
        batch = found[name].batch([1, 0])
        assert torch.equal(batch.inputs["images"], found[name].images[[1, 0]])
        assert torch.equal(before, torch.random.get_rng_state()) is (name != "teacher_dev")


def test_image_and_mask_are_varied_alike(mask_source: Path) -> None:
    train = tables(mask_source, flip=True, zoom=2.0, pixels=HEIGHT * WIDTH)["train"]
    torch.manual_seed(0)
    batch = train.batch(range(8))
    colours = batch.inputs["images"].flatten(2).transpose(1, 2).gather(1, batch.targets[..., :1].expand(-1, -1, 3))
    classes = batch.targets[..., 1]
    known = torch.from_numpy(COLOURS)[torch.where(classes < 0, VOID, classes)]
    plain = (colours[:, :, None] == torch.from_numpy(COLOURS)).all(3).any(2)  # not mixed by the enlargement
    assert plain.double().mean() > 0.7
    assert ((colours == known).all(2) | ~plain).double().mean() > 0.99
    two = replace(train, masks=train.masks.clamp(min=0) // 2 * 2).batch(range(8))
    assert set(two.targets[..., 1].unique().tolist()) == {0, 2}
    changed = [
        not torch.equal(image, before) for image, before in zip(batch.inputs["images"], train.images, strict=True)
    ]
    assert all(changed)


def test_what_is_enlarged_is_at_least_a_pixel(mask_source: Path) -> None:
    train = replace(tables(mask_source, zoom=8.0, pixels=4)["train"], zoom=1000.0)
    torch.manual_seed(0)
    assert train.batch(range(8)).inputs["images"].shape[2:] == (HEIGHT, WIDTH)


def test_mirroring_moves_masks_with_images(mask_source: Path) -> None:
    train = tables(mask_source, flip=True, pixels=HEIGHT * WIDTH)["train"]
    torch.manual_seed(0)
    batch = train.batch(range(8))
    masks = torch.full((8, HEIGHT * WIDTH), -7).scatter(1, batch.targets[..., 0], batch.targets[..., 1])
    mirrored = 0
    for image, mask, before, marked in zip(
        batch.inputs["images"], masks.view(-1, HEIGHT, WIDTH), train.images, train.masks, strict=True
    ):
        turned = not torch.equal(image, before)
        assert torch.equal(image, before.flip(2) if turned else before)
        assert torch.equal(mask, (marked.flip(1) if turned else marked).long())
        mirrored += turned
    assert 0 < mirrored < 8
