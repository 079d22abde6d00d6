"""A small encoder's scorer that tells intervals, certainty and advisories, on essays made up by chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from small_screen import TOPICS, WORDINGS, made_up, small_screen
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.encoder_folder import Screening
from aes_dynloss.essays.model.ood_distance import OodDistance
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.measures.intervals import fit_certainty, fit_intervals
from aes_dynloss.tables.score_range import ScoreRange

PROMPTS = tuple(TOPICS)


def scales() -> list[PromptScale]:
    """Its two prompts."""
    shares = (0.1, 0.2, 0.3, 0.2, 0.15, 0.05)
    return [PromptScale(Prompt(p, ScoreRange(1, 6), WORDINGS.get(p)), 0.5, 0.2, shares, 3.0, 0.8) for p in PROMPTS]


def write_advised(folder: Path, head: str) -> Path:
    """Write the model, and its encoder beside it; returns the model's folder."""
    encoder = write_tiny_encoder(folder / f"encoder_{head}")
    scorer = tiny_scorer(encoder, scales=scales(), head=head, log_length=True)
    ood_distance = OodDistance([torch.randn(60, 16), torch.zeros(0, 16)], [5.0, 1.0])
    scorer.screening = Screening(small_screen(), ood_distance)
    generator = np.random.default_rng(0)
    texts = [made_up(PROMPTS[n % 2], generator, 80 + n % 9 * 10) for n in range(120)]
    prompts = [PROMPTS[n % 2] for n in range(120)]
    scores = scorer.score(texts, prompts)
    human = np.clip(np.rint(scores.raw + generator.normal(0, 0.8, 120)), 1, 6)
    scorer.intervals = fit_intervals(prompts, scores.raw, human)
    chances = scorer.score(texts, prompts).certainty  # nothing sets them right yet
    scorer.certainty = fit_certainty(prompts, chances, scores.score == human)
    scorer.save_pretrained(folder / head)
    return folder / head
