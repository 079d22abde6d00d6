"""The teacher of L2T-DLF: attention over learned keys, from the student's state to the loss's coefficients.

The control policies below it measure what remains of its gain without its dynamics, or without the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.teaching.policies import StudentState

_SPREAD_OF_VALUES = 0.01
_SPREAD_OF_KEYS = 0.1
_LEAST_POSITIVE = 0.01


class AttentionTeacher(nn.Module):
    """phi = V softmax(P s) for each block of coefficients.

    Every column of V starts at the neutral coefficients plus a little noise: from zeros the dynamic part would never
    receive a gradient.

    Args:
        neutral: Coefficients of the plain loss, (K,).
        blocks: Sizes of the blocks that have keys of their own, such as W and b; they add up to K.
        positive: Whether coefficients are kept above 0 by a softplus, as weights of a mixture are.
        keys: Learned keys N.
        seed: Of the first values.

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions, section 3.2.

    Examples:
        >>> teacher = AttentionTeacher(torch.tensor([1.0, 0.5]), positive=True)
        >>> states = torch.stack([StudentState(progress).as_tensor() for progress in (0.0, 0.5, 1.0)])
        >>> teacher(states).shape
        torch.Size([3, 2])
    """

    def __init__(
        self, neutral: Tensor, blocks: Sequence[int] | None = None, *, positive: bool, keys: int = 10, seed: int = 0
    ) -> None:
        super().__init__()
        self.blocks = tuple(blocks or (len(neutral),))
        self.positive = positive
        generator = torch.Generator().manual_seed(seed)
        centre = neutral
        if positive:  # what softplus takes to the neutral coefficients
            centre = neutral.clamp(min=_LEAST_POSITIVE)
            centre = centre + torch.log(-torch.expm1(-centre))
        noise = torch.randn(len(neutral), keys, generator=generator)
        self.values = nn.Parameter(centre[:, None] + _SPREAD_OF_VALUES * noise)
        shape = (len(self.blocks), keys, StudentState.SIZE)
        self.keys = nn.Parameter(_SPREAD_OF_KEYS * torch.randn(shape, generator=generator))

    def forward(self, states: Tensor) -> Tensor:
        """Coefficients.

        Args:
            states: States as vectors, (T, S).

        Returns:
            (T, K).
        """
        parts = [
            functional.softmax(states @ keys.T, dim=1) @ values.T
            for keys, values in zip(self.keys, torch.split(self.values, list(self.blocks)), strict=True)
        ]
        coefficients = torch.cat(parts, dim=1)
        return functional.softplus(coefficients) if self.positive else coefficients


class TaughtPolicy:
    """The coefficients that a teacher outputs, without a graph.

    Args:
        teacher: From states, (T, S), to coefficients, (T, K).

    Examples:
        >>> policy = TaughtPolicy(AttentionTeacher(torch.tensor([1.0, 0.5]), positive=True))
        >>> policy.coefficients(StudentState(progress=0.5)).shape
        torch.Size([2])
    """

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    @torch.no_grad()
    def coefficients(self, state: StudentState) -> Tensor:
        """Coefficients for a state, (K,)."""
        device = next(self.teacher.parameters()).device
        coefficients: Tensor = self.teacher(state.as_tensor(device)[None])[0]
        return coefficients


class FixedPolicy:
    """The same coefficients throughout.

    Args:
        coefficients: (K,).

    Examples:
        >>> FixedPolicy(torch.tensor([1.0, 0.5])).coefficients(StudentState(progress=0.5))
        tensor([1.0000, 0.5000])
    """

    def __init__(self, coefficients: Tensor) -> None:
        self._coefficients = coefficients.detach().clone()

    def coefficients(self, state: StudentState) -> Tensor:  # noqa: ARG002 - the signature of all policies
        """The coefficients, (K,)."""
        return self._coefficients


class RandomPolicy:
    """Coefficients as far from the neutral ones as a teacher's, in random directions, new in every step.

    Args:
        coefficients: The teacher's outputs over a run, (T, K).
        neutral: The plain loss's coefficients, (K,).
        positive: Whether they must stay at or above 0.
        seed: Of the directions.

    Examples:
        >>> policy = RandomPolicy(torch.tensor([[1.1, 0.5], [0.9, 0.5]]), torch.tensor([1.0, 0.5]), positive=True)
        >>> bool(policy.coefficients(StudentState(progress=0.5))[1] == 0.5)  # this one never moved
        True
    """

    def __init__(self, coefficients: Tensor, neutral: Tensor, *, positive: bool, seed: int = 0) -> None:
        self._neutral = neutral.to(coefficients.device)
        self._spread = (coefficients - self._neutral).square().mean(0).sqrt()
        self._positive = positive
        self._seed = seed

    def coefficients(self, state: StudentState) -> Tensor:
        """Coefficients for a state, (K,); the same for the same state."""
        generator = torch.Generator().manual_seed(self._seed + round(state.progress * 1e6))
        noise = torch.randn(len(self._neutral), generator=generator).to(self._spread)
        coefficients = self._neutral + noise * self._spread
        return coefficients.clamp(min=0.0) if self._positive else coefficients
