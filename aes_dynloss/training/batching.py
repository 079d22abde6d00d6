"""From examples to optimiser steps to what one process sends through the student at once.

The essays of a step depend on the seed and the epoch alone, not on the number of processes or on memory, so that one
process, two processes and any accumulation train on the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.teaching.student import Batch
from aes_dynloss.training.config import TrainingConfig

Rows = NDArray[np.int64]


class Examples(Protocol):
    """A table of examples that makes batches.

    A table some of whose examples belong together, such as the scores of one essay on several traits, has ``units``
    too: the number of each one's unit, (N,). A unit is taken whole, into one step and on one process.
    """

    @property
    def lengths(self) -> Rows:
        """Length of each example's sequences, (N,): what padding is counted in."""

    @property
    def sequences(self) -> Rows:
        """Sequences of each example, (N,): 1, or the chunks of a long essay; 0 for all of a unit but its first."""

    def __len__(self) -> int:
        """Number of examples N."""

    def batch(self, rows: Sequence[int]) -> Batch:
        """The examples in these rows, on the CPU."""


class Subset:
    """Some rows of a table of examples.

    Args:
        examples: The table.
        rows: Rows in it, (n,).
    """

    def __init__(self, examples: Examples, rows: Rows) -> None:
        self._examples = examples
        self._rows = rows
        self.lengths: Rows = examples.lengths[rows]
        self.sequences: Rows = examples.sequences[rows]
        units = units_of(examples)
        self.units: Rows | None = None if units is None else units[rows]

    @classmethod
    def of_units(cls, examples: Examples, rows: Rows) -> Subset:
        """A row of each unit, each an example of its own."""
        heads = cls(examples, rows)
        heads.units = None
        return heads

    def __len__(self) -> int:
        """Number of examples n."""
        return len(self._rows)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The examples in these rows of the subset; their index is that of the whole table."""
        return self._examples.batch(self._rows[np.asarray(rows, dtype=np.int64)].tolist())


def targets_and_groups(examples: Examples, size: int = 256) -> tuple[Tensor, Tensor]:
    """Targets and groups of all examples, (N, ...) and (N,), read so many examples at a time."""
    starts = range(0, len(examples), size)
    batches = [examples.batch(range(start, min(start + size, len(examples)))) for start in starts]
    return torch.cat([batch.targets for batch in batches]), torch.cat([batch.groups for batch in batches])


def units_of(examples: Examples) -> Rows | None:
    """The number of each example's unit, (N,); None where each is one of its own."""
    units: Rows | None = getattr(examples, "units", None)
    return units


def members(examples: Examples) -> list[Rows] | None:
    """The rows of each unit, in the order of their first rows; None where each example is one of its own."""
    units = units_of(examples)
    if units is None:
        return None
    _, first, number, counts = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])
    return [rows[place] for place in np.argsort(first)]


def epoch_steps(examples: Examples, batch_size: int, seed: int, epoch: int, length_window: int = 1) -> list[Rows]:
    """Divide all examples into the optimiser steps of an epoch.

    Nothing is dropped: where ``batch_size`` does not divide the number of examples, all steps of the epoch are made
    as equal as can be, at most ``batch_size`` each.

    Args:
        examples: N examples.
        batch_size: Examples a step, or where some belong together units.
        seed: Seed of the run.
        epoch: Number of the epoch.
        length_window: Steps whose examples are sorted by length together before they are divided.

    Returns:
        The rows of each step.
    """
    together = members(examples)
    if together is not None:
        whole = Subset.of_units(examples, np.array([rows[0] for rows in together], dtype=np.int64))
        steps = epoch_steps(whole, batch_size, seed, epoch, length_window)
        return [np.concatenate([together[unit] for unit in step]) for step in steps]
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(examples))
    if length_window > 1:
        window = batch_size * length_window
        parts = [order[start : start + window] for start in range(0, len(order), window)]
        order = np.concatenate([part[np.argsort(examples.lengths[part], kind="stable")] for part in parts])
    steps = np.array_split(order, -(-len(order) // batch_size))
    if length_window > 1:
        steps = [steps[i] for i in generator.permutation(len(steps))]
    return steps


@dataclass(frozen=True)
class Step:
    """One optimiser step to take.

    Args:
        epoch: Its epoch, counted from 0.
        rows: Its examples, over all processes.
        measured: Whether the student is measured on dev after it.
    """

    epoch: int
    rows: Rows
    measured: bool


def steps_left(examples: Examples, config: TrainingConfig, taken: int) -> Iterator[Step]:
    """The optimiser steps of a run that are still to take, in their order.

    Args:
        examples: Training examples.
        config: The run's settings.
        taken: Steps already taken.
    """
    for epoch in range(config.epochs):
        steps = epoch_steps(examples, config.batch_size, config.seed, epoch, config.length_window)
        ends = {-(-len(steps) * part // config.evaluations) for part in range(1, config.evaluations + 1)}
        for number, rows in enumerate(steps, start=1):
            if epoch * len(steps) + number > taken:
                yield Step(epoch, rows, measured=number in ends)


def total_steps(examples: Examples, config: TrainingConfig) -> int:
    """Optimiser steps of a run that no early stopping ends."""
    together = members(examples)
    return config.epochs * -(-len(examples if together is None else together) // config.batch_size)


def share_of(rows: Rows, examples: Examples, rank: int, processes: int) -> Rows:
    """The part of a step that one process takes: dealt out by size, so that all have about equally much to do."""
    units = units_of(examples)
    if units is not None:
        first = np.unique(units[rows], return_index=True)[1]
        heads = Subset.of_units(examples, rows[first])
        own = share_of(np.arange(len(first)), heads, rank, processes)
        return rows[np.isin(units[rows], units[rows[first[own]]])]
    size = examples.lengths[rows] * examples.sequences[rows]
    return rows[np.argsort(-size, kind="stable")][rank::processes]


def packed(rows: Rows, examples: Examples, tokens: int | None, size: int | None) -> list[Rows]:
    """Pack examples into micro-batches, alike in length, none above a budget.

    The examples of a unit follow each other, so that they share a micro-batch unless its size forbids it.

    Args:
        rows: Examples to pack.
        examples: Their table.
        tokens: Padded tokens a micro-batch, (sum of sequences) x (longest length); an example above it goes alone.
        size: Examples a micro-batch, at most.

    Returns:
        Rows of each micro-batch; one empty one if there are no rows.
    """
    lengths, units = examples.lengths[rows], units_of(examples)
    keys = [-lengths]
    if units is not None:
        _, first, number = np.unique(units[rows], return_index=True, return_inverse=True)
        keys.insert(0, first[number])  # the last key goes before the others
    ordered = rows[np.lexsort(keys)]
    packs: list[list[int]] = [[]]
    sequences = longest = 0
    known = zip(ordered.tolist(), examples.sequences[ordered].tolist(), examples.lengths[ordered].tolist(), strict=True)
    for row, count, own in known:
        grown, length = sequences + count, max(longest, own)
        over = tokens is not None and count > 0 and grown * length > tokens  # of its unit, the first alone costs tokens
        full = over or (size is not None and len(packs[-1]) >= size)
        if full and packs[-1]:
            packs.append([])
            grown, length = count, own
        packs[-1].append(row)
        sequences, longest = grown, length
    return [np.asarray(pack, dtype=np.int64) for pack in packs]


def micro_batches(rows: Rows, examples: Examples, tokens: int | None, size: int | None) -> list[Batch]:
    """The batches that one process sends through its student, one after the other, for its share of a step.

    A process without examples gets one filler, whose index is -1, so that it still takes part in what all do together.
    """
    if len(rows) == 0:
        filler = examples.batch([0])
        return [Batch(filler.inputs, filler.targets, filler.groups, filler.index * 0 - 1)]
    return [examples.batch(pack.tolist()) for pack in packed(rows, examples, tokens, size)]
