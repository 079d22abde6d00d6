"""The card of an ensemble's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.model_folder import MEMBERS


def _weights_table(
    prompts: Mapping[str, Prompt], count: int, weights: Mapping[str, Sequence[float]], fitted_on: str
) -> str:
    """Markdown: the weights by prompt and member, and on what they were fitted; nothing where they are equal."""
    if not weights:
        return ""
    head = [["prompt", *(f"{MEMBERS}/{number}" for number in range(count))], ["---"] * (count + 1)]
    each = {prompt: weights.get(prompt, [1 / count] * count) for prompt in prompts}
    rows = [[prompt, *(f"{weight:.3f}" for weight in own)] for prompt, own in each.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in head + rows)
    return f"""
The mean is weighted, prompt by prompt: weights fitted on {fitted_on} (stacking).

{table}
"""


def ensemble_card(
    prompts: Mapping[str, Prompt],
    members: int,
    weights: Mapping[str, Sequence[float]],
    weights_fitted_on: str,
    rule: str,
    rule_fitted_on: str,
) -> str:
    """Markdown text: what an ensemble scores, of what it is made, and how scores come of raw ones.

    Args:
        prompts: Its prompts by id.
        members: How many it has.
        weights: Their weights by prompt, where they are not equal.
        weights_fitted_on: On what these were fitted, in words.
        rule: From raw to score: none, rescale or cut_points.
        rule_fitted_on: On what that was fitted, in words.
    """
    fitted = "" if rule == "none" else f" (fitted on {rule_fitted_on})"
    rows = "\n".join(f"| {prompt.id} | {prompt.range} |" for prompt in prompts.values())
    return f"""---
library_name: aes-dynloss
tags: [automated-essay-scoring]
---
# Ensemble of essay scorers

Scores essays that answer one of these prompts, on the prompt's own scale, by the mean of {members}
models' raw scores. The cards of the models are in {MEMBERS}/.

| prompt | score points |
|---|---|
{rows}
{_weights_table(prompts, members, weights, weights_fitted_on)}
- From raw to score: {rule}{fitted}, trimmed to the range and rounded half up.

## Use

    aes-dynloss score PATH/TO/THIS/FOLDER essays.csv --output scores.csv

## Limits

Those of its members. Members of different folds have between them been trained on every essay of their data: measure
such an ensemble on other essays alone.
"""
