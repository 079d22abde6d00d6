"""The bundled essays with raters, some of them bad, and trusted essays."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aes_dynloss.essays.samples import ESSAYS

LIMITS = {"phones": (1, 6), "river": (0, 4)}
TRUSTED = 25


def planted_table(reversed_rater: str = "", lowest_rater: str = "", seed: int = 0) -> pd.DataFrame:
    """A row an essay with ``rater`` (R1 to R4, by chance) and ``gold``: 1 for 25 trusted essays a prompt, else 0."""
    table = pd.read_json(ESSAYS, lines=True)
    random = np.random.default_rng(seed)
    table["rater"] = random.permutation([f"R{number % 4 + 1}" for number in range(len(table))])
    order = pd.Series(random.permutation(len(table))).groupby(table["prompt_id"]).rank()
    table["gold"] = (order <= TRUSTED).astype(int)
    low, high = (table["prompt_id"].map({prompt: ends[end] for prompt, ends in LIMITS.items()}) for end in (0, 1))
    rated = table["gold"] == 0
    backwards, lowest = (rated & (table["rater"] == name) for name in (reversed_rater, lowest_rater))
    table["score"] = table["score"].mask(backwards, low + high - table["score"]).mask(lowest, low)
    return table
