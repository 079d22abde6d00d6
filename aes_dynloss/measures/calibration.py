"""Calibration of one prompt's raw predictions on dev: rescaling, tuned cut points, and versions of the scores.

Raw predictions of a scorer trained by squared error shrink to the mean, which costs kappa although their order is good.
Both corrections are fitted on dev alone and stored with the model as plain dicts. ``score_versions`` returns the six
versions that operational scoring distinguishes: raw or rescaled, each as it is, trimmed, and rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.measures.agreement import checked_columns, score_point_numbers
from aes_dynloss.tables.score_range import ScoreRange

# Predictions whose sd is below this share of the humans' are taken as constant: float noise must not be blown up.
SMALLEST_SD_RATIO = 1e-6
# Cost in kappa of moving one cut point by one score point, times the number of dev essays. Chosen without a test essay
# of the fold: TF-IDF ridge fitted on train of each of ASAP's five folds; mean QWK over folds and prompts of cuts tuned
# on one random half of dev and measured on the other (ten halvings, both ways), and of cuts tuned on all of dev and
# measured on a third of train that the ridge had not seen:
#     cost        0     1     3    10    30    50   100   300  1000   no cuts: rescaled   raw
#     half dev  .714  .715  .716  .717  .718  .719  .719  .719  .718              .718  .600
#     all dev   .705  .704  .705  .706  .707  .708  .708  .708  .709              .709  .567
# From 50 to 300 it makes no difference; 100 lies between. Tuned cuts are not better than rescaling here: where the cost
# is low they are worse, in both measurements (standard errors of differences, over folds and prompts, .001 to .002).
CUT_POINT_COST = 100.0
# The mean of the cut points that 30 bootstrap resamples of dev give bears a lower cost. In the second measurement (with
# other thirds) it gave, for the costs 1, 10, 30 and 100, .7006 .7013 .7018 .7009; tuned once .6999 .7008 .7007 .7008;
# rescaled .7017. It takes away the harm of tuning, and brings no gain over rescaling (standard errors .001 to .002).
AVERAGED_COST = 30.0
RESAMPLES = 30
# Candidate shifts of a cut point from its start, in score points; within half a point, no cut can pass another.
CUT_POINT_SHIFTS = np.linspace(-0.5, 0.5, 21)
MOST_SWEEPS = 50


@dataclass(frozen=True)
class RescalingLine:
    """raw -> slope * raw + intercept.

    Args:
        slope: Above 0.
        intercept: Value at raw = 0.
        note: Why the line is the identity although it was fitted; empty where it was fitted in earnest.

    Examples:
        >>> RescalingLine(slope=2.0, intercept=-3.0).apply([2.0, 2.5])
        array([1., 2.])
    """

    slope: float = 1.0
    intercept: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        """Check the line at construction."""
        if not (0 < self.slope < np.inf and np.isfinite(self.intercept)):
            raise DataError(
                f"A rescaling line needs slope > 0 and finite numbers, found {self.slope}, {self.intercept}."
            )

    def apply(self, raw: ArrayLike) -> NDArray[np.float64]:
        """Rescaled predictions, same shape; not trimmed to a range."""
        return self.slope * np.asarray(raw, dtype=np.float64) + self.intercept

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML."""
        return {"slope": self.slope, "intercept": self.intercept, "note": self.note}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RescalingLine:
        """The line that ``to_dict`` wrote; CheckpointError if a value is missing."""
        try:
            return cls(float(values["slope"]), float(values["intercept"]), str(values.get("note", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"A stored rescaling line needs slope and intercept, found {dict(values)}."
            ) from error


@dataclass(frozen=True)
class CutPoints:
    """raw -> score point: the k-th point of the range from the k-th cut on.

    Args:
        score_range: The prompt's score points, ``count`` of them.
        cuts: Ascending values on the raw scale, ``count - 1`` of them; raw >= cuts[k] gives at least point k + 1.
        note: Why the cuts are plain rounding although they were tuned; empty where they were tuned in earnest.

    Examples:
        >>> CutPoints(ScoreRange(1, 3), cuts=(1.4, 2.6)).apply([1.3, 1.4, 3.0])
        array([1., 2., 3.])
    """

    score_range: ScoreRange
    cuts: tuple[float, ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Check the cut points at construction."""
        if len(self.cuts) != self.score_range.count - 1:
            raise DataError(
                f"The range {self.score_range} needs {self.score_range.count - 1} cut points, found {len(self.cuts)}."
            )
        if not np.isfinite(self.cuts).all() or (np.diff(self.cuts) < 0).any():
            raise DataError(f"Cut points must be finite and ascending, found {list(self.cuts)}.")

    def apply(self, raw: ArrayLike) -> NDArray[np.float64]:
        """Score points of raw predictions, same shape."""
        # 1e-9: the same tolerance for a value on the cut as ScoreRange has for a half.
        values = np.asarray(raw, dtype=np.float64) + 1e-9 * self.score_range.step
        return self.score_range.points[np.searchsorted(np.asarray(self.cuts), values, "right")]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML."""
        score_range = {"low": self.score_range.low, "high": self.score_range.high, "step": self.score_range.step}
        return {"range": score_range, "cuts": list(self.cuts), "note": self.note}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CutPoints:
        """The cut points that ``to_dict`` wrote; CheckpointError if a value is missing or wrong."""
        try:
            score_range = ScoreRange(**values["range"])
            return cls(score_range, tuple(float(cut) for cut in values["cuts"]), str(values.get("note", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Stored cut points need a range and its cuts, found {dict(values)}.") from error


def fit_rescaling(raw: ArrayLike, reference: ArrayLike) -> RescalingLine:
    """The line that gives dev predictions the human scores' mean and sd.

        slope = sd(h) / sd(raw), intercept = mean(h) - slope * mean(raw)

    With fewer than two essays, or constant predictions or human scores, no line is determined: the result is then the
    identity and its ``note`` says why.

    Args:
        raw: Dev predictions of one prompt, shape (n,), n >= 1.
        reference: Their human scores, shape (n,).

    Returns:
        The line; its slope is above 0.

    Raises:
        DataError: The shapes differ, there is no essay, or a value is not finite.

    References:
        Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1): scaling to the human
        scores' mean and sd. Kolen and Brennan (2014), Test Equating, Scaling, and Linking: linear linking.

    Examples:
        >>> line = fit_rescaling(raw=[2.0, 2.5, 3.0], reference=[1, 2, 3])
        >>> line.slope, line.intercept
        (2.0, -3.0)
        >>> line.apply([2.25])
        array([1.5])
    """
    predictions, human = _dev_columns(raw, reference)
    note = _degenerate(predictions, human)
    if note:
        return RescalingLine(note=f"{note}, so predictions are not rescaled")
    slope = float(human.std() / predictions.std())
    return RescalingLine(slope, float(human.mean() - slope * predictions.mean()))


def fit_cut_points(raw: ArrayLike, reference: ArrayLike, score_range: ScoreRange, *, resamples: int = 0) -> CutPoints:
    """Cut points on the raw scale that maximise dev's QWK less a cost for leaving their start.

        QWK(h, points(raw, cuts)) - (cost / n) * sum_k shift_k^2,    shift_k in score points, |shift_k| <= .5

    Coordinate search: it starts where rounding would cut the rescaled predictions and moves one cut point after the
    other to its best candidate until none moves. It is deterministic and keeps the cuts ascending. The cost keeps few
    essays from moving many cuts: without it, the tuned cuts of a range of 61 points fit the noise of 150 dev essays.
    Where no rescaling line is determined, the cuts are those of plain rounding and ``note`` says why.

    Args:
        raw: Dev predictions of one prompt, shape (n,), n >= 1.
        reference: Their human scores, shape (n,), score points of ``score_range``.
        score_range: The prompt's score points.
        resamples: Bootstrap resamples of the essays over whose cut points, tuned at AVERAGED_COST, the mean is taken;
            0: the essays as they are. Seeded, so that the same essays give the same cut points.

    Returns:
        The cut points.

    Raises:
        DataError: The shapes differ, there is no essay, a value is not finite, or a human score is no score point.

    Examples:
        >>> cuts = fit_cut_points([2.0, 2.4, 2.6, 3.0], [1, 2, 2, 3], ScoreRange(1, 3))
        >>> cuts.apply([2.0, 2.4, 2.6, 3.0])
        array([1., 2., 2., 3.])
    """
    predictions, human = _dev_columns(raw, reference)
    (points,) = score_point_numbers(score_range, reference=human)
    halves = np.arange(0.5, score_range.count - 1, dtype=np.float64)
    note = _degenerate(predictions, human)
    if note:
        rounding = score_range.low + score_range.step * halves
        return CutPoints(score_range, tuple(rounding.tolist()), f"{note}, so cut points are those of rounding")
    line = fit_rescaling(predictions, human)
    position = (line.apply(predictions) - score_range.low) / score_range.step
    index = points.astype(np.float64)
    if resamples:
        order = np.lexsort((index, position))  # so that the essays' order in their table does not matter
        position, index = position[order], index[order]
        draws = np.random.default_rng(0).integers(0, len(index), (resamples, len(index)))
        # A resample of a single human score has no kappa, and says nothing about cuts.
        varied = [draw for draw in draws if np.ptp(index[draw]) > 0]
        tuned = [_CutSearch(position[draw], index[draw], halves, AVERAGED_COST).run() for draw in varied]
        best = np.mean(tuned, axis=0) if tuned else halves
    else:
        best = _CutSearch(position, index, halves, CUT_POINT_COST).run()
    on_line = score_range.low + score_range.step * best
    return CutPoints(score_range, tuple(((on_line - line.intercept) / line.slope).tolist()))


class _CutSearch:
    """Coordinate search over cut points, with score points numbered from 0.

    Moving a cut changes the index of the essays between its old and its new place by one, so that prefix sums of the
    human scores give kappa at every candidate without another pass over the essays.

    Args:
        position: Rescaled predictions in score points from the lowest, shape (n,).
        human: Index of the human score, shape (n,).
        start: Ascending cuts to start from, shape (points - 1,).
        cost: Cost of moving a cut by one score point, times the number of essays.
    """

    def __init__(
        self, position: NDArray[np.float64], human: NDArray[np.float64], start: NDArray[np.float64], cost: float
    ) -> None:
        self.cost = cost
        order = np.argsort(position, kind="stable")
        self.position, self.start, self.cuts = position[order], start, start.copy()
        self.essays = len(human)
        self.human_prefix = np.concatenate([[0.0], np.cumsum(human[order])])
        self.human_mean, self.human_variance = human.mean(), human.var()
        machine = np.searchsorted(start, self.position, "right").astype(np.float64)
        # Sums over essays of m, m^2 and h m, with m the index of the machine's score.
        self.sums = np.array([machine.sum(), np.square(machine).sum(), (machine * human[order]).sum()])

    def run(self) -> NDArray[np.float64]:
        """The best cuts found."""
        for _ in range(MOST_SWEEPS):
            moved = [self._move(which) for which in range(len(self.cuts))]
            if not any(moved):
                break
        return self.cuts

    def _move(self, which: int) -> bool:
        """Move one cut to its best candidate; whether it moved."""
        candidates = np.concatenate([self.cuts[which : which + 1], self.start[which] + CUT_POINT_SHIFTS])
        below = np.searchsorted(self.position, candidates, "left")
        raised = (below[0] - below).astype(np.float64)
        sums = self.sums[:, None] + np.stack(
            [raised, raised * (2 * which + 1), self.human_prefix[below[0]] - self.human_prefix[below]]
        )
        cost = self.cost / self.essays * np.square(candidates - self.start[which])
        value = self._kappa(sums) - cost
        best = int(value.argmax())
        # 1e-9: a gain within float noise would let the search run in circles.
        if value[best] <= value[0] + 1e-9:
            return False
        self.cuts[which], self.sums = candidates[best], sums[:, best]
        return True

    def _kappa(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """QWK from the sums of m, m^2 and h m, shape (3, candidates)."""
        mean, square, product = sums / self.essays
        covariance = product - mean * self.human_mean
        expected = square - mean**2 + self.human_variance + (mean - self.human_mean) ** 2
        return np.asarray(2 * covariance / expected)


def _dev_columns(raw: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Both columns of dev as float64, (n,)."""
    columns = checked_columns(raw=raw, reference=reference)
    if columns[0].ndim != 1:
        raise DataError(f"Calibration needs the columns of one prompt, (n,), found the shape {columns[0].shape}.")
    return columns


def _degenerate(predictions: NDArray[np.float64], human: NDArray[np.float64]) -> str:
    """Why these dev essays determine no calibration, or nothing."""
    if len(human) < 2:
        return "dev has a single essay"
    if human.max() == human.min():
        return "all human scores on dev are equal"
    if predictions.std() <= SMALLEST_SD_RATIO * human.std():
        return "all predictions on dev are equal"
    return ""


# RSMTool's: scores reach almost half a point beyond the range, and so keep their order where rounding does not need it.
TRIM_TOLERANCE = 0.4998


def trim(values: ArrayLike, score_range: ScoreRange, tolerance: float = TRIM_TOLERANCE) -> NDArray[np.float64]:
    """Scores moved to the nearest value from low - tolerance to high + tolerance.

    Args:
        values: Scores before rounding, shape (..., n), n >= 1, finite.
        score_range: The prompt's score points.
        tolerance: How far scores may reach beyond the range, in score points (steps), 0 <= tolerance < .5: from half a
            point on, rounding would leave the range.

    Returns:
        Trimmed scores, same shape.

    Raises:
        ConfigError: The tolerance is out of its bounds.
        DataError: There is no score, or a value is not finite.

    References:
        RSMTool, ``FeaturePreprocessor.trim``.

    Examples:
        >>> trim([0.2, 2.5, 4.9], ScoreRange(1, 4))
        array([0.5002, 2.5   , 4.4998])
    """
    if not 0 <= tolerance < 0.5:
        raise ConfigError(
            f"A trim tolerance must be at least 0 and below .5 score points, found {tolerance}; RSMTool's is "
            f"{TRIM_TOLERANCE}."
        )
    (scores,) = checked_columns(values=values)
    margin = tolerance * score_range.step
    return np.clip(scores, score_range.low - margin, score_range.high + margin)


def score_versions(
    raw: ArrayLike, score_range: ScoreRange, line: RescalingLine | None, tolerance: float = TRIM_TOLERANCE
) -> dict[str, NDArray[np.float64]]:
    """The versions of one prompt's machine scores.

        raw                          as the machine predicts them
        scale                        (raw - mean(m)) / sd(m) * sd(h) + mean(h), the moments being those of dev
        raw_trim, scale_trim         trimmed to the range, with a tolerance
        raw_trim_round, ...          rounded to score points

    Halves are rounded up, as everywhere in this package. RSMTool rounds an exact half to the even score and knows whole
    scores only; elsewhere the versions are the same.

    Args:
        raw: Machine scores before rounding, shape (..., n), n >= 1, finite.
        score_range: The prompt's score points.
        line: ``fit_rescaling`` of dev's human and machine scores, or None where there is no dev.
        tolerance: How far trimmed scores may reach beyond the range, in score points, 0 <= tolerance < .5.

    Returns:
        Scores by version, each of raw's shape; without a line, the three raw versions.

    Raises:
        ConfigError: The tolerance is out of its bounds.
        DataError: There is no score, or a value is not finite.

    References:
        RSMTool, ``FeaturePreprocessor.process_predictions``; its documentation, "Score post-processing". Williamson,
        Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13: scaling.

    Examples:
        >>> versions = score_versions([0.2, 2.5], ScoreRange(1, 4), line=None)
        >>> list(versions)
        ['raw', 'raw_trim', 'raw_trim_round']
        >>> versions["raw_trim_round"]
        array([1., 3.])
    """
    (scores,) = checked_columns(raw=raw)
    kinds = {"raw": scores} if line is None else {"raw": scores, "scale": line.apply(scores)}
    versions: dict[str, NDArray[np.float64]] = {}
    for kind, values in kinds.items():
        trimmed = trim(values, score_range, tolerance)
        versions |= {kind: values, f"{kind}_trim": trimmed, f"{kind}_trim_round": score_range.to_point(trimmed)}
    return versions
