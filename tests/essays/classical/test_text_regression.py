"""One prompt's regression on numbers and n-grams: beside its definition, left out one by one, and as arrays."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.ridge import fitted_scale, radial_kernel
from aes_dynloss.essays.classical.strings import StringFeatures, fit_mixed
from aes_dynloss.essays.classical.text_regression import NumberScale, TextRegression, cross_fitted
from aes_dynloss.essays.features.linguistic import LINGUISTIC_WEIGHT, MOST_SD

WORDS = ["the", "otter", "swims", "under", "a", "bridge", "while", "children", "throw", "bread", "and", "tea"]


def essays(count: int = 40, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(5, 40))) for _ in range(count)]
    numbers = np.stack([[np.log1p(len(text.split())), text.count("otter"), text.count("e")] for text in texts])
    return texts, numbers, 2 * numbers[:, 0] + 0.3 * numbers[:, 1] + random.normal(0, 0.1, count)


class TestNumberScale:
    def test_the_length_weighs_as_much_as_five_times_all_others(self):
        points = NumberScale.of(essays()[1]).points(essays()[1])
        assert points[:, 0].var() == pytest.approx(1)
        assert points[:, 1:].var(0).sum() == pytest.approx(LINGUISTIC_WEIGHT)

    def test_far_values_are_clamped_and_constant_ones_left_out(self):
        numbers = np.stack([np.arange(5.0), np.ones(5)], axis=1)
        points = NumberScale.of(numbers).points(np.array([[1000.0, 7.0]]))
        assert points.tolist() == [[MOST_SD, 0.0]]

    @pytest.mark.parametrize("unit", [1e-9, 1e9])
    def test_what_counts_as_constant_depends_on_no_unit(self, unit):
        numbers = np.stack([np.arange(5.0), 7 + 1e-9 * np.arange(5.0), np.arange(5.0)], axis=1) * unit
        assert (NumberScale.of(numbers).inverse_sd == 0).tolist() == [False, True, False]

    def test_numbers_of_another_unit_give_the_same_points(self):
        numbers = essays()[1]
        other = numbers * [3, 0.1, 100] + [1, 2, 3]
        np.testing.assert_allclose(NumberScale.of(numbers).points(numbers), NumberScale.of(other).points(other))


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("strings", [True, False])
def test_its_arrays_predict_as_it_does(kernel, strings):
    texts, numbers, targets = essays()
    model, _ = TextRegression.fit(texts, numbers, targets, kernel=kernel, strings=strings)
    again = TextRegression.from_arrays(model.to_arrays())
    new, new_numbers, truth = essays(seed=1)
    raw = model.predict(new, new_numbers)
    np.testing.assert_allclose(again.predict(new, new_numbers), raw, atol=1e-5)
    assert np.corrcoef(raw, truth)[0, 1] > 0.9


def test_it_is_the_mixed_kernel_regression():
    texts, numbers, targets = essays()
    model, left_out = TextRegression.fit(texts, numbers, targets)
    points = NumberScale.of(numbers).points(numbers)
    mixed = fit_mixed(radial_kernel(points, points, fitted_scale(points)), StringFeatures.of(texts).kernel(), targets)
    np.testing.assert_allclose(left_out, mixed.fit.leave_one_out)
    np.testing.assert_allclose(model.coefficients, mixed.of_kernel)


@pytest.mark.parametrize("kernel", [True, False])
def test_an_essay_left_out_is_predicted_by_the_others(kernel):
    """Exact but for standardisation, the kernel's scale and centre, and the penalty, which are those of all."""
    texts, numbers, targets = essays()
    _, left_out = TextRegression.fit(texts, numbers, targets, kernel=kernel)
    for row in range(0, 40, 8):
        rest = [index for index in range(40) if index != row]
        others, _ = TextRegression.fit([texts[i] for i in rest], numbers[rest], targets[rest], kernel=kernel)
        assert others.predict([texts[row]], numbers[[row]])[0] == pytest.approx(left_out[row], abs=0.15)


def test_weights_count_as_repetition_would():
    texts, numbers, targets = essays()
    weights = np.where(np.arange(40) < 10, 3.0, 1e-6)
    heavy, _ = TextRegression.fit(texts, numbers, targets, weights, strings=False, kernel=False)
    error = np.abs(heavy.predict(texts, numbers) - targets)
    assert error[:10].mean() < error[10:].mean()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coefficients", np.zeros(3)),
        ("support", np.full((40, 3), np.nan)),
        ("mean", np.zeros(2)),
        ("scale", np.array([-1.0])),
        ("keys", np.array([2, 1], dtype=np.uint64)),
    ],
)
def test_damaged_arrays_are_refused(name, value):
    model, _ = TextRegression.fit(*essays())
    with pytest.raises(CheckpointError, match="do not fit together"):
        TextRegression.from_arrays(model.to_arrays() | {name: value})


class TestCrossFitted:
    def test_what_numbers_say_is_predicted(self):
        _, numbers, targets = essays(200)
        assert np.corrcoef(cross_fitted(numbers, targets), targets)[0, 1] > 0.95

    def test_a_target_has_no_influence_on_its_own_prediction_but_by_the_mean(self):
        _, numbers, targets = essays(60)
        before = cross_fitted(numbers, targets)
        targets[7] += 6.0
        after = cross_fitted(numbers, targets) - 0.1
        assert after[7] == pytest.approx(before[7])
        assert np.abs(after - before).max() > 0.05

    def test_noise_is_predicted_neither_up_nor_down(self):
        found = []
        for seed in range(60):
            random = np.random.default_rng(seed)
            numbers, targets = random.normal(size=(60, 15)), random.normal(size=60)
            found.append(np.corrcoef(targets, cross_fitted(numbers, targets))[0, 1])
        assert abs(np.mean(found)) < 0.15
