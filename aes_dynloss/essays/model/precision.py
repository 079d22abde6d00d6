"""Scoring in fewer bits: the encoder multiplies its matrices in bf16; pooling and head stay in float32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.ensemble import EssayEnsemble
from aes_dynloss.essays.model.scorer import EssayScorer, Scorer
from aes_dynloss.training.prediction import Precision

# Part of essays whose score points must stay what they are in float32.
LEAST_EQUAL = 0.995


def in_precision(scorer: Scorer, precision: Precision) -> Scorer:
    """A scorer that computes in a precision and shares its weights with the one given, which is left as it is.

    Args:
        scorer: One model, or an ensemble.
        precision: float32 or bf16; a CPU without instructions for bf16 is slow with it.

    Raises:
        ConfigError: The scorer is of a kind that is not known here.
    """
    if isinstance(scorer, EssayEnsemble):
        ensemble = copy.copy(scorer)
        ensemble.members = [
            replace(member, scorer=cast(EssayScorer, in_precision(member.scorer, precision)))
            for member in scorer.members
        ]
        return ensemble
    if not isinstance(scorer, EssayScorer):
        raise ConfigError(f"A {type(scorer).__name__} cannot score in {precision}. Give a model or an ensemble.")
    single = copy.copy(scorer)
    single.precision = precision
    return single


def equal_scores(scorer: Scorer, reduced: Scorer, texts: Sequence[str], prompt_ids: Sequence[str]) -> int:
    """Essays out of N to which both scorers give the same score point."""
    full, answer = (one.score(texts, prompt_ids).score for one in (scorer, reduced))
    return int((full == answer).sum())
