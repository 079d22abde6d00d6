"""The card of an ensemble's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.card import CardFacts, EssayModelCard
from aes_dynloss.essays.model.model_folder import CARD, MEMBERS
from aes_dynloss.versions import package_version

if TYPE_CHECKING:
    from aes_dynloss.reports.model import Report


def _weights_table(
    prompts: Mapping[str, Prompt], count: int, weights: Mapping[str, Sequence[float]], fitted_on: str
) -> str:
    """Markdown: the weights by prompt and member, and on what they were fitted; nothing where they are equal."""
    if not weights:
        return ""
    from aes_dynloss.reports.table import PROMPT, Column, Table, markdown_table, number, words

    columns = [PROMPT, *(Column(member, member) for member in (f"{MEMBERS}/{place}" for place in range(count)))]
    each = {prompt: weights.get(prompt, [1 / count] * count) for prompt in prompts}
    rows = [[words(prompt), *map(number, own)] for prompt, own in each.items()]
    return f"""
The mean is weighted, prompt by prompt: weights fitted on {fitted_on} (stacking).

{markdown_table(Table("weights", "Weights", columns, rows))}
"""


def ensemble_card(
    prompts: Mapping[str, Prompt],
    members: Sequence[Path],
    weights: Mapping[str, Sequence[float]],
    weights_fitted_on: str,
    rule: str,
    rule_fitted_on: str,
    report: Report | None = None,
) -> str:
    """Markdown text: what an ensemble scores, of what it is made, and how scores come of raw ones.

    Args:
        prompts: Its prompts by id.
        members: Their folders, whose cards say where they come from.
        weights: Their weights by prompt, where they are not equal.
        weights_fitted_on: On what these were fitted, in words.
        rule: From raw to score: none, rescale or cut_points.
        rule_fitted_on: On what that was fitted, in words.
        report: On its out-of-fold predictions, if it has any.
    """
    fitted = "" if rule == "none" else f" (fitted on {rule_fitted_on})"
    return EssayModelCard(
        "Ensemble of essay scorers",
        {prompt.id: prompt.range for prompt in prompts.values()},
        summary=f", by the mean of {len(members)} models' raw scores. The cards of the models are in {MEMBERS}/",
        sections=_weights_table(prompts, len(members), weights, weights_fitted_on),
        made_of=[f"From raw to score: {rule}{fitted}, trimmed to the range and rounded half up."],
        facts=CardFacts.common(
            [CardFacts.read(member / CARD) for member in members],
            versions={"aes-dynloss": package_version("aes-dynloss")},
            date=datetime.now(UTC).date().isoformat(),
        ),
        report=report,
        measured_on="out_of_fold",
        limits="- Members of different folds have between them been trained on every essay of their data: measure such "
        "an ensemble on other essays alone.",
    ).text()
