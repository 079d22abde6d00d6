r"""Measure advisories: how many real essays they keep a score from, and which faults they find.

    python recipes/benchmarks/screening.py --source data/asap/asap_aes.parquet --folds data/asap/folds/fold_0 \
        --wordings prompts.json --output recipes/benchmarks/results/screening.json

Screens are fitted on the train essays of a fold and asked for its test essays, as they are and made faulty
(``screening_faults.py``), of the prompts that ``--report`` names: 5 to 8, on which nothing was tuned. ``all prompts``
knows all eight and their wording, ``no wordings`` the essays alone, ``one prompt`` the prompt and its wording alone,
``prompt left out`` all others; to it a prompt's essays are on an unknown one. ``unseen topic`` are essays on a prompt
that the screen did not learn, handed in for one that it did. ``--wordings`` is a JSON file of the prompts' own words,
``{"1": {"prompt": "..."}}``, which do not come with ASAP's table.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from result_table import result_table
from screening_faults import Sources, faults, quotations

from aes_dynloss.essays.data.data_config import DataConfig, SplitConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.essays.screening.kinds import KINDS, Advisory, Policy
from aes_dynloss.essays.screening.screen import Screen

GOALS = {"withheld of real essays": 0.02, "found": 0.95, "essays per second": 5000, "fit seconds": 20}
SCREENS = ("all prompts", "no wordings", "one prompt")
OFF_TOPIC, UNSEEN_TOPIC = "essays on other prompts", "essays on a prompt that was not learned"
Texts = Mapping[str, Sequence[str]]


def by_prompt(table: EssayTable) -> dict[str, list[str]]:
    """The essays of each prompt."""
    found: dict[str, list[str]] = {}
    for prompt, text in zip(table.values("prompt_id"), table.values("text"), strict=True):
        found.setdefault(prompt, []).append(text)
    return found


def fitted(train: Texts, prompts: Sequence[str], wordings: Mapping[str, str | None]) -> Screen:
    """A screen of the train essays of some prompts."""
    texts = [text for prompt in prompts for text in train[prompt]]
    return Screen.fit(texts, [prompt for prompt in prompts for _ in train[prompt]], wordings)


def shares(found: Sequence[Sequence[Advisory]], kind: str | None = None) -> dict[str, Any]:
    """How many essays get no score under the default policy, and how many have an advisory of the kind."""
    policy = Policy()
    row = {"essays": len(found), "withheld": float(np.mean([policy.withholds(own) for own in found]))}
    if kind is not None:
        row["kind"] = float(np.mean([any(one.kind == kind for one in own) for own in found]))
    return row


def genuine(screen: Screen, texts: Sequence[str], prompt: str) -> dict[str, Any]:
    """Real essays: how many get no score, and their advisories by kind."""
    found = screen.examine(texts, [prompt] * len(texts))
    kinds = {kind: sum(one.kind == kind for own in found for one in own) for kind in KINDS}
    return {**shares(found), "advised": {kind: count for kind, count in kinds.items() if count}}


def faulty(screen: Screen, texts: Sequence[str], prompt: str, sources: Sources, seed: int) -> dict[str, Any]:
    """Essays made faulty: how many are found out."""
    rows = {}
    for number, (name, (kind, make)) in enumerate(faults().items()):
        chance = np.random.default_rng([seed, number])
        if name == "the prompt's wording":
            changed = [sources.prompt_text] if sources.prompt_text else []
        elif name == "quotations from the source" and not sources.quotations:
            changed = []
        else:
            changed = [make(text, chance, sources) for text in texts]
        if changed:
            rows[name] = {"kind_sought": kind, **shares(screen.examine(changed, [prompt] * len(changed)), kind)}
    return rows


def off_topic(screen: Screen, others: Texts, prompt: str) -> dict[str, Any]:
    """Real essays on other prompts, handed in for this one; by the prompt that they are on."""
    return {
        other: shares(screen.examine(texts, [prompt] * len(texts)), "off_topic")
        for other, texts in others.items()
        if other != prompt
    }


def measure(
    train: Texts, held_out: Texts, test: Texts, wordings: Mapping[str, str], words: argparse.Namespace
) -> dict[str, Any]:
    """All rows.

    Args:
        train: Essays to fit on, by prompt.
        held_out: Essays of dev and test, of which quotations are taken.
        test: Essays to measure on.
        wordings: The prompts' own words.
        words: Arguments of the command.
    """
    prompts, report = sorted(train), [prompt for prompt in words.report.split(",") if prompt in train]
    pooled = {"all prompts": fitted(train, prompts, wordings), "no wordings": fitted(train, prompts, {})}
    rows: dict[str, Any] = {}
    for prompt in report:
        sources = Sources(
            wordings.get(prompt), " ".join(test[prompt]).split(), sorted(set(quotations(held_out[prompt])))
        )
        screens = {**pooled, "one prompt": fitted(train, [prompt], wordings)}
        rows[prompt] = {}
        for name, screen in screens.items():
            row = {"genuine": genuine(screen, test[prompt], prompt)}
            row["faults"] = faulty(screen, test[prompt], prompt, sources, words.seed)
            row["off topic"] = off_topic(screen, test, prompt)
            rows[prompt][name] = row
    for left_out in report:
        rest = [prompt for prompt in prompts if prompt != left_out]
        if not rest:
            continue
        screen = fitted(train, rest, {})
        rows[left_out]["prompt left out"] = {"genuine": genuine(screen, test[left_out], left_out)}
        for prompt in report:
            if prompt != left_out:
                own = off_topic(screen, {left_out: test[left_out]}, prompt)
                rows[prompt].setdefault("unseen topic", {}).update(own)
    return rows


def costs(train: Texts, wordings: Mapping[str, str], runs: int) -> dict[str, Any]:
    """Seconds of a processor for a fit on all train essays, and essays examined in such a second."""
    prompts = sorted(train)
    texts, ids = [text for own in prompts for text in train[own]], [own for own in prompts for _ in train[own]]
    fit, examine = [], []
    for _ in range(runs):
        start = time.process_time()
        screen = Screen.fit(texts, ids, wordings)
        middle = time.process_time()
        screen.examine(texts, ids)
        fit.append(middle - start)
        examine.append(len(texts) / (time.process_time() - middle))
    size = sum(array.nbytes for array in screen.to_arrays().values())
    return {"essays": len(texts), "fit_seconds": fit, "essays_per_second": examine, "bytes": size}


def table(found: Mapping[str, Any], screens: Sequence[str] = SCREENS) -> str:
    """The rows as markdown: for each prompt and screen, per cent without a score, in brackets of the very kind."""
    rows = found["prompts"]
    columns = [(prompt, name) for name in screens for prompt in rows]
    titles = [f"{prompt}, {name}" if len(screens) > 1 else prompt for prompt, name in columns]
    lines = [["real", *(f"{100 * rows[prompt][name]['genuine']['withheld']:.1f}" for prompt, name in columns)]]
    for fault in faults():
        own = [rows[prompt][name]["faults"].get(fault) for prompt, name in columns]
        cells = ["-" if one is None else f"{100 * one['withheld']:.0f} ({100 * one['kind']:.0f})" for one in own]
        lines.append([fault, *cells])
    lines.append([OFF_TOPIC, *(_mean(rows[prompt][name]["off topic"]) for prompt, name in columns)])
    unseen = [_mean(rows[prompt].get("unseen topic", {})) if name == "all prompts" else "-" for prompt, name in columns]
    lines.append([UNSEEN_TOPIC, *unseen])
    return result_table(["essays", *titles], lines)


def _mean(rows: Mapping[str, Mapping[str, float]]) -> str:
    if not rows:
        return "-"
    withheld, kind = (np.mean([row[name] for row in rows.values()]) for name in ("withheld", "kind"))
    return f"{100 * withheld:.0f} ({100 * kind:.0f})"


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="ASAP's table.")
    parser.add_argument("--folds", type=Path, required=True, help="Folder of the fold's id files.")
    parser.add_argument("--wordings", type=Path, help="JSON file of the prompts' own words.")
    parser.add_argument("--report", default="5,6,7,8", help="Prompts whose rows are made.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3, help="Times that costs are measured.")
    parser.add_argument("--output", type=Path, help="Write the results here as json.")
    words = parser.parse_args()
    config = DataConfig(source=str(words.source), format="asap", split=SplitConfig(folds_dir=str(words.folds)))
    parts = split_essays(read_essays(config), config.split).tables()
    train, dev, test = (by_prompt(parts[name]) for name in ("train", "dev", "test"))
    entries = json.loads(words.wordings.read_text(encoding="utf-8")) if words.wordings else {}
    wordings = {prompt: entry["prompt"] for prompt, entry in entries.items() if prompt in train}
    held_out = {prompt: [*dev.get(prompt, []), *test[prompt]] for prompt in test}
    found = {
        "goals": GOALS,
        "seed": words.seed,
        "prompts": measure(train, held_out, test, wordings, words),
        "costs": costs(train, wordings, words.runs),
        "machine": {"system": platform.system(), "python": platform.python_version(), "numpy": np.__version__},
    }
    if words.output is not None:
        words.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()
