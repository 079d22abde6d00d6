"""Which essays a human should score, and the sheet on which that is done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.score import ScoredWindow
from aes_dynloss.essays.score_output import Columns
from aes_dynloss.evaluation.adjudication import HUMAN_SCORE

logger = logging.getLogger(__name__)

UNCERTAIN = "uncertain"
UNSURE_SHARE = 0.05

# The machine's score is not among them: whoever sees it is drawn towards it.
REVIEW_KINDS: Mapping[str, type] = {
    "essay_id": str,
    "prompt_id": str,
    "because": list,
    "reasons": list,
    "text": str,
    HUMAN_SCORE: float,
}


def review_columns(scorer: Scorer, window: ScoredWindow, unsure: float = UNSURE_SHARE) -> dict[str, list[Any]]:
    """The rows of a review sheet: essays with advisories, and those of whose score the machine is least sure.

    Args:
        scorer: The scorer.
        window: Essays and scores, with advisories.
        unsure: Share of essays like those of dev that counts as uncertain, 0 for none.

    Returns:
        Columns of REVIEW_KINDS; the human score is blank, to be filled in.
    """
    rows: dict[str, list[Any]] = {name: [] for name in REVIEW_KINDS}
    kinds = window.columns.get("advisories", [[]] * len(window))
    reasons = window.columns.get("reasons", [[]] * len(window))
    prompt_ids = window.columns["prompt_id"]
    for essay, prompt, own, why, sure in zip(
        window.essays, prompt_ids, kinds, reasons, window.certainty.tolist(), strict=True
    ):
        doubts = _doubts(scorer, prompt, sure, unsure)
        if own or doubts:
            values = (essay.essay_id, prompt, [*own, *[UNCERTAIN] * len(doubts)], [*why, *doubts], essay.text, None)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
    return rows


def warn_unless_certain(scorer: Scorer) -> None:
    """Say so where a sheet lacks uncertain essays because nothing tells which these are."""
    unknown = [prompt for prompt in scorer.prompts if prompt not in scorer.certainty.prompts]
    if unknown:
        logger.warning(
            "The model does not know on %s how sure it is, so that no essay there is for review as uncertain. A model "
            "learns that in training with this version, from dev essays of the prompt; an ensemble from those that all "
            "its members' runs share.",
            ", ".join(unknown),
        )


class SheetKeys:
    """Which essays stand on a review sheet, to see whether decisions on it will find theirs."""

    def __init__(self) -> None:
        self._rows: set[int] = set()
        self._scores: Counter[int] = Counter()

    def of_sheet(self, tables: Iterable[Columns]) -> Iterator[Columns]:
        """Hand the sheet's columns on, window by window."""
        for table in tables:
            self._rows.update(map(hash, zip(table["prompt_id"], table["essay_id"], strict=True)))
            yield table

    def of_scores(self, tables: Iterable[Columns]) -> Iterator[Columns]:
        """Hand the scores' columns on, after all of the sheet's; warn at the end if ids of the sheet repeat."""
        for table in tables:
            keys = map(hash, zip(table["prompt_id"], table["essay_id"], strict=True))
            self._scores.update(key for key in keys if key in self._rows)
            yield table
        repeats = self._scores.total() - len(self._scores)
        if repeats:
            logger.warning(
                "Essays with the essay_id of an earlier one to the same prompt, of those for review: %d. `evaluate "
                "--adjudicated` cannot tell which a decision is on, and refuses them. Give each essay an id of its "
                "own, and score again.",
                repeats,
            )


def _doubts(scorer: Scorer, prompt: str, sure: float, unsure: float) -> list[str]:
    """Why the machine's own score is uncertain: one sentence or none."""
    border = scorer.certainty.unsure_below(prompt, unsure)
    if unsure == 0 or border is None or not np.isfinite(sure) or sure >= border:
        return []
    return [
        f"The machine is less sure of its score than of {1 - unsure:.0%} of the essays it was tried on: a human gives "
        f"the same one with a chance of about {sure:.0%}."
    ]
