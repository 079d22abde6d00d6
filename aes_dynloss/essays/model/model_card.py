"""The model card that goes with a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.essays.finetune_config import FinetuneConfig
from aes_dynloss.essays.model.scorer import EssayScorer


def model_card(config: FinetuneConfig, scorer: EssayScorer, report: Mapping[str, Any]) -> str:
    """Markdown text: what the model scores, how it was made, how well it agrees, what it is not for.

    Args:
        config: The run's configuration.
        scorer: The scorer.
        report: The run's report.
    """
    rows = "\n".join(
        f"| {prompt_id} | {prompt.range} | {_entry(report, prompt_id)} |"
        for prompt_id, prompt in scorer.prompts.items()
    )
    terms = ", ".join(f"{name}: {_weight(weight)}" for name, weight in config.loss.terms.items())
    return f"""---
library_name: aes-dynloss
tags: [automated-essay-scoring]
---
# Essay scorer

Scores essays that answer one of these prompts, on the prompt's own scale.

| prompt | score points | essays measured | QWK | Pearson | sd ratio |
|---|---|---|---|---|---|
{rows}

- Encoder: {config.model.encoder}; head: {config.model.head}; pooling: {config.model.pooling}.
- Loss: {terms}. Seed: {config.training.seed}.
- From raw to score: {config.model.postprocessing}, trimmed to the range and rounded half up.
- The figures are agreement with the human scores of essays that were not trained on; see report.json of the run for
  intervals and floors. QWK is not comparable between prompts with different scales.

## Use

    aes-dynloss score PATH/TO/THIS/FOLDER essays.csv --output scores.csv

## Limits

It was trained on essays to these prompts, by the writers of that data. For other prompts, ages or languages nothing is
known of its agreement. It was not checked for fairness towards groups of writers. Do not use it as the only rater
where a score has consequences for a person.
"""


def _entry(report: Mapping[str, Any], prompt_id: str) -> str:
    entry = report["prompts"].get(prompt_id)
    if entry is None:
        return "0 | | | "
    numbers = ("" if entry[name] is None else f"{entry[name]:.3f}" for name in ("qwk", "pearson", "sd_ratio"))
    return f"{entry['n']} | " + " | ".join(numbers)


def _weight(weight: object) -> str:
    return str(weight) if isinstance(weight, float | str) else repr(weight)
