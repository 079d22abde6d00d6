"""Essays as tensors: the table that the training loop draws batches from.

An example is an essay with its score or, where essays are scored on several traits, with that of one trait; examples of
one essay stand in one step, and the encoder reads the essay once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.features.linguistic import linguistic_features
from aes_dynloss.essays.model.chunks import TokenizedEssay, block_inputs
from aes_dynloss.teaching.student import Batch


@dataclass(frozen=True)
class EssayExamples:
    """N essays or scores of traits, tokenized, with what a frozen encoder made of them where that was computed.

    Args:
        essays: Chunks of each essay.
        groups: Number of each one's prompt or, with traits, of its prompt and trait, (N,) int64.
        targets: Scores on [0, 1], (N,) float64; 0 where unknown.
        pad_id: The tokenizer's padding token.
        features: Pooled vectors, (N, H): then nothing else is sent through the student.
        states: Hidden states of each essay's tokens at the top of the frozen layers, its chunks one after the other,
            N arrays (tokens, H), float16 or float32, on disk or in memory: then they are sent along, in float32.
        lower: With ``states`` the pooled vectors of those frozen layers that are pooled, side by side, (N, H).
        linguistic: Linguistic features and own columns, (N, F) float32, where the head sees them.
        strings: What n-grams add to the head's output, (N,) float32, where the model has a string kernel.
        weights: What each essay counts in training, above 0, (N,), where the data say it.
        raters: Number of who gave each essay's score, (N,) int64, where the loss is to know.
        units: Number of each one's essay, (N,) int64, where several are of one; None: each is of an essay of its own.
    """

    essays: Sequence[TokenizedEssay]
    groups: NDArray[np.int64]
    targets: NDArray[np.float64]
    pad_id: int
    features: Tensor | None = None
    states: Sequence[NDArray[np.float16] | NDArray[np.float32]] | None = None
    lower: Tensor | None = None
    linguistic: NDArray[np.float32] | None = None
    strings: NDArray[np.float32] | None = None
    weights: NDArray[np.float64] | None = None
    raters: NDArray[np.int64] | None = None
    units: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.essays)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each essay's longest chunk, (N,); 1 where only pooled vectors are sent."""
        if self.features is not None:
            return np.ones(len(self), dtype=np.int64)
        return np.array([max(len(chunk) for chunk in essay.chunks) for essay in self.essays], dtype=np.int64)

    @cached_property
    def sequences(self) -> NDArray[np.int64]:
        """Chunks of each essay, (N,), 0 where an earlier one is of the same; 1 where only pooled vectors are sent."""
        if self.features is not None:
            return np.ones(len(self), dtype=np.int64)
        counts = np.array([len(essay.chunks) for essay in self.essays], dtype=np.int64)
        if self.units is None:
            return counts
        first = np.unique(self.units, return_index=True)[1]
        alone = np.zeros(len(self), dtype=np.int64)
        alone[first] = counts[first]
        return alone

    @cached_property
    def log_lengths(self) -> NDArray[np.float64]:
        """log(1 + tokens) of each essay, before any cap, (N,)."""
        return np.log1p(np.array([essay.tokens for essay in self.essays], dtype=np.float64))

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> EssayExamples:
        """The essays in these rows, in this order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return EssayExamples(
            [self.essays[row] for row in chosen],
            self.groups[chosen],
            self.targets[chosen],
            self.pad_id,
            None if self.features is None else self.features[torch.from_numpy(chosen)],
            None if self.states is None else [self.states[row] for row in chosen],
            None if self.lower is None else self.lower[torch.from_numpy(chosen)],
            None if self.linguistic is None else self.linguistic[chosen],
            None if self.strings is None else self.strings[chosen],
            None if self.weights is None else self.weights[chosen],
            None if self.raters is None else self.raters[chosen],
            None if self.units is None else self.units[chosen],
        )

    def batch(self, rows: Sequence[int]) -> Batch:
        """The essays in these rows, padded to their longest chunk, with blocks that need hardly any of that padding."""
        index = np.asarray(rows, dtype=np.int64)
        groups = torch.from_numpy(self.groups[index])
        inputs = {"prompt": groups, "log_length": torch.from_numpy(self.log_lengths[index].astype(np.float32))}
        if self.linguistic is not None:
            inputs["linguistic"] = torch.from_numpy(self.linguistic[index])
        if self.strings is not None:
            inputs["strings"] = torch.from_numpy(self.strings[index])
        if self.features is not None:
            inputs["features"] = self.features[torch.from_numpy(index)]
        elif self.units is None:
            inputs |= self._tokens(rows)
        else:
            _, first, essay = np.unique(self.units[index], return_index=True, return_inverse=True)
            inputs |= self._tokens(index[first].tolist()) | {"essay": torch.from_numpy(essay)}
        return Batch(inputs, self.batch_targets(index), groups, torch.from_numpy(index))

    def batch_targets(self, index: NDArray[np.int64]) -> Tensor:
        """Targets in some rows, (B,); with each essay's weight beside it, (B, 2), and its rater's number, (B, 3)."""
        targets = torch.from_numpy(self.targets[index])
        if self.weights is None and self.raters is None:
            return targets
        weights = np.ones(len(index)) if self.weights is None else self.weights[index]
        raters = [] if self.raters is None else [self.raters[index].astype(np.float64)]
        return torch.stack([targets, *map(torch.from_numpy, [weights, *raters])], dim=1)

    def _tokens(self, rows: Sequence[int]) -> dict[str, Tensor]:
        chunks = [torch.from_numpy(chunk) for row in rows for chunk in self.essays[row].chunks]
        lengths = [len(chunk) for chunk in chunks]
        ids = pad_sequence(chunks, batch_first=True, padding_value=self.pad_id).long()
        tensors = {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long(),
            "owner": torch.tensor([index for index, row in enumerate(rows) for _ in self.essays[row].chunks]),
        }
        if self.states is None:
            return tensors | block_inputs(lengths)
        states: list[Tensor] = []
        for row in rows:
            sizes = [len(chunk) for chunk in self.essays[row].chunks]
            states += torch.split(torch.from_numpy(self.states[row].astype(np.float32)), sizes)
        if self.lower is not None:
            tensors["lower"] = self.lower[list(rows)]
        return tensors | {"hidden": pad_sequence(states, batch_first=True)}


def tokenized(
    texts: Sequence[str],
    groups: Sequence[int] | NDArray[np.int64],
    prompts: Sequence[Prompt],
    chunker: Callable[[Sequence[str]], list[TokenizedEssay]],
    pad_id: int,
    linguistic: Collection[str] = (),
    own: NDArray[np.float64] | None = None,
    units: NDArray[np.int64] | None = None,
) -> EssayExamples:
    """Essays of unknown scores as examples.

    Args:
        texts: N essays, or the essay of each of N scores of traits.
        groups: Number of each one's prompt, or prompt and trait, N of them.
        prompts: All prompts of the model.
        chunker: Cuts texts into chunks.
        pad_id: The tokenizer's padding token.
        linguistic: Groups of the linguistic features that the head sees.
        own: Numeric columns of the user's own that it sees, too, (N, K).
        units: Number of each one's essay, (N,), where several are of one, which is then cut and counted once.
    """
    if units is not None:
        _, first, essay = np.unique(units, return_index=True, return_inverse=True)
        once, rows = [texts[row] for row in first], [groups[row] for row in first]
        of_essay = None if own is None else own[first]
        read = tokenized(once, rows, prompts, chunker, pad_id, linguistic, of_essay).select(essay)
        return replace(read, groups=np.asarray(groups, dtype=np.int64), units=units)
    numbers = np.asarray(groups, dtype=np.int64)
    features: NDArray[np.float32] | None = None
    if linguistic or (own is not None and own.shape[1]):
        prompt_words = [prompts[number].text for number in numbers]
        counted = linguistic_features(texts, prompt_words, linguistic)
        features = (counted if own is None else np.concatenate([counted, own], axis=1)).astype(np.float32)
    return EssayExamples(chunker(texts), numbers, np.zeros(len(texts)), pad_id, linguistic=features)


def essay_numbers(
    texts: Sequence[str], prompt_ids: Sequence[str], prompts: Mapping[str, Prompt], own: NDArray[np.float64]
) -> NDArray[np.int64] | None:
    """The number of the essay of each of N scores to give, (N,); None where essays have one score.

    Args:
        texts: The essay of each.
        prompt_ids: The prompt, or prompt and trait, of each.
        prompts: All prompts, or prompts and traits, by id.
        own: Numeric columns of the user's own, (N, K): essays that differ in them are two.
    """
    if all(prompt.trait is None for prompt in prompts.values()):
        return None
    essays: dict[tuple[str, str, bytes], int] = {}
    told = zip(texts, prompt_ids, own, strict=True)
    keys = ((prompts[scale].prompt_id, text, numbers.tobytes()) for text, scale, numbers in told)
    return np.array([essays.setdefault(key, len(essays)) for key in keys], dtype=np.int64)


def scored_examples(
    tables: Sequence[EssayTable],
    prompts: Sequence[Prompt],
    chunker: Callable[[Sequence[str]], list[TokenizedEssay]],
    pad_id: int,
    linguistic: Collection[str] = (),
    own: Sequence[str] = (),
) -> EssayExamples:
    """The essays of some tables, one table after the other, as examples with their scores.

    Args:
        tables: Scored essays.
        prompts: All prompts of the model; a prompt's number is its place here.
        chunker: Cuts texts into chunks.
        pad_id: The tokenizer's padding token.
        linguistic: Groups of the linguistic features that the head sees.
        own: Numeric columns of the tables that it sees, too.
    """
    number = {prompt.id: index for index, prompt in enumerate(prompts)}
    texts, groups, targets = [], [], []
    essays: dict[tuple[int, str], int] = {}
    units = []
    for place, table in enumerate(tables):
        texts += table.values("text")
        units += [essays.setdefault((place, essay_id), len(essays)) for essay_id in table.essay_ids]
        for prompt, score in zip(table.values("prompt_id"), table.scores, strict=True):
            groups.append(number[prompt])
            targets.append(float(table.prompts[prompt].range.to_unit(score)))
    numbers = np.concatenate([table.numbers(own) for table in tables])
    shared = np.array(units, dtype=np.int64) if len(essays) < len(units) else None
    examples = tokenized(texts, groups, prompts, chunker, pad_id, linguistic, numbers, shared)
    weights = [np.ones(len(table)) if table.weights is None else table.weights for table in tables]
    weighted = any(table.weights is not None for table in tables)
    return replace(
        examples,
        targets=np.array(targets, dtype=np.float64),
        weights=np.concatenate(weights) if weighted else None,
    )
