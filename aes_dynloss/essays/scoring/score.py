"""Scoring a stream of essays window by window, in constant memory, with advisories.

Advisories rest on an essay's words, on its vector, and on the essays before it.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import TextKind
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.prompt_scales import reported_scores
from aes_dynloss.essays.model.protocol import Scorer, Scores, check_prompts, known_prompts, probabilities_by_point
from aes_dynloss.essays.model.trait_rows import Asked
from aes_dynloss.essays.screening.duplicates import DuplicateFinder, KnownDuplicates
from aes_dynloss.essays.screening.kinds import Advisory, Policy, advisory
from aes_dynloss.measures.intervals import COVERAGE
from aes_dynloss.measures.scales import ConversionTable
from aes_dynloss.tables.columns import TRAIT_COLUMN

logger = logging.getLogger(__name__)


def warn_unless_screened(scorer: Scorer) -> None:
    """Say so where a model cannot tell essays that it should not judge."""
    if scorer.screen is None:
        logger.warning(
            "The model knows nothing of its training essays' words, so that essays are hardly looked at. Train it with "
            "this version of aes-dynloss for advisories."
        )


def texts_of(scorer: Scorer) -> TextKind:
    """What a scorer's texts are; essays where it knows nothing of its training essays."""
    return "essays" if scorer.screen is None else scorer.screen.texts


def duplicate_finder(scorer: Scorer, policy: Policy) -> DuplicateFinder | None:
    """What finds the duplicates of a stream; None where the policy, on the scorer's kind of texts, does not ask for it.

    Args:
        scorer: The scorer.
        policy: What follows from advisories.
    """
    return None if policy.of(texts_of(scorer)).action("duplicate") == "off" else DuplicateFinder()


class Adviser:
    """Tells which scores should be looked at, or not be given.

    Args:
        scorer: The scorer, whose training essays are what others are compared with.
        policy: What follows from each kind; a kind that is off is not looked at.
        duplicates: Those of the stream, where they are known; None: they are looked for.
    """

    def __init__(self, scorer: Scorer, policy: Policy, duplicates: KnownDuplicates | None = None) -> None:
        self._screen = scorer.screen
        self._texts = texts_of(scorer)
        self.policy = policy.of(self._texts)
        self._sources = scorer.sources
        self._finder = duplicate_finder(scorer, policy) if duplicates is None else duplicates

    def columns(
        self,
        essays: Sequence[UnscoredEssay],
        prompt_ids: Sequence[str],
        ood_distance: NDArray[np.float64],
        scored: Mapping[str, list[Any]],
        owner: Sequence[int],
    ) -> dict[str, list[Any]]:
        """The columns of advisories, and those of scores with blanks where they are withheld.

        Args:
            essays: The next of the stream, N.
            prompt_ids: The prompt of each.
            ood_distance: Distance of each from training essays, (N,), NaN where unknown; see `Scores`.
            scored: The columns of scores, R rows.
            owner: The essay of each row, R places.
        """
        texts = [essay.text for essay in essays]
        if self._screen is None:
            advisories = [[] if text.strip() else [advisory("empty", 0, 0)] for text in texts]
        else:
            advisories = [list(of_essay) for of_essay in self._screen.examine(texts, prompt_ids)]
        duplicates = self.duplicates(essays, prompt_ids)
        for of_essay, prompt, distance, duplicate in zip(advisories, prompt_ids, ood_distance, duplicates, strict=True):
            if prompt not in self._sources:
                of_essay.append(advisory("unseen_prompt", len(self._sources), 0, texts=self._texts))
            if distance > 1:
                of_essay.append(advisory("unlike_training", float(distance), 1.0, texts=self._texts))
            if duplicate is not None:
                of_essay.append(duplicate)
        active = [self.policy.active(of_essay) for of_essay in advisories]
        withheld = [self.policy.withholds(of_essay) for of_essay in active]
        judged = {
            name: [None if withheld[essay] else value for value, essay in zip(values, owner, strict=True)]
            for name, values in scored.items()
            if name != TRAIT_COLUMN
        }
        return {
            **judged,
            "withheld": [withheld[essay] for essay in owner],
            "advisories": [[one.kind for one in active[essay]] for essay in owner],
            "reasons": [[one.reason for one in active[essay]] for essay in owner],
        }

    def duplicates(self, essays: Sequence[UnscoredEssay], prompt_ids: Sequence[str]) -> list[Advisory | None]:
        """Look the next essays of the stream up, and take them as seen."""
        if self._finder is None:
            return [None] * len(essays)
        return self._finder.find([essay.text for essay in essays], [essay.essay_id for essay in essays], prompt_ids)


# Essays that are sorted by length together: enough that padding is small, few enough to hold in memory.
WINDOW = 2048


@dataclass(frozen=True)
class ScoredWindow:
    """Scores of some essays in the order of the input.

    Args:
        columns: Those of COLUMN_KINDS that the scorer can answer, all of one length; None is a blank. Where essays are
            scored on several traits, ``score``, ``raw``, ... of each, as `TRAIT_COLUMNS` calls them; or, in the long
            form, a row for each trait of an essay.
        essays: The N essays.
        owner: The essay of each row.
        certainty: For each essay, the chance that a human gives the same score by prompt, or by prompt and trait,
            withheld or not; NaN where unknown.
    """

    columns: dict[str, list[Any]]
    essays: Sequence[UnscoredEssay]
    owner: Sequence[int]
    certainty: Sequence[Mapping[str, float]]

    def __len__(self) -> int:
        """Number of essays."""
        return len(self.essays)

    def by_essay(self, name: str, default: Any = None) -> list[Any]:  # noqa: ANN401 - a column's values
        """A column's value for each essay, that of its first row; the default where there is no such column."""
        if name not in self.columns:
            return [default] * len(self)
        first = dict(zip(reversed(self.owner), reversed(self.columns[name]), strict=True))
        return [first[place] for place in range(len(self))]


def score_essays(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    *,
    policy: Policy | None = None,
    coverage: float | None = COVERAGE,
    probabilities: bool = False,
    long: bool = False,
    scale: Mapping[str, ConversionTable] | None = None,
    ood_distance: bool = False,
    window: int = WINDOW,
    done: Sequence[str] = (),
    duplicates: KnownDuplicates | None = None,
    progress: str | None = "score essays",
    warn: bool = True,
) -> Iterator[ScoredWindow]:
    """Score a stream of essays.

    Args:
        scorer: The scorer; each of its processes must be given the same essays, and answers all scores.
        essays: Essays; one without a prompt answers the model's only one.
        policy: What follows from advisories; None for none, so that every essay gets a score.
        coverage: Stated coverage of the prediction intervals, between 0 and 1; None for none.
        probabilities: Whether the probability of each score point is answered, where the model's head gives it.
        long: Where essays are scored on several traits, whether each of an essay's scores has a row of its own.
        scale: Tables of reported scores, in the place of the model's own; prompts without keep theirs.
        ood_distance: Whether each essay's distance from the training essays is answered, as `Scores` has it.
        window: Essays scored together.
        done: Digests of the first windows, see `window_digest`, which were scored before and are not scored again.
        duplicates: Those among the essays, where they are known; None: they are looked for.
        progress: Words beside a progress bar on standard error; None for none.
        warn: Whether the log tells of each prompt whose intervals stay blank, once; see `warn_of_blank_intervals`.

    Yields:
        Scores, in the order of the essays.

    Raises:
        ConfigError: The coverage is not between 0 and 1.
        DataError: An essay's prompt is unknown to the model, or not given though the model knows several; or the
            essays are not those that were scored before.
    """
    stream = iter(essays)
    tables = {**scorer.postprocessing.reported, **(scale or {})}
    warned: set[str] = set()
    adviser = None if policy is None else Adviser(scorer, policy, duplicates)
    for digest in done:
        part = list(itertools.islice(stream, window))
        if window_digest(part) != digest:
            raise DataError(
                "The essays are not those of the saved scores, so that the run cannot be resumed. Bring the essays "
                "back, or start again with --force."
            )
        if adviser is not None:
            adviser.duplicates(part, prompts_of(scorer, part))
    while part := list(itertools.islice(stream, window)):
        prompt_ids = prompts_of(scorer, part)
        asked = Asked.of(scorer.prompts, prompt_ids)
        if warn and coverage is not None:
            warn_of_blank_intervals(scorer, set(asked.scales) - warned, coverage)
            warned.update(asked.scales)
        texts, own = [part[place].text for place in asked.owner], [part[place].features for place in asked.owner]
        scores = scorer.score(texts, asked.scales, features=own, progress=progress)
        columns = _score_columns(scorer, asked.scales, scores, coverage, tables, probabilities=probabilities)
        scored = _window(scorer, part, prompt_ids, asked, scores, columns, adviser, long=long)
        if ood_distance:
            first = asked.first_places(len(part))
            distances = [None if np.isnan(one) else float(one) for one in scores.ood_distance[first]]
            scored = replace(scored, columns={**scored.columns, "ood_distance": [distances[n] for n in scored.owner]})
        yield scored


def _window(
    scorer: Scorer,
    part: Sequence[UnscoredEssay],
    prompt_ids: Sequence[str],
    asked: Asked,
    scores: Scores,
    columns: dict[str, list[Any]],
    adviser: Adviser | None,
    *,
    long: bool,
) -> ScoredWindow:
    """Scores of some essays, whose columns have a value a score, as rows with advisories."""
    first = asked.first_places(len(part))
    owner: Sequence[int] = range(len(part))
    if asked.traits and long:
        owner, columns = asked.owner, {TRAIT_COLUMN: asked.names(scorer.prompts), **columns}
    elif asked.traits:
        columns = asked.wide(columns, scorer.prompts, len(part))
    if adviser is not None:
        columns |= adviser.columns(part, prompt_ids, scores.ood_distance[first], columns, owner)
    if scorer.capped:
        columns["dropped_tokens"] = [int(scores.dropped_tokens[first[place]]) for place in owner]
    ids = {
        "essay_id": [part[place].essay_id for place in owner],
        "prompt_id": [prompt_ids[place] for place in owner],
    }
    certainty: list[dict[str, float]] = [{} for _ in part]
    for place, scale, chance in zip(asked.owner, asked.scales, scores.certainty.tolist(), strict=True):
        certainty[place][scale] = chance
    return ScoredWindow({**ids, **columns}, part, owner, certainty)


def warn_of_blank_intervals(scorer: Scorer, prompt_ids: Collection[str], coverage: float) -> None:
    """Say for which prompts a model tells no intervals, though it does for others or at a smaller coverage.

    Args:
        scorer: The scorer.
        prompt_ids: The prompts to look at.
        coverage: Stated coverage of the prediction intervals, between 0 and 1.

    Raises:
        ConfigError: The coverage is not between 0 and 1.
    """
    if not scorer.intervals.prompts:
        return
    for prompt in sorted(prompt_ids):
        known = scorer.intervals.prompts.get(prompt)
        if known is None:
            logger.warning("Prompt %s: no dev essay tells intervals; low and high stay blank.", prompt)
        elif known.half_width(coverage) is None:
            essays = known.essays
            digits = len(str(essays)) + 1
            most = essays * 10**digits // (essays + 1) / 10**digits  # n / (n + 1), rounded down
            logger.warning(
                "Prompt %s: %s for a coverage of up to %s; low and high stay blank at %g.",
                prompt,
                "1 dev essay tells intervals" if essays == 1 else f"{essays} dev essays tell intervals",
                f"{most:.{digits}g}",
                coverage,
            )


def window_digest(essays: Sequence[UnscoredEssay]) -> str:
    """SHA-256 of a window's essays, ids and prompts."""
    digest = hashlib.sha256()
    for essay in essays:
        own = [f"{name}={value!r}" for name, value in (*essay.features.items(), *essay.kept.items())]
        for text in (essay.essay_id, essay.prompt_id or "", essay.text, *own):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
    return digest.hexdigest()


def _score_columns(
    scorer: Scorer,
    prompt_ids: Sequence[str],
    scores: Scores,
    coverage: float | None,
    tables: Mapping[str, ConversionTable],
    *,
    probabilities: bool,
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"raw": scores.raw.tolist(), "score": scores.score.tolist()}
    if tables:
        columns["reported"] = reported_scores(tables, scorer.prompts, prompt_ids, scores.score)
    if coverage is not None and scorer.intervals.prompts:
        columns |= _interval_columns(scorer, prompt_ids, scores, coverage)
    if scorer.intervals.prompts or scores.probabilities is not None:
        columns["certainty"] = [None if np.isnan(one) else float(one) for one in scores.certainty]
    if probabilities and scores.probabilities is not None:
        columns["probabilities"] = probabilities_by_point(scorer.prompts, prompt_ids, scores.probabilities)
    return columns


def _interval_columns(scorer: Scorer, prompt_ids: Sequence[str], scores: Scores, coverage: float) -> dict[str, Any]:
    """Ends of the prediction intervals, the score among them; None where a prompt has none."""
    low, high, is_known = np.zeros(len(prompt_ids)), np.zeros(len(prompt_ids)), np.zeros(len(prompt_ids), dtype=bool)
    answered = np.asarray(prompt_ids, dtype=object)
    for prompt in dict.fromkeys(prompt_ids):
        rows = answered == prompt
        bounds = scorer.intervals.bounds(prompt, scores.raw[rows], scorer.prompts[prompt].range, coverage)
        if bounds is not None:
            # Rescaling or tuned cut points may move the score beyond the interval around raw.
            low[rows] = np.minimum(bounds[0], scores.score[rows])
            high[rows] = np.maximum(bounds[1], scores.score[rows])
            is_known[rows] = True
    return {
        name: [end if known else None for end, known in zip(ends.tolist(), is_known, strict=True)]
        for name, ends in (("low", low), ("high", high))
    }


def prompts_of(scorer: Scorer, essays: Sequence[UnscoredEssay]) -> list[str]:
    """The prompt of each essay; one without answers the model's only one.

    Raises:
        DataError: A prompt is unknown to the model, or not given though the model knows several.
    """
    known = known_prompts(scorer)
    prompt_ids = []
    for essay in essays:
        if essay.prompt_id is None and len(known) > 1:
            raise DataError(
                f"Essay {essay.essay_id} names no prompt, and the model knows {', '.join(known)}. Name the prompt of "
                "all essays with --prompt, or the column of prompts with --prompt-column."
            )
        prompt_ids.append(essay.prompt_id if essay.prompt_id is not None else known[0])
    check_prompts(prompt_ids, known)
    return prompt_ids
