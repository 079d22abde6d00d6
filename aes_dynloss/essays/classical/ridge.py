"""Ridge and kernel ridge regression in closed form, the penalty chosen by leave-one-out error.

References:
    Saunders, Gammerman and Vovk 1998, Ridge regression learning algorithm in dual variables.
    Allen 1974, The relationship between variable selection and data augmentation (PRESS, the leave-one-out residuals).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]

# One is left out, and the others need a slope.
LEAST_EXAMPLES = 3
# What is less is rounding of what is alike.
SMALLEST = 1e-12
# As multiples of the centred kernel's mean eigenvalue.
PENALTIES: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-8, 6))


@dataclass(frozen=True)
class RidgeFit:
    """A fitted regression: ``prediction = inputs @ coefficients + intercept``.

    Args:
        coefficients: Of the features, (D,), where features were given; of the N training examples, (N,), where their
            kernel was: then the inputs are the kernel of new examples with these.
        intercept: In the targets' unit.
        penalty: As a multiple of the mean eigenvalue of the centred kernel.
        leave_one_out: Each training example's prediction by the fit without it, (N,).
        error: Weighted mean of the squared leave-one-out residuals.
    """

    coefficients: Array
    intercept: float
    penalty: float
    leave_one_out: Array
    error: float


class _Solved(NamedTuple):
    mean: float
    dual: Array
    residuals: Array
    penalty: float
    error: float


@dataclass(frozen=True)
class Regressions:
    """Regressions of any targets on the same examples, whose kernel is decomposed once.

    Args:
        weights: Of the N examples, with the mean 1, (N,).
        values: Eigenvalues of the weighted, centred kernel, (R,).
        vectors: Its eigenvectors, (N, R).
        finish: Coefficients and intercept of a solution.
    """

    weights: Array
    values: Array
    vectors: Array
    finish: Callable[[_Solved], tuple[Array, float]]

    @classmethod
    def on_kernel(cls, kernel: Array, weights: Array | None = None) -> Regressions:
        """On a kernel; the arguments are those of :func:`fit_kernel_ridge`."""
        weights = _checked(kernel, weights)
        count = len(kernel)
        if kernel.shape[1] != count:
            raise ValueError(f"A kernel is square; found {kernel.shape}.")
        root = np.sqrt(weights)
        row_means = kernel @ weights / count
        centred = kernel - row_means[:, None] - row_means[None, :] + float(weights @ row_means) / count
        values, vectors = linalg.eigh(root[:, None] * centred * root, check_finite=False)

        def finish(solved: _Solved) -> tuple[Array, float]:
            dual = root * solved.dual
            dual -= weights * (dual.sum() / count)  # 0 but for rounding
            return dual, solved.mean - float(row_means @ dual)

        return cls(weights, np.maximum(values, 0.0), vectors, finish)

    @classmethod
    def on_features(cls, features: Array, weights: Array | None = None) -> Regressions:
        """On linear functions of features; the arguments are those of :func:`fit_ridge`."""
        weights = _checked(features, weights)
        if len(features) <= features.shape[1]:
            of_kernel = cls.on_kernel(features @ features.T, weights)

            def by_features(solved: _Solved) -> tuple[Array, float]:
                dual, intercept = of_kernel.finish(solved)
                return features.T @ dual, intercept

            return replace(of_kernel, finish=by_features)
        root = np.sqrt(weights)
        centre = weights @ features / len(features)
        scaled = root[:, None] * (features - centre)
        values, axes = linalg.eigh(scaled.T @ scaled, check_finite=False)
        positive = values > values.max(initial=0.0) * 1e-12
        values, axes = values[positive], axes[:, positive]

        def finish(solved: _Solved) -> tuple[Array, float]:
            coefficients = scaled.T @ solved.dual
            return coefficients, solved.mean - float(centre @ coefficients)

        return cls(weights, values, scaled @ axes / np.sqrt(values), finish)

    def fit(self, targets: Array, penalties: Sequence[float] = PENALTIES) -> RidgeFit:
        """The regression of some targets.

        Args:
            targets: (N,).
            penalties: To choose from, as multiples of the mean eigenvalue.

        Raises:
            ValueError: There is not a finite target for each example.
        """
        if targets.shape != self.weights.shape or not np.isfinite(targets).all():
            raise ValueError(f"Expected a finite target for each of {len(self.weights)} examples.")
        solved = _solve(self.values, self.vectors, targets, self.weights, penalties)
        coefficients, intercept = self.finish(solved)
        return RidgeFit(coefficients, intercept, solved.penalty, targets - solved.residuals, solved.error)


def fit_kernel_ridge(
    kernel: Array, targets: Array, weights: Array | None = None, penalties: Sequence[float] = PENALTIES
) -> RidgeFit:
    """Minimise ``sum_i w_i (y_i - f(x_i))^2 + penalty |f|^2`` over functions f with a free intercept.

    Of the penalties, the one with the least leave-one-out error is taken. The leave-one-out predictions are exact, but
    for the kernel's centre, which is that of all examples.

    Args:
        kernel: Symmetric and positive semi-definite, (N, N); N at least 3.
        targets: (N,).
        weights: Of the examples, above 0, (N,); by default all 1.
        penalties: To choose from, as multiples of the mean eigenvalue.

    Returns:
        The fit; its coefficients are those of the training examples.

    Raises:
        ValueError: The shapes do not fit together, there are fewer than three examples, or a value is not finite.

    Example:
        >>> points = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> fit = fit_kernel_ridge(points @ points.T, np.array([1.0, 3.0, 5.0, 7.0]))
        >>> np.round(np.array([[4.0]]) @ points.T @ fit.coefficients + fit.intercept, 1)
        array([9.])
    """
    return Regressions.on_kernel(kernel, weights).fit(targets, penalties)


def fit_ridge(
    features: Array, targets: Array, weights: Array | None = None, penalties: Sequence[float] = PENALTIES
) -> RidgeFit:
    """The same for linear functions of features, whose kernel is their inner product.

    Args:
        features: (N, D); N at least 3.
        targets: (N,).
        weights: Of the examples, above 0, (N,); by default all 1.
        penalties: To choose from, as multiples of the mean eigenvalue of the centred kernel.

    Returns:
        The fit; its coefficients are those of the features.

    Raises:
        ValueError: The shapes do not fit together, there are fewer than three examples, or a value is not finite.

    Example:
        >>> fit = fit_ridge(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 3.0, 5.0, 7.0]))
        >>> np.round(fit.coefficients, 2), round(fit.intercept, 2)
        (array([2.]), 1.0)
    """
    return Regressions.on_features(features, weights).fit(targets, penalties)


def _solve(values: Array, vectors: Array, targets: Array, weights: Array, penalties: Sequence[float]) -> _Solved:
    """The best penalty's solution, from eigenvalues (R,) and eigenvectors (N, R) of the weighted, centred kernel."""
    count, root = len(targets), np.sqrt(weights)
    unit = float(values.sum()) / count or 1.0
    mean = float(weights @ targets) / count
    scaled = root * (targets - mean)
    rotated, squares = vectors.T @ scaled, vectors**2
    best: _Solved | None = None
    for relative in penalties:
        penalty = relative * unit
        kept = values / (values + penalty)
        # What the fit leaves of each example; the intercept takes its part too.
        left = 1.0 - squares @ kept - weights / count
        dual = (scaled - vectors @ (kept * rotated)) / penalty
        residuals = penalty * dual / np.maximum(left, 1e-9) / root
        error = float(np.mean(weights * residuals**2))
        if best is None or error < best.error:
            best = _Solved(mean, dual, residuals, relative, error)
    if best is None:
        raise ValueError("There is no penalty to choose from.")
    return best


def _checked(table: Array, weights: Array | None) -> Array:
    """Weights with the mean 1."""
    count = len(table)
    weights = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if table.ndim != 2 or weights.shape != (count,) or count < LEAST_EXAMPLES:
        raise ValueError(f"{table.shape} inputs do not fit {weights.shape} weights, at least 3 of each.")
    if not (np.isfinite(table).all() and (weights > 0).all()):
        raise ValueError("Inputs must be finite, weights above 0.")
    scaled: Array = weights * (count / weights.sum())
    return scaled


# The Gaussian kernel's scale as a multiple of the median squared distance.
SCALE = 3.0


def fitted_scale(points: Array) -> float:
    """The scale of a Gaussian kernel of these points: a multiple of the median squared distance.

    Args:
        points: (N, D).

    Returns:
        In the unit of a squared distance; 1 where most points are the same.
    """
    squares = (points**2).sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * points @ points.T
    median = float(np.median(distances[np.triu_indices(len(points), 1)]))
    return SCALE * median if median > SMALLEST * (1 + float(squares.max())) else 1.0


def radial_kernel(left: Array, right: Array, scale: float) -> Array:
    """Gaussian kernel ``exp(-|x - y|^2 / scale)``, (N, M).

    Args:
        left: (N, D).
        right: (M, D).
        scale: In the unit of a squared distance, above 0.
    """
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1)[None, :] - 2 * left @ right.T
    similarity: Array = np.exp(-np.maximum(squared, 0.0) / scale)
    return similarity
