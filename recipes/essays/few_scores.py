"""What a few scored essays of a prompt never seen are worth: the learning curve of `model.kind: transfer`, on ASAP.

    python recipes/essays/few_scores.py runs/asap_with_target_essays [recipes/essays/results/few_scores.json]

Each prompt is left out in turn; the model learns from the seven others and is adapted to its essays. Of these, 0,
10, 25 or 50, drawn by chance five times, have scores, by which the guessed level is set right; the others are
measured. With the mean and sd of all scores in the place of guessed ones, the same predictions show what guessing
costs. Beside it stands how many scores of the unseen prompt the 90 % intervals of the grid's runs contain.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from aes_dynloss.errors import DataError
from aes_dynloss.essays.classical.transfer import TransferRegression
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, essay_numbers
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.tables.atomic import write_text

COUNTS, DRAWS = (0, 10, 25, 50), 5
KNOWN = "level known"
ARMS = ("strict", "with_target_essays")
SOURCE = "data/asap/asap_aes.parquet"
RESULTS = Path(__file__).with_name("results") / "few_scores.json"


def curve(source: str) -> dict[str, dict[str, list[float]]]:
    """QWK by prompt, number of scored essays and draw."""
    table = read_essays(DataConfig(source=source, format="asap"))
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values()}
    answered, texts = np.array(table.answered, dtype=object), np.array(table.values("text"), dtype=object)
    scores = {name: table.scores[answered == name] for name in ranges}
    numbers = {name: essay_numbers(texts[answered == name].tolist(), None, ALL_GROUPS) for name in ranges}
    found: dict[str, dict[str, list[float]]] = {}
    for name, own in numbers.items():
        model = TransferRegression.fit({one: rows for one, rows in numbers.items() if one != name}, scores, ranges)
        found[name] = {}
        for count in COUNTS:
            kappas = []
            for draw in range(DRAWS if count else 1):
                order = np.random.default_rng(draw).permutation(len(own))
                marked, rest = order[:count], order[count:]
                labels = (own[marked], scores[name][marked]) if count else None
                raw = model.adapted(own, ranges[name], labels).of_numbers(own[rest])
                kappas.append(float(quadratic_weighted_kappa(scores[name][rest], ranges[name].to_point(raw))))
            found[name][str(count)] = [round(kappa, 4) for kappa in kappas]
        raw, human = model.adapted(own, ranges[name]).of_numbers(own), scores[name]
        known = human.mean() + human.std() * (raw - raw.mean()) / raw.std()
        found[name][KNOWN] = [round(float(quadratic_weighted_kappa(human, ranges[name].to_point(known))), 4)]
    return found


def coverage(grid: Path) -> dict[str, dict[str, dict[str, float]]]:
    """QWK and measured coverage of 90 % intervals by arm and prompt, as the runs' reports have them.

    Raises:
        DataError: A run is missing.
    """
    found: dict[str, dict[str, dict[str, float]]] = {arm: {} for arm in ARMS}
    for arm in ARMS:
        reports = sorted(grid.glob(f"cells/{arm}/target_*/seed_0/report.json"))
        if not reports:
            raise DataError(f"{grid} has no run of {arm}. Run the grid asap_with_target_essays.yaml into it first.")
        for path in reports:
            for prompt, entry in json.loads(path.read_text(encoding="utf-8"))["prompts"].items():
                inside = entry["prediction_interval"]["measured"]
                found[arm][prompt] = {"qwk": round(entry["qwk"], 4), "coverage": round(inside, 4)}
    return found


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """A row of titles, one for each arm, and one for each number of scored essays, with the prompts' figures."""
    arms, few = results["arms"], results["few_scores"]
    prompts = sorted(few)
    rows = []
    for name, key in (("QWK", "qwk"), ("coverage of 90 % intervals", "coverage")):
        for arm, entry in arms.items():
            rows.append([f"{arm}: {name}", *_cells([entry[prompt][key] for prompt in prompts])])
    for count in [count for count in map(str, COUNTS) if count != "0"]:
        means = [float(np.mean(few[prompt][count])) for prompt in prompts]
        rows.append([f"with {count} scored essays, mean of {DRAWS} draws: QWK", *_cells(means)])
    rows.append(["with the true mean and sd: QWK", *_cells([few[prompt][KNOWN][0] for prompt in prompts])])
    return [["", "mean", *prompts], *rows]


def _cells(values: list[float]) -> list[str]:
    return [f"{value:.3f}" for value in (float(np.mean(values)), *values)]


def main() -> None:
    """Measure, and write the results."""
    grid, results = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS
    found = {"arms": coverage(grid), "few_scores": curve(SOURCE)}
    write_text(results, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
