"""Which essays a human should score, and the sheet on which that is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.score import ScoredWindow
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
            "The model has not learned on %s how sure it is, so that no essay there is for review as uncertain. Train "
            "it with this version of aes-dynloss, with dev essays of every prompt.",
            ", ".join(unknown),
        )


def telling_repeats(tables: Iterable[Mapping[str, list[Any]]]) -> Iterator[Mapping[str, list[Any]]]:
    """Hand a review sheet's columns on, and say at the end if decisions on it could not be told apart.

    Args:
        tables: Columns of REVIEW_KINDS, window by window.
    """
    seen, repeats = set[int](), 0
    for table in tables:
        for key in zip(table["prompt_id"], table["essay_id"], strict=True):
            repeats += hash(key) in seen
            seen.add(hash(key))
        yield table
    if repeats:
        logger.warning(
            "Rows of the review sheet with the essay_id of an earlier one to the same prompt: %d. `evaluate "
            "--adjudicated` refuses such a sheet. Give each essay an id of its own, and score again.",
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
