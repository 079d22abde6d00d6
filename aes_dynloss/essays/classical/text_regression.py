"""Regression of one prompt's scores on numbers that are counted in essays and on their n-grams, in closed form.

The numbers are standardised by training essays and clamped. A Gaussian kernel of them, or their inner product, and the
string kernel are mixed, the share chosen by leave-one-out error; the part over n-grams is kept as a linear model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.ridge import Regressions, fit_ridge, fitted_scale, radial_kernel
from aes_dynloss.essays.classical.strings import StringFeatures, StringModel, fit_mixed_all
from aes_dynloss.essays.features.linguistic import MOST_SD, SMALLEST_SD, feature_scales

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NumberScale:
    """Puts an essay's numbers into the unit of training essays: (number - mean) / sd, clamped, times a weight.

    The first number is the length, whose weight is 1; for the others see
    :func:`aes_dynloss.essays.features.linguistic.feature_scales`. What hardly differs between training essays is left
    out.

    Args:
        mean: Of training essays, (D,).
        inverse_sd: 1 / sd, 0 for what is left out, (D,).
        weights: (D,).
    """

    mean: Array
    inverse_sd: Array
    weights: Array

    @classmethod
    def of(cls, numbers: Array, own: int = 0) -> NumberScale:
        """That of training essays, (N, D), whose last numbers are the user's own columns."""
        return cls.of_prompts([numbers], own)

    @classmethod
    def of_prompts(cls, numbers: Sequence[Array], own: int = 0) -> NumberScale:
        """That of training essays on several prompts, (N, D) each, where every prompt counts alike."""
        mean = np.mean([one.mean(0) for one in numbers], axis=0)
        sd = np.sqrt(np.mean([((one - mean) ** 2).mean(0) for one in numbers], axis=0))
        varied = sd > SMALLEST_SD * np.abs(mean)
        weights = np.concatenate([[1.0], feature_scales(len(mean) - 1 - own, own)])
        return cls(mean, np.divide(1.0, sd, out=np.zeros_like(sd), where=varied), weights)

    @property
    def sd(self) -> Array:
        """Of training essays, 0 for what is left out, (D,)."""
        return np.divide(1.0, self.inverse_sd, out=np.zeros_like(self.inverse_sd), where=self.inverse_sd > 0)

    def points(self, numbers: Array) -> Array:
        """Standardised numbers, (N, D)."""
        values: Array = np.clip((numbers - self.mean) * self.inverse_sd, -MOST_SD, MOST_SD) * self.weights
        return values

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file."""
        return {"mean": self.mean, "inverse_sd": self.inverse_sd, "weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NumberScale:
        """From :meth:`to_arrays`; other arrays are left alone.

        Raises:
            CheckpointError: They are not of one length.
        """
        mean, inverse_sd, weights = (arrays[name].astype(np.float64) for name in ("mean", "inverse_sd", "weights"))
        if mean.ndim != 1 or not mean.shape == inverse_sd.shape == weights.shape:
            raise CheckpointError("the arrays of a standardisation do not fit together")
        return cls(mean, inverse_sd, weights)


def cross_fitted(numbers: Array, targets: Array, folds: int = 10) -> Array:
    """Each essay's prediction by a ridge regression on what was counted in essays, fitted without the essay's fold.

    Folds are drawn by chance. All essays have one level, the mean of all targets: with the mean outside of its fold, an
    essay's prediction would fall where its own target rises, and noise would be predicted upside down.

    Args:
        numbers: What was counted in each of one prompt's essays, the length first, (N, D).
        targets: Scores, (N,).
        folds: Number of folds; at least 3 essays must be outside of each.

    Returns:
        Continuous predictions, (N,).

    Example:
        >>> scores = np.arange(20.0)
        >>> predictions = cross_fitted(scores[:, None], scores)
        >>> predictions.shape, bool(np.abs(predictions - scores).max() < 1)
        ((20,), True)
    """
    fold = np.random.default_rng(0).permutation(len(targets)) % folds
    predictions = np.empty(len(targets))
    for held_out in range(folds):
        rows, rest = fold == held_out, fold != held_out
        standard = NumberScale.of(numbers[rest])
        points = standard.points(numbers[rest])
        fit = fit_ridge(points, targets[rest])
        predictions[rows] = (standard.points(numbers[rows]) - points.mean(0)) @ fit.coefficients
    return np.asarray(targets.mean() + predictions)


@dataclass(frozen=True)
class TextRegression:
    """``raw = kernel(points, support) @ coefficients + n-grams + intercept``.

    Args:
        numbers: Standardisation of an essay's D numbers.
        support: Points of training essays, (S, D); for a linear model the D unit vectors.
        coefficients: (S,).
        scale: Of the Gaussian kernel; None: the model is linear in the points.
        strings: Linear model of n-grams; None: it has none.
        intercept: In the unit of the scores.
    """

    numbers: NumberScale
    support: Array
    coefficients: Array
    scale: float | None
    strings: StringModel | None
    intercept: float

    @property
    def width(self) -> int:
        """Numbers of an essay, D."""
        return len(self.numbers.mean)

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        numbers: Array,
        targets: Array,
        weights: Array | None = None,
        *,
        own: int = 0,
        kernel: bool = True,
        strings: bool = True,
    ) -> tuple[Self, Array]:
        """Fit to training essays of one prompt.

        Args:
            texts: N essays, at least 3.
            numbers: What was counted in each, the length first, (N, D).
            targets: Scores, (N,).
            weights: Of the essays, above 0, (N,); by default all 1.
            own: How many of the last numbers are the user's own columns.
            kernel: Whether numbers go through a Gaussian kernel; else the model is linear in them.
            strings: Whether n-grams join them.

        Returns:
            The model, and each training essay's prediction by the fit without it, (N,).

        Example:
            >>> texts = [word * count for count in range(1, 7) for word in ("tea ", "otter ")]
            >>> scores = np.array([len(text.split()) for text in texts], dtype=float)
            >>> model, left_out = TextRegression.fit(texts, np.log1p(scores)[:, None], scores)
            >>> np.round(model.predict(["otter " * 4], np.log1p([[4.0]])))
            array([4.])
        """
        return cls.fit_all(texts, numbers, [targets], weights, own=own, kernel=kernel, strings=strings)[0]

    @classmethod
    def fit_all(
        cls,
        texts: Sequence[str],
        numbers: Array,
        targets: Sequence[Array],
        weights: Array | None = None,
        *,
        own: int = 0,
        kernel: bool = True,
        strings: bool = True,
    ) -> list[tuple[Self, Array]]:
        """The same for several targets of the same essays, such as their scores on several traits."""
        standard = NumberScale.of(numbers, own)
        points = standard.points(numbers)
        scale = fitted_scale(points) if kernel else None
        likeness = radial_kernel(points, points, scale) if scale is not None else points @ points.T
        models: list[StringModel | None] = [None] * len(targets)
        if strings:
            features = StringFeatures.of(texts)
            mixed = fit_mixed_all(likeness, features.kernel(), targets, weights)
            fits, duals = [one.fit for one in mixed], [one.of_kernel for one in mixed]
            models = [StringModel.flatten(features, one.of_strings) for one in mixed]
        else:
            regressions = Regressions.on_kernel(likeness, weights)
            fits = [regressions.fit(target) for target in targets]
            duals = [fit.coefficients for fit in fits]
        found = []
        for fit, dual, model in zip(fits, duals, models, strict=True):
            support, coefficients = points, dual
            if scale is None:
                support, coefficients = np.eye(points.shape[1]), points.T @ dual
            found.append((cls(standard, support, coefficients, scale, model, fit.intercept), fit.leave_one_out))
        return found

    def predict(self, texts: Sequence[str], numbers: Array) -> Array:
        """Continuous predictions, (N,).

        Args:
            texts: N essays.
            numbers: What was counted in each, (N, D).
        """
        raw = self.of_numbers(numbers)
        return raw if self.strings is None else raw + self.strings.predict(texts)

    def of_numbers(self, numbers: Array) -> Array:
        """What the numbers say, (N,), to which the n-grams add theirs.

        Each essay by itself: the order of sums in a matrix product, and so the last digit, hangs on the number of rows.

        Args:
            numbers: What was counted in each essay, (N, D).
        """
        points = self.numbers.points(numbers)
        if self.scale is None:
            likeness = points
        else:
            each = [radial_kernel(point[None], self.support, self.scale)[0] for point in points]
            likeness = np.array(each).reshape(len(points), len(self.support))
        raw: Array = (likeness * self.coefficients).sum(axis=1) + self.intercept
        return raw

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file; support points in float32."""
        arrays: dict[str, NDArray[Any]] = {
            **self.numbers.to_arrays(),
            "support": self.support.astype(np.float32),
            "coefficients": self.coefficients,
            "scale": np.array([0.0 if self.scale is None else self.scale]),
            "intercept": np.array([self.intercept]),
        }
        if self.strings is not None:
            arrays |= {"keys": self.strings.keys, "key_weights": self.strings.weights}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From :meth:`to_arrays`.

        Raises:
            CheckpointError: The arrays are not such.
        """
        numeric = {name: arrays[name].astype(np.float64) for name in arrays if name != "keys"}
        numbers, support, scale = NumberScale.from_arrays(arrays), numeric["support"], numeric["scale"]
        fits = support.shape[1:] == numbers.mean.shape
        fits = fits and numeric["coefficients"].shape == support.shape[:1] and scale.shape == numeric["intercept"].shape
        if (
            not fits
            or scale.shape != (1,)
            or scale[0] < 0
            or not all(np.isfinite(one).all() for one in numeric.values())
        ):
            raise CheckpointError("the arrays of a regression do not fit together")
        strings = StringModel.from_arrays(arrays["keys"], arrays["key_weights"]) if "keys" in arrays else None
        return cls(
            numbers,
            support,
            numeric["coefficients"],
            float(scale[0]) or None,
            strings,
            float(numeric["intercept"][0]),
        )
