"""Advisories on essays of a stream: by their words, by their vectors, and by what came before them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.screening.duplicates import DuplicateFinder
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.policy import Policy
from aes_dynloss.essays.screening.thresholds import distance_advisory

logger = logging.getLogger(__name__)


def warn_unless_screened(scorer: Scorer) -> None:
    """Say so where a model cannot tell essays that it should not judge."""
    if scorer.screen is None:
        logger.warning(
            "The model knows nothing of its training essays' words, so that essays are hardly looked at. Train it with "
            "this version of aes-dynloss for advisories."
        )


class Adviser:
    """Tells which scores should be looked at, or not be given.

    Args:
        scorer: The scorer, whose training essays are what others are compared with.
        policy: What follows from each kind; a kind that is off is not looked at.
    """

    def __init__(self, scorer: Scorer, policy: Policy) -> None:
        self.policy = policy
        self._screen = scorer.screen
        self._finder = DuplicateFinder() if policy.action("duplicate") != "off" else None

    def remember(self, essays: Sequence[UnscoredEssay], prompt_ids: Sequence[str]) -> None:
        """Take essays as seen that were judged before."""
        self._duplicates(essays, prompt_ids)

    def advise(
        self, essays: Sequence[UnscoredEssay], prompt_ids: Sequence[str], strangeness: NDArray[np.float64]
    ) -> list[tuple[Advisory, ...]]:
        """The advisories on some essays, N.

        Args:
            essays: The next of the stream.
            prompt_ids: The prompt of each.
            strangeness: Distance of each from training essays, (N,), NaN where unknown; see `Scores`.
        """
        texts = [essay.text for essay in essays]
        if self._screen is None:
            found = [[] if text.strip() else [advisory("empty", 0, 0)] for text in texts]
        else:
            found = [list(own) for own in self._screen.examine(texts, prompt_ids)]
        for own, distance in zip(found, strangeness, strict=True):
            strange = distance_advisory(float(distance), 1.0)
            if strange is not None:
                own.append(strange)
        for own, duplicate in zip(found, self._duplicates(essays, prompt_ids), strict=True):
            if duplicate is not None:
                own.append(duplicate)
        return [self.policy.looked_at(own) for own in found]

    def _duplicates(self, essays: Sequence[UnscoredEssay], prompt_ids: Sequence[str]) -> list[Advisory | None]:
        if self._finder is None:
            return [None] * len(essays)
        return self._finder.find([essay.text for essay in essays], [essay.essay_id for essay in essays], prompt_ids)
