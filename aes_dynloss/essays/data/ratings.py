"""Ratings of unequal worth before any training: what cheap ones say and count beside adjudicated ones.

These are the fixed treatments that a learned loss (``loss.by``) has to beat.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.classical.ridge import LEAST_EXAMPLES
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.reports.ratings import TRUSTED, UNTRUSTED

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_LEVELS = 12  # wide score ranges are balanced by so many parts
_LEAST_WORTH = 0.01


def check_rater_names(values: Mapping[str, Sequence[Any]], config: DataConfig, source: str) -> None:
    """Refuse scores of nobody, unless they are adjudicated, and a rater who would be taken for the adjudication.

    Args:
        values: Columns of an `EssayTable`.
        config: Names of the source's columns.
        source: What holds them, in words.

    Raises:
        DataError: There are such scores.
    """
    if "rater" not in values:
        return
    trusted = values.get("trusted", [False] * len(values["rater"]))
    given = zip(values["essay_id"], values["rater"], trusted, strict=True)
    cheap = dict.fromkeys((essay_id, rater) for essay_id, rater, sure in given if not sure)
    nobody = [essay_id for essay_id, rater in cheap if rater is None]
    if nobody:
        raise DataError(
            f"{source} holds {len(nobody)} essays without a rater in the column {config.columns.rater!r}: "
            f"{', '.join(nobody[:10])}. Say who or what gave their scores; only those of data.trusted need none."
        )
    misnamed = [essay_id for essay_id, rater in cheap if rater == TRUSTED]
    if misnamed:
        raise DataError(
            f"{source}: the column {config.columns.rater!r} says {TRUSTED!r} of {len(misnamed)} essays that "
            f"data.trusted does not name: {', '.join(misnamed[:10])}. Name them there, or call that rater otherwise."
        )


def treated(train: EssayTable, config: DataConfig) -> EssayTable:
    """Training essays as ``data.untrusted``, ``data.trusted_weight`` and ``data.balance`` want them.

    Args:
        train: The essays as they were read.
        config: How ratings are treated.

    Raises:
        DataError: A prompt has too few trusted essays for the treatment.

    Example:
        >>> from aes_dynloss.essays.data.readers import read_essays
        >>> config = DataConfig(source="made-up-essays", balance="inverse_frequency")
        >>> table = treated(read_essays(config), config)
        >>> bool(np.isclose(table.weights.mean(), 1))
        True
    """
    if config.untrusted == "leave_out":
        train = train.select(np.flatnonzero(_trusted(train)))
        if len(train) == 0:
            raise DataError("data.untrusted leave_out: no training essay is trusted. Name some in data.trusted.")
    elif config.untrusted == "standardise":
        train = train.with_column("score", _standardised(train))
    weights = np.ones(len(train)) if train.weights is None else train.weights
    if config.untrusted == "weigh":
        weights = weights * np.where(_trusted(train), 1.0, _reliabilities(train))
    if config.trusted_weight != 1:
        weights = weights * np.where(_trusted(train), config.trusted_weight, 1.0)
    if config.balance == "inverse_frequency":
        weights = weights * _inverse_frequencies(train)
    changed = train.weights is not None or bool((weights != 1).any())
    return train.with_column("weight", weights) if changed else train


def rater_names(table: EssayTable, *, by_rater: bool) -> tuple[list[str], NDArray[np.int64]]:
    """Who gave each score: the raters' names, and each essay's number among them, (n,).

    Trusted essays count as one rater, whoever gave their scores.

    Args:
        table: The essays.
        by_rater: Whether the raters of the others are told apart.

    Example:
        >>> from datasets import Dataset
        >>> columns = {"rater": ["Bo", None, "Ann"], "trusted": [False, True, False]}
        >>> rater_names(EssayTable(Dataset.from_dict(columns), prompts={}), by_rater=True)
        (['trusted', 'Ann', 'Bo'], array([2, 0, 1]))
    """
    others = table.raters if by_rater and table.raters is not None else [UNTRUSTED] * len(table)
    trusted = _trusted(table)
    labels = [TRUSTED if sure else str(rater) for rater, sure in zip(others, trusted, strict=True)]
    names = [TRUSTED] * bool(trusted.any()) + sorted({name for name in labels if name != TRUSTED})
    number = {name: place for place, name in enumerate(names)}
    return names, np.array([number[label] for label in labels], dtype=np.int64)


def _trusted(table: EssayTable) -> NDArray[np.bool_]:
    return np.zeros(len(table), dtype=bool) if table.trusted is None else table.trusted


def _by_prompt(table: EssayTable) -> dict[str, NDArray[np.int64]]:
    prompts = np.array(table.values("prompt_id"), dtype=object)
    return {str(prompt): np.flatnonzero(prompts == prompt) for prompt in dict.fromkeys(prompts)}


def _trusted_rows(table: EssayTable, prompt: str, rows: NDArray[np.int64], key: str) -> NDArray[np.int64]:
    """The trusted ones among a prompt's essays, at least three."""
    sure = rows[_trusted(table)[rows]]
    if len(sure) < LEAST_EXAMPLES:
        raise DataError(
            f"data.untrusted {key}: prompt {prompt} has {len(sure)} trusted training essays, expected at least "
            f"{LEAST_EXAMPLES}. Adjudicate more, or leave data.untrusted out."
        )
    return sure


def _standardised(train: EssayTable) -> Array:
    """Scores with each rater's mean and sd brought to those of the prompt's trusted scores, inside the range."""
    scores = train.scores.copy()
    _, raters = rater_names(train, by_rater=True)
    trusted = _trusted(train)
    for prompt, rows in _by_prompt(train).items():
        sure = scores[_trusted_rows(train, prompt, rows, "standardise")]
        limits = train.prompts[prompt].range
        for rater in np.unique(raters[rows[~trusted[rows]]]):
            own = rows[(raters[rows] == rater) & ~trusted[rows]]
            spread = scores[own].std()
            units = (scores[own] - scores[own].mean()) / (spread or 1.0)
            scores[own] = np.clip(sure.mean() + sure.std() * units, limits.low, limits.high)
    return scores


def _reliabilities(train: EssayTable) -> Array:
    """Squared correlation of each rater's scores, within prompts, with a model of the trusted ones; 1 for the best.

    The model is a regression on n-grams and length, fitted to the trusted essays of the prompt alone.
    """
    texts, scores, trusted = train.values("text"), train.scores, _trusted(train)
    lengths = np.log1p([[float(len(text.split()))] for text in texts])
    names, raters = rater_names(train, by_rater=True)
    predicted, human = np.zeros(len(train)), np.zeros(len(train))
    for prompt, rows in _by_prompt(train).items():
        sure, rest = _trusted_rows(train, prompt, rows, "weigh"), rows[~trusted[rows]]
        if len(rest) == 0:
            continue
        model, _ = TextRegression.fit([texts[row] for row in sure], lengths[sure], scores[sure])
        raw = model.predict([texts[row] for row in rest], lengths[rest])
        unit = scores[sure].std() or 1.0
        for rater in np.unique(raters[rest]):
            own = raters[rest] == rater
            predicted[rest[own]] = (raw[own] - raw[own].mean()) / unit
            human[rest[own]] = (scores[rest[own]] - scores[rest[own]].mean()) / unit
    worth: dict[int, float] = {}
    for rater in np.unique(raters[~trusted]):
        own = (raters == rater) & ~trusted
        scale = np.sqrt((predicted[own] ** 2).sum() * (human[own] ** 2).sum())
        worth[int(rater)] = max(0.0, float((predicted[own] * human[own]).sum() / scale) if scale > 0 else 0.0) ** 2
    best = max(worth.values(), default=1.0) or 1.0
    shares = {rater: max(_LEAST_WORTH, value / best) for rater, value in worth.items()}
    logger.info("Worth by rater: %s.", ", ".join(f"{names[rater]} {share:.2f}" for rater, share in shares.items()))
    return np.array([shares.get(int(rater), 1.0) for rater in raters])


def _inverse_frequencies(train: EssayTable) -> Array:
    """1 / frequency of an essay's score level in its prompt, 1 in the mean of each prompt."""
    weights, scores = np.ones(len(train)), train.scores
    for prompt, rows in _by_prompt(train).items():
        units = np.asarray(train.prompts[prompt].range.to_unit(scores[rows]))
        levels = np.minimum(np.floor(units * _LEVELS + 1e-4), _LEVELS - 1).astype(int)
        _, place, counts = np.unique(levels, return_inverse=True, return_counts=True)
        weights[rows] = len(rows) / (len(counts) * counts[place])
    return weights
