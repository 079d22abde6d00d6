"""What drives a scorer's scores over a table of essays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.explaining.feature_parts import feature_parts
from aes_dynloss.essays.explaining.occlusion import sentence_values
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sentences import Span, sentence_spans
from aes_dynloss.essays.explaining.shapley import of_function
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.progress import Progress
from aes_dynloss.reports.criteria import MIN_GROUP
from aes_dynloss.reports.drivers import PARTS, Drivers, PromptDrivers, drivers_of


def judged_drivers(scorer: Scorer, table: EssayTable, config: FinetuneConfig) -> Drivers | None:
    """What drives the scores of a run's judged essays, as its configuration says."""
    most, seed = config.evaluation.explained, config.training.seed
    return score_drivers(scorer, table, config.data.subgroups, most=most, seed=seed)


def thirds(text: str, spans: Sequence[Span]) -> list[Span]:
    """The beginning, the middle and the end of a text: a sentence is of the third in which its middle lies.

    Args:
        text: The text.
        spans: Its sentences, three or more.

    Example:
        >>> text = "One is. Two is. Three is. Four is."
        >>> [part.of(text) for part in thirds(text, sentence_spans(text))]
        ['One is. ', 'Two is. Three is. ', 'Four is.']
    """
    part = np.array([3 * (span.start + span.end) / (2 * len(text)) for span in spans]).astype(int)
    # Each has a sentence, however long one of them is.
    second = min(max(int(np.searchsorted(part, 1)), 1), len(spans) - 2)
    third = min(max(int(np.searchsorted(part, 2)), second + 1), len(spans) - 1)
    borders = [0, spans[second].start, spans[third].start, len(text)]
    return [Span(start, end) for start, end in pairwise(borders)]


def score_drivers(
    scorer: Scorer, table: EssayTable, subgroups: Sequence[str] = (), *, most: int = 20, seed: int = 0
) -> Drivers | None:
    """What parts of essays, and what groups of features, add to scores.

    Args:
        scorer: The scorer.
        table: The essays; those with fewer than three sentences are left out.
        subgroups: Columns of groups of writers, of which those with MIN_GROUP such essays or more are told.
        most: Essays of a prompt that are looked at, drawn at random.
        seed: Of the draw.

    Returns:
        None where no prompt has an essay to look at.
    """
    answered = np.array(table.values("prompt_id"), dtype=object)
    found = {}
    drawn = {}
    for scale in dict.fromkeys(answered):
        rows = np.flatnonzero(answered == scale)
        drawn[scale] = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    with Progress(total=sum(map(len, drawn.values())), desc="what scores go by", unit="essay") as bar:
        for scale, rows in drawn.items():
            looked = []
            parts, features = [], []
            for row in rows.tolist():
                essay = Reading(table.values("text")[row], _own(scorer, table, row))
                contributions = _of_essay(scorer, essay, scale)
                if contributions is not None:
                    looked.append(row)
                    parts.append(contributions)
                    of_features = feature_parts(scorer, essay, scale)
                    features.append({} if of_features is None else of_features.groups)
                bar.update()
            if looked:
                found[scale] = _of_prompt(table, subgroups, looked, np.array(parts), features)
    return Drivers(found, most, seed) if found else None


def _own(scorer: Scorer, table: EssayTable, row: int) -> dict[str, float] | None:
    if not scorer.own_features:
        return None
    values = table.select([row]).numbers(scorer.own_features)[0]
    return dict(zip(scorer.own_features, values.tolist(), strict=True))


def _of_essay(scorer: Scorer, essay: Reading, scale: str) -> NDArray[np.float64] | None:
    """What the three parts of an essay add; None where it has too few sentences."""
    spans = sentence_spans(essay.text)
    if len(spans) < len(PARTS):
        return None
    values = sentence_values(scorer, essay, [scale], thirds(essay.text, spans))
    return of_function(values, len(PARTS))[:, 0]


def _of_prompt(
    table: EssayTable,
    subgroups: Sequence[str],
    rows: Sequence[int],
    parts: NDArray[np.float64],
    features: Sequence[dict[str, float]],
) -> PromptDrivers:
    by_column = {}
    for column in subgroups:
        group = [table.values(column)[row] for row in rows]
        places = {
            str(name): [place for place, one in enumerate(group) if one == name]
            for name in dict.fromkeys(group)
            if name is not None
        }
        known = {
            name: drivers_of(parts[own], [features[place] for place in own])
            for name, own in sorted(places.items())
            if len(own) >= MIN_GROUP
        }
        if known:
            by_column[column] = known
    return PromptDrivers(drivers_of(parts, features), by_column or None)
