"""A comparison of arms as plain text for a terminal or a README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.report_text import aligned, figure_words, interval_words

Entry = Mapping[str, Any]
TITLES = {"qwk": "QWK", "qwk_rescaled": "rescaled", "qwk_cut_points": "cut points"}


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """The comparison's figures as text: the means first, then the prompts.

    Args:
        comparison: What ``compare_arms`` returned.

    Returns:
        Tables of the arms' own kappas and of each kind of difference, with what intervals cover, how p values are
        corrected, and the notes; ends without a line break. "-" is an undefined value.
    """
    confidence = f"{100 * comparison['settings']['confidence']:g} %"
    count = len(comparison["essays"])
    mean = "one prompt" if count == 1 else f"mean over {count} prompts"
    blocks = [_kappas(comparison, confidence, mean)]
    for part, words in (("mean", mean), ("prompts", "each prompt")):
        if part == "prompts" and count == 1:
            continue  # The mean has said it.
        for kind in comparison["differences"].values():
            rows = difference_rows(kind, part)
            if any(entry is not None for entry in rows.values()):
                family = f"{words}; comparisons that Holm p corrects for: {kind['comparisons'][part]}"
                blocks.append([f"{kind['difference']} ({family})", *_difference_lines(rows, confidence)])
    settings = comparison["settings"]
    closing = [f"{settings['covers']} Resamples: {settings['resamples']}."]
    closing += [f"Note: {note}" for note in comparison["notes"]]
    return "\n\n".join("\n".join(block) for block in [*blocks, closing])


def _kappas(comparison: Mapping[str, Any], confidence: str, mean: str) -> list[str]:
    """The arms' own kappas."""
    arms: Mapping[str, Entry] = comparison["arms"]
    columns = [["arm", *arms], ["runs", *(str(arm["runs"]) for arm in arms.values())]]
    for version, title in TITLES.items():
        if any(arm["mean"][version] is not None for arm in arms.values()):
            columns.append([title, *(figure_words(arm["mean"][version]) for arm in arms.values())])
            columns.append([confidence, *(interval_words(arm["mean"][f"{version}_interval"]) for arm in arms.values())])
    essays = sum(comparison["essays"].values())
    return [f"Test essays: {essays}, {mean}. Control: {comparison['control']}", *aligned(columns)]


def difference_rows(kind: Entry, part: str) -> dict[str, Entry | None]:
    """The entries of one family of differences by their row's name.

    Args:
        kind: One kind of difference, as ``answer`` gives it.
        part: The family: ``mean`` or ``prompts``.
    """
    if part == "mean":
        return {arm: entries["mean"] for arm, entries in kind["arms"].items()}
    prompts = dict.fromkeys(prompt for entries in kind["arms"].values() for prompt in entries["prompts"])
    return {
        f"prompt {prompt}, {arm}": entries["prompts"][prompt]
        for prompt in prompts
        for arm, entries in kind["arms"].items()
    }


def _difference_lines(rows: Mapping[str, Entry | None], confidence: str) -> list[str]:
    """One family of differences, an entry a line."""
    columns = [
        ["", *rows],
        ["difference", *("-" if entry is None else signed_words(entry["difference"]) for entry in rows.values())],
        [confidence, *("-" if entry is None else signed_interval_words(entry["interval"]) for entry in rows.values())],
        ["p", *("-" if entry is None else p_words(entry["p"]) for entry in rows.values())],
        ["Holm p", *("-" if entry is None else p_words(entry["p_holm"]) for entry in rows.values())],
    ]
    return aligned(columns)


def signed_words(value: float) -> str:
    """Three decimals with a sign, but for a zero."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def signed_interval_words(interval: list[float]) -> str:
    """Both ends of a difference's interval."""
    return f"{signed_words(interval[0])} to {signed_words(interval[1])}"


def p_words(p: float) -> str:
    """Four decimals, and never a zero, which no bootstrap can show."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"
