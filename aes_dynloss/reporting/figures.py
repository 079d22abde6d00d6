"""All pictures of a report, drawn from the report alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aes_dynloss.reporting.agreement_figures import agreement_picture, group_picture, reach_of
from aes_dynloss.reporting.blocks import Gallery
from aes_dynloss.reporting.drawing import drawing
from aes_dynloss.reporting.pictures import Picture
from aes_dynloss.reporting.score_figures import (
    confusion_picture,
    distribution_picture,
    reliability_picture,
    residual_by_length_picture,
    residual_by_score_picture,
)

Entry = Mapping[str, Any]

# Each prompt's pictures take a quarter of a second; a page of more would be neither quick nor read.
MOST_DRAWN_PROMPTS = 16
# Rows of the picture that has all prompts in it.
MOST_DRAWN_ROWS = 40
# A picture of one group says nothing, and one of very many cannot be read.
FEWEST_GROUPS, MOST_DRAWN_GROUPS = 2, 40


_BY_PROMPT: tuple[tuple[str, str, str, str, Callable[[str, Entry], Picture]], ...] = (
    (
        "confusion",
        "confusion",
        "Confusion matrices",
        "Essays by human score (upwards) and machine score (to the right); stronger cells hold more essays. Full "
        "agreement would fill the diagonal alone.",
        confusion_picture,
    ),
    (
        "distributions",
        "score_points",
        "Scores given",
        "Shares of essays at each score point. A machine that shrinks to the mean gives too many middle scores.",
        distribution_picture,
    ),
    (
        "residuals-score",
        "residuals_by_score",
        "Residuals by score",
        "Mean of prediction less human score, with one sd, by human score. A falling line is shrinkage: low scores are "
        "predicted too high and high ones too low.",
        residual_by_score_picture,
    ),
    (
        "residuals-length",
        "residuals_by_length",
        "Residuals by length",
        "The same by the essay's length in words. A slope means that length is rewarded other than by human raters.",
        residual_by_length_picture,
    ),
    (
        "reliability",
        "reliability",
        "Reliability of predictions",
        "Mean human score, with one sd, against the mean prediction, in bins of equal count. On the diagonal, "
        "predictions mean what they say.",
        reliability_picture,
    ),
)


def report_figures(report: Mapping[str, Any]) -> list[Gallery]:
    """The pictures that need nothing but the report.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Galleries in the order of a page; a kind that no prompt has data for is left out. Beyond MOST_DRAWN_PROMPTS, or
        MOST_DRAWN_ROWS in the first, the prompts with the most essays are drawn, which the gallery's words say.
    """
    prompts: Mapping[str, Entry] = report["prompts"]
    drawn, cut = _largest(prompts, MOST_DRAWN_PROMPTS)
    rows, rows_cut = _largest(prompts, MOST_DRAWN_ROWS)
    galleries = []
    with drawing():
        words = "QWK and r with intervals, beside human-human agreement and the ceiling where they are known."
        agreement = (agreement_picture({**report, "prompts": {prompt: prompts[prompt] for prompt in rows}}),)
        galleries.append(Gallery("agreement-figure", "Agreement by prompt", words + rows_cut, agreement, size="large"))
        for name, key, title, words, draw in _BY_PROMPT:
            made = tuple(draw(prompt, prompts[prompt]) for prompt in drawn if prompts[prompt].get(key))
            if made:
                galleries.append(Gallery(name, title, words + cut, made))
    return galleries


def _largest(prompts: Mapping[str, Entry], most: int) -> tuple[list[str], str]:
    """The prompts with the most essays in the report's order, and words for it if there are others."""
    largest = set(sorted(prompts, key=lambda prompt: -prompts[prompt]["n"])[:most])
    drawn = [prompt for prompt in prompts if prompt in largest]
    return drawn, f" Drawn are the {most} prompts with the most essays." if len(drawn) < len(prompts) else ""


def fairness_figures(report: Mapping[str, Any]) -> dict[str, tuple[Picture, ...]]:
    """Pictures of subgroups, by column, one a prompt.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Pictures of the prompts in which the column has from FEWEST_GROUPS to MOST_DRAWN_GROUPS groups.
    """
    found: dict[str, dict[str, Entry]] = {}
    for prompt, entry in report["prompts"].items():
        for column, part in (entry.get("fairness") or {"columns": {}})["columns"].items():
            if FEWEST_GROUPS <= len(part["groups"]) <= MOST_DRAWN_GROUPS:
                found.setdefault(column, {})[prompt] = part["groups"]
    pictures = {}
    with drawing():
        for column, prompts in found.items():
            drawn = list(prompts)[:MOST_DRAWN_PROMPTS]
            reach = reach_of(entry for prompt in drawn for entry in prompts[prompt].values())
            small = {prompt: report["prompts"][prompt]["fairness"]["small_group"] for prompt in drawn}
            pictures[column] = tuple(
                group_picture(column, prompt, prompts[prompt], small[prompt], reach) for prompt in drawn
            )
    return pictures
