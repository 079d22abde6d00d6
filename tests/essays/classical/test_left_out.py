"""How training essays are dealt to parts that are predicted in turn."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.essays.classical.left_out import parts_of


class TestParts:
    @pytest.mark.parametrize("groups", [None, [None] * 23, [f"w{number}" for number in range(23)]])
    def test_single_essays_are_dealt_in_turn(self, groups):
        assert parts_of(np.arange(23), 5, groups, ["a"] * 23).tolist() == (np.arange(23) % 5).tolist()

    def test_prompts_in_turn_are_divided_each(self):
        """By row number each of five prompts whose essays come by turns would be a part of its own."""
        prompts = list("abcde") * 4
        part = parts_of(np.arange(20), 5, None, prompts)
        assert np.bincount(part).tolist() == [4] * 5
        for prompt in "abcde":
            assert len({one for one, own in zip(part.tolist(), prompts, strict=True) if own == prompt}) == 4
        one_by_one = parts_of(np.arange(20), 5, None, sorted(prompts))
        assert one_by_one.tolist() == (np.arange(20) % 5).tolist()

    def test_groups_are_whole_and_parts_of_about_one_size(self):
        numbers = np.random.default_rng(0).integers(0, 40, 300)
        groups, prompts = [f"w{number}" for number in numbers], ["ab"[number % 2] for number in range(300)]
        part = parts_of(np.arange(300), 5, groups, prompts)
        assert all(len(set(part[numbers == number])) == 1 for number in numbers)
        assert np.ptp(np.bincount(part)) <= 3
        np.testing.assert_array_equal(part, parts_of(np.arange(300), 5, groups, prompts))

    def test_rows_of_an_essay_are_together(self):
        """Those of a trait each, of writers who are not all known."""
        essays = np.repeat(np.arange(20), 3)
        groups = [None if essay % 3 == 0 else f"w{essay % 4}" for essay in essays]
        for known in (None, groups):
            part = parts_of(essays, 4, known, ["a"] * 60)
            assert set(part) == set(range(4))
            assert all(len(set(part[essays == essay])) == 1 for essay in essays)

    def test_essays_of_a_prompt_are_never_all_in_one_part(self):
        """That of a single class, say: nothing would be left to learn the prompt from."""
        groups, prompts = ["class 1"] * 12 + ["class 2"] * 4 + ["class 3"] * 4, ["a"] * 12 + ["b"] * 8
        part = parts_of(np.arange(20), 3, groups, prompts)
        assert np.bincount(part[:12]).tolist() == [4, 4, 4]
        assert part[12:].tolist() == [1] * 4 + [2] * 4
