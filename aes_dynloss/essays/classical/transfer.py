"""Regression that is learned on some prompts and scores another, of whose scores it has seen none.

What is counted in essays has another mean and spread on each prompt, which says little of how good they are. In the
form ``with_target_essays`` each prompt's numbers are therefore standardised by its own essays, the new prompt's by
those that are to be scored: one linear function then ranks essays on any prompt. In the form ``strict`` nothing of the
new prompt is seen but its range, and numbers are standardised by the essays of all source prompts.

Mean and sd of the new prompt's scores are guessed from the source prompts'. A few scores set them right, and move the
coefficients towards what these scores say; they say most where their essays are spread over the predicted order.

References:
    Ridley, He, Dai, Huang and Chen 2020, Prompt agnostic essay scorer: a domain generalization approach to cross-prompt
    automated essay scoring (features are scaled within each prompt).
    Lin 1989, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45(1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.classical.text_regression import NumberScale, TextRegression
from aes_dynloss.tables.score_range import ScoreRange

Array = NDArray[np.float64]
Form = Literal["strict", "with_target_essays"]

# Essays of a source prompt, and of a new one: by fewer their numbers are not standardised.
LEAST_OF_SOURCE, LEAST_OF_TARGET = 10, 30
# As multiples of the mean eigenvalue of the points' sum of squares; and of the guessed sd.
PENALTIES = tuple(10.0 ** (power / 2) for power in range(-6, 4))
SPREADS = tuple(power / 10 for power in range(8, 21))
# The line of sds is drawn as if its points had this sum of squares more in log steps, without a slope: through two
# prompts with nearly the same range it is level.
_LEVELLING = 1.0
# Variance that a prompt's own coefficients add to the transferred ones', as a share of the scores'; chosen on ASAP's
# source prompts.
_OWN_VARIANCE = 0.2
_SMALLEST_SD = 1e-3  # of scores on [0, 1]


class _Source(NamedTuple):
    """A source prompt.

    Args:
        numbers: (N, D).
        unit: Scores on [0, 1], (N,).
        levels: Their mean and sd, the number of steps from the lowest score point to the highest, and the sd of the
            first number, (4,).
    """

    numbers: Array
    unit: Array
    levels: Array

    @classmethod
    def of(cls, numbers: Array, scores: Array, score_range: ScoreRange) -> _Source:
        unit = score_range.to_unit(scores)
        sds = np.maximum([unit.std(), numbers[:, 0].std()], _SMALLEST_SD)
        return cls(numbers, unit, np.array([unit.mean(), sds[0], score_range.count - 1, sds[1]]))


class _Line(NamedTuple):
    """What ranks essays: ``z = scale.points(numbers) @ coefficients``; no scale: that of each prompt's own essays."""

    scale: NumberScale | None
    coefficients: Array


class _Ranking(NamedTuple):
    """What ranks a prompt's essays in units of their own: ``z = points @ coefficients - centre``."""

    coefficients: Array
    centre: float

    @classmethod
    def of(cls, points: Array, coefficients: Array) -> _Ranking:
        """With the mean 0 and the sd 1 on some points."""
        ranks = points @ coefficients
        sd = max(float(ranks.std()), _SMALLEST_SD)
        return cls(coefficients / sd, float(ranks.mean()) / sd)

    def of_points(self, points: Array) -> Array:
        """Z of some points, (N,)."""
        ranks: Array = points @ self.coefficients - self.centre
        return ranks


class _Choice(NamedTuple):
    """What leaving out source prompts has taught; see :class:`TransferRegression`."""

    penalty: float
    spread: float
    guess_errors: Array
    accuracy: float


# What is taken where there is one source prompt, and none can be left out: what ASAP's have taught, roundly.
_UNTAUGHT = _Choice(0.1, 1.1, np.array([0.1, 0.3]), 0.7)


@dataclass(frozen=True)
class TransferRegression:
    """``score on [0, 1] = mean + sd z``, where z ranks essays on any prompt, and mean and sd are guessed for a new one.

    The guessed mean is that of the source prompts' means. The more score points a range has, the less of it is used;
    and where essays' lengths differ more, their scores do. The logarithm of the guessed sd is on the line that those of
    the source prompts make in the logarithm of the number of steps; where the new prompt's essays are seen, that of the
    sd of scores as a multiple of the sd of log lengths, which counts as within the source prompts'.

    Args:
        sources: Ids of the P source prompts.
        levels: Mean and sd of their scores on [0, 1], number of steps from the lowest score point to the highest, and
            sd of the logarithm of their essays' lengths, (P, 4).
        scale: Standardisation by the essays of all source prompts; None: each prompt's numbers are standardised by its
            own essays.
        coefficients: (D,).
        own: How many of the last numbers are the user's own columns.
        spread: What a guessed sd is multiplied by.
        guess_errors: Root mean squares of the errors of the guessed mean, and of the logarithm of the guessed sd, for
            source prompts that were left out, (2,).
        accuracy: Mean correlation of z with the scores of source prompts that were left out.
    """

    sources: tuple[str, ...]
    levels: Array
    scale: NumberScale | None
    coefficients: Array
    own: int
    spread: float
    guess_errors: Array
    accuracy: float

    @classmethod
    def fit(
        cls,
        numbers: Mapping[str, Array],
        scores: Mapping[str, Array],
        ranges: Mapping[str, ScoreRange],
        form: Form = "with_target_essays",
        *,
        own: int = 0,
    ) -> Self:
        """Learn from source prompts, each of which counts alike.

        Taken are the penalty, and the factor of guessed sds, with the highest mean concordance (Lin's: quadratic
        weighted kappa without rounding) of predictions with the scores of source prompts that are left out in turn.

        Args:
            numbers: What was counted in the essays of each source prompt, the length first, (N, D).
            scores: Their scores, (N,), by prompt; others are left alone.
            ranges: Score points, by prompt; others are left alone.
            form: What is to be seen of a new prompt.
            own: How many of the last numbers are the user's own columns.

        Raises:
            DataError: There is no source prompt, or one's scores do not differ.

        Example:
            >>> quality = np.linspace(-2.0, 2.0, 41)
            >>> numbers = {"a": quality[:, None] + 5, "b": quality[:, None] + 9}
            >>> ranges = {"a": ScoreRange(1, 5), "b": ScoreRange(0, 4), "c": ScoreRange(0, 8)}
            >>> scores = {"a": 3 + quality, "b": 2 + quality}
            >>> model = TransferRegression.fit(numbers, scores, ranges).adapted(quality[:, None] + 7, ranges["c"])
            >>> model.of_numbers(np.array([[5.0], [7.0], [9.0]])).round(1)
            array([0., 4., 8.])
        """
        if not numbers:
            raise DataError("A model that is to score other prompts learns from some, and there is none. Add essays.")
        sources = {name: _Source.of(rows, scores[name], ranges[name]) for name, rows in numbers.items()}
        for name, source in sources.items():
            if np.ptp(source.unit) == 0:
                raise DataError(f"Prompt {name}: all of its scores are {scores[name][0]:g}. Leave the prompt out.")
        known = list(sources.values())
        choice = _choose(known, form, own) if len(known) > 1 else _UNTAUGHT
        line = _lines(known, form, own, [choice.penalty])
        levels = np.stack([source.levels for source in known])
        return cls(tuple(sources), levels, line.scale, line.coefficients[:, 0], own, *choice[1:])

    @property
    def width(self) -> int:
        """Numbers of an essay, D."""
        return len(self.coefficients)

    @property
    def form(self) -> Form:
        """What is seen of a new prompt."""
        return "with_target_essays" if self.scale is None else "strict"

    def adapted(
        self, numbers: Array, score_range: ScoreRange, labels: tuple[Array, Array] | None = None
    ) -> TextRegression:
        """The model of a new prompt, which scores its essays one by one.

        Args:
            numbers: What was counted in essays of the new prompt, (N, D), N >= 2, none of whose scores is known.
            score_range: Its score points.
            labels: Numbers of a few of its essays, (K, D), and their scores, (K,); see :func:`essays_to_mark`.
        """
        scale = NumberScale.of(numbers, self.own)
        points = scale.points(numbers)
        ranking = _Ranking.of(points, self.coefficients)
        mean, sd = _guess(self.levels, score_range.count - 1, self.spread, float(numbers[:, 0].std()))
        if labels is not None:
            known, unit = scale.points(labels[0]), score_range.to_unit(labels[1])
            mean, sd = self._set_right(mean, sd, ranking.of_points(known), unit)
            left = (unit - mean) / sd - self.accuracy * ranking.of_points(known)
            ranking = _Ranking.of(points, self._moved(scale, ranking.coefficients, known, left))
        return _model(scale, ranking, mean, sd, score_range)

    def strict(self, score_range: ScoreRange, unknown: NDArray[np.bool_] | None = None) -> TextRegression:
        """The model of a new prompt of which nothing is seen but its range.

        Args:
            score_range: Its score points.
            unknown: Which numbers cannot be counted in its essays, (D,): their means in the source prompts are taken.

        Raises:
            DataError: The model is of the other form.
        """
        if self.scale is None:
            raise DataError("A model of form with_target_essays scores a new prompt by its essays. Give some.")
        mean, sd = _guess(self.levels, score_range.count - 1, self.spread)
        scale = self.scale
        if unknown is not None:
            scale = replace(scale, inverse_sd=np.where(unknown, 0.0, scale.inverse_sd))
        return _model(scale, _Ranking(self.coefficients, 0.0), mean, sd, score_range)

    def _moved(self, scale: NumberScale, coefficients: Array, known: Array, left: Array) -> Array:
        """Coefficients of a prompt, of whose essays some are known: a ridge regression towards the transferred ones.

        Args:
            scale: Of the prompt's essays.
            coefficients: Transferred, (D,).
            known: Points of K essays, (K, D).
            left: What the transferred ones leave of their standardised scores, (K,).
        """
        accuracy = float(np.clip(self.accuracy, 0.1, 0.99))
        alike = known / scale.weights  # of one variance, whatever the transferred ones weighed
        penalty = (1 - accuracy**2) * max(int((scale.inverse_sd > 0).sum()), 1) / _OWN_VARIANCE
        own = linalg.solve(alike.T @ alike + penalty * np.eye(self.width), alike.T @ left, assume_a="pos")
        moved: Array = accuracy * coefficients + own / scale.weights
        return moved

    def _set_right(self, mean: float, sd: float, ranks: Array, unit: Array) -> tuple[float, float]:
        """Guessed mean and sd together with what a few scores say of them, each weighted by its precision.

        Args:
            mean: Guessed.
            sd: Guessed.
            ranks: Of K essays, in units of the prompt's essays, (K,).
            unit: Their scores on [0, 1], (K,).
        """
        count, (mean_error, sd_error) = len(unit), self.guess_errors
        if count > 1:
            # The logarithm of a normal sample's sd has the variance 1 / (2 (K - 1)).
            share = sd_error**2 / (sd_error**2 + 0.5 / (count - 1))
            sd *= float(max(unit.std(ddof=1), _SMALLEST_SD) / sd) ** share
        noise = sd**2 * (1 - self.accuracy**2) / count
        left = float((unit - mean - self.accuracy * sd * ranks).mean())
        return mean + left * mean_error**2 / (mean_error**2 + noise), sd

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file."""
        arrays: dict[str, NDArray[Any]] = {
            "sources": np.frombuffer(json.dumps(self.sources).encode(), dtype=np.uint8),
            "levels": self.levels,
            "coefficients": self.coefficients,
            "chosen": np.array([self.own, self.spread, *self.guess_errors, self.accuracy]),
        }
        return arrays if self.scale is None else arrays | self.scale.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From :meth:`to_arrays`.

        Raises:
            CheckpointError: The arrays are not such.
        """
        sources = json.loads(arrays["sources"].tobytes())
        levels, coefficients, chosen = (arrays[name] for name in ("levels", "coefficients", "chosen"))
        scale = NumberScale.from_arrays(arrays) if "mean" in arrays else None
        numeric = [arrays[name] for name in arrays if name != "sources"]
        fits = isinstance(sources, list) and all(isinstance(name, str) for name in sources) and coefficients.ndim == 1
        fits = fits and levels.shape == (len(sources), 4) and bool((levels[:, 1:] > 0).all()) and chosen.shape == (5,)
        fits = fits and (scale is None or scale.mean.shape == coefficients.shape)
        if not fits or not all(np.isfinite(one).all() for one in numeric):
            raise CheckpointError("the arrays of a regression that scores other prompts do not fit together")
        own, spread, *errors, accuracy = chosen.tolist()
        return cls(tuple(sources), levels, scale, coefficients, int(own), spread, np.array(errors), accuracy)


def essays_to_mark(raw: Array, count: int, seed: int = 0) -> NDArray[np.intp]:
    """The essays whose scores say most of a prompt: one, drawn by chance, of each equal part of the predicted order.

    Args:
        raw: Predictions of N essays, (N,).
        count: How many to choose, at most N.
        seed: Of the draw.

    Returns:
        Their places, in the essays' order, (count,).

    References:
        Cochran 1977, Sampling techniques, chapter 5 (stratified sampling).

    Example:
        >>> essays_to_mark(np.array([0.3, 0.1, 0.9, 0.8]), 4)
        array([0, 1, 2, 3])
    """
    random = np.random.default_rng(seed)
    parts = np.array_split(np.argsort(raw, kind="stable"), count)
    return np.sort(np.array([random.choice(part) for part in parts], dtype=np.intp))


def _model(scale: NumberScale, ranking: _Ranking, mean: float, sd: float, score_range: ScoreRange) -> TextRegression:
    """The model of a prompt whose scores on [0, 1] are ``mean + sd z``."""
    intercept, slope = score_range.from_unit(mean - sd * ranking.centre), sd * (score_range.high - score_range.low)
    axes = np.eye(len(ranking.coefficients))
    return TextRegression(scale, axes, slope * ranking.coefficients, None, None, float(intercept))


def _guess(levels: Array, steps: float, spread: float, length_sd: float | None = None) -> tuple[float, float]:
    """Mean and sd on [0, 1] of the scores of a prompt with so many steps, and such an sd of lengths if it is seen."""
    log_sds, log_steps, log_lengths = np.log(levels[:, 1:]).T
    of_length = 0.0
    if length_sd is not None:
        log_sds = log_sds - log_lengths
        of_length = float(np.clip(np.log(max(length_sd, _SMALLEST_SD)), log_lengths.min(), log_lengths.max()))
    middle = log_steps.mean()
    slope = (log_steps - middle) @ log_sds / (((log_steps - middle) ** 2).sum() + _LEVELLING)
    log_sd = log_sds.mean() + slope * (np.log(steps) - middle) + of_length
    return float(levels[:, 0].mean()), spread * float(np.exp(log_sd))


def _lines(sources: Sequence[_Source], form: Form, own: int, penalties: Sequence[float]) -> _Line:
    """Ridge regressions of standardised scores on points, one for each of L penalties: coefficients (D, L)."""
    strict = form == "strict"
    common = NumberScale.of_prompts([source.numbers for source in sources], own) if strict else None
    centre = np.mean([source.levels[0] for source in sources])
    width = sources[0].numbers.shape[1]
    squares, products = np.zeros((width, width)), np.zeros(width)
    for source in sources:
        scale = common or NumberScale.of(source.numbers, own)
        points, (mean, sd) = scale.points(source.numbers), source.levels[:2]
        squares += points.T @ points / len(points)
        products += points.T @ ((source.unit - (centre if strict else mean)) / sd) / len(points)
    values, axes = linalg.eigh(squares, check_finite=False)
    values = np.maximum(values, 0.0)
    strengths = np.array(penalties) * (float(values.mean()) or 1.0)
    return _Line(common, axes @ ((axes.T @ products)[:, None] / (values[:, None] + strengths)))


def _choose(sources: Sequence[_Source], form: Form, own: int) -> _Choice:
    """Leave each source prompt out in turn, and see how well the others' scores predict it."""
    concordance = np.zeros((len(PENALTIES), len(SPREADS)))
    correlation, off = np.zeros(len(PENALTIES)), []
    for place, source in enumerate(sources):
        others = [*sources[:place], *sources[place + 1 :]]
        scale, coefficients = _lines(others, form, own, PENALTIES)
        points = (scale or NumberScale.of(source.numbers, own)).points(source.numbers)
        ranks = points @ coefficients
        if scale is None:
            ranks = (ranks - ranks.mean(0)) / np.maximum(ranks.std(0), _SMALLEST_SD)
        levels = np.stack([other.levels for other in others])
        mean, sd = _guess(levels, source.levels[2], 1.0, source.levels[3] if scale is None else None)
        off.append((source.levels[0] - mean, np.log(source.levels[1] / sd)))
        for number, one in enumerate(ranks.T):
            correlation[number] += _correlation(one, source.unit)
            concordance[number] += [_concordance(mean + spread * sd * one, source.unit) for spread in SPREADS]
    best, column = np.unravel_index(int(concordance.argmax()), concordance.shape)
    spread = SPREADS[column]
    errors = np.sqrt(np.mean((np.array(off) - [0.0, np.log(spread)]) ** 2, axis=0))
    return _Choice(PENALTIES[best], spread, errors, float(correlation[best]) / len(sources))


def _correlation(one: Array, other: Array) -> float:
    """Pearson's; 0 where one of both is constant."""
    sds = one.std() * other.std()
    return float(((one - one.mean()) * (other - other.mean())).mean() / sds) if sds > 0 else 0.0


def _concordance(one: Array, other: Array) -> float:
    """Lin's concordance correlation; the second is not constant."""
    product = ((one - one.mean()) * (other - other.mean())).mean()
    return float(2 * product / (one.var() + other.var() + (one.mean() - other.mean()) ** 2))
