"""How sure a score is: the chance that a human gives the same one, and what is unusually unsure on dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.evaluation.checked_scores import checked_columns
from aes_dynloss.evaluation.conformal import PromptErrors
from aes_dynloss.evaluation.score_range import ScoreRange

_QUANTILES = np.linspace(0, 1, 201)


def same_score_chance(
    known: PromptErrors, raw: ArrayLike, score: ArrayLike, score_range: ScoreRange
) -> NDArray[np.float64]:
    """The chance that a human gives the same score point, as far as the errors on dev tell.

        P(a <= raw + E < b),   P(E <= x) = (1 + sign(x) G(|x|)) / 2

    with a and b half a step below and above the score (open at the ends of the range), and G the distribution of the
    errors' sizes on dev: errors are taken to be as likely up as down.

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
class CertaintyQuantiles:
    """How sure a scorer is of its scores of dev essays, prompt by prompt.

    Args:
        prompts: Quantiles of the chances that a human gives the same score, from the least to the greatest, by prompt.
    """

    prompts: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        """Check at construction."""
        for prompt, quantiles in self.prompts.items():
            values = np.asarray(quantiles, dtype=np.float64)
            good = values.shape == _QUANTILES.shape and bool(np.isfinite(values).all())
            if not good or (np.diff(values) < 0).any() or values[0] < 0 or values[-1] > 1:
                raise DataError(
                    f"The certainty of prompt {prompt} must be {len(_QUANTILES)} ascending chances from 0 to 1."
                )

    def unsure_below(self, prompt: str, share: float) -> float | None:
        """The certainty below which the least certain ``share`` of dev essays lie; None for an unknown prompt.

        Raises:
            ConfigError: The share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"The share of uncertain essays must lie from 0 to 1, found {share}.")
        found = self.prompts.get(prompt)
        return None if found is None else float(np.interp(share, _QUANTILES, found))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {prompt: list(values) for prompt, values in self.prompts.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CertaintyQuantiles:
        """What ``to_dict`` wrote.

        Raises:
            CheckpointError: The values are not such.
        """
        try:
            return cls({str(prompt): tuple(float(one) for one in found) for prompt, found in values.items()})
        except (AttributeError, TypeError, ValueError, DataError) as error:
            raise CheckpointError(f"Stored certainties are damaged: {error}. Fetch the model folder again.") from None


def fit_certainty(prompt_ids: Sequence[str], certainty: ArrayLike) -> CertaintyQuantiles:
    """Quantiles of a scorer's certainty on dev.

    Args:
        prompt_ids: Prompt of each dev essay, n of them, maybe none.
        certainty: Chances, (n,); NaN where there is none.
    """
    values = np.asarray(certainty, dtype=np.float64)
    answered = np.asarray(prompt_ids, dtype=object)
    found = {}
    for prompt in dict.fromkeys(prompt_ids):
        mine = values[(answered == prompt) & np.isfinite(values)]
        if mine.size:
            quantiles = np.maximum.accumulate(np.quantile(mine, _QUANTILES))
            found[prompt] = tuple(np.clip(quantiles, 0, 1).tolist())
    return CertaintyQuantiles(found)
