"""Small scorers of all kinds, with random weights, to explain scores of."""

from __future__ import annotations

import numpy as np
import torch
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.features.linguistic import GROUPS, essay_numbers
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.tables.score_range import ScoreRange

TEXT = "the teacher and the otter are here. phones 42 ring. a bridge is not a school. one lesson!"
TEXTS = [f"{TEXT} {'more words ' * count}. {'tea ' * (count % 3)}" for count in range(1, 14)]


def with_kernel(encoder, **config):
    """A scorer with a kernel head and features, all of it random."""
    made = tiny_scorer(encoder, solver="kernel_ridge", frozen_layers="all", linguistic=True, log_length=True, **config)
    random = torch.Generator().manual_seed(3)
    width = made.model.head.answer.in_features
    for number in range(len(made.model.scales)):
        made.model.kernel.set_prompts(
            [number], 0.3 * torch.randn(9, width, generator=random), torch.randn(9, 1, generator=random), 20.0
        )
    made.model.linguistic_sd.fill_(5.0)
    return made


def classical(kind="strings", kernel=True):
    prompt = Prompt("a", ScoreRange(1, 6))
    numbers = essay_numbers(TEXTS, None, GROUPS)
    model, _ = TextRegression.fit(TEXTS, numbers, np.arange(13.0) % 6 + 1, kernel=kernel)
    scale = PromptScale(prompt, 0.5, 0.2, (1 / 6,) * 6, 2.0, 0.7)
    return ClassicalScorer(ModelConfig(kind=kind), [scale], {"a": model})


SCORERS = {
    "linear": lambda encoder: tiny_scorer(encoder, linguistic=True, log_length=True),
    "all layers": lambda encoder: tiny_scorer(encoder, frozen_layers="all", pooled_layers="all"),
    "hidden": lambda encoder: tiny_scorer(encoder, hidden=4, linguistic=["counts", "punctuation"], log_length=True),
    "kernel": with_kernel,
    "attention": lambda encoder: tiny_scorer(encoder, pooling="attention"),
}
