"""Shapley values: exact where they are said to be, and close where sentences are many."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.explaining.contributions import sentence_shapley
from aes_dynloss.essays.explaining.occlusion import left_out
from aes_dynloss.essays.explaining.shapley import of_function, of_products


@pytest.mark.parametrize("groups", [1, 2, 3, 8, 12])
def test_products_as_by_all_coalitions(groups):
    random = np.random.default_rng(groups)
    present, absent = random.random((4, groups)), random.random((4, groups))
    found = of_products(present, absent)
    expected = of_function(lambda there: np.prod(np.where(there[:, None], present, absent), axis=2), groups)
    np.testing.assert_allclose(found, expected.T, atol=1e-14)
    np.testing.assert_allclose(found.sum(1), present.prod(1) - absent.prod(1), atol=1e-14)


def test_factors_may_be_nothing():
    present, absent = np.array([[0.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 0.0]])
    expected = of_function(lambda there: np.prod(np.where(there[:, None], present, absent), axis=2), 3)
    np.testing.assert_allclose(of_products(present, absent), expected.T, atol=1e-14)
    assert expected.ravel().tolist() == [-3.0, 0.0, 3.0]


def test_values_of_any_function():
    # A player who adds the same to every coalition gets that; two who add alike get alike; who adds nothing, nothing.
    def value(there):
        return 3.0 * there[:, 0] + 2.0 * (there[:, 1] & there[:, 2]) + 0.0 * there[:, 3]

    np.testing.assert_allclose(of_function(value, 4), [3.0, 1.0, 1.0, 0.0])
    with pytest.raises(ConfigError, match="at most 14 groups, found 15"):
        of_function(value, 15)


def game(sentences, seed=0):
    """Effects of sentences by themselves and in pairs, on two scales; and their Shapley values."""
    random = np.random.default_rng(seed)
    alone, pairs = random.normal(size=(sentences, 2)), random.normal(size=(sentences, sentences, 2)) * 0.2
    pairs[np.tril_indices(sentences)] = 0

    def values(there):
        chosen = there.astype(float)
        return 5.0 + chosen @ alone + np.einsum("ci,ijt,cj->ct", chosen, pairs, chosen)

    return values, alone + (pairs.sum(1) + pairs.sum(0)) / 2


@pytest.mark.parametrize("sentences", [1, 2, 6])
def test_few_sentences_are_exact(sentences):
    values, expected = game(sentences)
    np.testing.assert_allclose(sentence_shapley(values, sentences)[0], expected, atol=1e-12)


@pytest.mark.parametrize("sentences", [7, 12, 20, 60, 200])
def test_many_sentences_are_close_and_their_sum_exact(sentences):
    values, expected = game(sentences)
    asked = []

    def counting(there):
        asked.append(len(there))
        return values(there)

    found, last = sentence_shapley(counting, sentences)
    np.testing.assert_allclose(last, left_out(values, sentences)[1], atol=1e-12)
    ends = values(np.vstack([np.zeros((1, sentences)), np.ones((1, sentences))]))
    np.testing.assert_allclose(found.sum(0), ends[1] - ends[0])
    assert np.linalg.norm(found - expected) <= (0.5 if sentences >= 60 else 0.15) * np.linalg.norm(expected)
    assert sum(asked) <= max(160, 3 * sentences) + 2
    np.testing.assert_array_equal(sentence_shapley(values, sentences)[0], found)


@pytest.mark.parametrize("sentences", [8, 20, 60])
def test_what_the_number_of_sentences_does_takes_no_part(sentences):
    # As of a kernel regression, whose answer for a few sentences falls below that for none, and then rises.
    values, _ = game(sentences)
    dip = np.array([0.0, -30.0, -40.0, -35.0, *np.linspace(-20, 20, sentences - 3)])

    def dipping(there):
        return values(there) + dip[there.sum(1).astype(int), None]

    share = (dip[-1] - dip[0]) / sentences
    plain, dipped = sentence_shapley(values, sentences)[0], sentence_shapley(dipping, sentences)[0] - share
    assert np.linalg.norm(dipped - plain) <= 0.3 * np.linalg.norm(plain)


def test_no_sentence_adds_nothing():
    assert [each.shape for each in sentence_shapley(lambda there: np.ones((len(there), 3)), 0)] == [(0, 3)] * 2
