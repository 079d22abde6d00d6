"""Attention block by block, for encoders of transformers that take an attention function from outside.

See :mod:`aes_dynloss.essays.model.token_blocks`. Where no blocks are named, attention is transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from aes_dynloss.essays.model.token_blocks import FIRST_POSITION, TokenBlocks, block_inputs, read_chunks

BLOCKWISE = "aes_dynloss_blockwise"
# Encoders that know where a token stands by a table of positions alone, and whose every layer sees the whole chunk.
_BY_TABLE = {"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"}
# Of the last states by the two ways in float32, relative to the greatest.
_LARGEST_DIFFERENCE = 1e-3


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    token_blocks: TokenBlocks | None = None,
    **named: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; with blocks, of one row whose tokens see those of their chunk alone.

    Args:
        module: The layer.
        query: (1, heads, P, D), and so are key and value.
        key: What is looked at.
        value: What is taken from there.
        attention_mask: That of transformers; None with blocks, which bring their own.
        token_blocks: How the row falls into blocks.
        named: Dropout, scaling and what else transformers says.

    Returns:
        (1, P, heads, D), and no weights.
    """
    if token_blocks is None:
        answer: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **named)
        return answer
    dropout, scale = named.get("dropout", 0.0), named.get("scaling")
    parts = [token_blocks.split(each) for each in (query, key, value)]
    contexts = [
        functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
        for bias, q, k, v in zip(token_blocks.biases(query.dtype), *parts, strict=True)
    ]
    return token_blocks.join(contexts), None


AttentionInterface.register(BLOCKWISE, attend)
AttentionMaskInterface.register(BLOCKWISE, sdpa_mask)


def allow_blocks(encoder: Any, first_position: int) -> None:  # noqa: ANN401 - transformers is untyped
    """Let an encoder read blocks, if it is of a kind that can and answers the same by them.

    Any other is left as it is, and so is one of a version of transformers that was not seen yet and differs.

    Args:
        encoder: An encoder of transformers, without pooler.
        first_position: The row of its table of positions that a first token gets.
    """
    own = getattr(encoder.config, "_attn_implementation", None)
    by_table = own == "sdpa" and encoder.config.model_type in _BY_TABLE
    if not by_table and not getattr(encoder, "shares_bias", False):
        return
    was_training = encoder.training
    encoder.eval()
    try:
        before = _trial(encoder)
        encoder.config._attn_implementation = BLOCKWISE if by_table else own
        setattr(encoder, FIRST_POSITION, first_position)
        agrees = bool((_trial(encoder) - before).abs().max() <= _LARGEST_DIFFERENCE * before.abs().max())
    except Exception:  # whatever another version of transformers makes of these calls
        agrees = False
    if not agrees:
        encoder.config._attn_implementation = own
        setattr(encoder, FIRST_POSITION, None)
    encoder.train(was_training)


@torch.no_grad()
def _trial(encoder: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    """Last states of the tokens of some short chunks, by blocks where the encoder reads them."""
    lengths = [2, 5, 4, 5]
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    pad = encoder.config.pad_token_id
    words = (pad + 1 + torch.arange(mask.numel()).view_as(mask)) % encoder.config.vocab_size
    ids = torch.where(mask == 1, words, pad)
    states: Tensor = read_chunks(encoder, {"input_ids": ids, "attention_mask": mask, **block_inputs(lengths)})[0]
    return states[mask == 1]
