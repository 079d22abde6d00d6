"""The head of a frozen encoder in closed form: ridge or kernel ridge regression of each prompt's scores.

Its inputs are what the head sees, a vector with the length and linguistic features, and with ``model.strings`` the
essay's n-grams: then the kernel is a weighted mean of both, the weights chosen by leave-one-out error. No dev essay is
needed, and nothing depends on a seed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import DataError
from aes_dynloss.essays.classical.ridge import (
    LEAST_EXAMPLES,
    RidgeFit,
    fit_kernel_ridge,
    fit_ridge,
    fitted_scale,
    radial_kernel,
)
from aes_dynloss.essays.classical.strings import StringFeatures, StringModel, fit_mixed
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.scoring_model import ScoringModel

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_ESSAYS_AT_ONCE = 1024


@dataclass(frozen=True)
class ExactHead:
    """What fitting a head gives beside its weights.

    Args:
        left_out: What the head of the other N - 1 training essays says of each, (N, 1), as the model's outputs are.
        strings: What n-grams add, by prompt; empty without them.
    """

    left_out: Tensor
    strings: dict[str, StringModel]


def fit_exact_head(model: ScoringModel, train: EssayExamples, texts: Sequence[str]) -> ExactHead:
    """Set a head to the regression with the least penalised squared error, prompt by prompt.

    Args:
        model: The scorer, its encoder frozen; its head is set.
        train: N training essays with their pooled vectors.
        texts: Their texts.

    Raises:
        DataError: A prompt has fewer than three training essays.
    """
    inputs, targets = _inputs(model, train), _targets(model, train)
    left_out = np.zeros(len(train))
    strings: dict[str, StringModel] = {}
    shared = model.config.prompts == "shared"
    for number, scale in enumerate(model.scales[:1] if shared else model.scales):
        rows = np.arange(len(train)) if shared else np.flatnonzero(train.groups == number)
        name = "All prompts" if shared else f"Prompt {scale.prompt.id}"
        if len(rows) < LEAST_EXAMPLES:
            raise DataError(
                f"{name}: {len(rows)} training essays, but model.solver {model.config.solver} needs at least "
                f"{LEAST_EXAMPLES}. Add essays, change data.split, or leave the prompt out with data.keep_prompts."
            )
        weighted = None if train.weights is None else train.weights[rows]
        if model.config.strings:
            features = StringFeatures.of([texts[row] for row in rows.tolist()])
            fit, part = _with_strings(model, number, inputs[rows], targets[rows], weighted, features)
            strings[scale.prompt.id] = part
        else:
            fit = _without_strings(model, number, inputs[rows], targets[rows], weighted)
        left_out[rows] = fit.leave_one_out
        r2 = 1 - fit.error / targets[rows].var()
        logger.info("%s: %d essays, penalty %.3g, leave-one-out R^2 %.3f.", name, len(rows), fit.penalty, r2)
    return ExactHead(torch.from_numpy(left_out)[:, None].float(), strings)


def _without_strings(
    model: ScoringModel, number: int, inputs: Array, targets: Array, weights: Array | None
) -> RidgeFit:
    if model.kernel is None:
        fit = fit_ridge(inputs, targets, weights)
        _set_linear(model, number, fit.coefficients, fit.intercept)
    else:
        scale = fitted_scale(inputs)
        fit = fit_kernel_ridge(radial_kernel(inputs, inputs, scale), targets, weights)
        _set_kernel(model, number, inputs, fit.coefficients, scale, fit.intercept)
    return fit


def _with_strings(
    model: ScoringModel,
    number: int,
    inputs: Array,
    targets: Array,
    weights: Array | None,
    features: StringFeatures,
) -> tuple[RidgeFit, StringModel]:
    """The mixed regression, and what its part over n-grams is as a linear model of them."""
    scale = 1.0 if model.kernel is None else fitted_scale(inputs)
    kernel = inputs @ inputs.T if model.kernel is None else radial_kernel(inputs, inputs, scale)
    mixed = fit_mixed(kernel, features.kernel(), targets, weights)
    if model.kernel is None:
        _set_linear(model, number, inputs.T @ mixed.of_kernel, mixed.fit.intercept)
    else:
        _set_kernel(model, number, inputs, mixed.of_kernel, scale, mixed.fit.intercept)
    logger.info("Share of the string kernel: %.2f.", mixed.share)
    return mixed.fit, StringModel.flatten(features, mixed.of_strings)


def _set_linear(model: ScoringModel, number: int, weights: Array | float, intercept: float) -> None:
    with torch.no_grad():
        model.head.answer.weight[number] = torch.as_tensor(weights).to(model.head.answer.weight)
        model.head.answer.bias[number] = intercept


def _set_kernel(
    model: ScoringModel, number: int, support: Array, coefficients: Array, scale: float, intercept: float
) -> None:
    if model.kernel is not None:
        model.kernel.set_prompt(number, torch.from_numpy(support), torch.from_numpy(coefficients), scale)
    _set_linear(model, number, 0.0, intercept)


def _inputs(model: ScoringModel, train: EssayExamples) -> Array:
    """What the head sees of each essay, (N, width)."""
    device = model.feature_mean.device

    def parts() -> Iterator[Tensor]:
        for start in range(0, len(train), _ESSAYS_AT_ONCE):
            batch = train.batch(range(start, min(start + _ESSAYS_AT_ONCE, len(train)))).to(device)
            with torch.no_grad():
                yield model.head_inputs(batch.inputs).double().cpu()

    return np.asarray(torch.cat(list(parts())).numpy())


def _targets(model: ScoringModel, train: EssayExamples) -> Array:
    """Scores in the head's unit: standard deviations of the prompt's training scores from their mean, (N,)."""
    mean, sd = model.mean.double().cpu().numpy(), model.sd.double().cpu().numpy()
    return np.asarray((train.targets - mean[train.groups]) / sd[train.groups])
