"""Pictures of arms held against each other: their kappas, and their differences from the control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.comparison_text import signed_words
from aes_dynloss.evaluation.report_text import figure_words
from aes_dynloss.reporting.drawing import (
    FAINT,
    HUMAN,
    MACHINE,
    draw_intervals,
    draw_marks,
    drawing,
    drawn_name,
    explain_above,
    rows_panel,
    saved,
)
from aes_dynloss.reporting.pictures import Picture

Comparison = Mapping[str, Any]
WIDTH = 8.6


def arms_picture(comparison: Comparison) -> Picture:
    """QWK of each arm in the mean over prompts, with its interval and seeds, beside floors and human raters."""
    arms = {arm: entry["mean"] for arm, entry in comparison["arms"].items()}
    floors = {f"floor: {name}": floor["mean"] for name, floor in comparison.get("floors", {}).items()}
    with drawing():
        (axes,) = rows_panel([*arms, *floors], ["QWK, mean over prompts"], width=WIDTH)
        human = comparison.get("human_human", {}).get("mean")
        if human is not None:
            axes.axvline(human, color=HUMAN, linewidth=1.2, linestyle="--", label="Human-human")
        seeds = [(value, place) for place, mean in enumerate(arms.values()) for value in _by_seed(mean).values()]
        if seeds:
            axes.plot(*zip(*seeds, strict=True), "|", color=FAINT, markersize=8, label="Seeds")
        values = [(mean["qwk"], mean["qwk_interval"]) for mean in arms.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Arm")
        draw_marks(axes, [*[None] * len(arms), *floors.values()], label="Floor", colour=FAINT, marker="s")
        explain_above(axes, 4)
        means = {name: mean["qwk"] for name, mean in arms.items()} | floors
        words = "; ".join(f"{drawn_name(name)} {figure_words(value)}" for name, value in means.items())
        also = "" if human is None else f" Human-human: {figure_words(human)}."
        return saved(axes, "QWK of the arms", f"Dots with intervals. {words}.{also}")


def _by_seed(mean: Mapping[str, Any]) -> Mapping[str, float]:
    """QWK by seed, where there are several: a benchmark's report has it elsewhere than a comparison."""
    found = mean.get("qwk_by_seed") or (mean.get("over_seeds", {}).get("qwk") or {}).get("by_seed") or {}
    return found if len(found) > 1 else {}


def difference_picture(kind: Mapping[str, Any]) -> Picture | None:
    """Differences from the control in the mean over prompts; None where no arm has one."""
    found = {arm: entries["mean"] for arm, entries in kind["arms"].items() if entries["mean"] is not None}
    if not found:
        return None
    with drawing():
        (axes,) = rows_panel(list(found), [kind["difference"]], width=WIDTH)
        axes.axvline(0, color=FAINT, linewidth=1)
        values = [(entry["difference"], entry["interval"]) for entry in found.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Difference")
        words = "; ".join(f"{drawn_name(arm)} {signed_words(entry['difference'])}" for arm, entry in found.items())
        return saved(axes, _capital(kind["difference"]), f"Dots with intervals, and a line at no difference. {words}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
