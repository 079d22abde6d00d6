"""String kernel beside its definition, and its regression as a linear model of n-grams."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.ridge import fit_kernel_ridge
from aes_dynloss.essays.classical.strings import (
    StringFeatures,
    StringModel,
    fit_mixed,
    ngram_keys,
    string_values,
    strings_from_arrays,
    strings_to_arrays,
)

TEXTS = ["abab", "the cat sat on the mat", "the cat sat", "on a mat sat the cat", "", "zebra", "Straße 𝄞 \ud800"]


def counted(text: str, longest: int) -> Counter[str]:
    return Counter(text[at : at + size] for size in range(1, longest + 1) for at in range(len(text) - size + 1))


def intersection(left: str, right: str, longest: int) -> float:
    """The histogram intersection, normalised by the number of n-grams."""
    one, other = counted(left, longest), counted(right, longest)
    total = (one & other).total()
    return total / np.sqrt(max(one.total(), 1) * max(other.total(), 1))


@pytest.mark.parametrize("longest", [1, 3, 8])
def test_the_kernel_is_the_histogram_intersection(longest):
    kernel = StringFeatures.of(TEXTS, longest).kernel()
    expected = [[intersection(left, right, longest) for right in TEXTS] for left in TEXTS]
    np.testing.assert_allclose(kernel, expected, atol=1e-6)


@given(st.lists(st.text(alphabet="ab ", max_size=12), min_size=2, max_size=6))
def test_kernels_of_any_texts(texts):
    kernel = StringFeatures.of(texts, 4).kernel()
    expected = [[intersection(left, right, 4) for right in texts] for left in texts]
    np.testing.assert_allclose(kernel, expected, atol=1e-6)
    assert np.linalg.eigvalsh(kernel).min() > -1e-5


def test_a_key_for_each_occurrence():
    for text in TEXTS:
        keys = ngram_keys(text, 8)
        assert len(keys) == counted(text, 8).total()
        assert (np.diff(keys.astype(object)) > 0).all()


def essays(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    words = ["the", "school", "computers", "because", "friends", "learn", "think", "good", "however", "time"]
    return [" ".join(generator.choice(words, generator.integers(5, 40))) for _ in range(count)]


def test_the_linear_model_is_the_kernel_regression():
    train, new = essays(40, 0), essays(10, 1)
    targets = np.random.default_rng(2).normal(size=40)
    features = StringFeatures.of(train)
    fit = fit_kernel_ridge(features.kernel(), targets)
    whole = StringModel.flatten(features, fit.coefficients, least_texts=1)
    expected = [
        sum(c * intersection(text, other, 8) for c, other in zip(fit.coefficients, train, strict=True)) for text in new
    ]
    np.testing.assert_allclose(whole.predict(new), expected, atol=4e-6)
    smaller = StringModel.flatten(features, fit.coefficients)
    assert len(smaller.keys) < len(whole.keys)
    assert whole.predict(["", "Ω"]).tolist() == [0.0, 0.0]


def test_keys_without_weight_are_not_kept():
    features = StringFeatures.of(["aab", "aab", "b"], 2)
    assert len(StringModel.flatten(features, np.zeros(3), 1).keys) == 0
    mixed = fit_mixed(np.eye(3), np.ones((3, 3)), np.array([1.0, 2.0, 3.0]))  # the strings do not differ
    assert np.isfinite(mixed.of_strings).all()


def test_values_come_from_the_prompts_own_model():
    features = StringFeatures.of(["aa", "ab", "aa"], 2)
    models = {
        "1": StringModel.flatten(features, np.array([1.0, 0.0, 0.0]), 1, longest=2),
        "2": StringModel.flatten(features, np.array([0.0, -1.0, 0.0]), 1, longest=2),
    }
    values = string_values(models, ["aa", "aa", "ab"], ["1", "2", "2"])
    np.testing.assert_allclose(values, [1.0, -intersection("aa", "ab", 2), -1.0], atol=1e-6)
    read = strings_from_arrays(strings_to_arrays(models))
    assert list(read) == ["1", "2"]
    np.testing.assert_array_equal(read["2"].keys, models["2"].keys)


def test_damaged_arrays_are_refused():
    keys, weights = np.arange(3, dtype=np.uint64), np.zeros(3, dtype=np.float32)
    for arrays in (
        {"keys.1": keys},
        {"keys.1": keys.astype(np.int64), "weights.1": weights},
        {"keys.1": keys, "weights.1": weights[:2]},
        {"keys.1": keys[::-1], "weights.1": weights},
        {"other.1": keys},
    ):
        with pytest.raises(CheckpointError, match="n-grams"):
            strings_from_arrays(arrays)
