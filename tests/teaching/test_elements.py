from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_elements import make_elements, random_elements

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.batch import Batch
from aes_dynloss.teaching.dynamic_loss import detached


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


def test_standardised():
    elements = make_elements([0.6, 0.55], [0.2, 0.85], [0, 1])
    scaled = elements.standardised()
    torch.testing.assert_close(scaled.scores, torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(scaled.targets, torch.tensor([-1.0, 1.0], dtype=torch.float64))
    again = scaled.standardised()
    torch.testing.assert_close(again.scores, scaled.scores, rtol=0, atol=0)
    assert scaled.logits is elements.logits


def test_detached():
    elements = random_elements(4)
    live = replace(elements, scores=elements.scores.clone().requires_grad_())
    cut = detached(live)
    assert not cut.scores.requires_grad
    assert cut.scores.data_ptr() == live.scores.data_ptr()
    assert detached(make_elements([0.1], [0.2])).logits is None


def test_a_batch_moves_with_all_its_parts():
    index = torch.arange(2)
    batch = Batch({"x": torch.ones(2, 3)}, torch.zeros(2), torch.zeros(2, dtype=torch.int64), index)
    moved = batch.to(torch.device("meta"))
    assert len(batch) == len(moved) == 2
    assert {t.device.type for t in (moved.inputs["x"], moved.targets, moved.groups, moved.index)} == {"meta"}
