"""How often a monitor's page has an alarm without drift, and whether it finds drift that was planted.

    python recipes/benchmarks/monitor_false_alarms.py --results recipes/benchmarks/results/monitor_false_alarms.json

Made-up administrations on two prompts and in two groups, with scores, lengths, ten features that correlate with them,
advisories, and human scores of all essays; of six traits each essay has six scores, and six human ones. Pages are built
by `aes_dynloss.programme.monitor.build_monitor`; "evidence alone" sets every criterion's size to 0, so that corrected p
values decide. Beside training the SD of scores then is 4 % lower, as `cross_fitted_spread.py` measured at most in the
mean, and a threshold that so many essays told lets through what it does by chance. Prints the README table.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_table import result_table

from aes_dynloss.essays.screening.training_statistics import FLAGGED_SHARE
from aes_dynloss.measures.differences import wilson_interval
from aes_dynloss.programme.administrations import CROSS_FITTED_SPREAD, Scores, score_column
from aes_dynloss.programme.monitor import build_monitor
from aes_dynloss.reports.monitor import DRIFT_CRITERIA, Monitor
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.scale_ids import scale_id
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"six points": ScoreRange(1, 6), "thirty-one points": ScoreRange(0, 30)}
FEATURES = [f"feature {number}" for number in range(10)]
FIRST = next(iter(RANGES))
TRAITS = ["content", "organization", "word choice", "fluency", "grammar", "conventions"]
TRAINING, OF_TRAITS = "none, beside training", "none, six traits"
QUIET = ("none", TRAINING, OF_TRAITS)
# Evidence alone: no difference is too small, but QWK stays judged by what it is.
NO_SIZE = {
    name: criterion if name == "qwk" else replace(criterion, threshold=0.0)
    for name, criterion in DRIFT_CRITERIA.items()
}


def administration(
    random: np.random.Generator,
    essays: int,
    *,
    lengths: float = 0.0,
    group: float = 0.0,
    advisories: float = 0.0,
    usual: float = 0.01,
    spread: float = 1.0,
) -> Scores:
    """Scored essays; drift is of the first prompt.

    Args:
        random: Source of randomness.
        essays: On each prompt.
        lengths: SDs by which essays are longer.
        group: SDs by which scores of group b are higher.
        advisories: Share of essays with an advisory beyond the usual one.
        usual: Share of essays with an advisory without drift.
        spread: By what factor the SD of scores is lower.
    """
    parts = []
    for prompt, span in RANGES.items():
        here = float(prompt == FIRST)
        quality, error, noise, length = random.standard_normal((4, essays))
        groups = np.where(random.random(essays) < 0.35, "b", "a")
        middle, unit = (span.low + span.high) / 2, (span.high - span.low) / 5
        raw = middle + unit * (0.9 * quality + 0.4 * error + here * group * (groups == "b")) / spread
        marked = random.random(essays) < usual + here * advisories
        part = {"essay_id": np.arange(essays).astype(str), "prompt_id": prompt, "group": groups, "raw": raw}
        part |= {"score": span.to_point(raw), "reference": span.to_point(middle + unit * (quality + 0.3 * noise))}
        part |= {
            "words": np.round(np.exp(5.5 + 0.4 * (0.6 * quality + 0.8 * length + here * lengths))),
            "withheld": False,
        }
        # Half of the features are heavy-tailed, as counts of errors are.
        values = 0.5 * quality[:, None] + random.standard_normal((essays, len(FEATURES)))
        values[:, ::2] = np.exp(values[:, ::2])
        kinds = [frozenset({"too_long"} if one else ()) for one in marked]
        parts.append(pd.DataFrame({**part, **dict(zip(FEATURES, values.T, strict=True)), "advisories": kinds}))
    table = pd.concat(parts, ignore_index=True)
    return Scores("administration", table, RANGES, FEATURES, table)


def training(random: np.random.Generator, essays: int) -> tuple[Scores, float]:
    """A run's cross-fitted scores of training essays, and the share of all essays that its thresholds let through."""
    then = administration(random, essays, spread=1.04)
    beyond = float(random.beta(FLAGGED_SHARE * essays, (1 - FLAGGED_SHARE) * essays))
    return replace(then, table=then.table.drop(columns=["advisories", "withheld"]), spread=CROSS_FITTED_SPREAD), beyond


def with_traits(random: np.random.Generator, scores: Scores, shift: float = 0.0) -> Scores:
    """The same essays, scored on traits that correlate with the one score.

    Args:
        random: Source of randomness.
        scores: Essays with one score.
        shift: SDs by which the machine's scores of the first trait are higher on the first prompt.
    """
    table, humans = scores.table.drop(columns=["raw", "score", "reference"]), []
    for trait in TRAITS:
        for prompt, span in scores.ranges.items():
            rows = table["prompt_id"] == prompt
            own, error = random.standard_normal((2, int(rows.sum())))
            unit = (span.high - span.low) / 5
            drift = shift * ((prompt, trait) == (FIRST, TRAITS[0]))
            raw = scores.table.loc[rows, "raw"] + unit * (0.4 * own + drift)
            reference = span.to_point(raw + unit * (0.3 * error - drift))
            table.loc[rows, score_column(trait)] = span.to_point(raw)
            values = {"raw": raw, "score": span.to_point(raw), "reference": reference}
            humans.append(table.loc[rows, ["essay_id"]].assign(prompt_id=scale_id(prompt, trait), **values))
    ranges = {scale_id(prompt, trait): span for prompt, span in scores.ranges.items() for trait in TRAITS}
    return replace(scores, table=table, ranges=ranges, human=pd.concat(humans, ignore_index=True), traits=TRAITS)


def where(monitor: Monitor) -> set[tuple[str, str]]:
    """Prompt, or prompt and trait, and kind of each alarm."""
    return {(one.scale, one.kind) for one in monitor.alarms}


def measure_row(
    name: str, pages: int, sizes: tuple[int, int], planted: dict[str, float], kind: str, seed: int
) -> dict[str, Any]:
    """Pages of one kind: how many have an alarm, find what was planted, and have an alarm elsewhere."""
    criteria = NO_SIZE if kind == "evidence alone" else DRIFT_CRITERIA
    expected = {
        "lengths": (FIRST, "length"),
        "group": (FIRST, "score"),
        "advisories": (FIRST, "advisory"),
        "trait": (scale_id(FIRST, TRAITS[0]), "score"),
    }
    wanted = {expected[one] for one in planted}
    of_essays = {name: value for name, value in planted.items() if name != "trait"}
    counts, tests = np.zeros(3, dtype=np.int64), 0
    for page in range(pages):
        random = np.random.default_rng([seed, page])
        then, beyond = training(random, sizes[0]) if name == TRAINING else (administration(random, sizes[0]), 0.01)
        now = administration(random, sizes[1], usual=beyond, **of_essays)
        if name == OF_TRAITS or "trait" in planted:
            then, now = with_traits(random, then), with_traits(random, now, planted.get("trait", 0.0))
        monitor = build_monitor(then, [now], subgroups=["group"], criteria=criteria)
        alarms, tests = where(monitor), monitor.tests
        # Human scores do not drift with the machine's: that QWK falls is no false alarm.
        fell = {(scale, "agreement") for scale, kind in wanted if kind == "score"}
        elsewhere = alarms - wanted - fell
        counts += [bool(alarms), bool(wanted) and wanted <= alarms, bool(elsewhere)]
    shares = dict(zip(("alarm", "found", "elsewhere"), (counts / pages).tolist(), strict=True))
    return {"drift": name, "then": sizes[0], "now": sizes[1], "judged": kind, "pages": pages, "tests": tests, **shares}


def measure(pages: int, seed: int = 0) -> dict[str, Any]:
    """Rows of the table."""
    rows: list[tuple[str, dict[str, float], str, tuple[int, int]]] = [
        ("none", {}, kind, sizes) for kind in ("evidence alone", "criteria") for sizes in ((100, 60), (600, 300))
    ]
    planted: dict[str, dict[str, float]] = {
        "lengths +0.4 SD": {"lengths": 0.4},
        "scores of a group -0.4 SD": {"group": -0.4},
        "advisories +6 points": {"advisories": 0.06},
    }
    rows += [(name, drift, "criteria", (600, 300)) for name, drift in planted.items()]
    rows += [(name, drift, "criteria", (2400, 1200)) for name, drift in planted.items() if "group" in drift]
    rows += [(TRAINING, {}, kind, sizes) for _, _, kind, sizes in rows[:4]]
    # With criteria there is no alarm that there is not by evidence alone.
    rows += [(OF_TRAITS, {}, kind, sizes) for _, _, kind, sizes in rows[:2]]
    rows += [("scores of a trait -0.4 SD", {"trait": -0.4}, "criteria", (600, 300))]
    found = [
        measure_row(name, pages if not drift else max(1, pages // 4), sizes, drift, kind, seed + place)
        for place, (name, drift, kind, sizes) in enumerate(rows)
    ]
    return {"rows": found}


def table(result: dict[str, Any]) -> str:
    """The README's table."""
    titles = [
        "drift",
        "judged by",
        "essays then",
        "now",
        "tests",
        "pages",
        "with an alarm",
        "95 %",
        "found",
        "elsewhere",
    ]
    lines = []
    for row in result["rows"]:
        low, high = wilson_interval(row["alarm"], row["pages"])
        found = "" if row["drift"] in QUIET else f"{100 * row['found']:.1f} %"
        cells = [row["drift"], row["judged"], *(str(row[name]) for name in ("then", "now", "tests", "pages"))]
        cells += [f"{100 * row['alarm']:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %", found]
        lines.append([*cells, "" if not found else f"{100 * row['elsewhere']:.1f} %"])
    return result_table(titles, lines, words=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=600, help="without drift; a quarter of it with each drift")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    measured = measure(arguments.pages)
    if arguments.results:
        write_text(arguments.results, json.dumps(measured, indent=1) + "\n")
    print(table(measured))  # noqa: T201 - it is what the script is for
