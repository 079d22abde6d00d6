"""Regression trees on numbers that are counted in essays, kept as arrays; grown by gradient boosting, or a forest's.

scikit-learn grows the trees; what is kept of them is data, so that a model folder holds no code and no pickle.

References:
    Friedman 2001, Greedy function approximation: a gradient boosting machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.left_out import Groups, Rows, by_parts

Array = NDArray[np.float64]

# Chosen on dev of two folds of ASAP among the few settings that were tried.
_SETTINGS: Mapping[str, Any] = {
    "max_iter": 150,
    "learning_rate": 0.06,
    "max_leaf_nodes": 8,
    "l2_regularization": 1.0,
    "max_features": 0.3,
    "early_stopping": False,
    "random_state": 0,
}
_LEAF_ESSAYS = 15  # fewer where there are fewer than ten times as many
_PLACES = ("feature", "left", "right")
_VALUES = ("threshold", "value")


@dataclass(frozen=True)
class BoostedTrees:
    """``raw = baseline + sum over T trees of the value of the leaf that the numbers lead to``.

    A node sends numbers with ``x[feature] <= threshold`` to ``left``, others to ``right``; a leaf sends all to itself.

    Args:
        feature: (T, M) int32, M nodes a tree at most.
        threshold: (T, M).
        left: Node, (T, M) int32.
        right: Node, (T, M) int32.
        value: Of a leaf, (T, M).
        baseline: Where all trees start.
        width: Numbers of an essay, D.
    """

    feature: NDArray[np.int32]
    threshold: Array
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Array
    baseline: float
    width: int

    @classmethod
    def fit(cls, numbers: Array, targets: Array, weights: Array | None = None) -> Self:
        """Grow trees on training essays of one prompt.

        Args:
            numbers: What was counted in each, (N, D).
            targets: Scores, (N,).
            weights: Of the essays, above 0, (N,); by default all 1.

        Example:
            >>> numbers = np.arange(100.0)[:, None]
            >>> trees = BoostedTrees.fit(numbers, np.where(numbers[:, 0] < 50, 1.0, 3.0))
            >>> np.round(trees.predict(np.array([[10.0], [90.0]])), 1)
            array([1., 3.])
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        leaf = max(1, min(_LEAF_ESSAYS, len(targets) // 10))
        model = HistGradientBoostingRegressor(min_samples_leaf=leaf, **_SETTINGS)
        # 1 in the mean, so that only their ratios matter.
        model.fit(numbers, targets, sample_weight=None if weights is None else weights / weights.mean())
        trees = [step[0].nodes for step in model._predictors]
        arrays = _empty(len(trees), max(len(nodes) for nodes in trees))
        for row, nodes in enumerate(trees):
            inner = np.flatnonzero(nodes["is_leaf"] == 0)
            arrays["value"][row, : len(nodes)] = nodes["value"]
            for name, column in (("feature", "feature_idx"), ("threshold", "num_threshold")):
                arrays[name][row, inner] = nodes[column][inner]
            for name in ("left", "right"):
                arrays[name][row, inner] = nodes[name][inner]
        baseline = float(np.ravel(model._baseline_prediction)[0])
        grown = cls._of(arrays, baseline, numbers.shape[1])
        if not np.allclose(grown.predict(numbers), model.predict(numbers), rtol=0, atol=1e-6 * (1 + np.ptp(targets))):
            raise RuntimeError("This version of scikit-learn keeps its trees otherwise than was expected.")
        return grown

    @classmethod
    def of_forest(cls, trees: Sequence[Any], width: int) -> Self:
        """The mean of scikit-learn's trees, as the sum of theirs over their number.

        Args:
            trees: The ``tree_`` of each of its estimators.
            width: Numbers of an essay, D.
        """
        size = max(tree.node_count for tree in trees)
        arrays = _empty(len(trees), size)
        for row, tree in enumerate(trees):
            arrays["value"][row, : tree.node_count] = tree.value[:, 0, 0] / len(trees)
            inner = np.flatnonzero(tree.children_left >= 0)
            for name, values in (
                ("feature", tree.feature),
                ("threshold", tree.threshold),
                ("left", tree.children_left),
                ("right", tree.children_right),
            ):
                arrays[name][row, inner] = values[inner]
        return cls._of(arrays, 0.0, width)

    @classmethod
    def cross_fitted(
        cls, numbers: Array, targets: Array, weights: Array | None = None, groups: Groups | None = None
    ) -> Array:
        """Each training essay's prediction by trees of the other parts, (N,); see :func:`by_parts`.

        Args:
            numbers: (N, D), N at least 5.
            targets: (N,).
            weights: (N,) or None.
            groups: Whose each essay is, (N,), or None.
        """

        def predict(rest: Rows) -> Array:
            trees = cls.fit(numbers[rest], targets[rest], None if weights is None else weights[rest])
            return trees.predict(numbers[~rest])

        return by_parts(len(targets), predict, groups)

    def predict(self, numbers: Array) -> Array:
        """Continuous predictions, (N,).

        Args:
            numbers: (N, D).
        """
        trees = np.arange(len(self.feature))
        node = np.zeros((len(numbers), len(trees)), dtype=np.int32)
        rows = np.arange(len(numbers))[:, None]
        while True:
            below = numbers[rows, self.feature[trees, node]] <= self.threshold[trees, node]
            following = np.where(below, self.left[trees, node], self.right[trees, node])
            if (following == node).all():
                break
            node = following
        raw: Array = self.value[trees, node].sum(1) + self.baseline
        return raw

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in (*_PLACES, *_VALUES)}
        return arrays | {"baseline": np.array([self.baseline]), "width": np.array([self.width])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From :meth:`to_arrays`.

        Raises:
            CheckpointError: The arrays are not such.
        """
        shape, width = arrays["feature"].shape, int(arrays["width"][0])
        places = np.arange(shape[-1])
        fits = len(shape) == 2 and all(arrays[name].shape == shape for name in (*_PLACES, *_VALUES))
        if fits:
            left, right, feature = arrays["left"], arrays["right"], arrays["feature"]
            # Nodes lead onwards, or to themselves: no path is endless.
            onwards = (left >= places) & (right >= places) & (left < shape[1]) & (right < shape[1])
            leaves = (left == places) == (right == places)
            fits = bool((onwards & leaves & (feature >= 0) & (feature < width)).all())
        numeric = [arrays[name] for name in (*_VALUES, "baseline")]
        if not fits or not all(np.isfinite(one).all() for one in numeric):
            raise CheckpointError("the arrays of boosted trees do not fit together")
        return cls._of(arrays, float(arrays["baseline"][0]), width)

    @classmethod
    def _of(cls, arrays: Mapping[str, NDArray[Any]], baseline: float, width: int) -> Self:
        feature, left, right = (arrays[name].astype(np.int32) for name in _PLACES)
        threshold, value = (arrays[name].astype(np.float64) for name in _VALUES)
        return cls(feature, threshold, left, right, value, baseline, width)


def _empty(trees: int, size: int) -> dict[str, Array]:
    """Arrays of trees of leaves alone, each of value 0."""
    places = np.broadcast_to(np.arange(size, dtype=np.float64), (trees, size))
    arrays = {name: np.zeros((trees, size)) for name in ("feature", *_VALUES)}
    return arrays | {"left": places.copy(), "right": places.copy()}
