"""Attention of encoders without wasted padding: one shared position bias for MPNet, and attention block by block.

MPNet's own attention in transformers writes its bias of relative positions out for every row of a batch, which is what
fills a GPU. Here attention runs through torch's fused kernels with the one bias broadcast over the batch. Padding needs
no mask per row: a query gets one more feature, 1, and a key one that is far below 0 at padding.

Block-wise attention serves encoders that take an attention function from outside, see
:mod:`aes_dynloss.essays.model.chunks`. Where no blocks are given, attention is that of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import AttentionInterface
from transformers.models.mpnet.modeling_mpnet import MPNetModel, MPNetSelfAttention

from aes_dynloss.essays.model.chunks import FIRST_POSITION, TokenBlocks, block_inputs, read_chunks

BLOCKWISE = "aes_dynloss_blockwise"
# Encoders that know where a token stands by a table of positions alone, and whose every layer sees the whole chunk.
_BY_TABLE = {"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"}
# Of the last states by the two ways in float32, relative to the greatest.
_LARGEST_DIFFERENCE = 1e-3


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    token_blocks: TokenBlocks | None = None,
    **named: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; with blocks, of one row whose tokens see those of their chunk alone.

    ``query``, ``key`` and ``value`` are (1, heads, P, D), and (1, P, heads, D) is returned, without weights.
    """
    if token_blocks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **named)
    dropout, scale = named.get("dropout", 0.0), named.get("scaling")
    parts = [token_blocks.split(each) for each in (query, key, value)]
    contexts = [
        functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
        for bias, q, k, v in zip(token_blocks.biases(query.dtype), *parts, strict=True)
    ]
    return token_blocks.join(contexts), None


AttentionInterface.register(BLOCKWISE, _attend)
AttentionMaskInterface.register(BLOCKWISE, sdpa_mask)


def allow_blocks(encoder: Any, first_position: int) -> None:  # noqa: ANN401 - transformers is untyped
    """Let an encoder read blocks, if it is of a kind that can and answers the same by them.

    Any other is left as it is, and so is one of a version of transformers that was not seen yet and differs.

    Args:
        encoder: An encoder of transformers, without pooler.
        first_position: The row of its table of positions that a first token gets.
    """
    config, implementation = encoder.config, getattr(encoder.config, "_attn_implementation", None)
    by_table = implementation == "sdpa" and config.model_type in _BY_TABLE

    def attend_by(name: str | None, first: int | None) -> None:
        config._attn_implementation = name
        setattr(encoder, FIRST_POSITION, first)

    if by_table or getattr(encoder, "shares_bias", False):
        _change_if_same(
            encoder,
            change=lambda: attend_by(BLOCKWISE if by_table else implementation, first_position),
            undo=lambda: attend_by(implementation, None),
        )


def _change_if_same(encoder: Any, *, change: Callable[[], None], undo: Callable[[], None]) -> None:  # noqa: ANN401
    """Make a change to how an encoder computes, and undo it if the encoder's answers differ."""
    was_training = encoder.training
    encoder.eval()
    try:
        before = _trial(encoder)
        change()
        agrees = bool((_trial(encoder) - before).abs().max() <= _LARGEST_DIFFERENCE * before.abs().max())
    except Exception:  # whatever another version of transformers makes of these calls
        agrees = False
    if not agrees:
        undo()
    encoder.train(was_training)


@torch.no_grad()
def _trial(encoder: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    """Last states of the tokens of some short chunks, by blocks where the encoder reads them."""
    lengths = [2, 5, 4, 5]
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    pad = encoder.config.pad_token_id
    tokens = (pad + 1 + torch.arange(mask.numel()).view_as(mask)) % encoder.config.vocab_size
    ids = torch.where(mask == 1, tokens, pad)
    states: Tensor = read_chunks(encoder, {"input_ids": ids, "attention_mask": mask, **block_inputs(lengths)})[0]
    return states[mask == 1]


# Fused kernels want head sizes, and rows of the bias, that are multiples of this.
_ALIGNMENT = 8
# Far below any score of a token, after scaling too, and well within bf16 and float16.
_FAR_BELOW = -3e4


@dataclass(frozen=True)
class SharedBias:
    """What all layers of one forward pass share.

    Args:
        bias: Bias of each key at each query, (heads, L, L'), L' being L filled up to a multiple of the alignment.
        padding: The keys' further features, (B, L, 1, features): the first far below 0 at padding, all others 0; None
            without a mask.
        blocks: How a single row falls into blocks, the longest of length L; None for rows of one length.
    """

    bias: Tensor
    padding: Tensor | None
    blocks: TokenBlocks | None = None


class SharedBiasSelfAttention(MPNetSelfAttention):
    """MPNet's attention; a bias that is no :class:`SharedBias` is left to transformers."""

    def forward(self, hidden_states: Tensor, *others: Any, **named: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
        """Attend, as the class above does; the bias may stand at any place, as it does from version to version."""
        shared = next((each for each in (*others, *named.values()) if isinstance(each, SharedBias)), None)
        if shared is None:
            return super().forward(hidden_states, *others, **named)  # type: ignore[no-untyped-call, no-any-return]
        shape = (*hidden_states.shape[:-1], self.num_attention_heads, self.attention_head_size)
        query, key, value = (part(hidden_states).view(shape) for part in (self.q, self.k, self.v))
        if shared.padding is not None:
            further = shared.padding.to(query.dtype).expand(*shape[:-1], -1)
            nothing = torch.zeros_like(further[:1, :1, :1])
            first = torch.eye(1, further.shape[-1], dtype=query.dtype, device=query.device)
            query = torch.cat([query, first.expand_as(further)], dim=-1)
            key = torch.cat([key, further], dim=-1)
            value = torch.cat([value, nothing.expand_as(further)], dim=-1)
        # Cast while it is one: autocast would write it out for every row. Cut last: kernels want aligned rows.
        bias = shared.bias.to(query.dtype)
        parts = [each.transpose(1, 2) for each in (query, key, value)]
        if shared.blocks is None:
            context = self._attended(bias, *parts).transpose(1, 2)
        else:
            blocks = zip(*(shared.blocks.split(each) for each in parts), strict=True)
            context = shared.blocks.join([self._attended(bias, *block) for block in blocks])
        context = context[..., : self.attention_head_size]
        return (self.o(context.reshape((*hidden_states.shape[:-1], self.all_head_size))),)

    def _attended(self, bias: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Contexts, (B, heads, L, D), of rows of one length."""
        length = query.shape[2]
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias[:, :length, :length].expand(len(query), -1, -1, -1),
            dropout_p=self.dropout.p if self.dropout.training else 0.0,
            scale=1.0 / math.sqrt(self.attention_head_size),
        )


class SharedBiasModel(MPNetModel):  # type: ignore[no-untyped-call]
    """MPNet whose layers get a :class:`SharedBias`; questions out of the ordinary are left to transformers."""

    shares_bias = True

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *others: Any,  # noqa: ANN401
        output_hidden_states: bool | None = None,
        token_blocks: TokenBlocks | None = None,
        **named: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Hidden states, as the class above answers them; with blocks, of one row (1, P) and its ``position_ids``."""
        if input_ids is not None and token_blocks is not None:
            length = max(mask.shape[1] for mask in token_blocks.masks)
            attention_mask = torch.cat([mask.flatten() for mask in token_blocks.masks])[None]
            hidden = self.embeddings(input_ids=input_ids, position_ids=named["position_ids"])
        else:
            unusual = others or any(value is not None for value in named.values()) or self.config.output_attentions
            if unusual or input_ids is None or (attention_mask is not None and attention_mask.ndim != 2):
                named["output_hidden_states"] = output_hidden_states
                return super().forward(input_ids, attention_mask, *others, **named)
            length = input_ids.shape[1]
            hidden = self.embeddings(input_ids=input_ids)
        padding = None
        if attention_mask is not None:  # whether a mask is needed is not asked: it would wait for the device
            features = _ALIGNMENT - self.config.hidden_size // self.config.num_attention_heads % _ALIGNMENT
            first = torch.where(attention_mask == 0, _FAR_BELOW, 0.0).to(hidden.dtype)
            padding = functional.pad(first[:, :, None, None], (0, features - 1))
        shared = SharedBias(_bias(self.encoder, length, hidden.device), padding, token_blocks)
        states = [hidden]
        for layer in self.encoder.layer:
            states.append(layer(states[-1], position_bias=shared)[0])
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPooling(last_hidden_state=states[-1], hidden_states=tuple(states) if wanted else None)


def share_bias(encoder: Any) -> None:  # noqa: ANN401 - transformers is untyped
    """Let an MPNet without pooler attend with one bias for the whole batch; its weights keep their names.

    Any other encoder is left as it is, and so is one that would answer something else than before, as may be with a
    version of transformers that was not seen yet.
    """
    if type(encoder) is not MPNetModel or encoder.pooler is not None:
        return
    attentions = [module for module in encoder.modules() if type(module) is MPNetSelfAttention]

    def become(model: type[MPNetModel], attention: type[MPNetSelfAttention]) -> None:
        encoder.__class__ = model
        for module in attentions:
            module.__class__ = attention

    _change_if_same(
        encoder,
        change=lambda: become(SharedBiasModel, SharedBiasSelfAttention),
        undo=lambda: become(MPNetModel, MPNetSelfAttention),
    )


def _bias(encoder: Any, length: int, device: torch.device) -> Tensor:  # noqa: ANN401 - transformers is untyped
    """Bias of each key at each query by their distance alone, (heads, L, L')."""
    width = length + -length % _ALIGNMENT
    distance = torch.arange(1 - length, width, device=device)
    by_distance: Tensor = encoder.relative_attention_bias(encoder.relative_position_bucket(distance)).T
    # A window of them for each query, the last query first; written out once, so that rows are aligned.
    return by_distance.unfold(1, width, 1).flip(1).contiguous()
