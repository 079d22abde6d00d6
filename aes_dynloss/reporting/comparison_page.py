"""The pages of a comparison of arms and of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aes_dynloss.reporting.blocks import Block, Folded, Gallery, Section, Words
from aes_dynloss.reporting.comparison_figures import arms_picture, difference_picture
from aes_dynloss.reporting.comparison_tables import (
    arms_table,
    beside_table,
    cost_table,
    difference_table,
    prompt_tables,
)
from aes_dynloss.reporting.page import note_sections, training_sections
from aes_dynloss.reporting.pictures import Picture
from aes_dynloss.reporting.rendering import render_page
from aes_dynloss.reporting.tables import figure, interval

Comparison = Mapping[str, Any]

_MEASURES = ("qwk", "qwk_rescaled", "qwk_cut_points", "pearson", "sd_ratio", "interval", "p_holm")


def comparison_page(
    comparison: Comparison, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
) -> str:
    """A comparison as one html page of the same kind as a report's.

    Args:
        comparison: What ``compare_arms`` or ``build_benchmark_report`` returned.
        title: The page's title.
        pictures: Further pictures, such as those that a training has left.
        about: Words for the foot by name.

    Returns:
        Html.

    Raises:
        DataError: A picture is no svg.
    """
    essays, prompts = _essays(comparison), len(comparison["essays"])
    facts = [
        f"{len(comparison['arms'])} arms",
        f"{essays:,} essays",
        f"{prompts} prompt{'s' if prompts > 1 else ''}",
        f"control: {comparison['control']}",
    ]
    sections = [
        _summary(comparison),
        _arms(comparison),
        *_differences(comparison),
        *_prompts(comparison),
        *_others(comparison),
        *training_sections(pictures),
        *note_sections(comparison, _MEASURES),
    ]
    return render_page(title, facts, sections, about)


def benchmark_page(
    report: Comparison, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
) -> str:
    """A benchmark's report as one html page: a comparison with its protocol at the foot.

    Args:
        report: What ``build_benchmark_report`` returned.
        title: The page's title.
        pictures: Further pictures, such as those that a training has left.
        about: Words for the foot by name.

    Returns:
        Html.

    Raises:
        DataError: A picture is no svg.
    """
    own = {"Protocol": report["protocol"], "Measured on": report["measured_on"]}
    return comparison_page(report, title=title, pictures=pictures, about={**own, **(about or {})})


def _essays(comparison: Comparison) -> int:
    """Essays that are measured: a benchmark knows how many are distinct, as seeds and halves share them."""
    found: int = comparison.get("distinct_essays", sum(comparison["essays"].values()))
    return found


def _summary(comparison: Comparison) -> Section:
    sentences = [_measured(comparison), _held_against(comparison), _to_watch(comparison)]
    return Section("summary", "Summary", [Words(sentence, lead=True) for sentence in sentences])


def _measured(comparison: Comparison) -> str:
    means = {arm: entry["mean"] for arm, entry in comparison["arms"].items()}
    best = max(means, key=lambda arm: means[arm]["qwk"])
    ends = means[best]["qwk_interval"]
    level = f"{100 * comparison['settings']['confidence']:g} %"
    many = "arm was" if len(means) == 1 else "arms were"
    return (
        f"{len(means)} {many} measured on {_essays(comparison):,} {comparison.get('measured_on', 'test')} essays; the "
        f"highest mean QWK is {figure(means[best]['qwk'])} ({level} interval {interval(ends)}), that of {best}."
    )


def _held_against(comparison: Comparison) -> str:
    """How many arms differ from the control by more than chance."""
    control, level = comparison["control"], 1 - comparison["settings"]["confidence"]
    found = {
        arm: entries["mean"]
        for arm, entries in comparison["differences"]["qwk"]["arms"].items()
        if entries["mean"] is not None
    }
    if not found:
        return f"Nothing is held against {control}, the only arm."
    clear = {arm: entry["difference"] for arm, entry in found.items() if entry["p_holm"] < level}
    if not clear:
        return (
            f"Held against {control}, no arm's QWK differs by more than chance would explain (Holm p below {level:g})."
        )
    sides = []
    for word, sign in (("Higher", 1), ("Lower", -1)):
        named = [arm for arm, difference in clear.items() if sign * difference > 0]
        if named:
            sides.append(f"{word}: {'; '.join(named)}")
    return (
        f"Held against {control}, {len(clear)} of {len(found)} differ in QWK by more than chance would explain (Holm p "
        f"below {level:g}). {'. '.join(sides)}."
    )


def _to_watch(comparison: Comparison) -> str:
    """What the intervals do not cover, and where humans are."""
    human = comparison.get("human_human", {}).get("mean")
    beside = "" if human is None else f" Human raters agree with each other at {figure(human)}."
    return f"{comparison['settings']['covers']}{beside}"


def _arms(comparison: Comparison) -> Section:
    words = "Dots with intervals; small strokes are seeds."
    gallery = Gallery("arms-figure", "", words, [arms_picture(comparison)], size="large")
    return Section("arms", "Arms", [gallery, arms_table(comparison)])


def _differences(comparison: Comparison) -> list[Section]:
    level = f"{100 * comparison['settings']['confidence']:g} %"
    blocks: list[Block] = []
    for place, kind in enumerate(comparison["differences"].values(), start=1):
        picture = difference_picture(kind)
        table = difference_table(kind, f"differences-{place}", "mean", level)
        if picture is None or table is None:
            continue
        blocks += [Gallery(f"differences-{place}-figure", "", "", [picture], size="large"), table]
        by_prompt = difference_table(kind, f"differences-{place}-prompts", "prompts", level)
        if by_prompt is not None and len(comparison["essays"]) > 1:
            blocks.append(Folded("The same by prompt", [by_prompt]))
    correction = Words(f"Correction for many comparisons: {comparison['settings']['correction']}.")
    title = f"Differences from {comparison['control']}"
    return [Section("differences", title, [*blocks, correction])] if blocks else []


def _prompts(comparison: Comparison) -> list[Section]:
    tables = prompt_tables(comparison)
    return [Section("prompts", "Prompts", tables)] if tables and len(comparison["essays"]) > 1 else []


def _others(comparison: Comparison) -> list[Section]:
    """Floors, human raters, published systems, and costs."""
    beside, costs = beside_table(comparison), cost_table(comparison)
    return [
        *([] if beside is None else [Section("beside", "Floors, human raters and published systems", [beside])]),
        *([] if costs is None else [Section("costs", "Costs", [costs])]),
    ]
