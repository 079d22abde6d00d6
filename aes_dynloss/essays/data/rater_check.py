"""A report on raters before anything is trained: who differs, and whether loss weights by rater are likely to pay.

A label is held against a prediction of it from the essay's text, made without it (cross-fitted). Trusted essays belong
to no rater; they say whether the predictions, and the labels as a whole, can be believed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.classical.text_regression import cross_fitted
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.features.linguistic import GROUPS, essay_numbers
from aes_dynloss.measures.raters import (
    ALARM,
    Assignment,
    RaterEffects,
    assignment_tests,
    pooled_correlation,
    rater_effects,
)
from aes_dynloss.measures.shrinkage import Estimate, normal_estimate
from aes_dynloss.tables.formats import source_name

Array = NDArray[np.float64]

FOLDS = 10
# Essays of a prompt from which labels are predicted, at least.
LEAST_ESSAYS = 30
# Trusted essays of a prompt from which a teacher learned in this project's experiments, at least.
ENOUGH_TRUSTED = 25
# Weights by rater pay where equal weights use less of the labels' information than this.
EFFICIENT = 0.75
# A smaller median of labels by rater shows large differences only.
ENOUGH_LABELS = 30


@dataclass(frozen=True)
class TrustedEssays:
    """Essays whose scores are adjudicated.

    Args:
        prompts: Their number by prompt; prompts without any are named too.
        correlation: Of their scores with the predictions, within prompts.
        shift: Mean of their scores less the predictions, in SDs of the prompt's labels: above 0 where the labels are
            too low as a whole.
    """

    prompts: dict[str, int]
    correlation: Estimate | None
    shift: Estimate | None


@dataclass(frozen=True)
class RaterCheck:
    """What a check of raters found.

    Args:
        source: Name of the source.
        labels: Number of labels by raters, those of trusted essays not counted.
        effects: The raters.
        assignment: Tests whether essays were assigned to raters by chance, by covariate.
        correlation: Of all labels with the predictions, within prompts.
        trusted: Trusted essays; None where none are named.
        unpredicted: Prompts with too few essays, or labels that are all equal, whose labels have no reference.
    """

    source: str
    labels: int
    effects: RaterEffects
    assignment: dict[str, Assignment]
    correlation: Estimate | None
    trusted: TrustedEssays | None
    unpredicted: list[str]

    @property
    def pays(self) -> bool:
        """Whether raters differ in consistency beyond chance, and enough for loss weights by rater."""
        p, efficiency = self.effects.consistency.p, self.effects.efficiency
        return p is not None and p < ALARM and (efficiency is None or efficiency < EFFICIENT)

    @property
    def confounded(self) -> list[str]:
        """Covariates by which essays were not assigned to raters by chance."""
        return [name for name, test in self.assignment.items() if test.p_holm is not None and test.p_holm < ALARM]

    def as_dict(self) -> dict[str, Any]:
        """The check as plain values, for JSON."""
        assignment = {name: test._asdict() for name, test in self.assignment.items()}
        figures = {**asdict(self), "assignment": assignment, "pays": self.pays, "confounded": self.confounded}
        return {**_plain(figures), "efficiency": self.effects.efficiency}


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any dataclass
    """Named tuples as mappings."""
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def check_raters(config: DataConfig) -> RaterCheck:
    """Read essays as training would and compare their raters.

    Args:
        config: Source and layout, with ``columns.rater``.

    Raises:
        ConfigError: No column of raters is named.
        DataError: The essays cannot be read, or there are fewer than two raters.
    """
    if config.columns.rater is None:
        raise ConfigError(
            "Nothing says who gave the scores. Name the column of raters or sources: --rater-column, or "
            "data.columns.rater in a configuration."
        )
    table = read_essays(config)
    trusted = np.zeros(len(table), dtype=bool) if table.trusted is None else table.trusted
    raters = np.array(table.raters, dtype=object)
    names = sorted(set(raters[~trusted].tolist()))
    if len(names) < 2:
        found = f"all {(~trusted).sum()} are of {names[0]!r}" if names else "all essays are trusted"
        raise DataError(
            f"Comparing raters needs scores of two or more, beside trusted ones; {found}. Is {config.columns.rater!r} "
            "the column of raters?"
        )
    texts, prompts, labels = (np.array(table.values(name), dtype=object) for name in ("text", "prompt_id", "score"))
    labels = labels.astype(np.float64)
    groups = np.where(trusted, "", raters)
    predicted = _predictions(table, groups, labels)
    rated = ~trusted
    by_rater = raters[rated], prompts[rated]
    words = np.log1p([len(text.split()) for text in texts[rated]])
    return RaterCheck(
        source=source_name(config.source),
        labels=int(rated.sum()),
        effects=rater_effects(*by_rater, labels[rated], predicted[rated]),
        assignment=assignment_tests(*by_rater, {"length": words, "predicted score": predicted[rated]}),
        correlation=pooled_correlation(prompts[rated], labels[rated], predicted[rated]),
        trusted=None if table.trusted is None else _trusted_essays(prompts, labels, predicted, trusted),
        unpredicted=sorted(set(prompts[np.isnan(predicted)].tolist())),
    )


def _predictions(table: EssayTable, groups: NDArray[np.object_], labels: Array) -> Array:
    """Each label as predicted from the text without it; NaN where its prompt has too few essays."""
    predicted = np.full(len(labels), np.nan)
    texts, prompts = table.values("text"), np.array(table.values("prompt_id"), dtype=object)
    for prompt in table.prompts.values():
        rows = np.flatnonzero(prompts == prompt.id)
        if len(rows) >= LEAST_ESSAYS and np.ptp(labels[rows]) > 0:
            numbers = essay_numbers([texts[row] for row in rows], prompt.text, GROUPS)
            predicted[rows] = cross_fitted(numbers, labels[rows], balanced_folds(groups[rows], labels[rows]))
    return predicted


def balanced_folds(groups: NDArray[np.object_], labels: Array, folds: int = FOLDS) -> NDArray[np.int64]:
    """Numbers of folds that have each rater's labels in nearly the same proportions.

    Folds of different means would let a prediction without a fold fall where the fold's labels rise.

    Args:
        groups: Each essay's rater, (N,).
        labels: (N,).
        folds: Their number.

    Example:
        >>> balanced_folds(np.array(list("aaabbb")), np.arange(6.0), folds=2).reshape(2, 3).sum(axis=1)
        array([1, 2])
    """
    generator = np.random.default_rng(0)
    blocks = generator.permuted(np.tile(np.arange(folds), (-(-len(labels) // folds), 1)), axis=1)
    order = np.lexsort((generator.random(len(labels)), labels, groups.astype(str)))
    numbers = np.empty(len(labels), dtype=np.int64)
    numbers[order] = blocks.ravel()[: len(labels)]
    return numbers


def _trusted_essays(
    prompts: NDArray[np.object_], labels: Array, predicted: Array, trusted: NDArray[np.bool_]
) -> TrustedEssays:
    counts = Counter({prompt: 0 for prompt in sorted(set(prompts.tolist()))})
    counts.update(prompts[trusted].tolist())
    sds = {prompt: float(labels[prompts == prompt].std()) for prompt in counts}
    known = trusted & np.isfinite(predicted)
    errors = (labels - predicted)[known] / np.array([sds[prompt] for prompt in prompts[known]])
    return TrustedEssays(
        prompts=dict(counts),
        correlation=pooled_correlation(prompts[known], labels[known], predicted[known]) if known.any() else None,
        shift=normal_estimate(float(errors.mean()), float(errors.std(ddof=1) / len(errors) ** 0.5), 0.95)
        if len(errors) > 1
        else None,
    )
