"""Human review as text: what was decided, and what the scores agree like before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.report_text import aligned, figure_words

_TITLES = {"qwk": "QWK", "exact_agreement": "exact", "adjacent_agreement": "adjacent"}


def adjudication_words(found: Mapping[str, Any]) -> str:
    """What was decided, and how to read the figures: two or three sentences."""
    open_words = ""
    if found["without_score"]:
        open_words = f" {found['without_score']} essays that the machine withheld have no score yet."
    return (
        f"Essays that humans decided on: {found['decided']}; of the review sheet still undecided: {found['undecided']}."
        f"{open_words} In the final scores the decisions stand in the place of the machine's scores; where the human "
        "scores that are compared with come from the same people, they agree with themselves there."
    )


def adjudication_table(found: Mapping[str, Any]) -> str:
    """The machine's figures and the final ones by prompt and in the mean.

    Args:
        found: What ``adjudication_entry`` returned.
    """
    rows = {**found["prompts"], "mean": found["mean"]}
    columns = [["prompt", *rows], ["decided", *(str(row.get("decided", "")) for row in rows.values())]]
    for which in ("machine", "final"):
        entries = [row[which] or {} for row in rows.values()]
        columns.append([f"{which} n", *(str(entry.get("n", "")) for entry in entries)])
        columns += [[title, *(figure_words(entry.get(name)) for entry in entries)] for name, title in _TITLES.items()]
    return "\n".join(["Human review:", *aligned(columns), f"Note: {adjudication_words(found)}"])
