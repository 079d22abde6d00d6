"""Whether estimates from a double-scoring plan are unbiased, and their 95 % intervals hold: plans drawn many times.

    python recipes/benchmarks/double_scoring.py --results recipes/benchmarks/results/double_scoring.json

Made-up essays on two prompts and in two groups have human and machine scores, so that the figures of all essays are
known. A twentieth of them, whose machine scores are worse than the others', is read for certain. A draw is planned by
`aes_dynloss.programme.plan.draw_plan` and measured as `evaluate --adjudicated` measures it. Prints the README table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from result_table import result_table

from aes_dynloss.measures.bootstrap import percentile_interval
from aes_dynloss.measures.design_weights import weighted_agreement, weighted_draws
from aes_dynloss.programme.allocation import Assumed
from aes_dynloss.programme.plan import ScoredEssays, Wanted, draw_plan
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.score_range import ScoreRange

Values = NDArray[np.float64]
RANGES = {"six points": ScoreRange(1, 6), "thirty-one points": ScoreRange(0, 30)}
WANTED = {"qwk": 0.04, "smd": 0.08}
MEASURES = ("qwk", "smd", "exact_agreement", "pearson")


def population(essays: int, seed: int) -> pd.DataFrame:
    """Essays with the scores that humans would give all of them; of group b, every fourth, the machine is lenient."""
    random = np.random.default_rng(seed)
    parts = []
    for prompt, span in RANGES.items():
        quality, noise, error = random.standard_normal((3, essays))
        doubtful, lenient = random.random(essays) < 0.05, random.random(essays) < 0.25
        middle, unit = (span.low + span.high) / 2, (span.high - span.low) / 5
        raw = middle + unit * (0.9 * quality + np.where(doubtful, 1.2, 0.4) * error + 0.2 * lenient)
        part = {"reference": span.to_point(middle + unit * (quality + 0.4 * noise)), "raw": raw}
        ids = [f"{prompt} {number}" for number in range(essays)]
        groups = np.where(lenient, "b", "a")
        because = pd.Series([["unlike_training"] if one else [] for one in doubtful])
        parts.append(
            pd.DataFrame(
                {"essay_id": ids, "prompt_id": prompt, **part, "score": span.to_point(raw), "group": groups}
            ).assign(because=because, scored=True)
        )
    return pd.concat(parts, ignore_index=True)


def domains(essays: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Each prompt's essays, and those of its groups."""
    found = {(str(prompt), "all"): own for prompt, own in essays.groupby("prompt_id", sort=False)}
    return found | {(str(p), str(g)): own for (p, g), own in essays.groupby(["prompt_id", "group"], sort=False)}


def columns(essays: pd.DataFrame) -> tuple[Values, Values, Values]:
    """Human scores, raw and rounded ones of the machine."""
    human, raw, score = (essays[name].to_numpy(dtype=np.float64) for name in ("reference", "raw", "score"))
    return human, raw, score


def measure(essays: int, draws: int, resamples: int, seed: int = 0) -> dict[str, Any]:
    """Bias, coverage and width over many draws, by prompt and group."""
    every = population(essays, seed)
    truth = {
        key: {name: float(value) for name, value in weighted_agreement(*columns(own), np.ones(len(own))).items()}
        for key, own in domains(every).items()
    }
    assumed = {prompt: Assumed(truth[prompt, "all"]["qwk"], truth[prompt, "all"]["pearson"]) for prompt in RANGES}
    errors: dict[tuple[str, str], list[list[float]]] = {key: [] for key in truth}
    inside: dict[tuple[str, str], list[list[float]]] = {key: [] for key in truth}
    widths: dict[tuple[str, str], list[list[float]]] = {key: [] for key in truth}
    planned, sizes = {}, {}
    for number in range(draws):
        plan = draw_plan(ScoredEssays(every, RANGES), assumed, Wanted(WANTED, ["group"], 0.0, number))
        random = np.random.default_rng([seed, number])
        for domain, figures in plan.domains():
            key = (domain.prompt, domain.group or "all")
            planned[key], sizes[key] = {name: figures[name] for name in WANTED}, figures["certain"] + figures["random"]
        for key, own in domains(plan.essays).items():
            weights = own["weight"].to_numpy()
            found = weighted_agreement(*columns(own), weights)
            drawn = weighted_draws(*columns(own), weights, resamples, random)
            ends = {name: percentile_interval(drawn[name], 0.95) or [np.nan, np.nan] for name in MEASURES}
            errors[key].append([float(found[name]) - truth[key][name] for name in MEASURES])
            inside[key].append([ends[name][0] <= truth[key][name] <= ends[name][1] for name in MEASURES])
            widths[key].append([(ends[name][1] - ends[name][0]) / 2 for name in MEASURES])
    return {
        "essays": essays,
        "draws": draws,
        "resamples": resamples,
        "domains": [
            {
                "prompt": key[0],
                "group": key[1],
                "read": int(sizes[key]),
                **{
                    name: {
                        "true": truth[key][name],
                        "bias": float(np.mean([one[place] for one in errors[key]])),
                        "covered": float(np.mean([one[place] for one in inside[key]])),
                        "half_width": float(np.mean([one[place] for one in widths[key]])),
                        "planned": planned[key].get(name),
                    }
                    for place, name in enumerate(MEASURES)
                },
            }
            for key in truth
        ],
    }


def table(result: dict[str, Any]) -> str:
    """The README's table."""
    titles = ["prompt", "group", "read", "QWK", "bias", "covered", "half width planned", "found"]
    titles += ["SMD", "bias", "covered", "half width planned", "found"]
    rows = []
    for one in result["domains"]:
        cells = []
        for name in WANTED:
            own = one[name]
            cells += [f"{own['true']:.3f}", f"{own['bias']:+.4f}", f"{own['covered']:.3f}"]
            cells += [f"{own['planned']:.3f}", f"{own['half_width']:.3f}"]
        rows.append([one["prompt"], one["group"], str(one["read"]), *cells])
    return result_table(titles, rows, words=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--essays", type=int, default=3000, help="essays on each prompt")
    parser.add_argument("--draws", type=int, default=2000, help="plans drawn")
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap of each")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    measured = measure(arguments.essays, arguments.draws, arguments.resamples)
    if arguments.results:
        write_text(arguments.results, json.dumps(measured, indent=1) + "\n")
    print(table(measured))  # noqa: T201 - it is what the script is for
