"""Explanations of essays' scores, one after the other, and their form as lines of JSON."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.contributions import sentence_shapley
from aes_dynloss.essays.explaining.feature_parts import FeatureParts, feature_parts
from aes_dynloss.essays.explaining.language import Observation, observations
from aes_dynloss.essays.explaining.neighbours import Neighbour, neighbours
from aes_dynloss.essays.explaining.next_point import (
    FeatureValue,
    NextPoint,
    feature_function,
    feature_values,
    next_point,
)
from aes_dynloss.essays.explaining.occlusion import left_out, reads_once, sentence_values
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sentences import Span, sentence_spans
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.scoring.score import score_essays, texts_of
from aes_dynloss.essays.screening.kinds import KINDS, Policy
from aes_dynloss.measures.scales import ConversionTable
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import scale_id

logger = logging.getLogger(__name__)

Method = Literal["estimate", "exact"]
# An essay of so many sentences and fewer is always read anew without each: that costs less than the estimate of one of
# twenty does.
ALWAYS_EXACT = 7
# With so many sentences and fewer an encoder that reads anew reads all choices of them.
_ALL_ANEW = 4


@dataclass(frozen=True)
class ScoreExplanation:
    """Why an essay got one score.

    Args:
        trait: The trait; None where essays have one score.
        raw: Continuous prediction, in score points, neither rescaled nor trimmed.
        score: The score point; given of withheld essays too.
        low: Lower end of its interval; None where unknown.
        high: Upper end.
        contributions: What each sentence adds to raw, in the mean over the orders in which the essay could be put
            together from its sentences; their sum is raw less what is left without any.
        left_out: Raw less raw without each sentence.
        features: What groups of features add; None where the scorer keeps no averages of them.
        values: The features that the scorer sees, beside those of training essays.
        next_point: How far it is to the next score point; None on the highest that the scorer gives.
        neighbours: The nearest training essays, if they were asked for and the scorer keeps their vectors.
        reported: The score on the model's reported scale; None where it has none.
    """

    trait: str | None
    raw: float
    score: float
    low: float | None
    high: float | None
    contributions: list[float]
    left_out: list[float]
    features: FeatureParts | None = None
    values: list[FeatureValue] = field(default_factory=list)
    next_point: NextPoint | None = None
    neighbours: list[Neighbour] = field(default_factory=list)
    reported: float | None = None


@dataclass(frozen=True)
class Explanation:
    """Why an essay got its scores.

    Args:
        essay_id: The essay.
        prompt_id: The prompt that it answers.
        text: The essay as it was read.
        method: ``exact`` if the essay was read anew without each sentence: as was asked for, because it has few, or
            because the scorer does not read otherwise.
        sentences: Its sentences; together they are the text.
        scores: One of each trait, or one.
        withheld: Whether ``score`` would withhold the score.
        advisories: Reasons of its advisories.
        language: Spelling and grammar that a checker remarks; no reason of the score.
    """

    essay_id: str
    prompt_id: str
    text: str
    method: Method
    sentences: list[Span]
    scores: list[ScoreExplanation]
    withheld: bool = False
    advisories: list[str] = field(default_factory=list)
    language: list[Observation] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The line of JSON, without the essay's text as a whole."""
        return {
            "essay_id": self.essay_id,
            "prompt_id": self.prompt_id,
            "method": self.method,
            "withheld": self.withheld,
            "advisories": self.advisories,
            "sentences": [{"start": one.start, "end": one.end, "text": one.of(self.text)} for one in self.sentences],
            "scores": [_score_dict(one) for one in self.scores],
            "language": [one.to_dict() for one in self.language],
        }


def _score_dict(one: ScoreExplanation) -> dict[str, Any]:
    names = ("trait", "raw", "score", "reported", "low", "high", "contributions", "left_out")
    parts = one.features
    features = None if parts is None else {"baseline": parts.baseline, "groups": parts.groups}
    return {name: getattr(one, name) for name in names} | {
        "features": features,
        "values": [_without_nan(each) for each in one.values],
        "next_point": None if one.next_point is None else asdict(one.next_point),
        "neighbours": [asdict(each) for each in one.neighbours],
    }


def _without_nan(value: FeatureValue) -> dict[str, Any]:
    known = ((name, _known(each) if isinstance(each, float) else each) for name, each in asdict(value).items())
    return dict(known)


def explain_essays(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    *,
    exact: bool = False,
    traits: Collection[str] = (),
    coverage: float = 0.9,
    language: str = "en",
    dialect: str | None = None,
    policy: Policy | None = None,
    nearest: bool = True,
    scale: Mapping[str, ConversionTable] | None = None,
    done: Sequence[str] = (),
) -> Iterator[Explanation]:
    """Explain the scores of essays, one after the other.

    Args:
        scorer: The scorer.
        essays: Essays; one without a prompt answers the model's only one.
        exact: Whether an encoder reads each essay anew without each of its sentences, which costs as many scorings as
            it has sentences. Else it does so with up to ALWAYS_EXACT sentences; it reads a longer essay once, and each
            sentence is left out of what it has read.
        traits: Traits to explain; by default all.
        coverage: Stated coverage of the intervals.
        language: ISO 639 code of the essays' language, for the borders of sentences.
        dialect: English whose spelling and grammar are remarked on, one of DIALECTS; None for no remarks.
        policy: What follows from advisories; by default what ``score`` does.
        nearest: Whether the nearest training essays are named.
        scale: Tables of reported scores, in the place of the model's own; prompts without keep theirs.
        done: Digests of the first essays, by ``window_digest`` of each, which were explained before.

    Yields:
        Explanations in the order of the essays, of those too whose score would be withheld; without a score where an
        essay's prompt has none of the ``traits``. One essay is in memory at a time.

    Raises:
        ConfigError: There is no such dialect, or the extra ``feedback`` is not installed.
        DataError: A prompt or a trait is unknown, or a column is missing.
    """
    check_options(scorer, traits, language, dialect)
    policy = (policy or Policy()).of(texts_of(scorer))
    # Scores are given of withheld essays too.
    told = policy.model_copy(update={kind: "advise" for kind in KINDS if policy.action(kind) == "withhold"})
    quiet: dict[str, Any] = {"progress": None, "warn": False}
    scored = score_essays(
        scorer, essays, policy=told, coverage=coverage, long=True, scale=scale, window=1, done=done, **quiet
    )
    for window in scored:
        (essay,) = window.essays
        one = _explained(scorer, essay, window.columns, policy, traits, language, exact=exact, nearest=nearest)
        yield one if dialect is None else replace(one, language=observations(essay.text, language, dialect))


def check_options(scorer: Scorer, traits: Collection[str], language: str, dialect: str | None) -> None:
    """Refuse what cannot be explained, before the first essay is.

    Args:
        scorer: The scorer.
        traits: Traits to explain.
        language: ISO 639 code of the essays' language.
        dialect: English whose spelling and grammar are to be remarked on, or None.

    Raises:
        ConfigError: There is no such dialect, or the extra ``feedback`` is not installed.
        DataError: A trait is unknown.
    """
    known = {prompt.trait for prompt in scorer.prompts.values() if prompt.trait is not None}
    unknown = [trait for trait in traits if trait not in known]
    if unknown:
        raise DataError(f"The model has no trait {unknown[0]!r}; it knows {', '.join(sorted(known)) or 'one score'}.")
    if dialect is not None:
        observations("", "en", dialect)
        if language != "en":
            logger.warning("--feedback is for English alone; there are no remarks on essays in %s.", language)


def _explained(
    scorer: Scorer,
    essay: UnscoredEssay,
    columns: Mapping[str, Sequence[Any]],
    policy: Policy,
    traits: Collection[str],
    language: str,
    *,
    exact: bool,
    nearest: bool,
) -> Explanation:
    """One essay, with its columns of scores: a value for each trait."""
    prompt_id = str(columns["prompt_id"][0])
    named = columns.get(TRAIT_COLUMN, [None])
    rows = [row for row, trait in enumerate(named) if not traits or trait in traits]
    scales = [scale_id(prompt_id, named[row]) for row in rows]
    spans = sentence_spans(essay.text, language)
    read = Reading.of(essay)
    contributions = last = np.zeros((len(spans), 0))
    if scales:
        contributions, last = sentence_contributions(scorer, read, scales, spans, exact=exact)
    scores = []
    for place, (row, scale) in enumerate(zip(rows, scales, strict=True)):
        raw, score, seen = columns["raw"][row], columns["score"][row], feature_function(scorer, read, scale)
        scores.append(
            ScoreExplanation(
                named[row],
                raw,
                score,
                _known(columns.get("low", {row: None})[row]),
                _known(columns.get("high", {row: None})[row]),
                contributions[:, place].tolist(),
                last[:, place].tolist(),
                feature_parts(scorer, read, scale),
                [] if seen is None else feature_values(seen, score),
                next_point(scorer, scale, raw, score, seen),
                neighbours(scorer, read, scale) if nearest else [],
                columns.get("reported", {row: None})[row],
            )
        )
    method: Method = "exact" if _read_anew(scorer, spans, exact) else "estimate"
    withheld = any(policy.action(kind) == "withhold" for kind in columns["advisories"][0])
    return Explanation(
        essay.essay_id, prompt_id, essay.text, method, spans, scores, withheld, list(columns["reasons"][0])
    )


def sentence_contributions(
    scorer: Scorer, essay: Reading, scales: Sequence[str], spans: Sequence[Span], *, exact: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each sentence adds, and what the score loses without it.

    Where an encoder reads anew without each sentence, what that shows of the error of the one reading corrects it: the
    contributions of one reading are a control variate.

    Args:
        scorer: The scorer.
        essay: The essay.
        scales: T prompts, or the prompt's traits, that it is scored on.
        spans: Its K sentences.
        exact: Whether the essay is read anew without each sentence, also where it has more than ALWAYS_EXACT.

    Returns:
        Both (K, T).

    References:
        Covert and Lee (2021), Improving KernelSHAP (the variance of such estimates); the correction is ours.
    """
    values = sentence_values(scorer, essay, scales, spans)
    if not (reads_once(scorer) and _read_anew(scorer, spans, exact)):
        return sentence_shapley(values, len(spans))
    anew = sentence_values(scorer, essay, scales, spans, exact=True)
    if len(spans) <= _ALL_ANEW:
        return sentence_shapley(anew, len(spans))
    contributions, last = sentence_shapley(values, len(spans))
    sums, exactly = contributions.sum(axis=0), left_out(anew, len(spans))[1]
    contributions = contributions + exactly - last
    # Sums to what they did before: an error that all sentences share says nothing of any.
    return contributions + (sums - contributions.sum(axis=0)) / len(spans), exactly


def _read_anew(scorer: Scorer, spans: Sequence[Span], exact: bool) -> bool:
    return exact or len(spans) <= ALWAYS_EXACT or not reads_once(scorer)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
