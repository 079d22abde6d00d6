"""From an essay to chunks of the encoder's window: any length, nothing cut off unless a cap is set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError


@dataclass(frozen=True)
class TokenizedEssay:
    """An essay as the encoder reads it.

    Args:
        chunks: Token ids of each chunk, special tokens included; alike in length to within one token.
        tokens: Tokens of the whole essay, without special tokens.
        dropped: Tokens at its end that a cap cut off.
    """

    chunks: list[NDArray[np.int32]]
    tokens: int
    dropped: int


class Chunker:
    """Cuts essays into chunks of equal length.

    Args:
        tokenizer: A fast tokenizer of transformers.
        window: Tokens of one chunk, special tokens included.
        max_tokens: Tokens read of one essay, special tokens not counted; None: all.

    Raises:
        ConfigError: The window holds nothing beside the special tokens, or the tokenizer is damaged.
    """

    def __init__(self, tokenizer: Any, window: int, max_tokens: int | None = None) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        # What the tokenizer puts around a text, learned from an example: there is no common way to ask.
        try:
            (bare,) = self._ids(["a"], special=False)
            (dressed,) = self._ids(["a"], special=True)
        except BaseException as error:
            # Damaged files of a tokenizer may load and then panic, which is no Exception.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ConfigError(f"The tokenizer cannot read a word ({error}). Fetch the encoder again, whole.") from None
        start = next((i for i in range(len(dressed)) if dressed[i : i + len(bare)] == bare), 0)
        self._before, self._after = dressed[:start], dressed[start + len(bare) :]
        self._room = window - len(self._before) - len(self._after)
        # An empty text must leave something to pool.
        self._blank = [] if self._before or self._after else [tokenizer.pad_token_id]
        if self._room < 1:
            raise ConfigError(
                f"model.window is {window}, which leaves no room beside the special tokens. Set it higher."
            )

    def __call__(self, texts: Sequence[str]) -> list[TokenizedEssay]:
        """Tokenize texts; an empty text becomes one chunk of special tokens alone, of padding where there are none."""
        return [self._chunked(ids) for ids in self._ids(texts, special=False)] if texts else []

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=special,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _chunked(self, ids: list[int]) -> TokenizedEssay:
        kept = ids[: self._max_tokens]
        count = max(1, -(-len(kept) // self._room))
        parts = np.array_split(np.asarray(kept or self._blank, dtype=np.int32), count)
        before, after = np.asarray(self._before, dtype=np.int32), np.asarray(self._after, dtype=np.int32)
        return TokenizedEssay([np.concatenate([before, part, after]) for part in parts], len(ids), len(ids) - len(kept))
