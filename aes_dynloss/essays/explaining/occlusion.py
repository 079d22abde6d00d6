"""What an essay's raw score would be with some of its sentences alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.classical.strings import string_values
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sentences import Span
from aes_dynloss.essays.model.protocol import Scorer, own_numbers

if TYPE_CHECKING:
    import torch

    from aes_dynloss.essays.model.scorer import EncoderScorer
    from aes_dynloss.essays.model.scoring_model import ScoringModel

Array = NDArray[np.float64]
# Raw scores, (C, T), of C choices of an essay's K sentences, (C, K), on T scales.
Values = Callable[[NDArray[np.bool_]], Array]


def reads_once(scorer: Scorer) -> bool:
    """Whether sentences can be left out of what a scorer has read, so that reading anew makes a difference."""
    if isinstance(scorer, EssayEnsemble):
        return any(reads_once(member.scorer) for member in scorer.members)
    model, tokenizer = getattr(scorer, "model", None), getattr(scorer, "tokenizer", None)
    return model is not None and model.config.pooling != "cls" and bool(getattr(tokenizer, "is_fast", False))


def sentence_values(
    scorer: Scorer, essay: Reading, scales: Sequence[str], spans: Sequence[Span], *, exact: bool = False
) -> Values:
    """Raw scores of an essay that has some of its sentences alone.

    An encoder that pools its tokens reads the essay once: the vector of some sentences is pooled from their tokens, as
    they were read beside the others. What is counted in the text is always counted anew.

    Args:
        scorer: The scorer.
        essay: The essay; what an encoder makes of it in one reading is kept there.
        scales: T prompts, or the prompt's traits, that it is scored on.
        spans: K sentences, which together are the text.
        exact: Whether an encoder reads each choice of sentences anew.

    Raises:
        DataError: A prompt is unknown, or a column is missing.
    """
    if isinstance(scorer, EssayEnsemble):
        each = [sentence_values(one.scorer, essay, scales, spans, exact=exact) for one in scorer.members]

        def combined(there: NDArray[np.bool_]) -> Array:
            members = np.stack([value(there).ravel() for value in each], axis=1)
            return scorer.combine(members, list(scales) * len(there)).reshape(-1, len(scales))

        return combined

    def texts(there: NDArray[np.bool_]) -> list[str]:
        return ["".join(span.of(essay.text) for span, kept in zip(spans, row, strict=True) if kept) for row in there]

    if not exact and reads_once(scorer):
        return _from_one_reading(scorer, essay, scales, spans, texts)  # type: ignore[arg-type]

    def read_anew(there: NDArray[np.bool_]) -> Array:
        asked = [one for one in texts(there) for _ in scales]
        features = None if essay.own is None else [essay.own] * len(asked)
        return scorer.score(asked, list(scales) * len(there), features=features).raw.reshape(-1, len(scales))

    return read_anew


def _from_one_reading(
    scorer: EncoderScorer,
    essay: Reading,
    scales: Sequence[str],
    spans: Sequence[Span],
    texts: Callable[[NDArray[np.bool_]], list[str]],
) -> Values:
    import torch

    from aes_dynloss.essays.model.chunks import TokenizedEssay
    from aes_dynloss.essays.model.examples import tokenized
    from aes_dynloss.training.prediction import evaluating, predict

    model, device, prompts = scorer.model, scorer.accelerator.device, list(scorer.prompts.values())
    number = {prompt: index for index, prompt in enumerate(scorer.prompts)}
    (cut,) = scorer.chunker([essay.text])
    ends, chunks = scorer.chunker.places(essay.text)
    # A token is of the sentence in which it ends; the last entry is that of special tokens, whose number is -1.
    sentence = np.append(np.searchsorted([span.start for span in spans], ends, side="right") - 1, -1)
    whole = tokenized([essay.text], [number[scales[0]]], prompts, lambda _: [cut], int(scorer.tokenizer.pad_token_id))
    inputs = whole.batch([0]).to(device).inputs
    places = torch.zeros_like(inputs["attention_mask"])  # 0 for special tokens, then the sentences
    for row, tokens in enumerate(chunks):
        places[row, : len(tokens)] = torch.from_numpy(sentence[tokens] + 1).to(device)
    model.to(device)
    with evaluating(model), scorer.accelerator.autocast():
        parts = [_parts(model, state, inputs, places, len(spans)) for state in model.pooled_states(inputs)]
    essay.keep(scorer, torch.cat([_pooled(sums, sizes) for sums, sizes in parts], dim=1))
    counts = np.bincount(sentence[sentence >= 0], minlength=len(spans))[: len(spans)]

    def values(there: NDArray[np.bool_]) -> Array:
        kept = torch.from_numpy(np.column_stack([np.ones(len(there)), there])).to(device)
        vectors = [_pooled(sums, sizes, kept) for sums, sizes in parts]
        read = [TokenizedEssay([], int(tokens), 0) for tokens in there @ counts]
        own = None if essay.own is None else [essay.own] * len(there)
        numbers = own_numbers(scorer.own_features, own, len(there))
        words = texts(there)
        linguistic = model.config.linguistic_groups
        choices = tokenized(words, [number[scales[0]]] * len(there), prompts, lambda _: read, 0, linguistic, numbers)
        rows, groups = (
            np.repeat(np.arange(len(there)), len(scales)),
            np.tile([number[one] for one in scales], len(there)),
        )
        examples = replace(choices, features=torch.cat(vectors, dim=1).float().cpu()).select(rows)
        examples = replace(examples, groups=groups)
        if scorer.strings:
            examples = replace(
                examples, strings=string_values(scorer.strings, [words[row] for row in rows], list(scales) * len(there))
            )
        outputs = predict(scorer.accelerator, model, examples, tokens=None)
        return scorer.raw_scores(outputs, groups).reshape(len(there), len(scales))

    return values


def _pooled(sums: torch.Tensor, sizes: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    """Weighted means of parts, (C, H), of C choices of them, (C, 1 + K); by default one of all."""
    chosen = sizes.new_ones(1, len(sizes)) if kept is None else kept.to(sums)
    return chosen @ sums / (chosen @ sizes).clamp(min=1e-9)[:, None]


def _parts(
    model: ScoringModel, state: torch.Tensor, inputs: Mapping[str, torch.Tensor], places: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sums of the states of special tokens and of each sentence, (1 + K, H), and their weights, (1 + K,)."""
    import torch

    state = state.to(torch.promote_types(state.dtype, torch.float32))
    owner = torch.zeros_like(inputs["owner"])
    member = torch.ones_like(owner)[None]
    weights = model.pooling.token_weights(state, inputs["attention_mask"], owner, member).flatten()
    sums, sizes = state.new_zeros(count + 1, state.shape[2]), state.new_zeros(count + 1)
    sums.index_add_(0, places.flatten(), weights[:, None] * state.flatten(0, 1))
    sizes.index_add_(0, places.flatten(), weights)
    return sums, sizes


def left_out(values: Values, sentences: int) -> tuple[Array, Array]:
    """The raw score of the whole essay, (T,), and what each sentence adds to it as the last one, (K, T)."""
    there = np.vstack([np.ones((1, sentences), dtype=bool), ~np.eye(sentences, dtype=bool)])
    raw = values(there)
    return raw[0], raw[0] - raw[1:]
