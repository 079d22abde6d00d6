from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures import bootstrap as module
from aes_dynloss.measures.agreement import pearson, quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import Paired, agreement_draws, bootstrap_draws


def columns(n, seed=0):
    random = np.random.default_rng(seed)
    human = random.integers(0, 6, n)
    raw = 1 + 0.6 * human + random.normal(0, 0.8, n)
    return human, np.clip(np.rint(raw), 0, 5).astype(int), raw


def draws_of(human, score, raw, resamples=300, seed=1, **more):
    generator = np.random.default_rng(seed)
    pairs = {"r": (human.astype(float), raw)}
    return agreement_draws(human, {"qwk": score, "same": human}, pairs, resamples, generator, **more)


def test_they_are_those_of_the_plain_bootstrap():
    human, score, raw = columns(80)
    found = draws_of(human, score, raw, averaged={"gap": raw - human})
    pairs = {
        "qwk": Paired(quadratic_weighted_kappa, human, score),
        "r": Paired(pearson, human, raw),
        "gap": Paired(lambda one, other: (other - one).mean(axis=-1), human, raw),
    }
    plain = bootstrap_draws(pairs, 300, np.random.default_rng(1))
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12)
    assert (found["same"] == 1).all()


def test_constants_on_resamples():
    human, score, raw = np.array([0, 0, 1]), np.array([2, 2, 2]), np.array([1.0, 1.0, 2.0])
    found = draws_of(human, score, raw, 200)
    assert np.isnan(found["r"]).any()
    assert found["r"][~np.isnan(found["r"])] == pytest.approx(1)
    assert (found["same"] == 1).all()
    assert found["qwk"] == pytest.approx(0, abs=1e-12)


def test_a_far_origin_and_a_tiny_unit_do_not_matter():
    human, score, raw = columns(60)
    plain, shifted = draws_of(human, score, raw), draws_of(human, score, 1e-200 * raw)
    np.testing.assert_allclose(shifted["r"], plain["r"], atol=1e-9)
    np.testing.assert_allclose(draws_of(human, score, 1e9 + raw)["r"], plain["r"], atol=1e-5)


def test_the_normal_limit_is_the_bootstraps(monkeypatch):
    human, score, raw = columns(4000)
    exact = draws_of(human, score, raw, 4000, averaged={"gap": raw - human})
    monkeypatch.setattr(module, "MOST_DRAWN_ESSAYS", 3999)
    limit = draws_of(human, score, raw, 4000, averaged={"gap": raw - human})
    for name in ("qwk", "r", "gap"):
        assert limit[name].std() == pytest.approx(exact[name].std(), rel=0.06)
        assert limit[name].mean() == pytest.approx(exact[name].mean(), abs=0.1 * exact[name].std())
    assert np.corrcoef(limit["qwk"], limit["r"])[0, 1] == pytest.approx(
        np.corrcoef(exact["qwk"], exact["r"])[0, 1], abs=0.05
    )
    assert limit["same"] == pytest.approx(1, abs=1e-6)


def test_scores_of_the_same_essays_are_drawn_alike_however_many_these_are(monkeypatch):
    """The normal limit of each has eigenvectors of its own, whose signs and order say how draws go together."""
    human, score, raw = columns(400)
    other = np.clip(human + np.random.default_rng(2).integers(-1, 2, 400), 0, 5)
    expected = [draws_of(human, one, raw)["qwk"] for one in (score, other)]
    monkeypatch.setattr(module, "MOST_DRAWN_ESSAYS", 399)
    for one, drawn in zip((score, other), expected, strict=True):
        np.testing.assert_allclose(draws_of(human, one, raw, alike=True)["qwk"], drawn)
        assert np.abs(draws_of(human, one, raw)["qwk"] - drawn).max() > 0.01


def test_constants_in_the_normal_limit(monkeypatch):
    monkeypatch.setattr(module, "MOST_DRAWN_ESSAYS", 10)
    human, score, raw = columns(50)
    constant = np.full(50, 3)
    assert (draws_of(constant, constant, raw)["qwk"] == 1).all()
    assert np.isnan(draws_of(constant, constant, raw)["r"]).all()
    assert np.isnan(draws_of(human, score, np.full(50, 0.1))["r"]).all()
    assert draws_of(human, constant, raw)["qwk"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("most", [10, 100])
def test_a_column_that_is_undefined_leaves_the_others_as_they_are(monkeypatch, most):
    monkeypatch.setattr(module, "MOST_DRAWN_ESSAYS", most)
    human, score, raw = columns(50)
    gaps = {"dsm": np.full(50, np.nan), "smd": raw - human}
    found, alone = draws_of(human, score, raw, 4000, averaged=gaps), draws_of(human, score, raw, 4000)
    assert np.isnan(found["dsm"]).all()
    assert found["smd"].mean() == pytest.approx((raw - human).mean(), abs=0.02)
    assert found["smd"].std() == pytest.approx((raw - human).std() / 50**0.5, rel=0.05)
    for name, values in alone.items():
        assert found[name].std() == pytest.approx(values.std(), rel=0.05, abs=1e-6)


def test_refusals():
    human, score, raw = columns(5)
    with pytest.raises(ConfigError, match="at least 1 resample"):
        draws_of(human, score, raw, 0)
    with pytest.raises(DataError, match="at least one essay"):
        draws_of(human[:0], score[:0], raw[:0])
