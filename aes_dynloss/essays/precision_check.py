"""Scores in fewer bits only where they are those of float32: checked on the essays that are to be scored."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.precision import LEAST_EQUAL, equal_scores
from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.score import prompts_of

logger = logging.getLogger(__name__)

# Essays of a prompt that are scored both ways.
CHECKED = 512


def checked_essays(
    scorer: Scorer, reduced: Scorer, precision: str, essays: Iterable[UnscoredEssay], *, checked: int = CHECKED
) -> Iterator[UnscoredEssay]:
    """Hand on a stream of essays as long as a reduced precision gives them the score points of float32.

    The first essays of every prompt are scored both ways before they are handed on; later ones are trusted. A model
    folder holds no essays, and its training essays may be unlike those that come.

    Args:
        scorer: In float32.
        reduced: The same in the reduced precision, see :func:`aes_dynloss.essays.model.precision.in_precision`.
        precision: Its name, for messages.
        essays: Essays; each process must be given the same.
        checked: Essays of each prompt that are scored both ways; to the window in which the number is reached.

    Yields:
        The essays, all, in their order.

    Raises:
        ConfigError: Of all essays scored both ways so far, fewer than :data:`LEAST_EQUAL` have equal score points.
        DataError: An essay's prompt is unknown to the model, or not given though the model knows several.
    """
    stream = iter(essays)
    seen: Counter[str] = Counter()
    equal = compared = 0
    while part := list(itertools.islice(stream, checked)):
        prompts = prompts_of(scorer, part)
        new = [(essay.text, prompt) for essay, prompt in zip(part, prompts, strict=True) if seen[prompt] < checked]
        if new:
            texts, answered = zip(*new, strict=True)
            seen.update(answered)
            compared += len(new)
            equal += equal_scores(scorer, reduced, texts, answered)
            _check(precision, equal, compared)
            if compared == len(new):
                logger.info("In %s %d of the first %d essays get the score of float32.", precision, equal, compared)
        yield from part


def _check(precision: str, equal: int, compared: int) -> None:
    if equal < LEAST_EQUAL * compared:
        raise ConfigError(
            f"In {precision} {compared - equal} of the first {compared} essays get another score than in float32; at "
            f"least {LEAST_EQUAL:.1%} must be equal. Leave --precision out."
        )
