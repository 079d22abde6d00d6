"""Kappas of several arms' runs on the same essays and the same resamples of them, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.measures.agreement import FISHER_CAP
from aes_dynloss.measures.bootstrap import kappa_on_resamples, prompt_generator, resample_counts

# Arm and version of its scores: what has a kappa to be compared.
Side = tuple[str, str]


@dataclass(frozen=True)
class Cell:
    """One prompt's essays in one stratum, and every run's scores of them.

    Args:
        stratum: The stratum.
        prompt: The prompt.
        human: Numbers of the human score points, shape (n,), in an order that does not depend on the files.
        machines: Numbers of the machines' score points, shape (n,), by arm and version and then by seed.
        drawn_as: Cells of one stratum and name are drawn alike, such as traits of the same essays; by default the
            prompt.
    """

    stratum: str
    prompt: str
    human: NDArray[np.int64]
    machines: Mapping[Side, Mapping[str, NDArray[np.int64]]]
    drawn_as: str | None = None


@dataclass(frozen=True)
class Figure:
    """A kappa, or a mean or difference of kappas.

    Args:
        values: Its value on the essays as they are, and then on each resample, shape (1 + resamples,).
        by_seed: Its value on the essays as they are, seed by seed; None where there is none for every seed.
    """

    values: NDArray[np.float64]
    by_seed: Mapping[str, float] | None

    @property
    def value(self) -> float:
        """The value on the essays as they are."""
        return float(self.values[0])

    @property
    def draws(self) -> NDArray[np.float64]:
        """The values on the resamples, shape (resamples,)."""
        return self.values[1:]

    def minus(self, other: Figure) -> Figure:
        """The difference on the same resamples, and by seed where both have the same seeds."""
        by_seed = None
        if self.by_seed is not None and other.by_seed is not None and self.by_seed.keys() == other.by_seed.keys():
            by_seed = {seed: value - other.by_seed[seed] for seed, value in self.by_seed.items()}
        return Figure(self.values - other.values, by_seed)


def prompt_figures(cells: Sequence[Cell], resamples: int, seed: int, *, draw_seeds: bool = False) -> dict[Side, Figure]:
    """Each arm's kappas on one prompt: the mean over strata of the mean over seeds.

    Essays are drawn with replacement within each stratum, the same for all arms, versions and seeds. A stratum's and
    prompt's resamples depend on ``seed``, their names and the number of essays alone.

    Args:
        cells: The prompt's cells, one a stratum.
        resamples: Number of resamples, >= 1.
        seed: Seed of the resamples, >= 0.
        draw_seeds: Whether seeds are drawn with replacement, too, the same in all strata and prompts and for all arms
            that have them: where seeds are draws of the data. Of few seeds, n, their spread is understated by the
            factor sqrt((n - 1) / n).

    Returns:
        Figures by arm and version, of those versions that all strata have.

    Raises:
        ConfigError: A setting is out of its bounds.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 8 (paired columns) and 13.

    Examples:
        >>> runs = {("plain", "qwk"): {"seed 0": np.array([0, 1, 3, 3])}}
        >>> cell = Cell("fold 0", "1", np.array([0, 1, 2, 3]), runs)
        >>> figures = prompt_figures([cell], resamples=10, seed=0)
        >>> round(figures["plain", "qwk"].value, 3), len(figures["plain", "qwk"].draws)
        (0.917, 10)
    """
    measured = [_cell_figures(cell, resamples, seed, draw_seeds=draw_seeds) for cell in cells]
    return {
        side: mean_figure([figures[side] for figures in measured])
        for side in measured[0]
        if all(side in figures for figures in measured)
    }


def mean_figure(figures: Sequence[Figure]) -> Figure:
    """The mean of figures on the same resamples; by seed where all have the same seeds.

    Args:
        figures: At least one, all with as many resamples.

    Examples:
        >>> mean_figure([Figure(np.array([0.5, 0.25]), None), Figure(np.array([1.0, 0.75]), None)]).values
        array([0.75, 0.5 ])
    """
    first = figures[0].by_seed
    by_seed = None
    if first is not None and all(one.by_seed is not None and one.by_seed.keys() == first.keys() for one in figures):
        by_seed = {seed: float(np.mean([(one.by_seed or {})[seed] for one in figures])) for seed in first}
    return Figure(np.mean([one.values for one in figures], axis=0), by_seed)


def fisher_figure(figures: Sequence[Figure]) -> Figure:
    """The Fisher mean of kappas on the same resamples, see :func:`aes_dynloss.measures.agreement.fisher_mean`.

    Args:
        figures: At least one, all with as many resamples.

    Examples:
        >>> fisher_figure([Figure(np.array([0.5, 0.0]), None), Figure(np.array([0.9, 0.0]), None)]).values.round(3)
        array([0.766, 0.   ])
    """
    kappas = np.clip([one.values for one in figures], -FISHER_CAP, FISHER_CAP)
    return Figure(np.tanh(np.arctanh(kappas).mean(axis=0)), None)


def _cell_figures(cell: Cell, resamples: int, seed: int, *, draw_seeds: bool) -> dict[Side, Figure]:
    """Each arm's mean over seeds in one cell."""
    pairs = [(side, run) for side, runs in cell.machines.items() for run in runs]
    machines = np.column_stack([cell.machines[side][run] for side, run in pairs])
    # Ids hold no line break, so that no other stratum and prompt are joined to the same name.
    generator = prompt_generator(seed, f"{cell.stratum}\n{cell.drawn_as or cell.prompt}")
    essays = len(cell.human)
    parts = chain([np.ones((1, essays))], resample_counts(essays, resamples, generator))
    kappas = np.concatenate([kappa_on_resamples(counts, cell.human, machines) for counts in parts])
    figures = {}
    for side, runs in cell.machines.items():
        columns = {run: position for position, (other, run) in enumerate(pairs) if other == side}
        by_seed = {run: float(kappas[0, columns[run]]) for run in runs}
        values = kappas[:, list(columns.values())]
        if draw_seeds:
            means = (values * _seed_shares(list(columns), resamples, seed)).sum(axis=1)
        else:
            means = values.mean(axis=1)
        figures[side] = Figure(means, by_seed)
    return figures


def _seed_shares(seeds: Sequence[str], resamples: int, seed: int) -> NDArray[np.float64]:
    """What each seed counts in a mean, as it is and then on each resample of the seeds, (1 + resamples, S)."""
    generator = prompt_generator(seed, "\n".join(["seeds", *seeds]))
    counts = generator.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=resamples)
    return np.concatenate([np.ones((1, len(seeds))), counts]) / len(seeds)
