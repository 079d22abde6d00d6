"""Dynamic losses: families of losses whose coefficients a schedule or a teacher sets at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from aes_dynloss.errors import ConfigError, ShapeError
from aes_dynloss.teaching.losses.component_table import COMPONENTS, Component
from aes_dynloss.teaching.student import Elements


class DynamicLoss(Protocol):
    """A family of losses: coefficients phi and elements to one number. It knows no task and keeps no state."""

    @property
    def over_batch(self) -> bool:
        """Whether the loss couples elements, so that it must see the whole effective batch at once."""

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """A few scalars, on the device, that summarise the coefficients of a step in the log."""

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """The parts of the loss by name, for the log: (E,), or scalar where a part is over the batch."""

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """The loss: scalar if ``over_batch``, else (E,), of which the mean over all elements is meant."""


class Mixture:
    """A weighted sum of component losses, sum_k phi_k l_k.

    Args:
        names: Components, keys of :data:`COMPONENTS`.
        standardise: Whether components that measure in score units do so in units of each group's standard
            deviation, so that no prompt weighs more for having a wide range.

    Raises:
        ConfigError: No components, or one that does not exist.

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> loss = Mixture(["mse", "mae"])
        >>> loss(torch.tensor([1.0, 0.5]), elements)
        tensor([0.1400, 0.0000, 0.3600])
        >>> loss.logged_values(torch.tensor([1.0, 0.5]))
        {'mse': tensor(1.), 'mae': tensor(0.5000)}
    """

    def __init__(self, names: Sequence[str], *, standardise: bool = False) -> None:
        unknown = [name for name in names if name not in COMPONENTS]
        if unknown or not names:
            raise ConfigError(f"Expected component losses out of {', '.join(COMPONENTS)}; found {list(names)}.")
        self._components: dict[str, Component] = {name: COMPONENTS[name] for name in names}
        self._standardise = standardise

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names of the components."""
        return tuple(self._components)

    @property
    def over_batch(self) -> bool:
        """Whether any component couples elements."""
        return any(component.over_batch for component in self._components.values())

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """The weights by name."""
        return dict(zip(self._components, coefficients, strict=True))

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """Each component's loss: (E,), or scalar for a component over the batch."""
        # With one group's statistics for all, `standardised` inside a component is then the identity.
        scaled = elements.standardised() if self._standardise else elements
        return {
            name: _term(component, scaled if component.in_units else elements)
            for name, component in self._components.items()
        }

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """Weighted sum of the terms.

        Args:
            coefficients: One weight a component, (K,).
            elements: E elements; all of the effective batch if :attr:`over_batch`.

        Returns:
            Scalar if :attr:`over_batch`, else (E,).

        Raises:
            ShapeError: ``coefficients`` is not (K,), or a component over the batch meets examples of several elements.
        """
        if coefficients.shape != (len(self._components),):
            raise ShapeError(
                f"The mixture of {', '.join(self._components)} expects coefficients of shape "
                f"({len(self._components)},), found {tuple(coefficients.shape)}."
            )
        parts = list(self.terms(elements).values())
        if self.over_batch:
            one_each = elements.weights is None or elements.weights.shape[1] == 1
            if not one_each or elements.other is not None:
                raise ShapeError(
                    f"One of {', '.join(self._components)} is a statistic of a batch, in which each example is one "
                    "element; this student shows several, or more than them. Take losses of single elements."
                )
            parts = [elements.by_example(part).mean() if part.ndim else part for part in parts]
        return torch.stack([weight * part for weight, part in zip(coefficients, parts, strict=True)]).sum(0)


def _term(component: Component, elements: Elements) -> Tensor:
    """A component's loss; of a statistic the mean over the elements' parts, each counting as much as its elements."""
    if not component.over_batch or elements.parts is None:
        return component.function(elements)
    weights = torch.ones_like(elements.scores) if elements.weights is None else elements.weights.reshape(-1)
    total = elements.scores.new_zeros(())
    for part in torch.unique(elements.parts).tolist():
        which = elements.parts == part
        if float(weights[which].detach().sum()) == 0:
            continue  # a part that counts nothing has no statistic
        total = total + weights[which].sum() * component.function(elements.chosen(which))
    return total / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


class FixedMixture:
    """A loss with fixed coefficients, such as a teacher's dev measure.

    Args:
        loss: The loss.
        coefficients: Its coefficients, (K,).

    Examples:
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.5 * one)
        >>> loss = FixedMixture(Mixture(["mse", "mae"]), torch.tensor([1.0, 0.5]))
        >>> loss(torch.zeros(0), elements)
        tensor([0.1400, 0.0000, 0.3600])
    """

    def __init__(self, loss: DynamicLoss, coefficients: Tensor) -> None:
        self._loss = loss
        self._coefficients = coefficients

    @property
    def over_batch(self) -> bool:
        """Whether the loss couples elements."""
        return self._loss.over_batch

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - the signature of all losses
        """Nothing: there is no coefficient to log."""
        return {}

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """The terms of the loss."""
        return self._loss.terms(elements)

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:  # noqa: ARG002
        """The loss, whatever ``coefficients``, (0,)."""
        return self._loss(self._coefficients.to(elements.scores), elements)
