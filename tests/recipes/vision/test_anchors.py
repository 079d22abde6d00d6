"""Anchors of the detection recipe: which box gets which, and what is between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_boxes import built, configured, grid_of

from aes_dynloss import DataError


def test_a_box_gets_the_anchor_that_fits_best_in_its_cell(recipe: Any) -> None:
    grid = grid_of(recipe, [[8.0, 8.0], [16.0, 16.0]])
    boxes = torch.tensor([[[17.0, 17.0, 31.0, 31.0], [0.0, 0.0, 7.0, 7.0], [-1.0, -1.0, -1.0, -1.0]]])
    matched = recipe.anchors.match(boxes, torch.tensor([[1, 0, -1]]), grid)
    # Row 1, column 1 of 2 x 3 cells: cell 4, its larger anchor; row 0, column 0: its smaller one.
    assert matched.anchors.tolist() == [[9, 0, -1]]
    assert matched.labels.tolist() == [[1, 0, -1]]
    assert matched.states[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_of_two_boxes_in_a_cell_the_second_gets_another_anchor_and_the_third_none(recipe: Any) -> None:
    grid = grid_of(recipe, [[8.0, 8.0], [16.0, 16.0]])
    boxes = torch.tensor([[[1.0, 1.0, 15.0, 15.0], [2.0, 1.0, 15.0, 15.0], [1.0, 2.0, 15.0, 15.0]]])
    matched = recipe.anchors.match(boxes, torch.tensor([[0, 1, 1]]), grid)
    assert matched.anchors.tolist() == [[1, 0, -1]]
    assert matched.labels.tolist() == [[0, 1, -1]]
    assert matched.boxes[0, 2].tolist() == [-1.0] * 4


def test_anchors_that_overlap_a_box_are_neither_its_own_nor_background(recipe: Any) -> None:
    grid = grid_of(recipe, [[12.0, 12.0], [16.0, 16.0]])
    # IoU with the smaller anchor of the same cell: 144 / 256; with all others less than a half.
    matched = recipe.anchors.match(torch.tensor([[[0.0, 0.0, 16.0, 16.0]]]), torch.tensor([[0]]), grid)
    assert matched.states[0].tolist() == [-1, 1] + [0] * 10


def test_targets_are_packed_without_loss(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source))
    known = task.train.known
    matched = recipe.anchors.match(known.boxes, known.labels, task.student.grid)
    again = recipe.anchors.Matched.unpacked(matched.packed(), len(task.student.grid))
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(matched).items())


def test_overlaps_are_those_of_torchvision(recipe: Any) -> None:
    from torchvision.ops import box_iou, generalized_box_iou

    corners = torch.rand(2, 12, 2, generator=torch.Generator().manual_seed(0)).double()
    first, second = (torch.cat([c, c + 0.1 + c.flip(1)], 1) for c in corners)
    torch.testing.assert_close(recipe.anchors.box_iou(first, second), box_iou(first, second))
    expected = generalized_box_iou(first, second).diagonal()
    torch.testing.assert_close(recipe.anchors.generalised_iou(first, second), expected)


def test_sizes_of_anchors_are_centres_of_clusters(recipe: Any) -> None:
    sides = torch.tensor([[40.0, 10.0], [4.0, 4.0], [4.0, 4.0], [40.0, 10.0]])
    torch.testing.assert_close(recipe.anchors.anchor_sizes(sides, 2), torch.tensor([[4.0, 4.0], [40.0, 10.0]]))
    with pytest.raises(DataError, match=r"2 different sizes, expected at least model\.anchors = 3"):
        recipe.anchors.anchor_sizes(sides, 3)
