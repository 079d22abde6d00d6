from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_elements import make_elements, random_elements

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.student import Batch, Elements


def test_lengths():
    assert len(random_elements(7)) == 7


def test_a_column_of_scores_is_refused():
    """(B, 1) against (B,) would broadcast to all pairs."""
    with pytest.raises(ShapeError, match=r"Elements.scores has shape \(4, 1\), expected \(4,\): one number an element"):
        make_elements(torch.zeros(4, 1), torch.zeros(4), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("name", ["targets", "groups", "centre", "spread", "logits", "classes"])
@pytest.mark.parametrize("shape", [(4, 1), (1,), (5,), ()])
def test_shapes_that_would_broadcast(name, shape):
    elements = random_elements(4)
    with pytest.raises(ShapeError, match=rf"Elements.{name} has shape .*, expected \(4,\).* Squeeze a trailing"):
        replace(elements, **{name: torch.zeros(shape)})


@pytest.mark.parametrize("shape", [(4,), (5, 3), (4, 3, 1)])
def test_log_probs_of_another_shape(shape):
    with pytest.raises(ShapeError, match=r"Elements.log_probs has shape .*, expected \(4, classes\)"):
        replace(random_elements(4), log_probs=torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4,), (2, 3), (4, 1, 1)])
def test_weights_of_another_shape(shape):
    with pytest.raises(ShapeError, match=r"Elements.weights has shape .*, expected \(examples, elements of each\)"):
        replace(random_elements(4), weights=torch.zeros(shape))


@pytest.mark.parametrize(("weights", "examples"), [(None, 4), (torch.ones(2, 2), 2)])
def test_other_is_one_number_an_example(weights, examples):
    replace(random_elements(4), weights=weights, other=torch.zeros(examples))
    with pytest.raises(ShapeError, match=rf"Elements.other has shape \(3,\), expected \({examples},\)"):
        replace(random_elements(4), weights=weights, other=torch.zeros(3))


def test_the_loss_of_an_example():
    elements = random_elements(6)
    losses = torch.arange(6.0)
    assert elements.by_example(losses) is losses
    weights = torch.tensor([[1.0, 0.5, 0.0], [2.0, 0.0, 1.0]])
    several = replace(elements, weights=weights, other=torch.tensor([10.0, 20.0]))
    assert several.by_example(losses).tolist() == [10.5, 31.0]


def test_the_error_of_an_example():
    elements = make_elements([0.4, 0.6, 0.4, 0.9], [0.4, 0.4, 0.6, 0.1])
    torch.testing.assert_close(elements.errors(), torch.tensor([0.0, 1.0, 1.0, 16.0], dtype=torch.float64))
    several = replace(elements, weights=torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(several.errors(), torch.tensor([0.25, 0.0], dtype=torch.float64))


def test_elements_of_classes():
    log_probs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]).log().requires_grad_()
    elements = Elements.of_classes(log_probs, torch.tensor([0, 1, 1]), torch.tensor(0.25))
    assert elements.scores.tolist() == [1.0, 0.0, 1.0]
    assert not elements.scores.requires_grad
    # A student that always answers the commonest class errs on a quarter, so that its error is 1.
    torch.testing.assert_close(elements.errors(), torch.tensor([0.0, 4.0, 0.0]))


def test_standardised():
    elements = make_elements([0.6, 0.55], [0.2, 0.85], [0, 1])
    scaled = elements.standardised()
    torch.testing.assert_close(scaled.scores, torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(scaled.targets, torch.tensor([-1.0, 1.0], dtype=torch.float64))
    again = scaled.standardised()
    torch.testing.assert_close(again.scores, scaled.scores, rtol=0, atol=0)
    assert scaled.logits is elements.logits


def test_a_batch_moves_with_all_its_parts():
    index = torch.arange(2)
    batch = Batch({"x": torch.ones(2, 3)}, torch.zeros(2), torch.zeros(2, dtype=torch.int64), index)
    moved = batch.to(torch.device("meta"))
    assert len(batch) == len(moved) == 2
    assert {t.device.type for t in (moved.inputs["x"], moved.targets, moved.groups, moved.index)} == {"meta"}
