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
    Regressions,
    RidgeFit,
    fitted_scale,
    radial_kernel,
)
from aes_dynloss.essays.classical.strings import StringFeatures, StringModel, fit_mixed_all
from aes_dynloss.essays.data.essay_table import Prompt
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
    heads = model.head.heads.cpu().numpy()
    for numbers, rows_of in _alike(train, heads):
        names = [
            _name(model.scales[int(np.flatnonzero(heads == number)[0])].prompt, shared=shared) for number in numbers
        ]
        rows = rows_of[0]
        if len(rows) < LEAST_EXAMPLES:
            raise DataError(
                f"{names[0]}: {len(rows)} training essays, but model.solver {model.config.solver} needs at least "
                f"{LEAST_EXAMPLES}. Add essays, change data.split, or leave the prompt out with data.keep_prompts."
            )
        weighted = None if train.weights is None else train.weights[rows]
        of_each = [targets[own] for own in rows_of]
        if model.config.strings:
            features = StringFeatures.of([texts[row] for row in rows.tolist()])
            found = _with_strings(model, numbers, inputs[rows], of_each, weighted, features)
            strings |= {model.scales[number].prompt.id: part for number, (_, part) in zip(numbers, found, strict=True)}
            fits = [fit for fit, _ in found]
        else:
            fits = _without_strings(model, numbers, inputs[rows], of_each, weighted)
        for name, own, fit, target in zip(names, rows_of, fits, of_each, strict=True):
            left_out[own] = fit.leave_one_out
            r2 = 1 - fit.error / target.var()
            logger.info("%s: %d essays, penalty %.3g, leave-one-out R^2 %.3f.", name, len(own), fit.penalty, r2)
    return ExactHead(torch.from_numpy(left_out)[:, None].float(), strings)


def _alike(train: EssayExamples, heads: NDArray[np.int64]) -> Iterator[tuple[list[int], list[NDArray[np.int64]]]]:
    """Heads that learn from the same essays with the same weights, and the rows of each, essay by essay."""
    groups: dict[bytes, tuple[list[int], list[NDArray[np.int64]]]] = {}
    for number in range(int(heads.max()) + 1):
        rows = np.flatnonzero(heads[train.groups] == number)
        essays = rows if train.units is None else train.units[rows]
        weights = b"" if train.weights is None else train.weights[rows].tobytes()
        numbers, rows_of = groups.setdefault(essays.tobytes() + weights, ([], []))
        numbers.append(number)
        rows_of.append(rows)
    yield from groups.values()


def _name(prompt: Prompt, *, shared: bool) -> str:
    if not shared:
        return f"Prompt {prompt.id}"
    return "All prompts" if prompt.trait is None else f"All prompts, {prompt.trait}"


def _without_strings(
    model: ScoringModel, numbers: Sequence[int], inputs: Array, targets: Sequence[Array], weights: Array | None
) -> list[RidgeFit]:
    """Fit and set some heads, each to its targets of the same essays."""
    scale = None if model.kernel is None else fitted_scale(inputs)
    if scale is None:
        regressions = Regressions.on_features(inputs, weights)
    else:
        regressions = Regressions.on_kernel(radial_kernel(inputs, inputs, scale), weights)
    fits = [regressions.fit(target) for target in targets]
    for number, fit in zip(numbers, fits, strict=True):
        _set_linear(model, number, fit.coefficients if scale is None else 0.0, fit.intercept)
    if scale is not None:
        _set_kernel(model, numbers, inputs, [fit.coefficients for fit in fits], scale)
    return fits


def _with_strings(
    model: ScoringModel,
    numbers: Sequence[int],
    inputs: Array,
    targets: Sequence[Array],
    weights: Array | None,
    features: StringFeatures,
) -> list[tuple[RidgeFit, StringModel]]:
    """The mixed regressions, and what the part of each over n-grams is as a linear model of them."""
    scale = 1.0 if model.kernel is None else fitted_scale(inputs)
    kernel = inputs @ inputs.T if model.kernel is None else radial_kernel(inputs, inputs, scale)
    fits = fit_mixed_all(kernel, features.kernel(), targets, weights)
    for number, mixed in zip(numbers, fits, strict=True):
        _set_linear(model, number, inputs.T @ mixed.of_kernel if model.kernel is None else 0.0, mixed.fit.intercept)
        logger.info("Share of the string kernel: %.2f.", mixed.share)
    if model.kernel is not None:
        _set_kernel(model, numbers, inputs, [mixed.of_kernel for mixed in fits], scale)
    return [(mixed.fit, StringModel.flatten(features, mixed.of_strings)) for mixed in fits]


def _set_linear(model: ScoringModel, number: int, weights: Array | float, intercept: float) -> None:
    with torch.no_grad():
        model.head.answer.weight[number] = torch.as_tensor(weights).to(model.head.answer.weight)
        model.head.answer.bias[number] = intercept


def _set_kernel(
    model: ScoringModel, numbers: Sequence[int], support: Array, coefficients: Sequence[Array], scale: float
) -> None:
    if model.kernel is not None:
        each = torch.from_numpy(np.column_stack(coefficients))
        model.kernel.set_prompts(numbers, torch.from_numpy(support), each, scale)


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
