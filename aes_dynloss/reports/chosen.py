"""The best of several arms by dev, chosen for each stratum and seed, as one scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports.arms import ScoredRun, split_by_prompt


def chosen_runs(arms: Mapping[str, Sequence[ScoredRun]]) -> tuple[list[ScoredRun], dict[str, int]]:
    """In each stratum and seed, the runs of the arm with the best QWK on dev; test is not looked at.

    An arm's figure is the mean over prompts of the QWK of its dev scores, which are post-processed as those of test.
    Prompts whose human scores on dev are all equal, for which it is not defined, count in no arm's.

    Args:
        arms: Runs by arm, those of a stratum and seed with dev predictions of the same essays; the first of equal arms
            is chosen.

    Returns:
        The runs as they are, in the order of the first arm's; and how often each arm was chosen.

    Raises:
        DataError: An arm lacks a run that another has, dev predictions are missing, or arms' dev essays differ.
    """
    places = {arm: _by_place(runs) for arm, runs in arms.items()}
    chosen: list[ScoredRun] = []
    counts = Counter(dict.fromkeys(arms, 0))
    for place in dict.fromkeys(place for by_place in places.values() for place in by_place):
        where = f"stratum {place[0]!r} and seed {place[1]!r}"
        lacking = [arm for arm, by_place in places.items() if place not in by_place]
        if lacking:
            raise DataError(
                f"Arm {lacking[0]!r} has no run of {where}, to choose among {', '.join(arms)}: complete it."
            )
        kappas = {arm: _dev_kappas(by_place[place], f"arm {arm!r}, {where}") for arm, by_place in places.items()}
        (first, essays), *others = ((arm, ids) for arm, (ids, _) in kappas.items())
        for arm, ids in others:
            if ids != essays:
                raise DataError(f"Arms {first!r} and {arm!r} have different dev essays in {where}; expected the same.")
        best = max(arms, key=lambda arm: kappas[arm][1])
        chosen += places[best][place]
        counts[best] += 1
    return chosen, dict(counts)


def _by_place(runs: Sequence[ScoredRun]) -> dict[tuple[str, str], list[ScoredRun]]:
    """An arm's runs by stratum and seed: one, or one for each prompt."""
    places: dict[tuple[str, str], list[ScoredRun]] = {}
    for run in runs:
        places.setdefault((run.stratum, run.seed), []).append(run)
    return places


def _dev_kappas(runs: Sequence[ScoredRun], where: str) -> tuple[set[tuple[str, str]], float]:
    """The dev essays of one place, by prompt and id, and the mean over prompts of QWK on them."""
    essays: set[tuple[str, str]] = set()
    kappas: list[float] = []
    for part in (part for run in runs for part in split_by_prompt(run)):
        (prompt,) = part.test.ranges
        if part.dev is None or part.dev.table.empty:
            raise DataError(f"There are no dev predictions of prompt {prompt!r} to choose by ({where}).")
        table, span = part.dev.table, part.test.ranges[prompt]
        human, score = (span.to_index(table[name].to_numpy(dtype=np.float64)) for name in ("reference", "score"))
        essays.update((prompt, essay) for essay in table["essay_id"])
        if human.min() < human.max():
            kappas.append(float(quadratic_weighted_kappa(human, score)))
    return essays, float(np.mean(kappas)) if kappas else 0.0
