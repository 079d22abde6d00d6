"""Chunking: an essay becomes chunks of the encoder's window, and chunks become blocks with little padding.

Nothing is cut off unless a cap is set. The chunks of a batch are sorted by length and cut into blocks, each padded to
its own longest chunk. All blocks go through an encoder together, as one row of tokens, so that its linear layers see
one large product and little padding; attention alone goes block by block.

References:
    Krell et al. 2021, Efficient sequence packing without cross-contamination (the aim; blocks need no mask of pairs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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
            (with_special_tokens,) = self._ids(["a"], special=True)
        except BaseException as error:
            # Damaged files of a tokenizer may load and then panic, which is no Exception.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ConfigError(f"The tokenizer cannot read a word ({error}). Fetch the encoder again, whole.") from None
        start = next((i for i in range(len(with_special_tokens)) if with_special_tokens[i : i + len(bare)] == bare), 0)
        self._before, self._after = with_special_tokens[:start], with_special_tokens[start + len(bare) :]
        self._room = window - len(self._before) - len(self._after)
        # An empty text must leave something to pool.
        self._blank = [] if self._before or self._after else [tokenizer.pad_token_id]
        if self._room < 1:
            raise ConfigError(
                f"model.window is {window}, which leaves no room beside the special tokens. Set it higher."
            )

    def __call__(self, texts: Sequence[str]) -> list[TokenizedEssay]:
        """Tokenize texts; an empty text becomes one chunk of special tokens alone, of padding where there are none."""
        before, after = np.asarray(self._before, dtype=np.int32), np.asarray(self._after, dtype=np.int32)
        essays = []
        for ids in self._ids(texts, special=False) if texts else []:
            kept = ids[: self._max_tokens]
            count = max(1, -(-len(kept) // self._room))
            parts = np.array_split(np.asarray(kept or self._blank, dtype=np.int32), count)
            chunks = [np.concatenate([before, part, after]) for part in parts]
            essays.append(TokenizedEssay(chunks, len(ids), len(ids) - len(kept)))
        return essays

    def places(self, text: str) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """Where the tokens of a text stand in it.

        Args:
            text: The text.

        Returns:
            The character in which each token ends, (tokens,), those that a cap cuts off included; and for each chunk
            the number of the token in each of its places, -1 where it is a special one.

        Raises:
            ConfigError: The tokenizer is a slow one, which cannot tell.
        """
        if not getattr(self._tokenizer, "is_fast", False):
            raise ConfigError("The model's tokenizer does not tell where its tokens stand in a text.")
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        kept = np.arange(len(offsets))[: self._max_tokens]
        if not len(kept):
            kept = np.full(len(self._blank), -1)
        before, after = (np.full(len(special), -1) for special in (self._before, self._after))
        parts = np.array_split(kept, max(1, -(-len(kept) // self._room)))
        return np.maximum(offsets[:, 0], offsets[:, 1] - 1), [np.concatenate([before, part, after]) for part in parts]

    @property
    def identity(self) -> tuple[str, int, int | None] | None:
        """What its answers depend on beside the text; None where the tokenizer is a slow one, which cannot tell."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        return hashlib.sha256(backend.to_str().encode()).hexdigest(), self._room, self._max_tokens

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=special,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return encoded["input_ids"]  # type: ignore[no-any-return]


# The chunker and the texts of the last run: a grid's runs read the same essays one after the other.
_LAST: dict[tuple[str, int, int | None], dict[str, TokenizedEssay]] = {}


def remembering(chunker: Chunker) -> Callable[[Sequence[str]], list[TokenizedEssay]]:
    """A chunker that tokenizes no text a second time, not even in the next run of the same process.

    It is for training essays, which are in memory anyway. Slow tokenizers remember nothing.
    """
    identity = chunker.identity
    if identity is None:
        return chunker
    known = _LAST.get(identity, {})
    _LAST.clear()  # those of one tokenizer are enough
    _LAST[identity] = known

    def essays(texts: Sequence[str]) -> list[TokenizedEssay]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, chunker(new), strict=True))
        return [known[text] for text in texts]

    return essays


# Part of the tokens that may be padding. Each block more is one more call of attention a layer.
MOST_PADDING = 0.05
# Attribute of an encoder that reads blocks: the row of its table of positions that a chunk's first token gets.
FIRST_POSITION = "first_position_in_blocks"
_NAME = "block_{}"


def cut_into_blocks(lengths: Sequence[int], most_padding: float = MOST_PADDING) -> list[NDArray[np.int64]]:
    """The fewest blocks of chunks that keep padding low, and among as few those with the least.

    Args:
        lengths: Tokens of each of C chunks, at least 1.
        most_padding: Padding as a part of all that is sent through the encoder, at most; in [0, 1).

    Returns:
        Rows of each block, the longest chunks first; every chunk is in one.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    sizes, counts = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    sizes, counts = sizes[::-1], counts[::-1]  # chunks of one length stay together
    ends = np.concatenate([[0], np.cumsum(counts)])
    # What a block from the i-th length to before the j-th takes: its chunks, all as long as the first.
    area = np.append(sizes, 0)[:, None] * (ends[None, :] - ends[:, None]).astype(np.float64)
    area[np.tril_indices(len(ends))] = np.inf
    limit = float(sizes @ counts) / (1.0 - most_padding) * (1.0 + 1e-12)
    least, starts = area[0], []
    while least[-1] > limit:  # one block more
        grown = least[:, None] + area
        starts.append(grown.argmin(0))
        least = grown.min(0)
    borders = [len(sizes)]
    for start in reversed(starts):
        borders.append(int(start[borders[-1]]))
    return np.split(order, ends[borders[:0:-1]])


def block_inputs(lengths: Sequence[int]) -> dict[str, Tensor]:
    """The blocks of C chunks as further inputs of a student: for each the positions of its tokens, (chunks, length).

    A position is counted in the padded table of the chunks, (C, L), row by row.
    """
    width = max(lengths)
    positions = {}
    for number, rows in enumerate(cut_into_blocks(lengths)):
        columns = np.arange(lengths[rows[0]], dtype=np.int64)
        positions[_NAME.format(number)] = torch.from_numpy(rows[:, None] * width + columns)
    return positions


@dataclass(frozen=True)
class TokenBlocks:
    """How one row of P tokens falls into blocks.

    Args:
        masks: True at tokens, False at padding, of each block, (chunks, length).
    """

    masks: list[Tensor]
    _biases: dict[torch.dtype, list[Tensor]] = field(default_factory=dict)

    def biases(self, dtype: torch.dtype) -> list[Tensor]:
        """What is added to the scores of each block's keys, (chunks, 1, 1, length): nothing, or -inf at padding."""
        if dtype not in self._biases:  # once for all layers
            self._biases[dtype] = []
            for mask in self.masks:
                # Fused kernels would copy rows that do not start at a multiple of eight.
                aligned = functional.pad(mask, (0, -mask.shape[1] % 8))
                bias = torch.zeros(aligned.shape, dtype=dtype, device=mask.device).masked_fill(~aligned, -torch.inf)
                self._biases[dtype].append(bias[:, None, None, : mask.shape[1]])
        return self._biases[dtype]

    def split(self, row: Tensor) -> list[Tensor]:
        """From a row's queries, keys or values, (1, heads, P, D), to each block's, (chunks, heads, length, D)."""
        shapes = [mask.shape for mask in self.masks]
        parts = torch.split(row[0], [shape.numel() for shape in shapes], dim=1)
        return [part.reshape(len(part), *shape, -1).transpose(0, 1) for part, shape in zip(parts, shapes, strict=True)]

    def join(self, contexts: Sequence[Tensor]) -> Tensor:
        """From each block's contexts, (chunks, heads, length, D), to the row's, (1, P, heads, D)."""
        return torch.cat([context.transpose(1, 2).flatten(0, 1) for context in contexts])[None]


class EncoderStates(NamedTuple):
    """Last hidden states, (C, L, H), and those of all layers, the embeddings first, where they were asked for."""

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None


def read_chunks(encoder: Any, inputs: Mapping[str, Tensor], *, all_layers: bool = False) -> Any:  # noqa: ANN401
    """Hidden states of the chunks as the encoder answers them: block by block where it can and blocks are named.

    Args:
        encoder: An encoder of transformers; it can where
            :func:`aes_dynloss.essays.model.attention.allow_blocks` has found so.
        inputs: ``input_ids`` (C, L), ``attention_mask`` (C, L), and what :func:`block_inputs` names.
        all_layers: Whether the states of all layers are wanted.

    Returns:
        What the encoder answers, or :class:`EncoderStates`; states at padding mean nothing.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    options = {"output_hidden_states": True} if all_layers else {}
    first = getattr(encoder, FIRST_POSITION, None)
    blocks = [inputs[name] for number in range(len(inputs)) if (name := _NAME.format(number)) in inputs]
    if first is None or not blocks:
        return encoder(input_ids=ids, attention_mask=mask, **options)
    positions = torch.cat([block.flatten() for block in blocks])
    row = {"input_ids": ids.flatten()[positions][None], "position_ids": (positions % ids.shape[1] + first)[None]}
    if hasattr(encoder.config, "type_vocab_size"):  # some would count positions to find the type that all have
        row["token_type_ids"] = torch.zeros_like(row["input_ids"])
    masks = [mask.flatten()[block].bool() for block in blocks]
    answer = encoder(**row, token_blocks=TokenBlocks(masks), **options)

    def table(states: Tensor) -> Tensor:
        empty = states.new_zeros(ids.numel(), states.shape[-1])
        return empty.index_copy(0, positions, states[0]).view(*ids.shape, -1)

    layers = tuple(table(states) for states in answer.hidden_states) if all_layers else None
    return EncoderStates(table(answer[0]), layers)
