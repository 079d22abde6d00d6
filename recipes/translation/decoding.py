"""Translations of a student: greedy, or by beam search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pair_data import BEGIN, END, PAD, Pairs
from torch import Tensor
from translator import Translator

from aes_dynloss.progress import Progress
from aes_dynloss.training.prediction import evaluating


@dataclass(frozen=True)
class Decoded:
    """Translations of a batch.

    Args:
        tokens: (B, t), PAD after END.
        scores: Mean log-probability of the tokens of each, END among them, (B,).
    """

    tokens: Tensor
    scores: Tensor


def greedy(translator: Translator, source: Tensor, most: int) -> Decoded:
    """The likeliest token at each place.

    Args:
        translator: In evaluation mode.
        source: Sentences, (B, S).
        most: Tokens of a translation, at most.
    """
    memory = translator.encode(source)
    tokens = source.new_full((len(source), 1), BEGIN)
    total = memory.new_zeros(len(source))
    done = torch.zeros_like(total, dtype=torch.bool)
    while not bool(done.all()) and tokens.shape[1] <= most:
        best, chosen = _next_log_probs(translator, tokens, memory, source).max(1)
        total = total + torch.where(done, 0.0, best)
        tokens = torch.cat([tokens, torch.where(done, PAD, chosen)[:, None]], dim=1)
        done = done | (chosen == END)
    return _decoded(tokens, total)


def beam_search(translator: Translator, source: Tensor, most: int, beams: int) -> Decoded:
    """The best of so many translations that grow together, or the greedy one where that scores higher.

    The likeliest go on at each place, of all that follow them; which one is best, their mean log-probability says. The
    greedy one may fall out on the way, so it is held beside the others at the end.

    Args:
        translator: In evaluation mode.
        source: Sentences, (B, S).
        most: Tokens of a translation, at most.
        beams: Translations K that grow together.

    References:
        Wu et al. 2016, Google's neural machine translation system, arXiv 1609.08144, section 7 (length normalisation).
    """
    count = len(source)
    wide = source.repeat_interleave(beams, dim=0)
    memory = translator.encode(source).repeat_interleave(beams, dim=0)
    tokens = wide.new_full((count * beams, 1), BEGIN)
    total = memory.new_full((count, beams), -torch.inf)
    total[:, 0] = 0.0  # one beginning, not K
    done = torch.zeros_like(total, dtype=torch.bool)
    while not bool(done.all()) and tokens.shape[1] <= most:
        log_probs = _next_log_probs(translator, tokens, memory, wide).view(count, beams, -1)
        ended = torch.full_like(log_probs[0, 0], -torch.inf)
        ended[PAD] = 0.0  # nothing follows END, at no cost
        grown = total[..., None] + torch.where(done[..., None], ended, log_probs)
        total, places = grown.flatten(1).topk(beams)
        parents, chosen = places // log_probs.shape[2], places % log_probs.shape[2]
        rows = (torch.arange(count, device=source.device)[:, None] * beams + parents).flatten()
        tokens = torch.cat([tokens[rows], chosen.reshape(-1, 1)], dim=1)
        done = done.gather(1, parents) | (chosen == END)
    found = _decoded(tokens, total.flatten())
    best = found.scores.view(count, beams).argmax(1) + torch.arange(count, device=source.device) * beams
    return _better(Decoded(found.tokens[best], found.scores[best]), greedy(translator, source, most))


def translations(translator: Translator, pairs: Pairs, *, beams: int | None = None, size: int = 50) -> list[list[int]]:
    """Tokens of the translation of every sentence, in the table's order.

    Args:
        translator: The student.
        pairs: N sentences; a translation has at most as many tokens as their table is wide.
        beams: Of :func:`beam_search`; None: greedy.
        size: Sentences at once.
    """
    device = translator.embedding.weight.device
    order = np.argsort(pairs.lengths, kind="stable")
    tokens: dict[int, list[int]] = {}
    with evaluating(translator):
        for start in Progress(range(0, len(order), size), desc="translate", unit="batch"):
            rows = order[start : start + size]
            source = pairs.batch(rows.tolist()).inputs["source"].to(device)
            most = pairs.target.shape[1]
            found = greedy(translator, source, most) if beams is None else beam_search(translator, source, most, beams)
            tokens |= zip(rows.tolist(), found.tokens.tolist(), strict=True)
    return [tokens[row] for row in range(len(pairs))]


def _next_log_probs(translator: Translator, tokens: Tensor, memory: Tensor, source: Tensor) -> Tensor:
    """Log-probabilities of the token that follows, (B, V); PAD and BEGIN never do."""
    states = translator.decode(tokens, memory, source)[:, -1]
    log_probs = translator.logits(states).log_softmax(1)
    log_probs[:, [PAD, BEGIN]] = -torch.inf
    return log_probs


def _decoded(tokens: Tensor, total: Tensor) -> Decoded:
    made = tokens[:, 1:]
    return Decoded(made, total / (made != PAD).sum(1).clamp(min=1))


def _better(one: Decoded, other: Decoded) -> Decoded:
    width = max(one.tokens.shape[1], other.tokens.shape[1])
    first, second = (
        torch.nn.functional.pad(each.tokens, (0, width - each.tokens.shape[1]), value=PAD) for each in (one, other)
    )
    higher = other.scores > one.scores
    return Decoded(torch.where(higher[:, None], second, first), torch.where(higher, other.scores, one.scores))
