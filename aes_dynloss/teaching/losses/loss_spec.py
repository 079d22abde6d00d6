"""Loss specifications: the family of losses that a teacher steers, in a form that can be saved with its weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.component_table import ComponentName, those_that_need
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss, FixedMixture, Mixture
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss
from aes_dynloss.teaching.losses.rater_weights import RaterWeights, weighted_by_rater


class MixtureSpec(ConfigModel):
    """A mixture of components, each with its neutral weight."""

    positive: ClassVar[bool] = True  # weights stay above 0
    family: Literal["mixture"] = "mixture"
    terms: dict[ComponentName, float] = Field(min_length=1, description="Components and their neutral weights.")
    standardise: bool = Field(default=False, description="See the loss's configuration.")

    def build(self) -> Mixture:
        """The loss."""
        return Mixture(list(self.terms), standardise=self.standardise)

    def plain_loss(self) -> DynamicLoss:
        """The loss without a teacher."""
        return FixedMixture(self.build(), self.neutral())

    def neutral(self) -> Tensor:
        """The neutral weights, (K,)."""
        return torch.tensor(list(self.terms.values()))

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block."""
        return (len(self.terms),)


class BilinearSpec(ConfigModel):
    """The bilinear log loss over a distribution."""

    positive: ClassVar[bool] = False  # W and b may have any sign
    family: Literal["bilinear"] = "bilinear"
    classes: int = Field(ge=2, description="Score points or classes.")
    floor: float = Field(ge=0, description="Weight of the cross-entropy beside it.")
    bins: int = Field(ge=2, description="Most rows and columns of W.")

    def build(self) -> BilinearLogLoss:
        """The loss."""
        return BilinearLogLoss(self.classes, floor=self.floor, bins=self.bins)

    def plain_loss(self) -> DynamicLoss:
        """Cross-entropy."""
        return _cross_entropy()

    def neutral(self) -> Tensor:
        """W = I, b = 0."""
        return self.build().neutral()

    @property
    def blocks(self) -> tuple[int, ...]:
        """W and b."""
        return self.build().blocks


class RaterWeightsSpec(ConfigModel):
    """A weight by rater, level of the target or both, on a mixture that stays."""

    positive: ClassVar[bool] = True  # weights stay above 0
    family: Literal["rater_weights"] = "rater_weights"
    raters: list[str] = Field(min_length=1, description="Names of the raters, in the order of their numbers.")
    unit: str | None = Field(default=None, description="The rater who counts 1.")
    levels: int = Field(ge=1, description="Parts of the targets' range with weights of their own.")
    terms: dict[ComponentName, float] = Field(min_length=1, description="Components and their weights in the mixture.")
    standardise: bool = Field(default=False, description="See the loss's configuration.")

    def build(self) -> RaterWeights:
        """The loss."""
        return weighted_by_rater(self.terms, self.raters, self.levels, standardise=self.standardise, unit=self.unit)

    def plain_loss(self) -> DynamicLoss:
        """The loss that is weighted."""
        return self.build().plain

    def neutral(self) -> Tensor:
        """1 for all."""
        return torch.ones(self.build().size)

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block."""
        return (self.build().size,)


class ForwardSpec(ConfigModel):
    """Cross-entropy through a matrix of how untrusted targets come about."""

    positive: ClassVar[bool] = False  # logits may have any sign
    family: Literal["forward"] = "forward"
    groups: int = Field(ge=1, description="Groups, each with a matrix of its own.")
    classes: int = Field(ge=2, description="Score points or classes.")
    bins: int = Field(ge=2, description="Most rows and columns of a matrix.")
    logits: bool = Field(default=False, description="Whether coefficients are logits of its rows.")

    def build(self) -> ForwardCorrection:
        """The loss."""
        return ForwardCorrection(self.groups, self.classes, bins=self.bins, logits=self.logits)

    def plain_loss(self) -> DynamicLoss:
        """Cross-entropy."""
        return _cross_entropy()

    def neutral(self) -> Tensor:
        """The first matrices."""
        return self.build().neutral()

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block."""
        return (self.build().size,)


class NetworkSpec(ConfigModel):
    """The loss network."""

    family: Literal["network"] = "network"
    form: Literal["distribution", "scores"] = Field(description="Output of the student.")
    width: int = Field(ge=1, description="Width of the hidden layers.")
    hidden: int = Field(ge=1, description="Number of hidden layers.")
    plain: float = Field(ge=0, description="Weight of the plain loss beside it.")
    smooth: bool = Field(default=False, description="Whether softplus takes the place of the kink.")

    def build(self) -> LossNetwork:
        """The loss."""
        return LossNetwork(self.form, width=self.width, hidden=self.hidden, plain=self.plain, smooth=self.smooth)

    def plain_loss(self) -> DynamicLoss:
        """Cross-entropy, or the squared error in units of each group's variance."""
        return _cross_entropy() if self.form == "distribution" else fixed_objective("mse")


class MetaWeightSpec(ConfigModel):
    """A plain loss whose elements are weighted by Meta-Weight-Net."""

    family: Literal["meta_weight"] = "meta_weight"
    terms: dict[ComponentName, float] = Field(min_length=1, description="Components of the plain loss, with weights.")
    standardise: bool = Field(default=False, description="See the loss's configuration.")
    width: int = Field(ge=1, description="Hidden units of the network.")

    def build(self) -> MetaWeightLoss:
        """The loss.

        Raises:
            ConfigError: A component is over the batch.
        """
        return MetaWeightLoss(self.terms, standardise=self.standardise, width=self.width)

    def plain_loss(self) -> DynamicLoss:
        """The loss whose elements are weighted."""
        return self.build().plain

    @property
    def form(self) -> Literal["distribution", "scores"]:
        """Output of the student."""
        return "distribution" if those_that_need("log_probs", list(self.terms)) else "scores"


SteeredSpec = MixtureSpec | BilinearSpec | RaterWeightsSpec | ForwardSpec
LossSpec = Annotated[SteeredSpec | NetworkSpec | MetaWeightSpec, Field(discriminator="family")]


def fixed_objective(measure: str) -> DynamicLoss:
    """A component as a measure without coefficients, in units of each group's spread.

    Examples:
        >>> fixed_objective("mse").over_batch, fixed_objective("one_minus_qwk").over_batch
        (False, True)
    """
    return FixedMixture(Mixture([measure], standardise=True), torch.ones(1))


def _cross_entropy() -> DynamicLoss:
    return fixed_objective("cross_entropy")
