"""Ridge in closed form beside scikit-learn and beside refitting without each example."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from aes_dynloss.essays.classical.ridge import fit_kernel_ridge, fit_ridge, fitted_scale, radial_kernel


def drawn(count, width, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, width)) + 3.0
    targets = features[:, 0] - 0.5 * features[:, -1] + generator.normal(size=count) + 7.0
    return features, targets, generator.uniform(0.5, 2.0, size=count)


def unit(features, weights):
    """Mean eigenvalue of the weighted, centred kernel."""
    weights = weights * len(weights) / weights.sum()
    centred = features - weights @ features / len(weights)
    return (weights[:, None] * centred**2).sum() / len(weights)


@pytest.mark.parametrize(("count", "width"), [(12, 30), (40, 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_ridge_of_scikit_learn(count, width, weighted):
    features, targets, weights = drawn(count, width)
    weights = weights if weighted else np.ones(count)
    fit = fit_ridge(features, targets, weights, penalties=[0.3])
    scaled = weights * count / weights.sum()
    peer = Ridge(alpha=0.3 * unit(features, weights)).fit(features, targets, sample_weight=scaled)
    np.testing.assert_allclose(fit.coefficients, peer.coef_, rtol=1e-6, atol=1e-9)
    assert fit.intercept == pytest.approx(peer.intercept_)


@pytest.mark.parametrize(("count", "width"), [(12, 30), (40, 5)])
def test_leaving_one_out_is_refitting_with_the_centre_of_all(count, width):
    features, targets, weights = drawn(count, width)
    weights = weights * count / weights.sum()
    fit = fit_ridge(features, targets, weights, penalties=[0.3])
    penalty = 0.3 * unit(features, weights)
    centred = features - weights @ features / count
    for row in (0, 7):
        rest = np.arange(count) != row
        # The intercept is free: a column of ones without a penalty.
        design = np.column_stack([centred[rest], np.ones(count - 1)])
        ridge = np.diag([*[penalty] * width, 0.0])
        weighted = design * weights[rest, None]
        solution = np.linalg.solve(design.T @ weighted + ridge, weighted.T @ targets[rest])
        expected = np.append(centred[row], 1.0) @ solution
        assert fit.leave_one_out[row] == pytest.approx(expected, rel=1e-6)


def test_kernel_and_features_agree():
    features, targets, weights = drawn(15, 6)
    by_features = fit_ridge(features, targets, weights)
    by_kernel = fit_kernel_ridge(features @ features.T, targets, weights)
    np.testing.assert_allclose(features.T @ by_kernel.coefficients, by_features.coefficients, rtol=1e-5, atol=1e-8)
    assert by_kernel.penalty == by_features.penalty
    np.testing.assert_allclose(by_kernel.leave_one_out, by_features.leave_one_out, rtol=1e-6)


def test_noise_gets_a_large_penalty_and_signal_a_small_one():
    generator = np.random.default_rng(1)
    features = generator.normal(size=(60, 20))
    assert fit_ridge(features, features[:, 0]).penalty < 0.01
    assert fit_ridge(features, generator.normal(size=60)).penalty > 1


def test_a_twice_weighted_example_is_one_that_is_there_twice():
    features, targets, _ = drawn(20, 4)
    weights = np.ones(20)
    weights[3] = 2.0
    doubled = np.append(np.arange(20), 3)
    once = fit_ridge(features, targets, weights, penalties=[0.1])
    penalty = 0.1 * unit(features, weights) * 20 / 21  # weights with the mean 1 are 20/21 of those
    twice = Ridge(alpha=penalty * 21 / 20 * 21 / 20).fit(features[doubled], targets[doubled])
    np.testing.assert_allclose(once.coefficients, twice.coef_, rtol=1e-6)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\).*at least 3"):
        fit_ridge(np.ones((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"square; found \(3, 2\)"):
        fit_kernel_ridge(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        fit_ridge(np.full((3, 2), np.nan), np.ones(3))
    with pytest.raises(ValueError, match="weights above 0"):
        fit_ridge(np.ones((3, 2)), np.ones(3), np.array([1.0, 0.0, 1.0]))


def test_features_that_do_not_differ_give_the_mean():
    fit = fit_ridge(np.ones((5, 2)), np.arange(5.0))
    assert np.ones((1, 2)) @ fit.coefficients + fit.intercept == pytest.approx([2.0])


def test_points_that_are_alike_have_a_scale_and_leave_new_ones_finite():
    point = np.random.default_rng(0).normal(size=(1, 40))
    points = np.repeat(point, 5, axis=0)  # rounding makes their squared distances negative
    assert fitted_scale(points) == 1.0
    assert np.isfinite(radial_kernel(point + 9, points, fitted_scale(points))).all()


def test_radial_kernel():
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(radial_kernel(points, points, 25.0), [[1, np.exp(-1)], [np.exp(-1), 1]])
