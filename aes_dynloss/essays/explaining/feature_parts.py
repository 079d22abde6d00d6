"""What each group of a model's features adds to an essay's raw score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.classical.ridge import radial_kernel
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.shapley import MOST_GROUPS, of_function, of_products
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, LENGTH, NGRAMS, OWN, VECTOR, feature_names
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.protocol import Scorer, own_numbers

if TYPE_CHECKING:
    import torch

    from aes_dynloss.essays.model.scorer import EncoderScorer

Array = NDArray[np.float64]
Groups = dict[str, NDArray[np.int64]]

# What features that were registered, and columns, are called where they are one group.
OWN_TOGETHER = "own features and columns"


@dataclass(frozen=True)
class FeatureParts:
    """Contributions of groups of features to a raw score, in score points.

    Args:
        baseline: Raw score of an essay whose features are all those of the average training essay, and that has no
            n-gram that the model knows.
        groups: What each group adds to it; with the baseline their sum is the raw score.
    """

    baseline: float
    groups: dict[str, float]


def feature_parts(scorer: Scorer, essay: Reading, scale: str) -> FeatureParts | None:
    """Exact contributions: products with weights where the last layer is linear, else Shapley values over groups.

    Args:
        scorer: The scorer.
        essay: The essay.
        scale: The prompt, or prompt and trait.

    Returns:
        None of scorers that keep no averages of their features: boosted trees, and heads of distributions.

    References:
        Shapley (1953), A value for n-person games. Lundberg and Lee (2017), A unified approach to interpreting model
        predictions (Shapley values of a linear model are its products).
    """
    if isinstance(scorer, EssayEnsemble):
        each = [feature_parts(member.scorer, essay, scale) for member in scorer.members]
        weights = scorer.weights.get(scale, [1 / len(each)] * len(each))
        known = [(weight, one) for weight, one in zip(weights, each, strict=True) if weight > 0]
        if any(one is None for _, one in known):
            return None
        names = dict.fromkeys(name for _, one in known if one is not None for name in one.groups)
        groups = {name: sum(w * one.groups.get(name, 0.0) for w, one in known if one is not None) for name in names}
        return FeatureParts(sum(w * one.baseline for w, one in known if one is not None), groups)
    if isinstance(scorer, ClassicalScorer):
        return _of_counts(scorer, essay, scale)
    return _of_head(scorer, essay, scale)  # type: ignore[arg-type]


def _of_counts(scorer: ClassicalScorer, essay: Reading, scale: str) -> FeatureParts | None:
    model = scorer.models[scale]
    if not isinstance(model, TextRegression):
        return None
    columns = own_numbers(scorer.own_features, None if essay.own is None else [essay.own], 1)
    point = model.numbers.points(scorer.numbers([essay.text], scale, columns))[0]
    groups = _column_groups(scorer.config, 0, length=True)
    if model.scale is None:
        weights = model.support.T @ model.coefficients
        values = {name: float(weights[at] @ point[at]) for name, at in groups.items()}
        at_zero = 0.0
    else:
        values, at_zero = _of_kernel(point, model.support, model.coefficients, model.scale, groups)
    if model.strings is not None:
        values[NGRAMS] = float(model.strings.predict([essay.text])[0])
    return FeatureParts(model.intercept + at_zero, values)


def _of_head(scorer: EncoderScorer, essay: Reading, scale: str) -> FeatureParts | None:
    import torch

    from aes_dynloss.training.prediction import evaluating

    model, config = scorer.model, scorer.model.config
    if config.head != "regression" or config.link != "identity" or config.prompts == "embedding":
        return None
    number = list(scorer.prompts).index(scale)
    read = essay.examples(scorer, scale)
    model.to(scorer.accelerator.device)
    with evaluating(model), scorer.accelerator.autocast():
        point = model.head_inputs(read.batch([0]).to(scorer.accelerator.device).inputs)[0]
    groups = _column_groups(config, int(model.feature_mean.shape[0]), length=config.log_length)
    unit = float(model.sd[number]) * (scorer.prompts[scale].range.high - scorer.prompts[scale].range.low)
    with evaluating(model):
        prompt = torch.tensor([number], device=point.device)

        def head(rows: torch.Tensor) -> Array:
            return np.asarray(model.head(rows, prompt.expand(len(rows)))[:, 0].double().cpu().numpy())

        nothing = torch.zeros_like(point)[None]
        if config.hidden is None:
            rows = torch.cat([nothing, *(_only(point, at)[None] for at in groups.values())])
            answers = head(rows)
            values = dict(zip(groups, (answers[1:] - answers[0]).tolist(), strict=True))
        else:
            groups = _few(groups)

            def coalition(there: NDArray[np.bool_]) -> Array:
                rows = torch.zeros(len(there), len(point), device=point.device)
                for column, at in enumerate(groups.values()):
                    chosen = torch.from_numpy(np.flatnonzero(there[:, column])).to(point.device)
                    rows[chosen[:, None], torch.from_numpy(at).to(point.device)] = point[torch.from_numpy(at)].to(rows)
                return head(rows)

            values = dict(zip(groups, of_function(coalition, len(groups)).tolist(), strict=True))
        at_zero = float(head(nothing)[0])
    if model.kernel is not None:
        support, coefficients, width = model.kernel.of_prompt(number)
        of_kernel, more = _of_kernel(point.double().cpu().numpy(), support, coefficients, width, groups)
        values = {name: value + of_kernel[name] for name, value in values.items()}
        at_zero += more
    if scorer.strings:
        values[NGRAMS] = float(read.strings[0]) if read.strings is not None else 0.0
    baseline = float(scorer.prompts[scale].range.from_unit(float(model.mean[number])))
    return FeatureParts(baseline + unit * at_zero, {name: unit * value for name, value in values.items()})


def _only(point: torch.Tensor, columns: NDArray[np.int64]) -> torch.Tensor:
    alone = point.new_zeros(len(point))
    alone[columns.tolist()] = point[columns.tolist()]
    return alone


def _of_kernel(
    point: Array, support: Array, coefficients: Array, scale: float, groups: Groups
) -> tuple[dict[str, float], float]:
    """Shapley values of a kernel regression, and its value at the average of all features."""
    at = list(groups.values())
    present = np.column_stack([radial_kernel(point[None, one], support[:, one], scale)[0] for one in at])
    absent = np.column_stack([radial_kernel(np.zeros((1, len(one))), support[:, one], scale)[0] for one in at])
    values = coefficients @ of_products(present, absent)
    return dict(zip(groups, values.tolist(), strict=True)), float(coefficients @ absent.prod(axis=1))


def _column_groups(config: ModelConfig, vector: int, *, length: bool) -> Groups:
    """The columns of each group in what a head, or a regression, sees."""
    sizes: list[tuple[str, int]] = [(VECTOR, vector), (LENGTH, int(length))]
    sizes += [(group, len(feature_names([group]))) for group in config.linguistic_groups]
    sizes.append((OWN, len(config.own_features)))
    ends = np.cumsum([size for _, size in sizes])
    return {name: np.arange(end - size, end) for (name, size), end in zip(sizes, ends, strict=True) if size}


def _few(groups: Groups) -> Groups:
    """The groups; where all choices of them would be too many, the user's own are one."""
    if len(groups) <= MOST_GROUPS:
        return groups
    few = {name: at for name, at in groups.items() if name in {VECTOR, LENGTH, *ALL_GROUPS}}
    return few | {OWN_TOGETHER: np.concatenate([at for name, at in groups.items() if name not in few])}


def ordered(parts: FeatureParts) -> Sequence[tuple[str, float]]:
    """The groups, those that add or take most first."""
    return sorted(parts.groups.items(), key=lambda one: -abs(one[1]))
