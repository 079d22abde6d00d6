"""A report as a plain-text table for a terminal or a README.

A measured robustness in a sentence, and the words that every table and page of it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

EXPECTATIONS = {"fall": "should fall", "not_rise": "should not rise", "stay": "should stay"}


def headline_words(robustness: Mapping[str, Any]) -> str:
    """How often the score rises when it must not, in a sentence; nothing where no such change was made."""
    figures = robustness["expected"].get("must_not_rise")
    if figures is None or figures["rises"] is None:
        return ""
    rises, raw = figures["rises"], figures["raw_rises"]
    return (
        f"The score rises, though it should fall or at most stay, in {percent(rises['share'])} of {figures['n']:,} "
        f"changes ({percent(rises['low'])} to {percent(rises['high'])}); the unrounded score in "
        f"{percent(raw['share'])}."
    )


def percent(share: float) -> str:
    """A share with one decimal."""
    return f"{100 * share:.1f} %"


Entry = Mapping[str, Any]


def report_table(report: Mapping[str, Any]) -> str:
    """The report's main figures as text.

    Args:
        report: What ``build_report`` returned.

    Returns:
        A line for each prompt and for their mean, the floors, and the notes; ends without a line break. A column that
        no prompt has is left out, "-" is an undefined value, "n m" in the heading would be that of its interval.
    """
    confidence = f"{100 * report['settings']['confidence']:g} %"
    columns: dict[str, Callable[[Entry], str]] = {
        "n": lambda entry: str(entry.get("n", "")),
        "range": _range_words,
        "QWK": lambda entry: figure_words(entry["qwk"]),
        confidence: lambda entry: interval_words(entry["qwk_interval"]),
        "rescaled": lambda entry: figure_words(entry["qwk_rescaled"]),
        "cut points": lambda entry: figure_words(entry["qwk_cut_points"]),
        "exact": lambda entry: figure_words(entry["exact_agreement"]),
        "adjacent": lambda entry: figure_words(entry["adjacent_agreement"]),
        "r": lambda entry: figure_words(entry["pearson"]),
        "SMD": lambda entry: figure_words(entry["smd"]) if "smd" in entry else "",
        "sd ratio": lambda entry: figure_words(entry["sd_ratio"]) if "sd_ratio" in entry else "",
        "human-human": lambda entry: figure_words(entry.get("human_human", {}).get("qwk")),
        "degradation": lambda entry: figure_words(entry.get("human_human", {}).get("degradation")),
    }
    rows = {**report["prompts"], "mean": report["mean"]}
    cells = [["prompt", *rows]]
    for title, words in columns.items():
        column = [words(entry) for entry in rows.values()]
        if any(word not in {"-", ""} for word in column):
            cells.append([title, *column])
    lines = aligned(cells)
    lines.append(f"QWK, Fisher mean: {figure_words(report['mean']['qwk_fisher'])}")
    if report["floors"]:
        floors = ", ".join(f"{name} {figure_words(floor['mean'])}" for name, floor in report["floors"].items())
        lines.append(f"Floors, mean QWK: {floors}")
    if "robustness" in report:
        lines += filter(None, [headline_words(report["robustness"])])
    lines += [f"Note: {note}" for note in report["notes"]]
    return "\n".join(lines)


def figure_words(value: float | None) -> str:
    """Three decimals, no minus before a zero, and "-" for what is undefined."""
    if value is None:
        return "-"
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def interval_words(interval: list[float] | None) -> str:
    """Both ends of an interval."""
    return "-" if interval is None else f"{figure_words(interval[0])} to {figure_words(interval[1])}"


def _range_words(entry: Entry) -> str:
    """A prompt's score range, short; nothing for the mean."""
    if "range" not in entry:
        return ""
    span = entry["range"]
    step = "" if span["step"] == 1 else f" by {span['step']:g}"
    return f"{span['low']:g}-{span['high']:g}{step}"


def aligned(columns: list[list[str]]) -> list[str]:
    """Lines of columns, the first flush left and the others flush right."""
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return lines
