"""How much lower the SD of a cross-fitted run's test scores is than that of its model's scores of new essays.

    python recipes/benchmarks/cross_fitted_spread.py --results recipes/benchmarks/results/cross_fitted_spread.json

A run tests each essay by a scorer that was fitted without the essay's part, and so to fewer essays than its model. The
ratio of SDs is that of new essays' scores by the model to that of the run's test scores, which in single models has
chance in it; "same essays" has that of both kinds of scorers on the same new essays. Scorers are those of preset fast,
essays those of ASAP, in data/asap, and essays made by code of few sentences, which all parts share. Prints the README
table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from result_table import result_table

from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.features.linguistic import GROUPS, essay_numbers
from aes_dynloss.essays.finetune.presets import PARTS
from aes_dynloss.tables.atomic import write_text

sys.path.append(str(Path(__file__).parents[1] / "programme"))
from made_up import ASAP, made_up_essays

NEW = 200
Array = NDArray[np.float64]


def spread_ratios(texts: list[str], scores: Array, new: list[str], random: np.random.Generator) -> tuple[float, float]:
    """SD of new essays' scores by a model over that of cross-fitted scores, of its own essays and of the new ones.

    Args:
        texts: Essays to fit.
        scores: Their scores, (N,).
        new: Other essays, which all score.
        random: Draws the parts.
    """
    numbers, of_new = (essay_numbers(own, None, GROUPS) for own in (texts, new))
    part = random.permutation(len(texts)) % PARTS

    def of(rows: NDArray[np.bool_]) -> list[str]:
        return [text for text, taken in zip(texts, rows, strict=True) if taken]

    whole = TextRegression.fit(texts, numbers, scores)[0].predict(new, of_new)
    tested, by_parts = np.empty(len(texts)), np.empty((PARTS, len(new)))
    for number in range(PARTS):
        own = part == number
        model, _ = TextRegression.fit(of(~own), numbers[~own], scores[~own])
        tested[own], by_parts[number] = model.predict(of(own), numbers[own]), model.predict(new, of_new)
    return float(whole.std() / tested.std()), float(whole.std() / by_parts.std())


def sources(asap: bool, draws: int) -> Iterator[tuple[str, int, str, pd.DataFrame]]:
    """Name, essays to fit, prompt and essays: text and score."""
    if asap:
        table = pd.read_parquet(ASAP, columns=["essay_set", "essay", "domain1_score"])
        table.columns = pd.Index(["prompt_id", "text", "score"])
        for size in (150, 500):
            for prompt, own in table.groupby("prompt_id"):
                yield from (("ASAP", size, str(prompt), own) for _ in range(draws))
    for seed in range(4 * draws):
        made = made_up_essays(np.random.default_rng(seed)).essays
        for prompt, own in made.groupby("prompt_id"):
            yield "few sentences", 150, str(prompt), own


def measure(asap: bool, draws: int) -> dict[str, Any]:
    """Ratios by source and number of essays."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for number, (name, size, _, essays) in enumerate(sources(asap, draws)):
        random = np.random.default_rng(number)
        if len(essays) >= size + NEW:
            drawn = essays.sample(size + NEW, random_state=random)
            texts, scores = drawn["text"].tolist(), drawn["score"].to_numpy(dtype=np.float64)
            found.setdefault((name, size), []).append(spread_ratios(texts[:size], scores[:size], texts[size:], random))
    return {"rows": [{"essays": name, "fitted": size, "ratios": own} for (name, size), own in found.items()]}


def table(result: dict[str, Any]) -> str:
    """The README's table."""
    lines = []
    for row in result["rows"]:
        ratios, same = np.array(row["ratios"]).T
        cells = [
            f"{value:.3f}" for value in (ratios.mean(), ratios.std() / len(ratios) ** 0.5, same.mean(), same.max())
        ]
        lines.append([row["essays"], str(row["fitted"]), str(len(ratios)), *cells])
    return result_table(["essays", "fitted to", "models", "ratio of SDs", "+-", "same essays", "largest"], lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3, help="models of each prompt and size")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    measured = measure(ASAP.exists(), arguments.draws)
    if arguments.results:
        write_text(arguments.results, json.dumps(measured, indent=1) + "\n")
    print(table(measured))  # noqa: T201 - it is what the script is for
