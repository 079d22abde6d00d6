from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_runs import settings
from toy_student import ToyExamples

from aes_dynloss.training.batching import epoch_steps, micro_batches, packed, share_of, steps_left, total_steps

sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 20)
seeds = st.integers(0, 2**31 - 1)
windows = st.integers(1, 6)


def lists(steps):
    return [rows.tolist() for rows in steps]


@given(sizes, batch_sizes, seeds, st.integers(0, 9), windows)
def test_every_row_once_an_epoch_in_steps_of_about_the_same_size(size, batch_size, seed, epoch, window):
    steps = epoch_steps(ToyExamples(size), batch_size, seed, epoch, window)
    assert sorted(np.concatenate(steps)) == list(range(size))
    lengths = {len(rows) for rows in steps}
    assert max(lengths) <= batch_size
    assert max(lengths) - min(lengths) <= 1
    assert len(steps) == -(-size // batch_size)


@given(seeds, windows)
def test_steps_depend_on_seed_and_epoch_alone(seed, window):
    examples = ToyExamples(40)
    first = lists(epoch_steps(examples, 7, seed, 2, window))
    assert first == lists(epoch_steps(examples, 7, seed, 2, window))
    assert first != lists(epoch_steps(examples, 7, seed, 3, window))
    assert first != lists(epoch_steps(examples, 7, seed + 1, 2, window))


def test_the_global_generators_do_not_matter():
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    first = lists(epoch_steps(ToyExamples(40), 7, 3, 0))
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert lists(epoch_steps(ToyExamples(40), 7, 3, 0)) == first


def test_without_a_window_lengths_are_not_looked_at():
    short, long = ToyExamples(40, longest=1), ToyExamples(40, longest=500)
    assert lists(epoch_steps(short, 8, 0, 0)) == lists(epoch_steps(long, 8, 0, 0))


def test_a_window_brings_like_lengths_together_and_mixes_the_steps():
    examples = ToyExamples(64, longest=500)
    plain, sorted_all = (epoch_steps(examples, 8, 0, 0, window) for window in (1, 8))

    def padded(steps):
        return sum(len(rows) * examples.lengths[rows].max() for rows in steps)

    assert padded(sorted_all) < padded(epoch_steps(examples, 8, 0, 0, 2)) < padded(plain)
    longest = [examples.lengths[rows].max() for rows in sorted_all]
    assert longest != sorted(longest)


@given(sizes, batch_sizes, windows, st.integers(1, 5), st.integers(1, 3), st.data())
def test_steps_left_are_the_end_of_all_steps(size, batch_size, window, evaluations, epochs, data):
    examples = ToyExamples(size)
    config = settings(batch_size=batch_size, length_window=window, evaluations=evaluations, epochs=epochs)

    def words(steps):
        return [(step.epoch, step.rows.tolist(), step.measured) for step in steps]

    everything = words(steps_left(examples, config, taken=0))
    assert len(everything) == total_steps(examples, config)
    taken = data.draw(st.integers(0, len(everything)))
    assert words(steps_left(examples, config, taken)) == everything[taken:]
    assert [step[0] for step in everything] == sorted(step[0] for step in everything)


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [(1, [10]), (2, [5, 10]), (3, [4, 7, 10]), (10, list(range(1, 11))), (99, list(range(1, 11)))],
)
def test_when_the_student_is_measured(evaluations, expected):
    config = settings(epochs=2, batch_size=4, evaluations=evaluations)
    steps = list(steps_left(ToyExamples(40), config, taken=0))
    for epoch in (0, 1):
        mine = [step for step in steps if step.epoch == epoch]
        assert [number for number, step in enumerate(mine, start=1) if step.measured] == expected


@given(sizes, st.integers(1, 7), seeds)
def test_the_shares_of_all_processes_make_up_the_step(size, processes, seed):
    examples = ToyExamples(60)
    rows = np.random.default_rng(seed).permutation(60)[:size]
    shares = [share_of(rows, examples, rank, processes) for rank in range(processes)]
    assert sorted(np.concatenate(shares)) == sorted(rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shares_have_about_equally_much_to_do():
    examples = ToyExamples(60, longest=500)
    work = examples.lengths * examples.sequences
    loads = [work[share_of(np.arange(60), examples, rank, 3)].sum() for rank in range(3)]
    assert max(loads) - min(loads) <= work.max()


@given(sizes, st.none() | st.integers(1, 300), st.none() | st.integers(1, 9))
def test_packs_respect_the_budget(size, tokens, most):
    examples = ToyExamples(60)
    packs = packed(np.arange(size), examples, tokens, most)
    assert sorted(np.concatenate(packs)) == list(range(size))
    for pack in packs:
        assert 1 <= len(pack) <= (most or size)
        padded = examples.sequences[pack].sum() * examples.lengths[pack].max()
        assert tokens is None or padded <= tokens or len(pack) == 1
    longest = [length for pack in packs for length in examples.lengths[pack]]
    assert longest == sorted(longest, reverse=True)
    if tokens is None and most is None:
        assert len(packs) == 1


def test_packs_are_as_full_as_can_be():
    examples = ToyExamples(60)
    packs = packed(np.arange(60), examples, 100, None)
    for pack, after in pairwise(packs):
        more = np.append(pack, after[0])
        assert examples.sequences[more].sum() * examples.lengths[more].max() > 100


class OfUnits:
    """Examples of units, of which the first alone costs tokens, as the scores of essays on several traits have them."""

    def __init__(self, units, lengths):
        self.units = np.asarray(units, dtype=np.int64)
        self.lengths = np.asarray(lengths, dtype=np.int64)[self.units]
        self.sequences = np.zeros_like(self.units)
        self.sequences[np.unique(self.units, return_index=True)[1]] = 1

    def __len__(self):
        return len(self.units)


def test_a_pack_that_reads_a_unit_twice_costs_no_more_than_its_budget():
    """Copies behind all firsts cost nothing by themselves, but the pack that they are in reads them anew."""
    once = np.repeat(np.arange(100), 2)
    for units in (np.concatenate([once, once]), np.concatenate([once, once[::-1]]), np.tile(np.arange(100), 2)):
        examples = OfUnits(units, [50] * 100)
        packs = packed(np.arange(len(units)), examples, 200, None)
        assert sorted(np.concatenate(packs)) == list(range(len(units)))
        assert [50 * len(np.unique(units[pack])) for pack in packs] == [200] * 25


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 3), st.integers(5, 60))
def test_units_that_stand_together_are_packed_in_their_order(lengths, each, tokens):
    examples = OfUnits(np.repeat(np.arange(len(lengths)), each), lengths)
    found = np.concatenate(packed(np.arange(len(examples)), examples, tokens, None))
    np.testing.assert_array_equal(found, np.argsort(-examples.lengths, kind="stable"))


def test_nothing_to_pack():
    (pack,) = packed(np.array([], dtype=np.int64), ToyExamples(5), 10, 1)
    assert pack.dtype == np.int64
    assert len(pack) == 0


def test_a_process_without_examples_gets_a_filler():
    examples = ToyExamples(5)
    (filler,) = micro_batches(np.array([], dtype=np.int64), examples, 10, 1)
    assert filler.index.tolist() == [-1]
    assert filler.inputs["x"].shape == (1, 5)


def test_micro_batches_hold_the_rows_of_the_packs():
    examples = ToyExamples(9)
    batches = micro_batches(np.array([7, 2, 4]), examples, None, 2)
    assert [len(batch) for batch in batches] == [2, 1]
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == [2, 4, 7]
    torch.testing.assert_close(
        torch.cat([batch.targets for batch in batches]), torch.from_numpy(examples.targets)[index]
    )
