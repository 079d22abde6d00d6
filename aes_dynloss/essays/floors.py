"""Floors: scores that simple scorers reach, to be read beside every figure of a model.

Each floor is fitted prompt by prompt on the train essays, tuned on dev and measured by QWK on test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.essays.classical.ridge import LEAST_EXAMPLES
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, essay_numbers
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.calibration import RescalingLine, fit_rescaling
from aes_dynloss.reports.model import Floor
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.score_range import ScoreRange

Array = NDArray[np.float64]

COLUMNS = ("prompt_id", "text", "reference")
# From the strongest penalty on: of equal dev kappas the smoother fit is kept.
RIDGE_ALPHAS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)

# Train essays of a prompt that kernels are made of, at most: their time grows with the square.
MOST_ESSAYS = 1500
# Of the figures: another one where a floor's figures change.
_VERSION = 1


class PromptEssays(NamedTuple):
    """Essays of one prompt with their text, reference and, where it is known, weight; and its score points."""

    train: pd.DataFrame
    dev: pd.DataFrame
    test: pd.DataFrame
    range: ScoreRange

    def essays(self) -> tuple[tuple[Any, ...], ...]:
        """What is the same for traits of the same essays: texts of train and test, and what essays count."""
        weights = _weights(self.train)
        return tuple(self.train["text"]), tuple(self.test["text"]), () if weights is None else tuple(weights)


class Predictions(NamedTuple):
    """Raw predictions of one prompt, and those that they may be rescaled by, of essays that were not learned from.

    Args:
        test: Of test essays.
        basis: Of other essays, of dev or left out of train one by one.
        reference: Human scores of the latter.
    """

    test: Array
    basis: Array
    reference: Array


# Predictions for prompts of the same essays, such as their traits, in their order.
Predictor = Callable[[Sequence[PromptEssays]], list[Predictions]]


def _weights(essays: pd.DataFrame) -> Array | None:
    """What each essay counts, where that is known."""
    return essays["weight"].to_numpy(dtype=np.float64) if "weight" in essays else None


def _one_by_one(predict: Callable[[PromptEssays], Predictions]) -> Predictor:
    """A predictor that learns nothing for one trait from what it has done for another."""
    return lambda prompts: [predict(parts) for parts in prompts]


def _mean_score(parts: PromptEssays) -> Predictions:
    """The train essays' mean score for every essay: QWK 0 by construction."""
    train, dev, test, _ = parts
    mean = np.average(train["reference"], weights=_weights(train))
    return Predictions(np.full(len(test), mean), np.full(len(dev), mean), dev["reference"].to_numpy())


def _length(parts: PromptEssays) -> Predictions:
    """Least squares on the number of words and its logarithm."""
    train, dev, test, _ = parts

    def features(essays: pd.DataFrame) -> NDArray[np.float64]:
        words = np.array([len(text.split()) for text in essays["text"]], dtype=np.float64)
        # One more, for the logarithm of an empty essay.
        return np.stack([words, np.log1p(words)], axis=1)

    model = LinearRegression().fit(features(train), train["reference"], sample_weight=_weights(train))
    return Predictions(model.predict(features(test)), model.predict(features(dev)), dev["reference"].to_numpy())


def _tfidf_ridge(parts: PromptEssays) -> Predictions:
    """Ridge regression on TF-IDF of words and word pairs, its penalty chosen by the QWK on dev."""
    train, dev, test, score_range = parts
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        train_features = vectorizer.fit_transform(train["text"])
    except ValueError as error:
        raise DataError(f"TF-IDF finds no word of two letters or more in the train texts: {error}.") from error
    dev_features, test_features = vectorizer.transform(dev["text"]), vectorizer.transform(test["text"])
    best_kappa, best = -np.inf, Predictions(np.empty(0), np.empty(0), np.empty(0))
    for alpha in RIDGE_ALPHAS:
        model = Ridge(alpha=alpha, solver="sparse_cg")
        model.fit(train_features, train["reference"], sample_weight=_weights(train))
        dev_raw = model.predict(dev_features)
        kappa = float(quadratic_weighted_kappa(dev["reference"], score_range.to_point(dev_raw)))
        if kappa > best_kappa:
            best_kappa, best = kappa, Predictions(model.predict(test_features), dev_raw, dev["reference"].to_numpy())
    return best


def _words_and_ngrams(prompts: Sequence[PromptEssays]) -> list[Predictions]:
    """Kernel ridge on linguistic features and character n-grams, their shares chosen by leave-one-out error."""
    train, test = prompts[0].train, prompts[0].test["text"].tolist()
    rows = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_ESSAYS)).round().astype(int))
    if len(rows) < LEAST_EXAMPLES:  # too few to leave one out
        return [_mean_score(parts) for parts in prompts]
    texts, weights = train["text"].iloc[rows].tolist(), _weights(train)
    weights = None if weights is None else weights[rows]
    targets = [parts.train["reference"].to_numpy(dtype=np.float64)[rows] for parts in prompts]
    fits = TextRegression.fit_all(texts, essay_numbers(texts, None, ALL_GROUPS), targets, weights)
    numbers = essay_numbers(test, None, ALL_GROUPS)
    return [
        Predictions(model.predict(test, numbers), left_out, reference)
        for (model, left_out), reference in zip(fits, targets, strict=True)
    ]


_by_length, _by_tfidf = _one_by_one(_length), _one_by_one(_tfidf_ridge)
# What predicts, and whether its predictions are rescaled to the human scores' mean and sd, see :class:`Predictions`.
FLOORS: dict[str, tuple[Predictor, bool]] = {
    "mean_score": (_one_by_one(_mean_score), False),
    "length": (_by_length, False),
    "length_rescaled": (_by_length, True),
    "tfidf_ridge": (_by_tfidf, False),
    "tfidf_ridge_rescaled": (_by_tfidf, True),
    "words_and_ngrams": (_words_and_ngrams, False),
    "words_and_ngrams_rescaled": (_words_and_ngrams, True),
}


def measure_floors(
    train: pd.DataFrame,
    dev: pd.DataFrame,
    test: pd.DataFrame,
    ranges: Mapping[str, ScoreRange],
    names: tuple[str, ...] = tuple(FLOORS),
) -> dict[str, dict[str, Any]]:
    """QWK of the floors on test, per prompt and in the mean over prompts.

    Args:
        train: Columns prompt_id, text, reference.
        dev: Same columns; every prompt of test must be in train and in dev.
        test: Same columns.
        ranges: Score range of every prompt of test.
        names: Which floors: keys of ``FLOORS``.

    Returns:
        ``{floor: {"prompts": {prompt: qwk}, "mean": qwk}}``, as ``build_report`` takes it.

    Raises:
        ConfigError: A floor has an unknown name.
        DataError: A column, a prompt's essays or a prompt's range is missing, or a human score is no number.
    """
    return floor_figures(predict_floors(train, dev, test, ranges, names))


def floor_figures(predictions: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """QWK of floors from their predictions, as :func:`measure_floors` returns it.

    Args:
        predictions: What :func:`predict_floors` returned.
    """
    figures = {}
    for name, table in predictions.items():
        prompts = {
            str(prompt): float(quadratic_weighted_kappa(essays["reference"], essays["score"]))
            for prompt, essays in table.groupby("prompt_id", sort=False)
        }
        figures[name] = {"prompts": prompts, "mean": float(np.mean(list(prompts.values())))}
    return figures


def predict_floors(
    train: pd.DataFrame,
    dev: pd.DataFrame,
    test: pd.DataFrame,
    ranges: Mapping[str, ScoreRange],
    names: tuple[str, ...] = tuple(FLOORS),
) -> dict[str, pd.DataFrame]:
    """Predictions of the floors for the test essays.

    Args:
        train: Columns prompt_id, text, reference, and weight where essays count differently.
        dev: Columns prompt_id, text, reference; every prompt of test must be in train and in dev.
        test: Same columns, and any others.
        ranges: Score range of every prompt of test.
        names: Which floors: keys of ``FLOORS``.

    Returns:
        By floor, the test essays prompt by prompt with their columns but the text, and float64 ``raw`` (before it is
        rescaled) and ``score`` (a score point).

    Raises:
        ConfigError: A floor has an unknown name.
        DataError: A column, a prompt's essays or a prompt's range is missing, or a human score is no number.
    """
    unknown = [name for name in names if name not in FLOORS]
    if unknown:
        raise ConfigError(f"Unknown floor {unknown[0]!r}; known are {', '.join(FLOORS)}.")
    parts = {name: _by_prompt(part, name) for name, part in (("train", train), ("dev", dev), ("test", test))}
    prompts = {}
    for prompt, essays in parts["test"].items():
        for part in ("train", "dev"):
            if prompt not in parts[part]:
                raise DataError(f"Floors are fitted prompt by prompt, and prompt {prompt} has no {part} essays.")
        if prompt not in ranges:
            raise DataError(f"Floors need the score range of prompt {prompt}; none is given.")
        prompts[prompt] = PromptEssays(parts["train"][prompt], parts["dev"][prompt], essays, ranges[prompt])
    predicted = {predict: _predict(predict, prompts) for predict in {FLOORS[name][0] for name in names}}
    tables = {}
    for name in names:
        predict, rescaled = FLOORS[name]
        scored = [_scored(prompts[prompt], found, rescaled) for prompt, found in predicted[predict].items()]
        tables[name] = pd.concat(scored, ignore_index=True)
    return tables


def _predict(predict: Predictor, prompts: Mapping[str, PromptEssays]) -> dict[str, Predictions]:
    """One floor's predictions by prompt, for those of the same essays at once."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for prompt, parts in prompts.items():
        alike.setdefault(parts.essays(), []).append(prompt)
    found: dict[str, Predictions] = {}
    for same in alike.values():
        found.update(zip(same, predict([prompts[prompt] for prompt in same]), strict=True))
    return {prompt: found[prompt] for prompt in prompts}


def _scored(parts: PromptEssays, predictions: Predictions, rescaled: bool) -> pd.DataFrame:
    """A prompt's test essays with what a floor gives them."""
    line = fit_rescaling(predictions.basis, predictions.reference) if rescaled else RescalingLine()
    kept = parts.test.drop(columns=["text", "weight"], errors="ignore")
    return kept.assign(raw=predictions.test, score=parts.range.to_point(line.apply(predictions.test)))


def _by_prompt(part: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """One part's essays by prompt, in the order of their first essays."""
    missing = [column for column in COLUMNS if column not in part]
    if missing:
        raise DataError(f"Floors need the columns {', '.join(COLUMNS)}; the {name} essays lack {missing[0]}.")
    if part.empty:
        raise DataError(f"Floors need {name} essays, found none.")
    scores = part["reference"].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(scores).all():
        raise DataError(f"Floors need a human score for every one of the {name} essays; some are blank or not finite.")
    checked = part.assign(reference=scores)
    return {str(prompt): group for prompt, group in checked.groupby("prompt_id", sort=False)}


def essay_floors(
    parts: Mapping[str, EssayTable], ranges: Mapping[str, ScoreRange], names: tuple[str, ...] = tuple(FLOORS)
) -> dict[str, pd.DataFrame]:
    """Fit simple scorers on train, tune them on dev and let them predict test.

    Args:
        parts: Essays of ``train``, ``dev`` and ``test``.
        ranges: Score points by prompt.
        names: Which floors: keys of ``FLOORS``.

    Returns:
        Predictions by floor, as :func:`predict_floors` returns them, with ``essay_id``.

    Raises:
        DataError: A prompt of test has too few essays in train or dev.
    """
    train, dev, test = (
        pd.DataFrame(
            {
                "essay_id": part.essay_ids,
                "prompt_id": part.values("prompt_id"),
                "text": part.values("text"),
                "reference": part.scores,
                **({} if part.weights is None else {"weight": part.weights}),
            }
        )
        for part in (parts["train"], parts["dev"], parts["test"])
    )
    return predict_floors(train, dev, test, ranges, names)


def kept_floors(
    folder: Path, made_of: Mapping[str, Any], fit: Callable[[], dict[str, dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Figures of floors that are fitted once for the same essays and splits; neither essays nor predictions are kept.

    Args:
        folder: Where figures are kept, made if it is not there.
        made_of: Digests of the essays and the splits.
        fit: Makes the figures, as :func:`floor_figures` does, where none are kept.

    Raises:
        CheckpointError: Nothing can be kept there.
    """
    identity = {"version": _VERSION, "floors": list(FLOORS), **made_of}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = folder / f"{digest[:32]}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["made_of"] == identity and set(kept["figures"]) == set(FLOORS):
            return {name: Floor.from_dict(entry).to_dict() for name, entry in kept["figures"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or a damaged one
        pass
    figures = fit()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, raises=None) as temporary:
            temporary.write_text(json.dumps({"made_of": identity, "figures": figures}), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"The floors cache {folder} cannot be written: {error.strerror or error}. Mend its rights, or set "
            "evaluation.floors_cache to another folder; null: no cache."
        ) from None
    return figures
