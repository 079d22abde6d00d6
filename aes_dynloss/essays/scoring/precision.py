"""Scoring in bf16: the encoder's matrix products only, and only where scores agree with those of float32.

Pooling and head stay in float32. The agreement is checked on the essays that are to be scored.
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.trait_rows import Asked
from aes_dynloss.essays.scoring.score import prompts_of
from aes_dynloss.training.config import Precision

# Part of essays whose score points must stay what they are in float32. Of fewer than ENOUGH, among which a few change
# by chance in some of many small tables, so many must.
LEAST_EQUAL, LEAST_OF_FEW = 0.995, 0.9


def in_precision(scorer: Scorer, precision: Precision) -> Scorer:
    """A scorer that computes in a precision and shares its weights with the one given, which is left as it is.

    Args:
        scorer: One model, or an ensemble.
        precision: float32 or bf16; a CPU without instructions for bf16 is 6 to 67 times slower with it.

    Raises:
        ConfigError: The scorer is of a kind that is not known here.
    """
    if isinstance(scorer, EssayEnsemble):
        ensemble = copy.copy(scorer)
        ensemble.members = [replace(member, scorer=in_precision(member.scorer, precision)) for member in scorer.members]
        return ensemble
    if not isinstance(scorer, EncoderScorer):
        raise ConfigError(
            f"The model, or a member of it, has no encoder to compute in {precision}. Leave --precision out."
        )
    single = copy.copy(scorer)
    single.precision = precision
    return single


def equal_scores(scorer: Scorer, reduced: Scorer, essays: Sequence[UnscoredEssay], prompt_ids: Sequence[str]) -> int:
    """Essays out of N to which both scorers give the same score point, on all traits."""
    asked = Asked.of(scorer.prompts, prompt_ids)
    texts, own = [essays[place].text for place in asked.owner], [essays[place].features for place in asked.owner]
    full, answer = (one.score(texts, asked.scales, features=own).score for one in (scorer, reduced))
    return len(essays) - len(set(np.array(asked.owner)[full != answer].tolist()))


logger = logging.getLogger(__name__)

# Essays of a prompt that are scored both ways.
CHECKED = 512
# From so many on essays are judged by LEAST_EQUAL, and those of one prompt by themselves too.
ENOUGH = 200


def checked_essays(
    scorer: Scorer, reduced: Scorer, precision: str, essays: Iterable[UnscoredEssay], *, checked: int = CHECKED
) -> Iterator[UnscoredEssay]:
    """Hand on a stream of essays as long as a reduced precision gives them the score points of float32.

    The first essays of every prompt are scored both ways before they are handed on; later ones are trusted. A model
    folder holds no essays, and its training essays may be unlike those that come.

    Args:
        scorer: In float32.
        reduced: The same in the reduced precision, see :func:`aes_dynloss.essays.scoring.precision.in_precision`.
        precision: Its name, for messages.
        essays: Essays; each process must be given the same.
        checked: Essays of each prompt that are scored both ways; to the window in which the number is reached.

    Yields:
        The essays, all, in their order.

    Raises:
        ConfigError: Of all essays scored both ways so far, or of at least :data:`ENOUGH` of one prompt, fewer than
            :data:`LEAST_EQUAL` have equal score points; of fewer than :data:`ENOUGH` in all, several have others, and
            fewer than :data:`LEAST_OF_FEW` equal ones.
        DataError: An essay's prompt is unknown to the model, or not given though the model knows several.
    """
    stream = iter(essays)
    equal: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    while part := list(itertools.islice(stream, checked)):
        new: dict[str, list[UnscoredEssay]] = {}
        for essay, prompt in zip(part, prompts_of(scorer, part), strict=True):
            if compared[prompt] < checked:
                new.setdefault(prompt, []).append(essay)
        first = not compared.total()
        for prompt, both_ways in new.items():
            compared[prompt] += len(both_ways)
            equal[prompt] += equal_scores(scorer, reduced, both_ways, [prompt] * len(both_ways))
        _check(precision, equal.total(), compared.total())
        for prompt in new:
            if compared[prompt] >= ENOUGH:
                _check(precision, equal[prompt], compared[prompt], f" of prompt {prompt}")
        if first:
            message = "In %s %d of the first %d essays get the score of float32."
            logger.info(message, precision, equal.total(), compared.total())
        yield from part


def _check(precision: str, equal: int, compared: int, whose: str = "") -> None:
    changed, least = compared - equal, LEAST_EQUAL if compared >= ENOUGH else LEAST_OF_FEW
    if changed > 1 and equal < least * compared:
        raise ConfigError(
            f"In {precision} {changed} of the first {compared} essays{whose} get another score than in float32; at "
            f"least {least:.1%} must be equal. Leave --precision out."
        )
