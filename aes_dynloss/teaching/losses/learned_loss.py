"""A loss as its teacher left it, and how much it makes of each target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection
from aes_dynloss.teaching.student import Elements, Student


@dataclass(frozen=True)
class LearnedLoss:
    """A loss with its last coefficients, beside the plain loss that it was made of.

    Args:
        loss: The loss.
        coefficients: Those for the student as its training ended, (K,).
        plain: The loss as it would be without a teacher; it needs no coefficients.
    """

    loss: DynamicLoss
    coefficients: Tensor
    plain: DynamicLoss

    def weights(self, student: Student, outputs: Tensor, targets: Tensor, groups: Tensor) -> Tensor:
        """How much the loss makes of each target, for a student that has one element an example.

        The weight of an element is that of the plain loss whose pull on the student's output is nearest to the learned
        loss's: with the gradients g and g_plain of an element by its scores, or by the logits of its distribution,

            w = g . g_plain / |g_plain|^2.

        A weight by rater is found as it is; below 0 the loss pushes away from the target. Under a forward correction it
        is the probability that the target is true, 1 for trusted elements. (Ours.)

        Args:
            student: The student; its parameters have no part in it.
            outputs: Of the student, (E, D).
            targets: What it was to predict, (E, ...).
            groups: (E,) int64.

        Returns:
            (E,), NaN where the plain loss has no gradient.

        Examples:
            >>> from aes_dynloss.teaching.losses.rater_weights import weighted_by_rater
            >>> class Line(torch.nn.Linear):
            ...     def elements(self, outputs, targets, groups):
            ...         half = torch.full((len(outputs),), 0.5)
            ...         return Elements(outputs[:, 0], targets[:, 0], groups, half, half, raters=targets[:, 1].long())
            >>> loss = weighted_by_rater({"mse": 1.0}, ["trusted", "r1"], levels=1, standardise=False)
            >>> learned = LearnedLoss(loss, torch.tensor([1.0, 0.25]), loss.plain)
            >>> targets = torch.tensor([[0.2, 0.0], [0.9, 1.0]])
            >>> learned.weights(Line(1, 1), torch.tensor([[0.5], [0.5]]), targets, torch.tensor([0, 0]))
            tensor([1.0000, 0.2500])
        """
        if isinstance(self.loss, ForwardCorrection):
            with torch.no_grad():
                elements = student.elements(outputs, targets, groups)
                return self.loss.probability_true(self.coefficients.to(outputs), elements)
        outputs = outputs.detach().clone().requires_grad_()
        elements = student.elements(outputs, targets, groups)
        learned = _pull(self.loss(self.coefficients.to(outputs), elements), outputs, elements)
        plain = _pull(self.plain(self.coefficients.new_zeros(0), elements), outputs, elements)
        return (learned * plain).sum(1) / plain.square().sum(1)


def _pull(loss: Tensor, outputs: Tensor, elements: Elements) -> Tensor:
    """Gradient of each element's loss, (E, D), by logits where outputs are those or log-probabilities."""
    (gradient,) = torch.autograd.grad(loss.sum(), outputs, retain_graph=True)
    if elements.log_probs is None:
        return gradient
    return gradient - elements.log_probs.detach().exp() * gradient.sum(1, keepdim=True)
