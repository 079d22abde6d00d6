"""A measured robustness as a plain-text table and as rows of a csv file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.report_text import aligned
from aes_dynloss.evaluation.robustness_words import EXPECTATIONS, headline_words, percent

Entry = Mapping[str, Any]

_SHARES = ("rises", "falls", "stays", "raw_rises", "raw_falls", "to_lowest")


def robustness_table(robustness: Entry) -> str:
    """The main figures as text.

    Args:
        robustness: What ``measure_robustness`` returned.

    Returns:
        A line for each kind of change, under a heading for what the score should do, and the headline; ends without a
        line break. The interval is that of the share of scores that rise; "-" is an undefined value.
    """
    confidence = f"{100 * robustness['settings']['confidence']:g} %"
    titles = ("change", "n", "rises", confidence, "falls", "stays", "raw rises", "change in sd")
    rows: list[list[str]] = []
    for expected, words in EXPECTATIONS.items():
        kinds = {name: kind for name, kind in robustness["kinds"].items() if kind["expected"] == expected}
        if kinds:
            rows.append([words, *[""] * (len(titles) - 1)])
            rows += [[f"  {name}: {kind['title']}", *_cells(kind["total"])] for name, kind in kinds.items()]
            rows.append(["  together", *_cells(robustness["expected"][expected])])
    lines = aligned([list(column) for column in zip(titles, *rows, strict=True)])
    essays = robustness["essays"]
    drawn = ", ".join(f"{count} to prompt {prompt}" for prompt, count in essays.items())
    lines += ["", f"{sum(essays.values())} essays ({drawn}), each beside its changed forms."]
    headline = headline_words(robustness)
    lines += [headline] if headline else []
    lines += [f"Note: {note}" for note in robustness["notes"]]
    return "\n".join(lines)


def robustness_rows(robustness: Entry) -> list[dict[str, Any]]:
    """A row for each kind and prompt, and for each kind in total, where the prompt is blank."""
    rows = []
    for name, kind in robustness["kinds"].items():
        for prompt, entry in {None: kind["total"], **kind["prompts"]}.items():
            row = {"kind": name, "expected": kind["expected"], "prompt_id": prompt}
            row |= {key: value for key, value in entry.items() if key not in _SHARES}
            for share in _SHARES:
                own = entry[share] or {"share": None, "low": None, "high": None}
                row |= {share: own["share"], f"{share}_low": own["low"], f"{share}_high": own["high"]}
            rows.append(row)
    return rows


def _cells(entry: Entry) -> list[str]:
    rises = entry["rises"]
    interval = "-" if rises is None else f"{percent(rises['low'])} to {percent(rises['high'])}"
    shares = [percent(entry[name]["share"]) if entry[name] else "-" for name in ("falls", "stays", "raw_rises")]
    change = entry["raw_change_sd"]
    words = "-" if change is None else f"{change:+.2f}".replace("-0.00", "+0.00")
    return [str(entry["n"]), "-" if rises is None else percent(rises["share"]), interval, *shares, words]
