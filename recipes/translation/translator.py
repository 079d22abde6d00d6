"""The student: a small encoder and decoder, whose embedding serves both languages and the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from pair_data import BEGIN, PAD
from pydantic import Field, model_validator
from token_classes import NEAR_AND_ANY, frequency_bands, near_tokens, token_log_probs, token_means
from torch import Tensor, nn
from torch.nn import Module, Parameter, functional

from aes_dynloss import Elements
from aes_dynloss.configfile import ConfigModel

# Of each token: the three means that losses see, and whether the gold token is the likeliest.
_SHOWN = 4


class TranslatorConfig(ConfigModel):
    """Its size, and how it shows a vocabulary to a loss."""

    width: int = Field(default=256, ge=2, description="Of embeddings and hidden states.")
    heads: int = Field(default=4, ge=1, description="Of attention.")
    layers: int = Field(default=2, ge=1, description="Of the encoder, and as many of the decoder.")
    feed_forward: int = Field(default=1024, ge=1, description="Units of the layers' inner networks.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="In all layers.")
    bands: int = Field(default=4, ge=1, le=8, description="Bands of frequency with coefficients of their own.")
    near: int = Field(default=8, ge=1, description="Nearest tokens to the gold one, by embedding.")

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} is no even multiple of heads {self.heads}; change one of them")
        return self

    @property
    def classes(self) -> int:
        """Classes that a loss sees, see :mod:`token_classes`."""
        return self.bands + NEAR_AND_ANY


class Translator(nn.Module):
    """A student, see :class:`aes_dynloss.teaching.student.Student`; an element is a token of the translation.

    Args:
        config: Its size.
        target: Tokens of the training translations, (N, T), PAD where there is none.
        vocabulary: Number of tokens V.

    References:
        Vaswani et al. 2017, Attention is all you need; Xiong et al. 2020, On layer normalization in the transformer
        architecture (norm first); Press and Wolf 2017, Using the output embedding to improve language models.
    """

    bands: Tensor
    near: Tensor
    counts: Tensor

    def __init__(self, config: TranslatorConfig, target: Tensor, vocabulary: int) -> None:
        super().__init__()
        size = config.width, config.heads, config.feed_forward, config.dropout
        self.embedding = nn.Embedding(vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        encoder = nn.TransformerEncoderLayer(*size, batch_first=True, norm_first=True)
        decoder = nn.TransformerDecoderLayer(*size, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(
            encoder, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(decoder, config.layers, nn.LayerNorm(config.width))
        for weight in [*self.encoder.parameters(), *self.decoder.parameters()]:
            if weight.ndim > 1:  # torch's layers are copies of one
                nn.init.xavier_uniform_(weight)
        self.dropout = nn.Dropout(config.dropout)
        self._classes, self._near, self._length = config.classes, config.near, target.shape[1]
        counts = torch.bincount(target.flatten(), minlength=vocabulary)
        counts[PAD] = 0
        self._tokens_each = float(counts.sum()) / len(target)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("bands", frequency_bands(counts, config.bands), persistent=False)
        self.fix_near_tokens()

    def fix_near_tokens(self) -> None:
        """Take the tokens that are near to each other by the embedding as it is now, for good."""
        near = near_tokens(self.embedding.weight, self.counts, self._near)
        self.register_buffer("near", near, persistent=False)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Four numbers for each token of the translation, of which the student reads those before it.

        Args:
            source: Sentences, (B, S), PAD after their end.
            target: Translations, (B, t), PAD after their end, t at most T.

        Returns:
            (B, T * 4), 0 for PAD: :func:`token_classes.token_means`, and 1 where the gold token is the likeliest.
        """
        before = functional.pad(target[:, :-1], (1, 0), value=BEGIN)
        real = target != PAD
        logits, tokens = self.logits(self.decode(before, self.encode(source), source)[real]), target[real]
        means = token_means(logits, tokens, self.near)
        right = logits.detach().argmax(1) == tokens
        shown = means.new_zeros((*target.shape, _SHOWN))
        shown[real] = torch.cat([means, right[:, None].to(means.dtype)], dim=1)
        return functional.pad(shown, (0, 0, 0, self._length - target.shape[1])).flatten(1)

    def encode(self, source: Tensor) -> Tensor:
        """States of the sentences, (B, S, D).

        Args:
            source: (B, S).
        """
        states: Tensor = self.encoder(self._embedded(source), src_key_padding_mask=source == PAD)
        return states

    def decode(self, before: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """States from which the token after each is foretold, (B, t, D).

        Args:
            before: The translations so far, BEGIN first, (B, t).
            memory: States of the sentences, (B, S, D).
            source: The sentences, (B, S).
        """
        length = before.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=before.device).triu(1)
        states: Tensor = self.decoder(
            self._embedded(before),
            memory,
            tgt_mask=later,
            memory_key_padding_mask=source == PAD,
            tgt_is_causal=True,
        )
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Of the vocabulary, (..., V), in the weights' precision."""
        return functional.linear(states, self.embedding.weight).to(self.embedding.weight.dtype)

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:  # noqa: ARG002
        """One element a token, T a sentence; each counts the same, as much as is 1 for a sentence of mean length.

        Args:
            outputs: (B, T * 4).
            targets: Tokens, (B, T).
            groups: Of no account.
        """
        shown = outputs.view(-1, _SHOWN)
        tokens = targets.reshape(-1)
        classes = self.bands[tokens]
        log_probs = token_log_probs(shown[:, :-1], classes, self._classes - NEAR_AND_ANY)
        right, ones = shown[:, -1].detach(), torch.ones_like(shown[:, -1])
        weights = (targets != PAD).to(shown.dtype) / self._tokens_each
        return Elements(
            right,
            ones,
            torch.zeros_like(tokens),
            centre=ones,
            spread=ones,
            log_probs=log_probs,
            classes=classes,
            weights=weights,
        )

    def parameter_stack(self) -> Sequence[Sequence[tuple[str, Parameter]]]:
        """Embedding, encoder and decoder."""
        parts = ("embedding", "encoder", "decoder")
        return [[(f"{part}.{key}", weight) for key, weight in getattr(self, part).named_parameters()] for part in parts]

    def as_module(self) -> Module:
        """Itself."""
        return self

    def _embedded(self, tokens: Tensor) -> Tensor:
        width = self.embedding.embedding_dim
        embedded: Tensor = self.dropout(self.embedding(tokens) * math.sqrt(width) + self._positions(tokens.shape[1]))
        return embedded

    def _positions(self, length: int) -> Tensor:
        """Sines and cosines of each place, (length, D)."""
        weight = self.embedding.weight
        half = weight.shape[1] // 2
        places = torch.arange(length, device=weight.device, dtype=weight.dtype)[:, None]
        rates = torch.exp(torch.arange(half, device=weight.device, dtype=weight.dtype) * (-math.log(1e4) / half))
        return torch.cat([(places * rates).sin(), (places * rates).cos()], dim=1)


def token_measures(outputs: Tensor, target: Tensor) -> dict[str, float]:
    """Part of the tokens that are the likeliest after the true ones before them, and the mean log-likelihood.

    Args:
        outputs: Of the student, (N, T * 4).
        target: (N, T).
    """
    shown = outputs.view(*target.shape, _SHOWN)[target != PAD].double()
    return {"accuracy": float(shown[:, -1].mean()), "log_likelihood": float(shown[:, 0].mean())}
