"""A teacher: the weights of the losses follow the hypergradient by exponentiated steps."""

import torch
from torch import Tensor

from aes_dynloss import RewritingConfig, RewritingTeacher, register_teacher


class ExponentiatedTeacher(RewritingTeacher):
    """Weights that are multiplied by exp(-rate g), g the hypergradient brought to length 1, and so stay above 0."""

    def __init__(self, weights: Tensor, rate: float) -> None:
        super().__init__(weights)
        self.rate = rate

    def rewritten(self, hypergradient: Tensor) -> Tensor:
        """The new weights, (K,)."""
        return self.phi * torch.exp(-self.rate * hypergradient / hypergradient.norm().clamp(min=1e-12))


@register_teacher("exponentiated")
class Exponentiated(RewritingConfig):
    """Exponentiated steps of one length along the hypergradient (Kivinen and Warmuth 1997, for mixture weights)."""

    rate: float = 0.05

    def build(self, weights: Tensor) -> ExponentiatedTeacher:
        """The teacher, from the weights of `loss.terms`, (K,)."""
        return ExponentiatedTeacher(weights, self.rate)
