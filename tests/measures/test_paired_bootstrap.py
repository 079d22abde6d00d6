from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import prompt_generator
from aes_dynloss.measures.paired_bootstrap import Cell, Figure, mean_figure, prompt_figures

RANDOM = np.random.default_rng(2)


def cell(stratum, seeds=("1", "2"), essays=30, arms=("a", "b"), prompt="p"):
    human = RANDOM.integers(0, 5, essays)
    machines = {
        (arm, "qwk"): {seed: np.clip(human + RANDOM.integers(-1, 2, essays), 0, 4) for seed in seeds} for arm in arms
    }
    return Cell(stratum, prompt, human, machines)


def kappa(human, machine):
    return float(quadratic_weighted_kappa(human, machine))


def test_the_mean_over_strata_of_the_mean_over_seeds_on_the_same_resamples():
    """Strata of different size count the same, as do seeds, of which one stratum has more."""
    cells = [cell("x"), cell("y", seeds=("1", "2", "3"), essays=50)]
    found = prompt_figures(cells, 25, seed=4)
    index = {
        one.stratum: prompt_generator(4, f"{one.stratum}\np").integers(0, len(one.human), (25, len(one.human)))
        for one in cells
    }
    for side in (("a", "qwk"), ("b", "qwk")):
        per_stratum = [[kappa(one.human, run) for run in one.machines[side].values()] for one in cells]
        assert found[side].value == pytest.approx(np.mean([np.mean(kappas) for kappas in per_stratum]))
        for draw in range(25):
            rows = {one.stratum: index[one.stratum][draw] for one in cells}
            drawn = [
                np.mean([kappa(one.human[rows[one.stratum]], run[rows[one.stratum]]) for run in runs.values()])
                for one in cells
                for runs in [one.machines[side]]
            ]
            assert found[side].draws[draw] == pytest.approx(np.mean(drawn), abs=1e-12)
        assert found[side].by_seed is None


def test_by_seed_is_the_mean_over_strata():
    cells = [cell("x"), cell("y")]
    found = prompt_figures(cells, 5, seed=0)[("a", "qwk")]
    for seed in ("1", "2"):
        kappas = [kappa(one.human, one.machines["a", "qwk"][seed]) for one in cells]
        assert found.by_seed[seed] == pytest.approx(np.mean(kappas))
    assert np.mean(list(found.by_seed.values())) == pytest.approx(found.value)


def test_draws_do_not_hang_on_the_other_arms_but_on_stratum_prompt_and_seed():
    one = cell("x")
    alone = Cell(one.stratum, one.prompt, one.human, {("b", "qwk"): one.machines["b", "qwk"]})
    both = prompt_figures([one], 30, 0)["b", "qwk"].draws
    np.testing.assert_array_equal(prompt_figures([alone], 30, 0)["b", "qwk"].draws, both)
    for stratum, prompt, seed in (("y", "p", 0), ("x", "q", 0), ("x", "p", 1)):
        other = Cell(stratum, prompt, one.human, one.machines)
        assert (prompt_figures([other], 30, seed)["b", "qwk"].draws != both).any()


def test_seeds_are_drawn_too_the_same_in_all_cells():
    cells = [cell("x", seeds=("1", "2", "3")), cell("y", seeds=("1", "2", "3"))]
    shares = prompt_generator(4, "seeds\n1\n2\n3").multinomial(3, np.full(3, 1 / 3), size=25) / 3
    found = prompt_figures(cells, 25, 4, draw_seeds=True)["a", "qwk"]
    for draw in range(25):
        kappas = []
        for one in cells:
            rows = prompt_generator(4, f"{one.stratum}\np").integers(0, 30, (25, 30))[draw]
            kappas.append([kappa(one.human[rows], run[rows]) for run in one.machines["a", "qwk"].values()])
        assert found.draws[draw] == pytest.approx((np.mean(kappas, axis=0) * shares[draw]).sum(), abs=1e-12)
    plain = prompt_figures(cells, 25, 4)["a", "qwk"]
    assert (found.value, found.by_seed) == (pytest.approx(plain.value), plain.by_seed)
    assert (found.draws != plain.draws).any()


def test_a_version_that_a_stratum_lacks_is_left_out():
    cells = [cell("x"), cell("y", arms=("a",))]
    assert list(prompt_figures(cells, 5, 0)) == [("a", "qwk")]


def test_differences_and_means_of_figures():
    first = Figure(np.array([0.5, 0.4]), {"1": 0.5, "2": 0.5})
    second = Figure(np.array([0.2, 0.3]), {"1": 0.1, "2": 0.3})
    other = Figure(np.array([0.2, 0.3]), {"1": 0.2})
    np.testing.assert_allclose(first.minus(second).values, [0.3, 0.1])
    assert first.minus(second).by_seed == pytest.approx({"1": 0.4, "2": 0.2})
    assert first.minus(other).by_seed is None
    assert mean_figure([first, second]).by_seed == pytest.approx({"1": 0.3, "2": 0.4})
    np.testing.assert_allclose(mean_figure([first, second]).values, [0.35, 0.35])
    for figures in ([first, other], [other, first], [first, Figure(first.values, None)]):
        assert mean_figure(figures).by_seed is None
