"""From a detector's answers to boxes, precision and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_boxes import built, configured, grid_of, perfect_outputs

from aes_dynloss.teaching.losses.components import cross_entropy


def test_perfect_answers_have_a_precision_of_one(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source))
    batch = task.test.batch(range(len(task.test)))
    outputs = perfect_outputs(batch.targets, task.student.grid, 2, recipe)
    assert task.measures(outputs, task.test) == {"map": 1.0, "map50": 1.0, "map50_dark": 1.0, "map50_light": 1.0}
    elements = task.student.elements(outputs, batch.targets, batch.groups)
    assert elements.by_example(cross_entropy(elements)).abs().max() < 1e-3
    assert elements.errors().abs().max() == 0


def test_no_answer_has_a_precision_of_nothing(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source))
    outputs = torch.full((len(task.test), len(task.student.grid) * 7), -20.0)
    assert task.measures(outputs, task.test) == {"map": 0.0, "map50": 0.0, "map50_dark": 0.0, "map50_light": 0.0}


def test_precision_is_that_of_pycocotools_summary(recipe: Any) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    measures = recipe.box_measures
    generator = torch.Generator().manual_seed(0)
    truths, answers = [], []
    for _ in range(12):
        corner = 100 * torch.rand(5, 2, generator=generator)
        places = torch.cat([corner, corner + 20], 1)
        labels = torch.randint(3, (5,), generator=generator)
        truths.append(measures.Boxes(places, labels, torch.ones(5)))
        moved = places + 2 * torch.randn(5, 4, generator=generator)
        wrong = torch.where(torch.rand(5, generator=generator) < 0.2, 0, labels)
        scores = torch.rand(5, generator=generator).sort(descending=True).values
        answers.append(measures.Boxes(moved, wrong, scores))
    names = ["a", "b", "c", "never seen"]
    truth = COCO()
    truth.dataset = measures._dataset(truths, names)
    truth.createIndex()
    whole = COCOeval(truth, truth.loadRes(measures._rows(answers)), "bbox")
    whole.evaluate()
    whole.accumulate()
    whole.summarize()
    found = measures.average_precision(answers, truths, names)
    assert 0.1 < found["map"] < found["map50"] < 0.95
    assert [found["map"], found["map50"]] == pytest.approx(whole.stats[:2])
    assert found["map50"] == pytest.approx(np.mean([found[f"map50_{name}"] for name in "abc"]))
    assert "map50_never seen" not in found


def test_of_overlapping_boxes_of_a_class_the_best_is_answered(recipe: Any) -> None:
    grid = grid_of(recipe, [[16.0, 16.0], [15.0, 15.0], [4.0, 4.0]], size=(16, 16))
    raw = torch.zeros(1, 3, 7)
    raw[0, :, 4] = torch.tensor([2.0, 3.0, -9.0])
    raw[0, :, 5] = 20.0
    (found,) = recipe.box_measures.answered_boxes(raw.flatten(1), grid, recipe.box_measures.AnswerConfig())
    assert found.places.tolist() == [[0.5, 0.5, 15.5, 15.5]]
    assert found.labels.tolist() == [0]
    assert found.scores.tolist() == pytest.approx([torch.tensor(3.0).sigmoid().item()])
    raw[0, 0, 5:] = torch.tensor([0.0, 20.0])
    (found,) = recipe.box_measures.answered_boxes(raw.flatten(1), grid, recipe.box_measures.AnswerConfig())
    assert found.labels.tolist() == [0, 1]


def test_pictures_show_true_boxes_beside_answered_ones(recipe: Any, source: Path) -> None:
    task = built(recipe, configured(recipe, source))
    batch = task.test.batch(range(len(task.test)))
    outputs = perfect_outputs(batch.targets, task.student.grid, 2, recipe)
    figure = task.draw(outputs, task.test)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["true", "answered"] * 4
    for place in range(0, 8, 2):
        true, answered = figure.axes[place : place + 2]
        corners = [sorted(patch.get_xy() for patch in axes.patches) for axes in (true, answered)]
        np.testing.assert_allclose(*corners, atol=0.1)
        words = {text.get_text() for text in true.texts}
        assert {text.get_text() for text in answered.texts} == {f"{word} 1.00" for word in words}
    nothing = task.draw(torch.full_like(outputs, -20.0), task.test)
    assert [len(axes.patches) > 0 for axes in nothing.axes] == [True, False] * 4
