"""Weights in and out of the live module, and the student left as it was."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from taught_students import SmallConvNet, SmallTransformer, examples

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.unrolling.live_student import LiveStudent


def test_weights_go_in_and_come_out():
    live = LiveStudent(SmallTransformer())
    before = live.weights()
    after = before + torch.arange(len(before))
    live.put(after)
    assert torch.equal(live.weights(), after)
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in live.module.parameters()]), after)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in live.parameters)
    assert not torch.equal(before, after), "weights() is a copy"


def test_views_share_memory_and_flat_undoes_them():
    live = LiveStudent(SmallConvNet())
    flat = live.weights()
    views = live.views(flat)
    assert [view.shape for view in views] == [parameter.shape for parameter in live.parameters]
    assert torch.equal(live.flat(views), flat)
    views[1].zero_()
    assert torch.equal(live.flat(views), flat)
    holed = live.flat([None, *views[1:]])
    assert bool((holed[: views[0].numel()] == 0).all())
    assert torch.equal(holed[views[0].numel() :], flat[views[0].numel() :])


def test_names_follow_the_stack_not_the_module():
    class Upside(SmallTransformer):
        def parameter_stack(self):
            return [list(self.named_parameters())[::-1]]

    live = LiveStudent(Upside())
    assert live.names == [name for name, _ in live.module.named_parameters()][::-1]
    assert torch.equal(live.weights(), live.flat(list(live.module.parameters())[::-1]).detach())


def test_outputs_with_other_weights():
    live = LiveStudent(SmallTransformer(dropout=0.0))
    batch, here = examples(range(4)), live.weights()
    there = here + 0.1
    outside = live.outputs(batch, nullcontext(), live.views(there))
    inside = live.outputs(batch, nullcontext())
    assert not torch.allclose(outside, inside)
    live.put(there)
    torch.testing.assert_close(live.outputs(batch, nullcontext()), outside, rtol=0, atol=1e-14)


def test_a_student_of_several_dtypes_or_without_weights_is_refused():
    student = SmallTransformer()
    student.head.float()
    with pytest.raises(ShapeError, match="learning weights of one dtype"):
        LiveStudent(student)
    student.parameter_stack = list
    with pytest.raises(ShapeError, match="found none"):
        LiveStudent(student)


def test_measure_mode_is_a_function_of_the_weights_alone():
    student = SmallConvNet()
    live = LiveStudent(student)
    batch = examples(range(4), images=True)
    live.measure_mode()
    first = live.outputs(batch, nullcontext())
    student.body[1].running_mean.add_(5.0)
    assert torch.equal(live.outputs(batch, nullcontext()), first)
    live = LiveStudent(SmallTransformer(dropout=0.5))
    live.measure_mode()
    batch = examples(range(4))
    assert torch.equal(live.outputs(batch, nullcontext()), live.outputs(batch, nullcontext()))


def disturb(live, weights):
    with live.undisturbed():
        live.put(weights + 1.0)
        live.measure_mode()
        mean = live.module.body[1].running_mean.clone()
        live.outputs(examples(range(4), images=True), nullcontext())
        torch.rand(7)
        assert live.module.body[4].training
        assert not torch.equal(live.module.body[1].running_mean, mean)
        assert int(live.module.body[1].num_batches_tracked) == 1
        raise KeyError


def test_undisturbed_restores_everything():
    student = SmallConvNet()
    student.train()
    student.body[4].eval()
    live = LiveStudent(student)
    weights = live.weights()
    buffers = {name: buffer.clone() for name, buffer in student.named_buffers()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with pytest.raises(KeyError):
        disturb(live, weights)
    assert torch.equal(live.weights(), weights)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in student.named_buffers())
    assert torch.equal(torch.rand(3), expected)
    assert student.training
    assert student.body[1].training
    assert not student.body[4].training


def test_checkpointing_is_seen_in_any_module():
    assert not LiveStudent(SmallTransformer()).checkpoints_activations
    student = SmallTransformer()
    student.block.gradient_checkpointing = True
    assert LiveStudent(student).checkpoints_activations
