"""The gradient of a loss over the whole effective batch, however it is spread over processes and micro-batches.

A loss sees a student only through its outputs, so its gradient goes in two legs: from the loss to the outputs of the
whole batch (cheap, on outputs gathered from everywhere), then from each micro-batch's outputs to the parameters (one
backward pass each, with the first leg's result as cotangent). Thus a statistic such as STDE is that of the effective
batch by construction. Where a loss couples elements over several micro-batches, outputs are computed first without a
graph and then once more, with the same dropout, each with its graph (Gao et al. 2021, arXiv 2101.06983).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Module

from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.student import Batch, Elements, RandomState, Student, kept_buffers, random_state, replayed
from aes_dynloss.training.accelerator import gather_rows


@dataclass(frozen=True)
class StepRecord:
    """What a step's log line needs; scalars that stay on the device until they are looked at.

    Args:
        loss: The loss that was differentiated.
        terms: Its parts, before their weights.
        error: Mean squared error in units of the group's variance: 1 for a student that answers each group's mean.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    error: Tensor


def backward(
    accelerator: Accelerator,
    model: Module,
    student: Student,
    loss: DynamicLoss,
    coefficients: Tensor,
    batches: Sequence[Batch],
    count: int,
) -> StepRecord:
    """Add the gradient of the loss over one effective batch to the parameters' ``grad``.

    Args:
        accelerator: The run's.
        model: The student as Accelerate prepared it.
        student: The same student, unwrapped.
        loss: The loss.
        coefficients: Its coefficients, (K,), on the student's device.
        batches: This process's micro-batches, at least one.
        count: Elements of the effective batch over all processes.

    Returns:
        The step's record, the same on every process.
    """
    together = [list(batches)] if loss.over_batch else [[batch] for batch in batches]
    outputs: list[Tensor] = []
    for number, part in enumerate(together):
        last = number == len(together) - 1
        outputs += _pull_back(accelerator, model, student, loss, coefficients, part, count, sync_last=last)
    with torch.no_grad():
        _, everything = _gathered(accelerator, outputs, batches, count)
        elements = student.elements(*everything)
        alone = replace(elements, other=None)  # what stands beside the elements is no part of any term
        terms = {name: _mean(alone, term) for name, term in loss.terms(elements).items()}
        value = _mean(elements, loss(coefficients, elements))
        error = elements.errors().mean()
    return StepRecord(value, terms, error)


def _mean(elements: Elements, losses: Tensor) -> Tensor:
    """Mean over all examples; a loss over the batch is one already."""
    return losses if losses.ndim == 0 else elements.by_example(losses).mean()


def _pull_back(
    accelerator: Accelerator,
    model: Module,
    student: Student,
    loss: DynamicLoss,
    coefficients: Tensor,
    batches: Sequence[Batch],
    count: int,
    *,
    sync_last: bool,
) -> list[Tensor]:
    """Gradient of the loss over these micro-batches (and, over a batch, their fellows elsewhere); their outputs."""
    again = loss.over_batch and _accumulated_anywhere(accelerator, batches)
    states: list[RandomState] = []
    outputs: list[Tensor] = []
    for batch in batches:
        states.append(random_state(accelerator.device))
        with (
            nullcontext() if sync_last and not again else accelerator.no_sync(model),
            torch.set_grad_enabled(not again),
            kept_buffers(student.as_module()) if again else nullcontext(),
        ):
            outputs.append(model(**batch.inputs))
    cotangents = _cotangents(accelerator, student, loss, coefficients, outputs, batches, count)
    for number, (batch, state, cotangent) in enumerate(zip(batches, states, cotangents, strict=True)):
        last = sync_last and number == len(batches) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            if again:
                with replayed(state, accelerator.device):
                    live = model(**batch.inputs)
            else:
                live = outputs[number]
            # DDP takes the mean over processes where the sum of their shares is meant.
            accelerator.backward((live * cotangent).sum() * accelerator.num_processes)
    return [output.detach() for output in outputs]


def _accumulated_anywhere(accelerator: Accelerator, batches: Sequence[Batch]) -> bool:
    """Whether any process has several micro-batches.

    All processes must go the same way: DDP talks in the first forward pass that has a graph, so that a process which
    gathers outputs before it and one which gathers them after it would wait for each other for ever.
    """
    if accelerator.num_processes == 1:
        return len(batches) > 1
    counts = accelerator.gather(torch.tensor([len(batches)], device=accelerator.device))
    return int(counts.max()) > 1


def _cotangents(
    accelerator: Accelerator,
    student: Student,
    loss: DynamicLoss,
    coefficients: Tensor,
    outputs: Sequence[Tensor],
    batches: Sequence[Batch],
    count: int,
) -> list[Tensor]:
    """Gradient of the loss with respect to each micro-batch's outputs; 0 for fillers."""
    # Fillers are masked, not left out: to count them would wait for the device.
    local_index = torch.cat([batch.index for batch in batches])
    keep = local_index >= 0
    if loss.over_batch:
        index, (leaf, targets, groups) = _gathered(accelerator, outputs, batches, count)
        position = torch.searchsorted(index, local_index)
    else:
        leaf = torch.cat([output.detach() for output in outputs])
        targets = torch.cat([batch.targets for batch in batches])
        groups = torch.cat([batch.groups for batch in batches])
        position = torch.arange(len(leaf), device=leaf.device)
    leaf = leaf.requires_grad_()
    elements = student.elements(leaf, targets, groups)
    value = loss(coefficients.detach(), elements)
    value = value if loss.over_batch else torch.where(keep, elements.by_example(value), 0.0).sum() / count
    (gradient,) = torch.autograd.grad(value, leaf)
    local = torch.where(keep[:, None], gradient[position], 0.0)
    return list(torch.split(local, [len(batch) for batch in batches]))


def _gathered(
    accelerator: Accelerator, outputs: Sequence[Tensor], batches: Sequence[Batch], count: int
) -> tuple[Tensor, list[Tensor]]:
    index = torch.cat([batch.index for batch in batches])
    columns = [
        torch.cat([output.detach() for output in outputs]),
        torch.cat([batch.targets for batch in batches]),
        torch.cat([batch.groups for batch in batches]),
    ]
    return gather_rows(accelerator, index, columns, count)
