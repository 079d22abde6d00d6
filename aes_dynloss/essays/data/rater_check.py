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
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, essay_numbers
from aes_dynloss.measures.raters import (
    ALARM,
    SEVERE,
    Assignment,
    RaterEffects,
    assignment_tests,
    pooled_correlation,
    rater_effects,
)
from aes_dynloss.measures.shrinkage import Estimate, normal_estimate
from aes_dynloss.reports.table import p_words, percent
from aes_dynloss.tables.formats import source_name

Array = NDArray[np.float64]

# Essays of a prompt from which labels are predicted, at least.
LEAST_ESSAYS = 30
# Trusted essays of a prompt from which a teacher learned in this project's experiments, at least.
ENOUGH_TRUSTED = 25
# Weights by rater pay where equal weights use less of the labels' information than this. Above it, weights by
# consistency raised the correlation of a ridge regression by less than 0.003 in trials with planted raters.
EFFICIENT = 0.85
# A smaller median of labels by rater shows large differences only.
ENOUGH_LABELS = 30
_LISTED = 10


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

    @property
    def conclusions(self) -> list[str]:
        """In words: whether the labels can be predicted, how raters differ, and what that means for training."""
        predicted = "Labels correlate {} with predictions from the texts, within prompts."
        return [
            *([predicted.format(_words(self.correlation))] if self.correlation else []),
            self._on_consistency(),
            self._on_severity(),
            self._on_trusted(),
        ]

    @property
    def warnings(self) -> list[str]:
        """In words: what the figures cannot be believed for."""
        alone = [one.rater for one in self.effects.raters if one.severity is None]
        median = float(np.median([one.n for one in self.effects.raters]))
        warnings = []
        for name in self.confounded:
            test = self.assignment[name]
            warnings.append(
                f"Essays were not assigned to raters by chance: raters explain "
                f"{percent(test.r_squared_adjusted or 0.0)} of the variance of {name} within prompts (p "
                f"{p_words(test.p_holm or 0.0)}). Severity is confounded with the essays that a rater got."
            )
        if self.unpredicted:
            warnings.append(
                f"Labels of prompt {', '.join(self.unpredicted)} are not compared: all are equal, or fewer than "
                f"{LEAST_ESSAYS} essays are there to predict them from."
            )
        if alone and self.effects.compared:
            warnings.append(f"No other rater shares a prompt with {', '.join(alone[:_LISTED])}: no comparison.")
        lows = [one.consistency.low for one in self.effects.raters if one.consistency is not None]
        if lows and max(lows) <= 0:
            warnings.append("No rater's labels go with the predictions: this says nothing about who is consistent.")
        if median < ENOUGH_LABELS:
            warnings.append(f"Half of the raters gave {median:g} labels or fewer: only large differences show.")
        return warnings

    def _on_consistency(self) -> str:
        test, efficiency = self.effects.consistency, self.effects.efficiency
        if test.p is None:
            return "Raters' consistency cannot be compared: no two raters share a prompt with enough predicted labels."
        figures = f"(Q {test.q:.1f}, df {test.dof}, p {p_words(test.p)})"
        if test.p >= ALARM:
            return (
                f"Raters do not differ in consistency more than by chance {figures}: weights by rater "
                "(loss.by: [rater]) are unlikely to pay."
            )
        used = f"equal weights use {percent(efficiency or 0.0)} of the labels' information"
        pays = "are likely to pay" if self.pays else "would gain little"
        return f"Raters differ in consistency {figures}: {used}; weights by rater (loss.by: [rater]) {pays}."

    def _on_severity(self) -> str:
        test = self.effects.severity
        if test.p is None:
            return "Raters' severity cannot be compared: no two raters share a prompt whose labels are predicted."
        figures = f"(Q {test.q:.1f}, df {test.dof}, p {p_words(test.p)})"
        if test.p >= ALARM:
            return f"Raters do not differ in severity more than by chance {figures}."
        advice = "data.untrusted: standardise evens that out" if test.sd >= SEVERE / 2 else "too little to matter"
        return f"Raters differ in severity {figures}, by an SD of {test.sd:.2f} of the labels' SDs: {advice}."

    def _on_trusted(self) -> str:
        enough = f"a teacher of loss weights needs {ENOUGH_TRUSTED} a prompt and more"
        if self.trusted is None:
            return f"No essay is named as trusted (data.trusted, --trusted): {enough}."
        few = [f"{prompt} ({n})" for prompt, n in self.trusted.prompts.items() if n < ENOUGH_TRUSTED]
        total = sum(self.trusted.prompts.values())
        verdict = f"too few on prompt {', '.join(few[:_LISTED])}; {enough}" if few else f"enough; {enough}"
        held = (
            "" if self.trusted.correlation is None else f" They correlate {_words(self.trusted.correlation)} with the"
        )
        held += f" predictions{_shift_words(self.trusted.shift)}." if held else ""
        return f"Trusted essays: {total}, {verdict}.{held}"

    def as_dict(self) -> dict[str, Any]:
        """The check as plain values, for JSON."""
        assignment = {name: test._asdict() for name, test in self.assignment.items()}
        found = {"efficiency": self.effects.efficiency, "pays": self.pays, "confounded": self.confounded}
        words = {"conclusions": self.conclusions, "warnings": self.warnings}
        return {**_plain(asdict(self) | {"assignment": assignment}), **found, **words}


def _words(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _shift_words(shift: Estimate | None) -> str:
    """How trusted scores lie beside labels as a whole, where that is more than chance."""
    if shift is None or shift.low <= 0 <= shift.high:
        return ""
    side = "low" if shift.value > 0 else "high"
    return f" and differ from them by {_words(shift)} SDs: labels are too {side} as a whole"


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any dataclass
    """Named tuples as mappings."""
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def check_raters(config: DataConfig, *, train_only: bool = False) -> RaterCheck:
    """Read essays as training would and compare their raters.

    Args:
        config: Source and layout, with ``columns.rater``.
        train_only: Whether to make the splits and look at train's essays alone.

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
    if train_only:
        table = split_essays(table, config.split).train
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
    predicted = _predictions(table, labels)
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


def _predictions(table: EssayTable, labels: Array) -> Array:
    """Each label as predicted from the text without it; NaN where its prompt has too few essays."""
    predicted = np.full(len(labels), np.nan)
    texts, prompts = table.values("text"), np.array(table.values("prompt_id"), dtype=object)
    for prompt in table.prompts.values():
        rows = np.flatnonzero(prompts == prompt.id)
        if len(rows) >= LEAST_ESSAYS and np.ptp(labels[rows]) > 0:
            numbers = essay_numbers([texts[row] for row in rows], prompt.text, ALL_GROUPS)
            predicted[rows] = cross_fitted(numbers, labels[rows])
    return predicted


def _trusted_essays(
    prompts: NDArray[np.object_], labels: Array, predicted: Array, trusted: NDArray[np.bool_]
) -> TrustedEssays:
    counts = Counter(dict.fromkeys(sorted(set(prompts.tolist())), 0))
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
