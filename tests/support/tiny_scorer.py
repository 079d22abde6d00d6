"""Small random encoders of several kinds, scorers on top of them, and made-up token lists for them to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.chunks import TokenizedEssay
from aes_dynloss.essays.model.encoders import load_encoder, load_tokenizer, trimmed
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.model_folder import config_digest
from aes_dynloss.essays.model.prompt_scales import Postprocessing, PromptScale
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.measures.calibration import CutPoints, RescalingLine
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.score_range import ScoreRange

# On models this small two threads only wait for each other: ten times as long on a busy machine.
torch.set_num_threads(1)

VOCABULARY = 60
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
_NARROW = {"local_attention": 4, "global_attn_every_n_layers": 2}
_RELATIVE = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
_OWN = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "pad_token_id": 0}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**_SIZES),
    "roberta": lambda: transformers.RobertaConfig(**_SIZES | {"pad_token_id": 1}),
    "mpnet": lambda: transformers.MPNetConfig(**_SIZES | {"pad_token_id": 1}),
    "electra": lambda: transformers.ElectraConfig(**_SIZES, embedding_size=8),
    "modernbert": lambda: transformers.ModernBertConfig(**_SIZES, **_NARROW, bos_token_id=2, eos_token_id=3),
    "deberta-v2": lambda: transformers.DebertaV2Config(**_SIZES, **_RELATIVE, position_biased_input=False),
    "distilbert": lambda: transformers.DistilBertConfig(**_OWN, dim=16, n_layers=3, n_heads=2, hidden_dim=32),
    "albert": lambda: transformers.AlbertConfig(**_SIZES, embedding_size=8),
    "t5": lambda: transformers.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2),
}

TWO_PROMPTS = (
    PromptScale(Prompt("letter", ScoreRange(1, 6)), 0.55, 0.2, (0.1, 0.2, 0.3, 0.2, 0.15, 0.05), 3.0, 0.8),
    PromptScale(Prompt("notice", ScoreRange(0, 2, 0.5), "Read it."), 0.3, 0.25, (0.4, 0.3, 0.0, 0.2, 0.1), 2.0, 1.2),
)
RULES = {
    "none": Postprocessing(),
    "rescale": Postprocessing("rescale", {"letter": RescalingLine(1.5, -0.7), "notice": RescalingLine(2.0, 0.1)}),
    "cut_points": Postprocessing(
        "cut_points", {"notice": CutPoints(TWO_PROMPTS[1].prompt.range, (0.1, 0.2, 0.3, 1.4))}
    ),
}


def random_encoder(kind: str = "bert", *, dropout: float = 0.0, **changes: object) -> torch.nn.Module:
    """An encoder with random weights, large enough that inputs matter."""
    config = CONFIGS[kind]()
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    for name, value in changes.items():
        setattr(config, name, value)
    encoder = trimmed(transformers.AutoModel.from_config(config))
    torch.manual_seed(0)  # transformers has drawn more or fewer numbers, by its version
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return encoder


def scoring_model(
    kind: str = "bert", *, scales: Sequence[PromptScale] = TWO_PROMPTS, dropout: float = 0.0, **config: object
) -> ScoringModel:
    """A scorer in evaluation mode whose answers depend on everything: no weight is at its starting value."""
    model = ScoringModel(random_encoder(kind, dropout=dropout), ModelConfig(**config), scales)
    torch.manual_seed(1)
    with torch.no_grad():
        for part in (model.pooling, model.head):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.5)
        model.feature_mean.normal_()
        model.feature_sd.uniform_(0.5, 2.0)
    return model.eval()


def random_essays(lengths: Sequence[int], *, window: int = 16, prompts: int = 2, seed: int = 0) -> EssayExamples:
    """Essays of so many random tokens between 2 and 3, cut into chunks, prompts in turn, targets on [0, 1]."""
    generator = np.random.default_rng(seed)
    essays = []
    for length in lengths:
        ids = generator.integers(5, VOCABULARY, length)
        parts = np.array_split(ids, max(1, -(-length // (window - 2))))
        essays.append(TokenizedEssay([np.array([2, *part, 3], dtype=np.int32) for part in parts], length, 0))
    groups = np.arange(len(lengths), dtype=np.int64) % prompts
    return EssayExamples(essays, groups, generator.uniform(size=len(lengths)), 0)


def tiny_scorer(
    encoder_folder: Path, *, scales: Sequence[PromptScale] | None = None, **config: object
) -> EncoderScorer:
    """A scorer with words for its tokens, on an encoder that ``write_tiny_encoder`` wrote, with random answers."""
    model = ScoringModel(
        load_encoder(str(encoder_folder)),
        ModelConfig(encoder=str(encoder_folder), **config),
        list(scales or TWO_PROMPTS),
    )
    torch.manual_seed(2)
    with torch.no_grad():
        for part in (model.pooling, model.head):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.5)
        for parameter in model.encoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return EncoderScorer(model.eval(), load_tokenizer(str(encoder_folder)))


def values_of(folder: Path) -> dict[str, Any]:
    """What config.json of a model folder says."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def sign(folder: Path, values: dict[str, Any]) -> None:
    """Write config.json as if the program had, so that what its values say is what is judged."""
    names = [name for name in values["sha256"] if name != "config.json"]
    values["sha256"] = {name: file_sha256(folder / name) for name in names}
    values["sha256"]["config.json"] = config_digest(values)
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
