"""The interface between students and losses: batches, elements, the student protocol, and replays of a forward pass.

A :class:`Student` maps a :class:`Batch` to outputs, and outputs to :class:`Elements`, a few differentiable numbers for
each example. Losses read elements alone, so that they depend on no task and no architecture.

Restored random generators replay a forward pass with the same dropout; restored buffers undo its update of batch norm's
statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from aes_dynloss.errors import ShapeError

# A log-probability below this marks a class that an element does not have, such as a score point of another prompt.
ABSENT_BELOW = -5e3


@dataclass(frozen=True)
class Batch:
    """Some examples, ready for a student.

    Args:
        inputs: What the student's ``predict`` reads, by name; with dimensions that the student chooses.
        targets: What it is to predict, (B, ...).
        groups: The group of each example whose scale it is judged on, (B,) int64: an essay's prompt, else all 0.
        index: The row of each example in its table, (B,) int64; -1 marks a filler, which counts for nothing.

    Examples:
        >>> inputs, targets = {"ids": torch.tensor([[5, 8], [7, 0]])}, torch.tensor([0.2, 0.9])
        >>> batch = Batch(inputs, targets, groups=torch.tensor([0, 0]), index=torch.tensor([3, 1]))
        >>> len(batch)
        2
        >>> batch.to(torch.device("cpu")).targets
        tensor([0.2000, 0.9000])
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor
    groups: Tensor
    index: Tensor

    def __len__(self) -> int:
        """Rows, fillers included."""
        return self.index.shape[0]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; nothing waits until it is there."""
        inputs = {name: _sent(tensor, device) for name, tensor in self.inputs.items()}
        targets, groups, index = (_sent(tensor, device) for tensor in (self.targets, self.groups, self.index))
        return Batch(inputs, targets, groups, index)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    # From memory that may be swapped out, a copy would first wait for all that the device has to do.
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Elements:
    """Predictions beside targets; an element is an essay, an image, a pixel or a matched anchor.

    Args:
        scores: Predicted scores, (E,); on [0, 1] where the target range is, unless :meth:`standardised`.
        targets: True scores on the same scale, (E,).
        groups: Group of each element, (E,) int64; statistics over elements use group-standardised values.
        centre: Mean of the element's group among the training targets, (E,).
        spread: Standard deviation of the same, (E,), above 0.
        logits: Scores before their sigmoid, (E,), where the student has a sigmoid link.
        log_probs: Log-probabilities of the score points or classes, (E, C), where the student has a distribution.
        classes: The true score point or class, (E,) int64, with ``log_probs``.
        weights: What each element counts in its example's loss, (B, E / B), where an example has several elements,
            such as pixels, one example after the other; 0 for an element without a truth. None: each is one of its own.
            With one element an example: what the example counts.
        other: What each example's loss has beside that of its elements, (B,), such as a box's regression.
        kinds: 0 or 1, (E,), where a student shows elements of two kinds, such as classes and objectness.
        raters: Number of who or what gave each element's target, (E,) int64, where targets are of unequal worth.
        parts: Number of what each element is about, (E,) int64, such as one of several traits: statistics of a batch
            are those of each part by itself, in the mean over parts.

    Raises:
        ShapeError: Two of them differ in length. (Broadcasting (E, 1) against (E,) would average over all pairs.)

    Examples:
        >>> scores, targets, half = torch.tensor([0.25, 0.5]), torch.tensor([0.0, 1.0]), torch.full((2,), 0.5)
        >>> elements = Elements(scores, targets, torch.tensor([0, 0]), centre=half, spread=half)
        >>> elements.standardised().targets
        tensor([-1.,  1.])
        >>> elements.errors()
        tensor([0.2500, 1.0000])
    """

    scores: Tensor
    targets: Tensor
    groups: Tensor
    centre: Tensor
    spread: Tensor
    logits: Tensor | None = None
    log_probs: Tensor | None = None
    classes: Tensor | None = None
    weights: Tensor | None = None
    other: Tensor | None = None
    kinds: Tensor | None = None
    raters: Tensor | None = None
    parts: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        expected = self.scores.shape[:1]
        single = ("scores", "targets", "groups", "centre", "spread", "logits", "classes", "kinds", "raters", "parts")
        for name in single:
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != expected:
                raise ShapeError(
                    f"Elements.{name} has shape {tuple(tensor.shape)}, expected {tuple(expected)}: one number an "
                    "element. Squeeze a trailing dimension before building Elements."
                )
        if self.log_probs is not None and (self.log_probs.ndim != 2 or self.log_probs.shape[:1] != expected):
            raise ShapeError(
                f"Elements.log_probs has shape {tuple(self.log_probs.shape)}, expected ({expected[0]}, classes)."
            )
        if self.weights is not None and (self.weights.ndim != 2 or self.weights.numel() != expected[0]):
            raise ShapeError(
                f"Elements.weights has shape {tuple(self.weights.shape)}, expected (examples, elements of each) with "
                f"{expected[0]} numbers in all."
            )
        examples = expected if self.weights is None else self.weights.shape[:1]
        if self.other is not None and self.other.shape != examples:
            raise ShapeError(
                f"Elements.other has shape {tuple(self.other.shape)}, expected {tuple(examples)}: a number an example."
            )

    def __len__(self) -> int:
        """Number of elements."""
        return self.scores.shape[0]

    @classmethod
    def of_classes(
        cls,
        log_probs: Tensor,
        classes: Tensor,
        chance_error: Tensor,
        *,
        weights: Tensor | None = None,
        other: Tensor | None = None,
        kinds: Tensor | None = None,
    ) -> Elements:
        """Elements that are each of one class. Their scores are 1 where the likeliest class is the true one, else 0.

        Args:
            log_probs: Log-probabilities, (E, C).
            classes: True classes, (E,) int64.
            chance_error: Part of the training elements that always answering their commonest class gets wrong, a
                scalar above 0: the unit of the training error that a teacher sees.
            weights: See the class.
            other: See the class.
            kinds: See the class.

        Examples:
            >>> log_probs = torch.tensor([[0.6, 0.4], [0.1, 0.9]]).log()
            >>> Elements.of_classes(log_probs, torch.tensor([0, 0]), chance_error=torch.tensor(0.5)).scores
            tensor([1., 0.])
        """
        right = (log_probs.detach().argmax(1) == classes).to(log_probs.dtype)
        ones = torch.ones_like(right)
        spread = chance_error.to(log_probs.dtype).sqrt().expand_as(ones)
        return cls(
            right, ones, torch.zeros_like(classes), ones, spread, None, log_probs, classes, weights, other, kinds
        )

    def by_example(self, losses: Tensor) -> Tensor:
        """Each example's loss: the weighted sum of its elements' losses and what it has beside them.

        Args:
            losses: (E,).

        Returns:
            (B,); without weights B = E.
        """
        whole = losses if self.weights is None else (losses.view(self.weights.shape) * self.weights).sum(1)
        return whole if self.other is None else whole + self.other

    def mean(self, values: Tensor) -> Tensor:
        """The mean of E numbers, each counting by its element's weight.

        Args:
            values: (E,).

        Examples:
            >>> p, one = torch.tensor([0.0, 1.0]), torch.ones(2)
            >>> Elements(p, p, torch.zeros(2), one, one, weights=torch.tensor([[1.0], [3.0]])).mean(p)
            tensor(0.7500)
        """
        if self.weights is None:
            return values.mean()
        weights = self.weights.reshape(-1)
        return (weights * values).sum() / weights.sum()

    def weighted(self, factors: Tensor) -> Elements:
        """The same, each element counting so many times as much.

        Args:
            factors: (E,).

        Examples:
            >>> p, one = torch.tensor([0.0, 1.0]), torch.ones(2)
            >>> Elements(p, p, torch.zeros(2), one, one).weighted(torch.tensor([1.0, 3.0])).mean(p)
            tensor(0.7500)
        """
        weights = factors[:, None] if self.weights is None else factors.view(self.weights.shape) * self.weights
        return replace(self, weights=weights)

    def chosen(self, which: Tensor) -> Elements:
        """Some of the elements, of a student that has one an example.

        Args:
            which: Whether each is among them, (E,) bool.
        """
        tensors = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{name: tensor[which] for name, tensor in tensors.items() if tensor is not None})

    def errors(self) -> Tensor:
        """Each example's mean squared error in units of its group's variance, (B,): 1 for predicting the mean."""
        scaled = self.standardised()
        squares = (scaled.scores - scaled.targets).square()
        if self.weights is None:
            return squares
        parts = self.weights / self.weights.sum(1, keepdim=True).clamp(min=torch.finfo(self.weights.dtype).tiny)
        return (squares.view(parts.shape) * parts).sum(1)

    def standardised(self) -> Elements:
        """The same with scores and targets in units of their group's standard deviation, 0 at its mean."""
        return replace(
            self,
            scores=(self.scores - self.centre) / self.spread,
            targets=(self.targets - self.centre) / self.spread,
            centre=torch.zeros_like(self.centre),
            spread=torch.ones_like(self.spread),
        )


class Student(Protocol):
    """A module under training: ``forward(**batch.inputs)`` returns outputs, ``elements`` prepares them for a loss.

    The split keeps what is costly (the forward pass) apart from what is cheap (the loss), so that a loss over an
    effective batch needs only the outputs of its parts.
    """

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Outputs of a batch, (B, D), float32 or float64."""

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        """Elements of outputs beside targets; cheap, differentiable in ``outputs``, and blind to the parameters."""

    def parameter_stack(self) -> Sequence[Sequence[tuple[str, Parameter]]]:
        """Named trainable parameters in layers from the bottom to the top; the last layer is the head."""

    def as_module(self) -> Module:
        """The student as the module that it is."""


@dataclass(frozen=True)
class RandomState:
    """The state of torch's generators on the CPU and on one accelerator."""

    cpu: Tensor
    cuda: Tensor | None = None


def random_state(device: torch.device) -> RandomState:
    """The generators' state now, on the CPU and on ``device``."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return RandomState(torch.get_rng_state(), cuda)


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Put the generators back into a state."""
    torch.set_rng_state(state.cpu)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda, device)


@contextmanager
def replayed(state: RandomState, device: torch.device) -> Iterator[None]:
    """Within the block the generators run from ``state``; afterwards they go on as if the block had not been."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        set_random_state(state, device)
        yield


def buffers_of(module: Module) -> list[Tensor]:
    """Copies of a module's buffers."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def put_buffers(module: Module, values: Sequence[Tensor]) -> None:
    """Put :func:`buffers_of` back."""
    for buffer, value in zip(module.buffers(), values, strict=True):
        # By `data`, so that graphs which are kept stay valid: they hold batch norm's statistics, but do not read them.
        buffer.data.copy_(value)


@contextmanager
def kept_buffers(module: Module) -> Iterator[None]:
    """Afterwards the buffers are as they were: for a forward pass that is made once more."""
    values = buffers_of(module)
    try:
        yield
    finally:
        put_buffers(module, values)
