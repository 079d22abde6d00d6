"""How sure a score is: the chance that a human gives the same one, and what is unusually unsure on dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.evaluation.checked_scores import checked_columns
from aes_dynloss.evaluation.conformal import PromptErrors
from aes_dynloss.evaluation.score_range import ScoreRange

_QUANTILES = np.linspace(0, 1, 201)
# No chance is called smaller than this, nor its opposite: dev has some hundred essays.
_LEAST = 1e-3


def same_score_chance(
    known: PromptErrors, raw: ArrayLike, score: ArrayLike, score_range: ScoreRange
) -> NDArray[np.float64]:
    """The chance that a human gives the same score point, as far as the errors on dev tell.

        P(a <= raw + E < b),   P(E <= x) = (1 + sign(x) G(|x|)) / 2

    with a and b half a step below and above the score (open at the ends of the range), and G the distribution of the
    errors' sizes on dev: errors are taken to be as likely up as down, and as large wherever a prediction lies. What is
    wrong with that, :class:`Certainty` mends.

    Args:
        known: A scorer's errors on the prompt's dev essays.
        raw: Predictions before rescaling and rounding, (n,), finite.
        score: Score points, (n,), finite.
        score_range: The prompt's score points.

    Returns:
        Chances, (n,).
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
    """How sure a scorer can be of its scores on one prompt.

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
    """From what the errors on dev, or a head, say of a score to the chance that a human gives the same one.

        certainty = sigmoid(logit(chance) + b),    b such that on dev mean(certainty) = share of equal scores

    Errors around score points are no more alike than heads are modest: on ASAP the chances of
    :func:`same_score_chance` are up to 8 points too low. One number a prompt mends their mean, and keeps their order.

    Args:
        prompts: By prompt.

    References:
        Platt (1999), Advances in Large Margin Classifiers, his sigmoid with its slope held at 1.
    """

    prompts: Mapping[str, PromptCertainty]

    def of(self, prompt_ids: Sequence[str], chance: ArrayLike) -> NDArray[np.float64]:
        """The chances set right by what was seen on dev; as they are where it had no essay of a prompt.

        Args:
            prompt_ids: Prompt of each of n essays.
            chance: Chances, (n,); NaN stays NaN.

        Returns:
            Certainties, (n,).
        """
        answer, answered = np.array(chance, dtype=np.float64), np.asarray(prompt_ids, dtype=object)
        for prompt, found in self.prompts.items():
            mine = answered == prompt
            answer[mine] = _shifted(answer[mine], found.shift)
        return answer

    def unsure_below(self, prompt: str, share: float) -> float | None:
        """The certainty below which the least certain ``share`` of dev essays lie; None for an unknown prompt.

        Where more than that share are equally and least certain, they all lie below; none does where all are alike.

        Raises:
            ConfigError: The share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"The share of uncertain essays must lie from 0 to 1, found {share}.")
        found = self.prompts.get(prompt)
        if found is None:
            return None
        border = float(np.interp(share, _QUANTILES, found.quantiles))
        least, most = found.quantiles[0], found.quantiles[-1]
        return float(np.nextafter(border, 2)) if share > 0 and border == least < most else border

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            prompt: {"shift": found.shift, "quantiles": list(found.quantiles)} for prompt, found in self.prompts.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certainty:
        """What ``to_dict`` wrote.

        Raises:
            CheckpointError: The values are not such.
        """
        try:
            return cls(
                {
                    str(prompt): PromptCertainty(float(found["shift"]), tuple(float(one) for one in found["quantiles"]))
                    for prompt, found in values.items()
                    if not isinstance(found, list)  # of an earlier form, without the shift: nothing is known
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, DataError) as error:
            raise CheckpointError(f"Stored certainties are damaged: {error}. Fetch the model folder again.") from None


def equal_points(
    ranges: Mapping[str, ScoreRange], prompt_ids: Sequence[str], score: ArrayLike, reference: ArrayLike
) -> NDArray[np.bool_]:
    """Whether two scores are one score point, (n,); steps such as .1 have points that floats cannot hold.

    Args:
        ranges: Score points of each prompt.
        prompt_ids: Prompt of each of n essays.
        score: Scores, (n,).
        reference: Scores, (n,).
    """
    half_steps = np.array([ranges[prompt].step / 2 for prompt in prompt_ids])
    gap = np.abs(np.asarray(score, dtype=np.float64) - np.asarray(reference, dtype=np.float64))
    return np.asarray(gap < half_steps)


def fit_certainty(prompt_ids: Sequence[str], chance: ArrayLike, same: ArrayLike) -> Certainty:
    """Set a scorer's chances right on dev.

    Args:
        prompt_ids: Prompt of each dev essay, n of them, maybe none.
        chance: What the errors or the head say, (n,); NaN where there is nothing.
        same: Whether the human gave the same score, (n,).
    """
    values, equal = np.asarray(chance, dtype=np.float64), np.asarray(same, dtype=bool)
    answered = np.asarray(prompt_ids, dtype=object)
    found = {}
    for prompt in dict.fromkeys(prompt_ids):
        mine = (answered == prompt) & np.isfinite(values)
        if mine.any():
            shift = _fitting_shift(values[mine], equal[mine])
            quantiles = np.maximum.accumulate(np.quantile(_shifted(values[mine], shift), _QUANTILES))
            found[prompt] = PromptCertainty(shift, tuple(np.clip(quantiles, 0, 1).tolist()))
    return Certainty(found)


def _fitting_shift(chance: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    # Not all and not none: half an essay less than all of them is the most that n essays can tell.
    share = float(np.clip(same.mean(), 0.5 / len(same), 1 - 0.5 / len(same)))
    return float(brentq(lambda shift: float(_shifted(chance, shift).mean()) - share, -40.0, 40.0))


def _shifted(chance: ArrayLike, shift: float) -> NDArray[np.float64]:
    odds = logit(np.clip(np.asarray(chance, dtype=np.float64), _LEAST, 1 - _LEAST))
    return np.asarray(expit(odds + shift), dtype=np.float64)
