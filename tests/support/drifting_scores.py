"""Made-up administrations of one population of essays, some of which have drifted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aes_dynloss.programme.administrations import Scores
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"a": ScoreRange(1, 6), "b": ScoreRange(0, 30)}


def administration(
    name: str,
    seed: int,
    essays: int = 150,
    *,
    lengths: float = 0.0,
    group_y: float = 0.0,
    too_long: float = 0.01,
    machine_error: float = 0.4,
    human: bool = False,
) -> Scores:
    """Essays on both prompts in groups x and y, with lengths, a feature and advisories.

    Args:
        name: What they are called.
        seed: Of the essays.
        essays: On each prompt.
        lengths: SDs by which essays on prompt a are longer.
        group_y: SDs by which scores of group y are higher.
        too_long: Share of essays with that advisory.
        machine_error: SD of the machine's error, in SDs of quality.
        human: Whether humans scored all of them.
    """
    parts = []
    for prompt, span in RANGES.items():
        random = np.random.default_rng([seed, ord(prompt)])
        quality, error, other = random.standard_normal((3, essays))
        groups = np.where(random.random(essays) < 0.4, "y", "x")
        middle, unit = (span.low + span.high) / 2, (span.high - span.low) / 5
        raw = middle + unit * (quality + machine_error * error + group_y * (groups == "y"))
        long = np.where(random.random(essays) < too_long, "too_long", "")
        parts.append(
            pd.DataFrame(
                {
                    "essay_id": [f"{prompt}{number}" for number in range(essays)],
                    "prompt_id": prompt,
                    "raw": raw,
                    "score": span.to_point(raw),
                    "reference": span.to_point(middle + unit * quality),
                    "words": np.round(np.exp(5.5 + 0.4 * (quality + other + lengths * (prompt == "a")))),
                    "spelling": random.gamma(2, 1 + 0.1 * quality**2),
                    "group": groups,
                    "advisories": [frozenset({kind} - {""}) for kind in long],
                    "withheld": False,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return Scores(name, table, RANGES, ["spelling"], table if human else None)
