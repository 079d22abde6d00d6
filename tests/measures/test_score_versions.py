from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rated_essays import sample

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.calibration import TRIM_TOLERANCE, RescalingLine, fit_rescaling, score_versions, trim
from aes_dynloss.tables.score_range import ScoreRange

RANGE = ScoreRange(1, 6)
NAMES = ["raw", "raw_trim", "raw_trim_round", "scale", "scale_trim", "scale_trim_round"]

# Sums and sums of squares of the versions by RSMTool 12.0.0, of the seeded sample stretched beyond the range.
RSMTOOL = {
    "raw": (919.4763400912445, 3941.6815075052127),
    "scale": (865.2910109209979, 3494.3244596655095),
    "raw_trim": (917.9829874592253, 3916.795897283283),
    "raw_trim_round": (911.0, 3865.0),
    "scale_trim": (865.4535842170782, 3491.406949717696),
    "scale_trim_round": (862.0, 3480.0),
}

raws = st.lists(st.floats(-20, 20), min_size=1, max_size=20)
lines = st.builds(RescalingLine, st.floats(0.1, 5), st.floats(-5, 5))
ranges = st.builds(lambda low, points, step: ScoreRange(low, low + points * step, step),
                   st.integers(-3, 3), st.integers(1, 12), st.sampled_from([0.5, 1.0, 2.0]))  # fmt: skip


def stretched(essays=240, seed=6):
    ratings, raw, _, _ = sample(essays, seed)
    return ratings[:, 0], 1.6 * raw - 2


def test_values_of_rsmtool():
    dev_human, dev_raw = stretched(100, 7)
    versions = score_versions(stretched()[1], RANGE, fit_rescaling(dev_raw, dev_human))
    assert list(versions) == NAMES
    for name, sums in RSMTOOL.items():
        values = versions[name]
        assert (values.sum(), np.square(values).sum()) == pytest.approx(sums, abs=1e-6), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [0, 0.25, TRIM_TOLERANCE])
def test_they_are_those_of_rsmtool(rsmtool, seed, tolerance):
    process = "preprocessor.FeaturePreprocessor.process_predictions"
    raw = stretched(seed=seed)[1]
    dev_human, dev_raw = stretched(80, seed + 10)
    moments = dev_raw.mean(), dev_raw.std(ddof=1), dev_human.mean(), dev_human.std(ddof=1)
    theirs = rsmtool(process, pd.DataFrame({"raw": raw}), *moments, 1, 6, tolerance)
    ours = score_versions(raw, RANGE, fit_rescaling(dev_raw, dev_human), tolerance)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-9, err_msg=name)


def test_halves_are_rounded_up_where_rsmtool_rounds_to_even():
    rounded = score_versions([1.5, 2.5, 3.5], RANGE, None)["raw_trim_round"]
    np.testing.assert_array_equal(rounded, [2, 3, 4])


def test_without_dev_there_are_the_raw_versions():
    assert list(score_versions([1.2], RANGE, None)) == NAMES[:3]


@given(raws, ranges, lines, st.floats(0, 0.4999))
def test_trimmed_and_rounded_versions_stay_within_the_range(raw, span, line, tolerance):
    versions = score_versions(raw, span, line, tolerance)
    margin = tolerance * span.step
    for kind in ("raw", "scale"):
        values, trimmed, rounded = (versions[kind + end] for end in ("", "_trim", "_trim_round"))
        assert (trimmed >= span.low - margin).all()
        assert (trimmed <= span.high + margin).all()
        inside = (values >= span.low) & (values <= span.high)
        np.testing.assert_array_equal(trimmed[inside], values[inside])
        assert all(span.is_score_point(score) for score in rounded)
        # Trimming changes no rounded score: they are those that the package gives elsewhere.
        np.testing.assert_array_equal(rounded, span.to_point(values))
    np.testing.assert_allclose(versions["scale"], line.apply(raw))


@given(raws, ranges)
def test_trimming_keeps_the_order_and_is_done_once(raw, span):
    trimmed = trim(np.sort(raw), span)
    assert (np.diff(trimmed) >= 0).all()
    np.testing.assert_array_equal(trim(trimmed, span), trimmed)


def test_the_tolerance_is_counted_in_score_points():
    np.testing.assert_allclose(trim([-9, 9], ScoreRange(1, 3, 0.5), 0.4), [0.8, 3.2])


def test_rescaled_dev_has_the_humans_moments():
    human, raw = stretched()
    scale = score_versions(raw, RANGE, fit_rescaling(raw, human))["scale"]
    assert (scale.mean(), scale.std()) == pytest.approx((human.mean(), human.std()))


def test_stacked_scores_keep_their_shape():
    raw = stretched()[1].reshape(2, 3, 40)
    versions = score_versions(raw, RANGE, RescalingLine(1.1, -0.2))
    assert {values.shape for values in versions.values()} == {(2, 3, 40)}


@pytest.mark.parametrize("tolerance", [-0.1, 0.5, 1, math.nan])
def test_tolerances_out_of_bounds(tolerance):
    with pytest.raises(ConfigError, match=r"at least 0 and below \.5"):
        score_versions([1.0], RANGE, None, tolerance)


@pytest.mark.parametrize(("raw", "message"), [([], "at least one essay"), ([1, math.nan], "infinity in raw")])
def test_scores_that_cannot_be_used(raw, message):
    with pytest.raises(DataError, match=message):
        score_versions(raw, RANGE, None)
