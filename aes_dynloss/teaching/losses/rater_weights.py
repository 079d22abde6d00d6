"""A weight for each rater, each level of the target, or each pair of both: a loss for targets of unequal worth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss, FixedMixture, Mixture
from aes_dynloss.teaching.student import Elements

# So that a target of 1/3 of the range is not taken for less by its last digit.
_ROUNDING = 1e-4


class RaterWeights:
    """w(rater, level) times a fixed loss of each element.

    The coefficients are the weights themselves, rater by rater and within a rater level by level. What a weight scales
    is the pull of an element's target on the student: at 0 the target says nothing. One rater's targets may be the unit
    in which the others are weighed: they count 1, whatever the coefficients.

    Args:
        plain: The loss that is weighted, over elements or, by weighted statistics, over the batch.
        raters: Names of the R raters, in the order of their numbers.
        levels: Even parts L of the targets' range that have weights of their own; 1 for one weight a rater.
        unit: The rater who counts 1 at all levels and has no coefficients; None: all have some.

    References:
        Ours, in the frame of Wu et al. 2018; one learned weight a group of examples as in Ren et al. 2018, Learning to
        reweight examples for robust deep learning, where every example has one.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> raters = torch.tensor([0, 1, 1])
        >>> elements = Elements(p, y, 0 * raters, centre=0.5 * one, spread=0.5 * one, raters=raters)
        >>> loss = RaterWeights(FixedMixture(Mixture(["mse"]), torch.ones(1)), ["trusted", "r1"], unit="trusted")
        >>> loss(torch.tensor([0.25]), elements)
        tensor([0.0400, 0.0000, 0.0400])
        >>> loss.logged_values(torch.tensor([0.25]))
        {'trusted': tensor(1.), 'r1': tensor(0.2500)}
        >>> RaterWeights(FixedMixture(Mixture(["mse"]), torch.ones(1)), ["trusted", "r1"], levels=4).places(elements)
        tensor([0, 6, 7])
    """

    def __init__(self, plain: DynamicLoss, raters: Sequence[str], levels: int = 1, *, unit: str | None = None) -> None:
        self.plain = plain
        self.raters = list(raters)
        self.levels = levels
        self._unit = None if unit is None else self.raters.index(unit)

    @property
    def over_batch(self) -> bool:
        """Whether the weighted loss couples elements."""
        return self.plain.over_batch

    @property
    def size(self) -> int:
        """Coefficients K: L of each rater who is not the unit."""
        return (len(self.raters) - (self._unit is not None)) * self.levels

    def table(self, coefficients: Tensor) -> Tensor:
        """Weights by rater and level, (R, L)."""
        learned = coefficients.view(-1, self.levels)
        if self._unit is None:
            return learned
        return torch.cat([learned[: self._unit], learned.new_ones(1, self.levels), learned[self._unit :]])

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """Mean weight of each rater, by name."""
        return dict(zip(self.raters, self.table(coefficients).mean(1), strict=True))

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """The terms of the weighted loss, without the weights."""
        return self.plain.terms(elements)

    def places(self, elements: Elements) -> Tensor:
        """Which of the table's R L weights is each element's, (E,) int64.

        Raises:
            ShapeError: Nothing is known of who gave the targets.
        """
        if elements.raters is None:
            raise ShapeError("Weights by rater need elements that say who gave their targets (Elements.raters).")
        level = ((elements.targets + _ROUNDING) * self.levels).long().clamp(0, self.levels - 1)
        return elements.raters * self.levels + level

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """The weighted loss.

        Args:
            coefficients: Weights, (K,).
            elements: E elements with ``raters``.

        Returns:
            (E,), or a scalar of a loss over the batch.

        Raises:
            ShapeError: The coefficients have another shape, or nothing is known of raters.
        """
        if coefficients.shape != (self.size,):
            raise ShapeError(
                f"The weights of {len(self.raters)} raters at {self.levels} levels expect coefficients of shape "
                f"({self.size},), found {tuple(coefficients.shape)}."
            )
        weights = self.table(coefficients).flatten()[self.places(elements)].to(elements.scores.dtype)
        if not self.over_batch:
            return weights * self.plain(coefficients.new_zeros(0), elements)
        return self.plain(coefficients.new_zeros(0), elements.weighted(weights))


def weighted_by_rater(
    terms: dict[str, float], raters: Sequence[str], levels: int, *, standardise: bool, unit: str | None = None
) -> RaterWeights:
    """Weights by rater over a mixture with fixed coefficients.

    Args:
        terms: Components and their coefficients.
        raters: Names of the raters, in the order of their numbers.
        levels: Parts of the targets' range with weights of their own.
        standardise: See :class:`aes_dynloss.teaching.losses.dynamic_loss.Mixture`.
        unit: The rater who counts 1.

    Examples:
        >>> weighted_by_rater({"mse": 1.0}, ["trusted", "r1", "r2"], levels=1, standardise=True).size
        3
    """
    mixture = FixedMixture(Mixture(list(terms), standardise=standardise), torch.tensor(list(terms.values())))
    return RaterWeights(mixture, raters, levels, unit=unit)
