"""The card of an ensemble's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aes_dynloss.essays.model.model_folder import MEMBERS

if TYPE_CHECKING:
    from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble


def _weights_table(ensemble: EssayEnsemble) -> str:
    """Markdown: the weights by prompt and member, and on what they were fitted; nothing where they are equal."""
    if not ensemble.weights:
        return ""
    count = len(ensemble.members)
    head = [["prompt", *(f"{MEMBERS}/{number}" for number in range(count))], ["---"] * (count + 1)]
    each = {prompt: ensemble.weights.get(prompt, [1 / count] * count) for prompt in ensemble.prompts}
    rows = [[prompt, *(f"{weight:.3f}" for weight in weights)] for prompt, weights in each.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in head + rows)
    return f"""
The mean is weighted, prompt by prompt: weights fitted on {ensemble.fitted_on} (stacking).

{table}
"""


def ensemble_card(ensemble: EssayEnsemble) -> str:
    """Markdown text: what the ensemble scores, of what it is made, and how scores come of raw ones.

    Args:
        ensemble: The ensemble.
    """
    kind = ensemble.postprocessing.kind
    fitted_on = ensemble.calibrated[-1]["fitted_on"] if ensemble.calibrated else ensemble.fitted_on
    fitted = "" if kind == "none" else f" (fitted on {fitted_on})"
    rows = "\n".join(f"| {prompt.id} | {prompt.range} |" for prompt in ensemble.prompts.values())
    return f"""---
library_name: aes-dynloss
tags: [automated-essay-scoring]
---
# Ensemble of essay scorers

Scores essays that answer one of these prompts, on the prompt's own scale, by the mean of {len(ensemble.members)}
models' raw scores. The cards of the models are in {MEMBERS}/.

| prompt | score points |
|---|---|
{rows}
{_weights_table(ensemble)}
- From raw to score: {kind}{fitted}, trimmed to the range and rounded half up.

## Use

    aes-dynloss score PATH/TO/THIS/FOLDER essays.csv --output scores.csv

## Limits

Those of its members. Members of different folds have between them been trained on every essay of their data: measure
such an ensemble on other essays alone.
"""
