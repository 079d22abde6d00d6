"""Pictures of agreement: prompt beside prompt with what limits it, and group beside group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aes_dynloss.evaluation.flags import CRITERIA
from aes_dynloss.reporting.drawing import (
    FAINT,
    HUMAN,
    MACHINE,
    draw_intervals,
    draw_marks,
    drawn_name,
    explain_above,
    rows_panel,
    saved,
)
from aes_dynloss.reporting.pictures import Picture

Entry = Mapping[str, Any]


def agreement_picture(report: Mapping[str, Any]) -> Picture:
    """QWK and r by prompt with intervals, human-human agreement and the ceiling, and the criteria."""
    prompts: Mapping[str, Entry] = report["prompts"]
    rows = {f"Prompt {prompt}": entry for prompt, entry in prompts.items()}
    if len(rows) > 1:
        rows["Mean"] = report["mean"]
    panels = rows_panel(list(rows), ["QWK", "r (Pearson)"], width=8.6)
    for axes, measure in zip(panels, ("qwk", "pearson"), strict=True):
        axes.axvline(CRITERIA[measure].threshold, color=FAINT, linewidth=1, linestyle=":", label="Criterion")
        others = [
            ("Human-human", HUMAN, "D", [_human(entry, measure) for entry in rows.values()]),
            ("Ceiling", FAINT, "|", [entry.get(f"{measure}_ceiling") for entry in rows.values()]),
        ]
        for label, colour, marker, marks in others:
            draw_marks(axes, marks, label=label, colour=colour, marker=marker)
        values = [(entry.get(measure), entry.get(f"{measure}_interval")) for entry in rows.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Human-machine")
    explain_above(panels[0], 4)
    words = "; ".join(f"{drawn_name(name)} {_rounded(entry.get('qwk'))}" for name, entry in rows.items())
    description = f"Dots with intervals. QWK: {words}. The dotted line is the criterion of .70."
    return saved(panels[0], "Agreement by prompt", description)


def _human(entry: Entry, measure: str) -> float | None:
    value: float | None = (entry.get("human_human") or {}).get(measure)
    return value


def group_picture(column: str, prompt: str, groups: Mapping[str, Entry], small: int, reach: float) -> Picture:
    """DSM and SMD of each group with intervals, and the band within which they should lie, from -reach to reach."""
    panels = rows_panel(list(groups), ["DSM", "SMD"], width=6.4)
    for axes, measure in zip(panels, ("dsm", "smd"), strict=True):
        threshold = CRITERIA[f"subgroup_{measure}"].threshold
        axes.axvspan(-threshold, threshold, color=FAINT, alpha=0.18, linewidth=0, label="Criterion")
        axes.axvline(0, color=FAINT, linewidth=1)
        values = [(entry[measure], entry[f"{measure}_interval"]) for entry in groups.values()]
        hollow = [place for place, entry in enumerate(groups.values()) if entry["small"]]
        label = f"Group (hollow: fewer than {small} essays)"
        draw_intervals(axes, values, colour=HUMAN, label=label, hollow=hollow)
        axes.set_xlim(-reach, reach)
        axes.locator_params(axis="x", nbins=5)
    explain_above(panels[0], 2)
    words = "; ".join(
        f"{drawn_name(name)}: DSM {_rounded(entry['dsm'])}, SMD {_rounded(entry['smd'])}"
        for name, entry in groups.items()
    )
    description = f"Dots with intervals, and the band from -.10 to .10. {words}."
    return saved(panels[0], f"Groups of {column}, prompt {prompt}", description)


def reach_of(groups: Iterable[Entry]) -> float:
    """How far from 0 the groups' DSM and SMD reach with their intervals, so that prompts can share a scale."""
    found = [1.5 * CRITERIA["subgroup_smd"].threshold]
    for entry in groups:
        for measure in ("dsm", "smd"):
            ends_known = entry[f"{measure}_interval"] or [entry[measure] or 0.0]
            found += [abs(value) for value in ends_known]
    return 1.05 * max(found)


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
