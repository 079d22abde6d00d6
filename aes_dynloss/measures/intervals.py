"""Uncertainty of single scores, from errors on dev: prediction intervals and the probability of a human's agreement.

Intervals are by split conformal prediction and have a stated coverage. ``Certainty`` calibrates on dev the probability
that a human gives the same score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import brentq
from scipy.special import expit, logit

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.measures.agreement import checked_columns
from aes_dynloss.tables.score_range import ScoreRange

T = TypeVar("T")
COVERAGE = 0.9
# More errors than these are kept as that many of their quantiles, whose steps are far below what dev can tell.
MOST_ERRORS = 2000


@dataclass(frozen=True)
class PromptErrors:
    """A scorer's errors on one prompt's dev essays.

    Args:
        errors: |raw - human score|, ascending, on the prompt's scale.
        essays: Number of dev essays; more than there are errors where those were thinned.

    Examples:
        >>> known = PromptErrors((0.1, 0.2, 0.4, 0.8), essays=4)
        >>> known.half_width(0.6), known.half_width(0.9)  # the 3rd of 4 errors; too few essays for 90 %
        (0.4, None)
    """

    errors: tuple[float, ...]
    essays: int

    def __post_init__(self) -> None:
        """Check at construction."""
        values = np.asarray(self.errors, dtype=np.float64)
        rising = values.size > 0 and bool(np.isfinite(values).all()) and (np.diff(values) >= 0).all()
        if not rising or values[0] < 0 or self.essays < values.size:
            raise DataError(f"Errors must be finite, ascending and >= 0, found {values.size} of {self.essays} essays.")

    def half_width(self, coverage: float) -> float | None:
        """Half the width of intervals that contain the human score of ``coverage`` of essays like those of dev.

            the k-th smallest of n errors, k = ceil((n + 1) coverage)

        Args:
            coverage: Stated coverage, between 0 and 1.

        Returns:
            Half the interval's width; None where dev has too few essays (k > n).

        Raises:
            ConfigError: The coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ConfigError(f"A coverage must lie between 0 and 1, such as .9, found {coverage}.")
        # 1e-9: (9 + 1) * .9 is 9, and not a little more.
        rank = math.ceil((self.essays + 1) * coverage - 1e-9)
        if rank > self.essays:
            return None
        return self.errors[min(len(self.errors), math.ceil(rank / self.essays * len(self.errors))) - 1]


@dataclass(frozen=True)
class Intervals:
    """Prediction intervals of one scorer, fitted on dev prompt by prompt.

        low = smallest score point >= raw - q,    high = largest score point <= raw + q,    q = ``half_width``

    The human score of a new essay lies inside with the stated probability, whatever the scorer, as long as dev and new
    essays are exchangeable: to the same prompt, by such writers, scored by such raters, and not used in training. (That
    dev has chosen the epoch and the rounding costs a little of it.)

    Args:
        prompts: Errors by prompt.

    References:
        Papadopoulos, Proedrou, Vovk and Gammerman (2002), Inductive confidence machines for regression. Lei, G'Sell,
        Rinaldo, Tibshirani and Wasserman (2018), Journal of the American Statistical Association 113(523), algorithm 2.

    Examples:
        >>> intervals = Intervals({"1": PromptErrors((0.1, 0.2, 0.4, 0.8), essays=4)})
        >>> intervals.bounds("1", [2.8], ScoreRange(1, 4), coverage=0.8)
        (array([2.]), array([3.]))
    """

    prompts: Mapping[str, PromptErrors]

    def bounds(
        self, prompt: str, raw: ArrayLike, score_range: ScoreRange, coverage: float = COVERAGE
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Lowest and highest score point of each essay's interval.

        Args:
            prompt: The prompt of all these essays.
            raw: Predictions before rescaling and rounding, shape (n,), finite.
            score_range: The prompt's score points.
            coverage: Stated coverage, between 0 and 1.

        Returns:
            Both, of shape (n,); an interval between two score points is the nearer one. None where the prompt has no
            dev essays, or too few for this coverage.

        Raises:
            ConfigError: The coverage is not between 0 and 1.
            DataError: A prediction is not finite.
        """
        known = self.prompts.get(prompt)
        half = None if known is None else known.half_width(coverage)
        if half is None:
            return None
        (values,) = checked_columns(raw=raw)
        nearest = score_range.to_index(values)
        last = score_range.count - 1
        low = np.ceil((values - half - score_range.low) / score_range.step - 1e-9)
        high = np.floor((values + half - score_range.low) / score_range.step + 1e-9)
        ends = (np.minimum(np.clip(low, 0, last), nearest), np.maximum(np.clip(high, 0, last), nearest))
        points = score_range.points
        return points[ends[0].astype(np.int64)], points[ends[1].astype(np.int64)]

    def with_prompt(self, prompt: str, score_range: ScoreRange, known: str, of_known: ScoreRange) -> Intervals:
        """The same with another prompt, on which errors are as large as on a known one, as shares of the ranges.

        Args:
            prompt: The other prompt.
            score_range: Its score points.
            known: The known one.
            of_known: Its score points.
        """
        entry = self.prompts[known]
        ratio = (score_range.high - score_range.low) / (of_known.high - of_known.low)
        return Intervals({**self.prompts, prompt: replace(entry, errors=tuple(ratio * one for one in entry.errors))})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {prompt: {**asdict(entry), "errors": list(entry.errors)} for prompt, entry in self.prompts.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Intervals:
        """Inverse of ``to_dict``.

        Raises:
            CheckpointError: The values are not such.
        """
        return cls(_stored(TypeAdapter(dict[str, PromptErrors]), values, "intervals"))


def _stored(adapter: TypeAdapter[T], values: object, name: str) -> T:
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        fault = error.errors()[0]
        reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise CheckpointError(f"Stored {name} are damaged: {reason}. Fetch the model folder again.") from None


def fit_intervals(prompt_ids: Sequence[str], raw: ArrayLike, reference: ArrayLike) -> Intervals:
    """Intervals from a scorer's errors on dev.

    Args:
        prompt_ids: Prompt of each dev essay, n of them, maybe none.
        raw: Predictions before rescaling and rounding, shape (n,), finite.
        reference: Human scores, shape (n,), finite.

    Returns:
        Intervals for the prompts that have dev essays.

    Raises:
        DataError: The shapes differ, or a value is not finite.

    Examples:
        >>> intervals = fit_intervals(["1", "1", "1"], raw=[1.5, 2.0, 3.25], reference=[1, 2, 3])
        >>> intervals.prompts["1"].errors
        (0.0, 0.25, 0.5)
    """
    if len(prompt_ids) == 0:
        return Intervals({})
    machine, human = checked_columns(raw=raw, reference=reference)
    prompts = np.asarray(prompt_ids, dtype=object)
    by_prompt = {}
    for prompt in dict.fromkeys(prompt_ids):
        errors = np.sort(np.abs(machine - human)[prompts == prompt])
        kept = _quantiles(errors, min(MOST_ERRORS, len(errors)))
        by_prompt[prompt] = PromptErrors(tuple(kept.tolist()), len(errors))
    return Intervals(by_prompt)


def _quantiles(errors: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """So many of their quantiles, some of them equal where there are fewer errors; both ascending."""
    return errors[-(-np.arange(1, number + 1) * len(errors) // number) - 1]


def fit_pooled_intervals(
    ranges: Mapping[str, ScoreRange], prompt_ids: Sequence[str], raw: ArrayLike, reference: ArrayLike
) -> Intervals:
    """Intervals for prompts that a scorer has not seen, from its errors on others that it had not seen either.

    Errors are divided by the width of their prompt's range, and the prompts' distributions mixed with equal weights:
    as many quantiles of each, in all up to MOST_ERRORS and no more than there are essays. Over prompts drawn as these
    were, coverage is as stated but for the number of prompts; one prompt's own may be far from it.

    Args:
        ranges: Score points of every prompt that is to have intervals, those of the essays among them.
        prompt_ids: Prompt of each of n essays.
        raw: Predictions before rescaling and rounding, made without the essay's prompt, shape (n,), finite.
        reference: Human scores, shape (n,), finite.

    Returns:
        Intervals for all prompts of ``ranges``.

    Raises:
        DataError: The shapes differ, or a value is not finite.

    References:
        Dunn, Wasserman and Ramdas (2023), Distribution-free prediction sets for two-layer hierarchical models, Journal
        of the American Statistical Association 118(544), pooling of distributions.

    Examples:
        >>> ranges = {"1": ScoreRange(1, 5), "2": ScoreRange(0, 2), "3": ScoreRange(0, 10)}
        >>> fit_pooled_intervals(ranges, ["1", "2"], raw=[3.0, 1.5], reference=[2, 1]).prompts["3"].errors
        (2.5, 2.5)
    """
    machine, human = checked_columns(raw=raw, reference=reference)
    widths = {prompt: one.high - one.low for prompt, one in ranges.items()}
    relative = np.abs(machine - human) / np.array([widths[prompt] for prompt in prompt_ids])
    answered = np.asarray(prompt_ids, dtype=object)
    by_prompt = [np.sort(relative[answered == prompt]) for prompt in dict.fromkeys(prompt_ids)]
    number = max(min(MOST_ERRORS, len(relative)) // len(by_prompt), 1)
    errors = np.sort(np.concatenate([_quantiles(one, number) for one in by_prompt]))
    return Intervals(
        {prompt: PromptErrors(tuple((errors * width).tolist()), len(relative)) for prompt, width in widths.items()}
    )


def coverage_entry(
    reference: ArrayLike, bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None, coverage: float = COVERAGE
) -> dict[str, float | None]:
    """Measured coverage: the share of intervals that contain the human score.

    Args:
        reference: Human scores, shape (n,).
        bounds: Lowest and highest score points, each (n,), or None.
        coverage: What was stated.

    Returns:
        ``stated``, ``measured`` (share of essays inside) and ``mean_width`` (on the prompt's scale, 0 for one score
        point); None where there are no intervals.

    Examples:
        >>> bounds = (np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        >>> coverage_entry([2, 4], bounds)
        {'stated': 0.9, 'measured': 0.5, 'mean_width': 1.0}
    """
    if bounds is None:
        return {"stated": coverage, "measured": None, "mean_width": None}
    human, low, high = checked_columns(reference=reference, low=bounds[0], high=bounds[1])
    inside = (low - 1e-9 <= human) & (human <= high + 1e-9)
    return {"stated": coverage, "measured": float(inside.mean()), "mean_width": float((high - low).mean())}


_QUANTILES = np.linspace(0, 1, 201)
# No chance is called smaller than this, nor its opposite: dev has some hundred essays.
_LEAST = 1e-3


def same_score_probability(
    known: PromptErrors, raw: ArrayLike, score: ArrayLike, score_range: ScoreRange
) -> NDArray[np.float64]:
    """Probability that a human gives the same score point, estimated from the errors on dev.

        P(a <= raw + E < b),   P(E <= x) = (1 + sign(x) G(|x|)) / 2

    with a and b half a step below and above the score (open at the ends of the range), and G the distribution of the
    errors' sizes on dev: errors are taken to be as likely up as down, and as large wherever a prediction lies. What is
    wrong with that, :class:`Certainty` corrects.

    Args:
        known: A scorer's errors on the prompt's dev essays.
        raw: Predictions before rescaling and rounding, (n,), finite.
        score: Score points, (n,), finite.
        score_range: The prompt's score points.

    Returns:
        Chances, (n,).

    Examples:
        >>> known = PromptErrors((0.1, 0.2, 0.4, 0.8), essays=4)
        >>> same_score_probability(known, raw=[2.0, 2.4], score=[2, 2], score_range=ScoreRange(1, 4))
        array([0.75 , 0.625])
    """
    values, points = checked_columns(raw=raw, score=score)
    half = score_range.step / 2
    upper = np.where(points >= score_range.high - half, np.inf, points + half)
    lower = np.where(points <= score_range.low + half, -np.inf, points - half)
    return _below(known, upper - values) - _below(known, lower - values)


def _below(known: PromptErrors, error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of errors below."""
    sizes = np.asarray(known.errors, dtype=np.float64)
    smaller = np.searchsorted(sizes, np.abs(error), side="left") / len(sizes)
    return np.asarray((1 + np.sign(error) * smaller) / 2, dtype=np.float64)


@dataclass(frozen=True)
class PromptCertainty:
    """Calibrated probabilities of agreement on one prompt.

    Args:
        shift: What is added to a chance's log-odds, so that over dev essays the chances' mean is the share of essays
            that did get the human's score.
        quantiles: Of the shifted chances on dev, from the least to the greatest.
    """

    shift: float
    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check at construction."""
        values = np.asarray(self.quantiles, dtype=np.float64)
        rising = values.shape == _QUANTILES.shape and bool(np.isfinite(values).all()) and (np.diff(values) >= 0).all()
        if not rising or values[0] < 0 or values[-1] > 1 or not np.isfinite(self.shift):
            raise DataError(
                f"A certainty must be a finite shift and {len(_QUANTILES)} ascending chances from 0 to 1, found "
                f"{self.shift} and {values.size}."
            )


@dataclass(frozen=True)
class Certainty:
    """Calibration of the probability that a human gives the same score, prompt by prompt.

        certainty = sigmoid(logit(chance) + b),    b such that on dev mean(certainty) = share of equal scores

    On ASAP the probabilities of :func:`same_score_probability` are up to 8 points too low. One shift a prompt corrects
    their mean and keeps their order.

    Args:
        prompts: By prompt.

    References:
        Platt (1999), Advances in Large Margin Classifiers, his sigmoid with its slope held at 1.
    """

    prompts: Mapping[str, PromptCertainty]

    def of(self, prompt_ids: Sequence[str], chance: ArrayLike) -> NDArray[np.float64]:
        """Probabilities calibrated on dev; unchanged for prompts without dev essays.

        Args:
            prompt_ids: Prompt of each of n essays.
            chance: Chances, (n,); NaN stays NaN.

        Returns:
            Certainties, (n,).
        """
        certainty, prompts = np.array(chance, dtype=np.float64), np.asarray(prompt_ids, dtype=object)
        for prompt, entry in self.prompts.items():
            of_prompt = prompts == prompt
            certainty[of_prompt] = _shifted(certainty[of_prompt], entry.shift)
        return certainty

    def unsure_below(self, prompt: str, share: float) -> float | None:
        """The certainty below which the least certain ``share`` of dev essays lie; None for an unknown prompt.

        Where more than that share are equally and least certain, they all lie below; none does where all are alike.

        Raises:
            ConfigError: The share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"The share of uncertain essays must lie from 0 to 1, found {share}.")
        entry = self.prompts.get(prompt)
        if entry is None:
            return None
        border = float(np.interp(share, _QUANTILES, entry.quantiles))
        least, most = entry.quantiles[0], entry.quantiles[-1]
        return float(np.nextafter(border, 2)) if share > 0 and border == least < most else border

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {prompt: {**asdict(entry), "quantiles": list(entry.quantiles)} for prompt, entry in self.prompts.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certainty:
        """Inverse of ``to_dict``.

        Raises:
            CheckpointError: The values are not such.
        """
        entries = _stored(TypeAdapter(dict[str, PromptCertainty | list[float]]), values, "certainties")
        # A list is of an earlier form, without the shift: nothing is known.
        return cls({prompt: entry for prompt, entry in entries.items() if isinstance(entry, PromptCertainty)})


def equal_points(
    ranges: Mapping[str, ScoreRange], prompt_ids: Sequence[str], score: ArrayLike, reference: ArrayLike
) -> NDArray[np.bool_]:
    """Whether two scores are one score point, (n,); steps such as .1 have points that floats cannot hold.

    Args:
        ranges: Score points of each prompt.
        prompt_ids: Prompt of each of n essays.
        score: Scores, (n,).
        reference: Scores, (n,).

    Examples:
        >>> equal_points({"1": ScoreRange(1, 4)}, ["1", "1"], score=[2, 3], reference=[2, 2])
        array([ True, False])
    """
    half_steps = np.array([ranges[prompt].step / 2 for prompt in prompt_ids])
    gap = np.abs(np.asarray(score, dtype=np.float64) - np.asarray(reference, dtype=np.float64))
    return np.asarray(gap < half_steps)


def fit_certainty(prompt_ids: Sequence[str], chance: ArrayLike, same: ArrayLike) -> Certainty:
    """Calibrate a scorer's probabilities on dev.

    Args:
        prompt_ids: Prompt of each dev essay, n of them, maybe none.
        chance: What the errors or the head say, (n,); NaN where there is nothing.
        same: Whether the human gave the same score, (n,).

    Examples:
        >>> certainty = fit_certainty(["1", "1"], chance=[0.25, 0.75], same=[True, False])
        >>> certainty.of(["1"], [0.75]).round(3)
        array([0.75])
    """
    values, equal = np.asarray(chance, dtype=np.float64), np.asarray(same, dtype=bool)
    prompts = np.asarray(prompt_ids, dtype=object)
    by_prompt = {}
    for prompt in dict.fromkeys(prompt_ids):
        of_prompt = (prompts == prompt) & np.isfinite(values)
        if of_prompt.any():
            shift = _fitting_shift(values[of_prompt], equal[of_prompt])
            quantiles = np.maximum.accumulate(np.quantile(_shifted(values[of_prompt], shift), _QUANTILES))
            by_prompt[prompt] = PromptCertainty(shift, tuple(np.clip(quantiles, 0, 1).tolist()))
    return Certainty(by_prompt)


def _fitting_shift(chance: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    # Not all and not none: half an essay less than all of them is the most that n essays can tell.
    share = float(np.clip(same.mean(), 0.5 / len(same), 1 - 0.5 / len(same)))
    return float(brentq(lambda shift: float(_shifted(chance, shift).mean()) - share, -40.0, 40.0))


def _shifted(chance: ArrayLike, shift: float) -> NDArray[np.float64]:
    odds = logit(np.clip(np.asarray(chance, dtype=np.float64), _LEAST, 1 - _LEAST))
    return np.asarray(expit(odds + shift), dtype=np.float64)
