"""How far an essay is from the next score point, and which of the model's features lead there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer, before_ngrams
from aes_dynloss.essays.model.protocol import Scorer, own_numbers
from aes_dynloss.essays.model.training_essays import QUANTILES, FeatureSpread

if TYPE_CHECKING:
    from aes_dynloss.essays.model.scorer import EncoderScorer

Array = NDArray[np.float64]

MOST_FEATURES = 3
_HALVINGS = 50
_DOUBLINGS = 20  # of the score range, so far above raw the next point is looked for
# A feature is moved no farther than nearly all training essays go: the places of the 5th and 95th percentile.
_PLACES = slice(1, len(QUANTILES) - 1)


@dataclass(frozen=True)
class FeatureValue:
    """A feature of an essay beside those of training essays.

    Args:
        name: The feature.
        value: The essay's.
        percentile: What per cent of the prompt's training essays have less; NaN where that is not known.
        percentile_at_score: The same among those on the essay's score point; NaN where there are too few.
    """

    name: str
    value: float
    percentile: float
    percentile_at_score: float


@dataclass(frozen=True)
class FeatureMove:
    """A change of one feature that would give the next score point, all else as it is.

    Args:
        name: The feature.
        value: The essay's.
        needed: What would give the next score point.
        percentile: Of the essay among the prompt's training essays.
        needed_percentile: Of what is needed.
    """

    name: str
    value: float
    needed: float
    percentile: float
    needed_percentile: float

    def length(self) -> float:
        """How many per cent of training essays the feature would pass."""
        return abs(self.needed_percentile - self.percentile)


@dataclass(frozen=True)
class NextPoint:
    """The next score point.

    Args:
        score: The point.
        distance: How much more raw would give it, in score points.
        moves: Single features that would lead there, those first that move least among training essays: of those that
            would at the 5th or at the 95th percentile of training essays.
    """

    score: float
    distance: float
    moves: list[FeatureMove] = field(default_factory=list)


@dataclass(frozen=True)
class FeatureFunction:
    """A raw score as a function of an essay's F features, all else as it is.

    Args:
        names: The features.
        values: The essay's, (F,).
        raw: Raw scores, (R,), of features (R, F).
        spread: How training essays of the prompt have them; None where that is not kept.
    """

    names: list[str]
    values: Array
    raw: Callable[[Array], Array]
    spread: FeatureSpread | None


def feature_function(scorer: Scorer, essay: Reading, scale: str) -> FeatureFunction | None:
    """What a scorer makes of an essay's features.

    Args:
        scorer: The scorer.
        essay: The essay.
        scale: The prompt, or prompt and trait.

    Returns:
        None of scorers that see no features.
    """
    if isinstance(scorer, EssayEnsemble):
        return _of_ensemble(scorer, essay, scale)
    if isinstance(scorer, ClassicalScorer):
        return _of_counts(scorer, essay, scale)
    return _of_encoder(scorer, essay, scale)  # type: ignore[arg-type]


def _of_counts(scorer: ClassicalScorer, essay: Reading, scale: str) -> FeatureFunction | None:
    names, model = scorer.config.feature_names, scorer.models[scale]
    if not names:
        return None
    columns = own_numbers(scorer.own_features, None if essay.own is None else [essay.own], 1)
    numbers = scorer.numbers([essay.text], scale, columns)
    strings = model.strings if isinstance(model, TextRegression) else None
    of_strings = 0.0 if strings is None else float(strings.predict([essay.text])[0])

    def raw(rows: Array) -> Array:
        many = np.column_stack([np.repeat(numbers[:, :1], len(rows), 0), rows])
        return np.asarray(before_ngrams(model, [essay.text] * len(rows), many) + of_strings)

    return FeatureFunction(names, numbers[0, 1:], raw, _spread(scorer, scale))


def _of_encoder(scorer: EncoderScorer, essay: Reading, scale: str) -> FeatureFunction | None:
    from aes_dynloss.training.prediction import predict

    if not scorer.model.config.feature_names:
        return None
    read = essay.examples(scorer, scale)
    if read.linguistic is None:
        return None

    def raw(rows: Array) -> Array:
        many = replace(read.select(np.zeros(len(rows), dtype=np.int64)), linguistic=rows.astype(np.float32))
        return scorer.raw_scores(predict(scorer.accelerator, scorer.model, many, tokens=None), many.groups)

    values = read.linguistic[0].astype(np.float64)
    return FeatureFunction(scorer.model.config.feature_names, values, raw, _spread(scorer, scale))


def _of_ensemble(scorer: EssayEnsemble, essay: Reading, scale: str) -> FeatureFunction | None:
    each = [feature_function(member.scorer, essay, scale) for member in scorer.members]
    known = [one for one in each if one is not None]
    if not known:
        return None
    most = max(known, key=lambda one: len(one.names))
    if any(not set(one.names) <= set(most.names) for one in known):  # no member knows how all are spread
        return None
    parts = [
        _constant(member.scorer, essay, scale) if one is None else _of_columns(one, most.names)
        for one, member in zip(each, scorer.members, strict=True)
    ]

    def raw(rows: Array) -> Array:
        return scorer.combine(np.stack([part(rows) for part in parts], axis=1), [scale] * len(rows))

    return FeatureFunction(most.names, most.values, raw, most.spread)


def _constant(scorer: Scorer, essay: Reading, scale: str) -> Callable[[Array], Array]:
    value = scorer.score([essay.text], [scale], features=None if essay.own is None else [essay.own]).raw
    return lambda rows: np.repeat(value, len(rows))


def _of_columns(member: FeatureFunction, names: Sequence[str]) -> Callable[[Array], Array]:
    columns = [names.index(name) for name in member.names]
    return lambda rows: member.raw(rows[:, columns])


def _spread(scorer: EncoderScorer | ClassicalScorer, scale: str) -> FeatureSpread | None:
    return None if scorer.training is None else scorer.training.spreads.get(scale)


def feature_values(features: FeatureFunction, score: float) -> list[FeatureValue]:
    """An essay's features, and where they lie among those of training essays.

    Args:
        features: The essay's.
        score: Its score point.
    """
    spread = features.spread
    unknown = np.full(len(features.values), np.nan)
    overall = unknown if spread is None else spread.percentiles(features.values)
    at_score = unknown if spread is None else spread.percentiles(features.values, score)
    columns = (features.values.tolist(), overall.tolist(), at_score.tolist())
    return [FeatureValue(*row) for row in zip(features.names, *columns, strict=True)]


def next_point(
    scorer: Scorer, scale: str, raw: float, score: float, features: FeatureFunction | None
) -> NextPoint | None:
    """How far it is to the next score point.

    Args:
        scorer: The scorer.
        scale: The prompt, or prompt and trait.
        raw: The essay's raw score.
        score: Its score point.
        features: The model's features, to say which lead there; None: none do.

    Returns:
        None on the highest score point that the scorer gives.
    """
    span = scorer.prompts[scale].range

    def points(values: Array) -> Array:
        return np.asarray(scorer.postprocessing.points(scorer.prompts, [scale] * len(values), values))

    reach = np.asarray((span.high - span.low) * 2.0 ** np.arange(_DOUBLINGS), dtype=np.float64)
    farther = np.flatnonzero(points(raw + reach) > score)
    if not len(farther):
        return None
    low, high = raw, raw + float(reach[farther[0]])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if points(np.array([middle]))[0] > score else (middle, high)
    moves = [] if features is None or features.spread is None else _moves(features, features.spread, high)
    return NextPoint(float(points(np.array([high]))[0]), high - raw, moves)


def _moves(features: FeatureFunction, spread: FeatureSpread, border: float) -> list[FeatureMove]:
    """Single features that bring a raw score to a border, by the least change of their percentile."""
    ends, now = spread.quantiles[0][:, _PLACES], spread.percentiles(features.values)  # (F, Q), (F,)
    reach = np.flatnonzero(ends[:, 0] < ends[:, -1])
    # First from end to end, then step by step where an end suffices.
    raw = _changed(features, [(int(column), value) for column in reach for value in ends[column, [0, -1]]])
    reach = reach[raw.reshape(-1, 2).max(axis=1) >= border]
    tried = [(int(column), value) for column in reach for value in np.unique(ends[column])]
    enough: dict[int, list[FeatureMove]] = {}
    for (column, value), found in zip(tried, _changed(features, tried), strict=True):
        if found >= border:
            known = features.names[column], float(features.values[column]), float(value), float(now[column])
            enough.setdefault(column, []).append(FeatureMove(*known, spread.percentile(column, value)))
    least = [min(moves, key=FeatureMove.length) for moves in enough.values()]
    return sorted(least, key=FeatureMove.length)[:MOST_FEATURES]


def _changed(features: FeatureFunction, changes: list[tuple[int, float]]) -> Array:
    """Raw scores with one feature changed in each."""
    if not changes:
        return np.zeros(0)
    rows = np.repeat(features.values[None], len(changes), axis=0)
    for row, (column, value) in enumerate(changes):
        rows[row, column] = value
    return features.raw(rows)
