"""What a few scored essays of a prompt never seen are worth: the learning curve of `model.kind: transfer`, on ASAP.

    python recipes/essays/few_scores.py runs/asap_with_target_essays      # results/few_scores.json

Each prompt is left out in turn; the model learns from the seven others and is adapted to its essays. Of these, 10, 25
or 50 have scores, by which the guessed level is set right and the coefficients are moved; the others are measured. They
are drawn five times, by chance or spread over the predicted order, as `score --mark-first` chooses them. With the mean
and sd of all scores in the place of guessed ones, the predictions without a score show what guessing costs. Above that
stand the grid's own runs: their QWK, and how many scores of the unseen prompt their 90 % intervals contain.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.essays.classical.transfer import TransferRegression, essays_to_mark
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, essay_numbers
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.table import Column, Table, markdown_table, number, words, words_column
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.training.run_folder import write_json

Array = NDArray[np.float64]

COUNTS, DRAWS = (10, 25, 50), 5
ARMS = ("strict", "with_target_essays")
SOURCE = "data/asap/asap_aes.parquet"
RESULTS = Path(__file__).with_name("results") / "few_scores.json"


def of_runs(grid: Path) -> dict[str, dict[str, float]]:
    """QWK by prompt of the grid's runs, and how many scores their 90 % intervals contain; rows by their names.

    Args:
        grid: The folder of asap_with_target_essays.yaml.

    Raises:
        DataError: The grid has no run of an arm.
    """
    kappas: dict[str, dict[str, float]] = {}
    inside: dict[str, dict[str, float]] = {}
    for arm in ARMS:
        paths = sorted((grid / "cells" / arm).glob(f"target_*/seed_0/{REPORT}"))
        if not paths:
            raise DataError(f"{grid} has no run of {arm}. Run the grid asap_with_target_essays.yaml into it first.")
        entries = {prompt: entry for path in paths for prompt, entry in read_report(path).prompts.items()}
        kappas[f"{arm}: QWK"] = {prompt: entry["qwk"] for prompt, entry in entries.items()}
        inside[f"{arm}: coverage of 90 % intervals"] = {
            prompt: entry["prediction_interval"]["measured"] for prompt, entry in entries.items()
        }
    return kappas | inside


def curve(essays: EssayTable) -> dict[str, dict[str, float]]:
    """QWK by prompt with so many scored essays, the mean over draws, and with the true level; rows by their names.

    Args:
        essays: Of all prompts, one of which is left out in turn.
    """
    answered, texts = np.array(essays.answered, dtype=object), np.array(essays.values("text"), dtype=object)
    ranges = {prompt.id: prompt.range for prompt in essays.prompts.values()}
    scores = {name: essays.scores[answered == name] for name in ranges}
    numbers = {name: essay_numbers(texts[answered == name].tolist(), None, ALL_GROUPS) for name in ranges}
    found: dict[str, dict[str, float]] = {}
    for name, own in numbers.items():
        others = {other: rows for other, rows in numbers.items() if other != name}
        model = TransferRegression.fit(others, scores, ranges)
        for row, kappa in _on_prompt(model, own, scores[name], ranges[name]).items():
            found.setdefault(row, {})[name] = kappa
    return found


def _on_prompt(model: TransferRegression, numbers: Array, scores: Array, score_range: ScoreRange) -> dict[str, float]:
    """QWK on one prompt, by number of its scored essays."""

    def kappa(raw: Array, human: Array) -> float:
        return float(quadratic_weighted_kappa(human, score_range.to_point(raw)))

    def with_labels(marked: NDArray[np.intp]) -> float:
        adapted = model.adapted(numbers, score_range, (numbers[marked], scores[marked]))
        rest = np.delete(np.arange(len(numbers)), marked)
        return kappa(adapted.of_numbers(numbers[rest]), scores[rest])

    raw = model.adapted(numbers, score_range).of_numbers(numbers)
    found = {}
    for count in COUNTS:
        drawn = [np.random.default_rng(draw).permutation(len(numbers))[:count] for draw in range(DRAWS)]
        found[f"{count} scored essays drawn by chance: QWK"] = fmean(map(with_labels, drawn))
        spread = [essays_to_mark(raw, count, draw) for draw in range(DRAWS)]
        found[f"{count} scored essays spread over the order: QWK"] = fmean(map(with_labels, spread))
    known = scores.mean() + scores.std() * (raw - raw.mean()) / raw.std()
    return {**found, "with the true mean and sd: QWK": kappa(known, scores)}


def table(values: Mapping[str, Any]) -> str:
    """A row for each way, in markdown."""
    prompts = list(next(iter(values.values())))
    columns = [words_column("way", "prompt"), Column("mean", "mean"), *(Column(name, name) for name in prompts)]
    rows = [
        [words(way), number(fmean(of.values())), *(number(of[name]) for name in prompts)] for way, of in values.items()
    ]
    return markdown_table(Table("few", "QWK on prompts never seen", columns, rows))


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="folder of the grid asap_with_target_essays.yaml")
    parser.add_argument("--source", default=SOURCE)
    options = parser.parse_args()
    try:
        found = of_runs(options.grid) | curve(read_essays(DataConfig(source=options.source, format="asap")))
    except AesDynlossError as error:
        parser.exit(2, f"{error}\n")
    write_json(RESULTS, {row: {name: round(one, 4) for name, one in own.items()} for row, own in found.items()})


if __name__ == "__main__":
    main()
