"""What a model folder keeps of its training essays so that others can be put beside them: never a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import CheckpointError

Array = NDArray[np.float64]

QUANTILES = np.linspace(0, 1, 21)
# With fewer training essays on a score point nothing is said of it.
FEWEST_ON_A_POINT = 10
_TRAINING = "training."


@dataclass(frozen=True)
class FeatureSpread:
    """How F features are spread over a prompt's training essays, over all and over those on each score point.

    Args:
        points: Score points with enough essays, (L,), in rising order.
        quantiles: QUANTILES of each feature, (1 + L, F, 21): over all essays, then by score point.
    """

    points: Array
    quantiles: Array

    @classmethod
    def of(cls, values: Array, scores: Array) -> FeatureSpread:
        """That of N training essays.

        Args:
            values: Their features, (N, F), N >= 1.
            scores: Their human scores, (N,).

        Example:
            >>> values = np.arange(40.0)[:, None]
            >>> spread = FeatureSpread.of(values, (values[:, 0] >= 20).astype(float))
            >>> spread.points, spread.percentiles([30.0]), spread.percentiles([30.0], 1.0)
            (array([0., 1.]), array([76.92307692]), array([52.63157895]))
        """
        points, counts = np.unique(scores, return_counts=True)
        points = points[counts >= FEWEST_ON_A_POINT]
        groups = [values, *(values[scores == point] for point in points)]
        return cls(points, np.stack([np.quantile(group, QUANTILES, axis=0).T for group in groups]))

    def percentiles(self, values: ArrayLike, point: float | None = None) -> Array:
        """What per cent of training essays have less than an essay, for each feature, (F,).

        Args:
            values: The essay's features, (F,).
            point: Among those on this score point; None: among all.

        Returns:
            From 0 to 100, the middle of those that are alike; NaN where nothing is known of the score point.
        """
        given = np.asarray(values, dtype=np.float64)
        rows = [-1] if point is None else np.flatnonzero(np.isclose(self.points, point)).tolist()
        if not rows:
            return np.full(len(given), np.nan)
        return np.array(
            [_position(value, ends) for value, ends in zip(given, self.quantiles[1 + rows[0]], strict=True)]
        )

    def percentile(self, feature: int, value: float) -> float:
        """What per cent of training essays have less of one feature."""
        return _position(value, self.quantiles[0, feature])


def _position(value: float, ends: Array) -> float:
    """Where a value lies among quantiles, from 0 to 100; in the middle where several are equal to it."""
    low, high = np.searchsorted(ends, value, side="left"), np.searchsorted(ends, value, side="right")
    if low < high:
        return float(50 * (QUANTILES[low] + QUANTILES[high - 1]))
    return float(100 * np.interp(value, ends, QUANTILES))


@dataclass(frozen=True)
class TrainingEssays:
    """What a model knows of single training essays, and of the spread of its features over them.

    Args:
        ids: Ids of the essays whose vectors the model keeps, in their order, by prompt or prompt and trait; of none
            where the folder is to keep none.
        scores: Their human scores.
        names: The features that the model sees.
        spreads: How these are spread, by prompt or prompt and trait; of none where it sees none.
    """

    ids: Mapping[str, Sequence[str]]
    scores: Mapping[str, Array]
    names: Sequence[str]
    spreads: Mapping[str, FeatureSpread]

    def to_arrays(self, scales: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file; a scale is named by its number among those of the model."""
        text = json.dumps([list(self.ids.get(scale, [])) for scale in scales], ensure_ascii=False)
        arrays: dict[str, NDArray[Any]] = {_TRAINING + "ids": np.frombuffer(text.encode(), dtype=np.uint8)}
        for number, scale in enumerate(scales):
            if scale in self.scores:
                arrays[f"{_TRAINING}scores.{number}"] = np.asarray(self.scores[scale], dtype=np.float64)
            if scale in self.spreads:
                spread = self.spreads[scale]
                arrays[f"{_TRAINING}points.{number}"] = spread.points
                arrays[f"{_TRAINING}quantiles.{number}"] = np.ascontiguousarray(spread.quantiles)
        return arrays

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], scales: Sequence[str], names: Sequence[str]
    ) -> TrainingEssays | None:
        """Inverse of :meth:`to_arrays`; None of a folder that keeps nothing of them, as those of earlier versions.

        Raises:
            CheckpointError: The arrays do not fit together.
        """
        if _TRAINING + "ids" not in arrays:
            return None
        ids = json.loads(arrays[_TRAINING + "ids"].tobytes().decode())
        scores, spreads = {}, {}
        for number, scale in enumerate(scales):
            if (found := arrays.get(f"{_TRAINING}scores.{number}")) is not None:
                scores[scale] = found.astype(np.float64)
            if (points := arrays.get(f"{_TRAINING}points.{number}")) is not None:
                quantiles = arrays[f"{_TRAINING}quantiles.{number}"].astype(np.float64)
                spreads[scale] = FeatureSpread(points.astype(np.float64), quantiles)
        by_scale = {scale: own for scale, own in zip(scales, ids, strict=True) if own}
        if not all(len(own) == len(scores.get(scale, ())) for scale, own in by_scale.items()):
            raise CheckpointError("ids and scores of training essays differ in number")
        shape = len(names), len(QUANTILES)
        if not all(one.quantiles.shape == (1 + len(one.points), *shape) for one in spreads.values()):
            raise CheckpointError(f"the spread of features is not that of {len(names)}")
        return cls(by_scale, scores, list(names), spreads)
