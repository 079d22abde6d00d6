"""The pages of a comparison of arms and of a benchmark, with pictures of kappas and of differences from the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aes_dynloss.reports.blocks import Block, Folded, Gallery, Section, Words, closing_sections, render_page
from aes_dynloss.reports.comparison import ArmFigures, Benchmark, DifferenceKind, GridFigures
from aes_dynloss.reports.comparison_tables import (
    AnyComparison,
    arms_table,
    beside_table,
    cost_table,
    difference_table,
    level_words,
    prompt_tables,
)
from aes_dynloss.reports.drawing import (
    FAINT,
    HUMAN,
    MACHINE,
    Picture,
    draw_intervals,
    draw_marks,
    drawing,
    drawn_name,
    explain_above,
    rows_panel,
    saved,
)
from aes_dynloss.reports.page import measure_pairs, training_section
from aes_dynloss.reports.table import figure, figure_words, interval, signed_words

WIDTH = 8.6


def arms_picture(comparison: AnyComparison) -> Picture:
    """QWK of each arm in the mean over prompts, with its interval and seeds, beside floors and human raters."""
    arms = {arm: entry.mean for arm, entry in comparison.arms.items()}
    grid = comparison if isinstance(comparison, Benchmark) else None
    floors = {f"floor: {name}": floor.mean for name, floor in grid.floors.items()} if grid else {}
    with drawing():
        (axes,) = rows_panel([*arms, *floors], ["QWK, mean over prompts"], width=WIDTH)
        human = grid.human_human.mean if grid else None
        if human is not None:
            axes.axvline(human, color=HUMAN, linewidth=1.2, linestyle="--", label="Human-human")
        seeds = [(value, place) for place, mean in enumerate(arms.values()) for value in _by_seed(mean).values()]
        if seeds:
            axes.plot(*zip(*seeds, strict=True), "|", color=FAINT, markersize=8, label="Seeds")
        values = [(mean.qwk, mean.qwk_interval) for mean in arms.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Arm")
        draw_marks(axes, [*[None] * len(arms), *floors.values()], label="Floor", colour=FAINT, marker="s")
        explain_above(axes, 4)
        means = {name: mean.qwk for name, mean in arms.items()} | floors
        words = "; ".join(f"{drawn_name(name)} {figure_words(value)}" for name, value in means.items())
        also = "" if human is None else f" Human-human: {figure_words(human)}."
        return saved(axes, "QWK of the arms", f"Dots with intervals. {words}.{also}")


def _by_seed(mean: ArmFigures | GridFigures) -> Mapping[str, float]:
    """QWK by seed, where there are several."""
    if isinstance(mean, ArmFigures):
        found = mean.qwk_by_seed or {}
    else:
        over_seeds = mean.over_seeds["qwk"]
        found = {} if over_seeds is None else over_seeds.by_seed
    return found if len(found) > 1 else {}


def difference_picture(kind: DifferenceKind) -> Picture | None:
    """Differences from the control in the mean over prompts; None where no arm has one."""
    found = {arm: entries.mean for arm, entries in kind.arms.items() if entries.mean is not None}
    if not found:
        return None
    with drawing():
        (axes,) = rows_panel(list(found), [kind.difference], width=WIDTH)
        axes.axvline(0, color=FAINT, linewidth=1)
        values = [(entry.difference, entry.interval) for entry in found.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Difference")
        words = "; ".join(f"{drawn_name(arm)} {signed_words(entry.difference)}" for arm, entry in found.items())
        return saved(axes, _capital(kind.difference), f"Dots with intervals, and a line at no difference. {words}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_MEASURES = ("qwk", "qwk_rescaled", "qwk_cut_points", "pearson", "sd_ratio", "interval", "p_holm")


def comparison_page(
    comparison: AnyComparison, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
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
    essays, prompts = _essays(comparison), len(comparison.essays)
    facts = [
        f"{len(comparison.arms)} arms",
        f"{essays:,} essays",
        f"{prompts} prompt{'s' if prompts > 1 else ''}",
        f"control: {comparison.control}",
    ]
    sections = [
        _summary(comparison),
        _arms(comparison),
        *_differences(comparison),
        *_prompts(comparison),
        *_others(comparison),
        training_section(pictures),
        *closing_sections(comparison.notes, comparison.settings, [measure_pairs(_MEASURES)]),
    ]
    return render_page(title, facts, sections, about)


def benchmark_page(
    report: Benchmark, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
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
    own = {"Protocol": report.protocol, "Measured on": report.measured_on}
    return comparison_page(report, title=title, pictures=pictures, about={**own, **(about or {})})


def _essays(comparison: AnyComparison) -> int:
    """Essays that are measured: a benchmark knows how many are distinct, as seeds and halves share them."""
    return comparison.distinct_essays if isinstance(comparison, Benchmark) else sum(comparison.essays.values())


def _summary(comparison: AnyComparison) -> Section:
    sentences = [_measured(comparison), _held_against(comparison), _to_watch(comparison)]
    return Section("summary", "Summary", [Words(sentence, lead=True) for sentence in sentences])


def _measured(comparison: AnyComparison) -> str:
    means = {arm: entry.mean for arm, entry in comparison.arms.items()}
    best = max(means, key=lambda arm: means[arm].qwk)
    ends = means[best].qwk_interval
    level = level_words(comparison)
    where = comparison.measured_on if isinstance(comparison, Benchmark) else "test"
    many = "arm was" if len(means) == 1 else "arms were"
    return (
        f"{len(means)} {many} measured on {_essays(comparison):,} {where} essays; the "
        f"highest mean QWK is {figure(means[best].qwk)} ({level} interval {interval(ends)}), that of {best}."
    )


def _held_against(comparison: AnyComparison) -> str:
    """How many arms differ from the control by more than chance."""
    control, level = comparison.control, 1 - comparison.settings.confidence
    found = {
        arm: entries.mean for arm, entries in comparison.differences["qwk"].arms.items() if entries.mean is not None
    }
    if not found:
        return f"Nothing is held against {control}, the only arm."
    clear = {arm: entry.difference for arm, entry in found.items() if entry.p_holm < level}
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


def _to_watch(comparison: AnyComparison) -> str:
    """What the intervals do not cover, and where humans are."""
    human = comparison.human_human.mean if isinstance(comparison, Benchmark) else None
    beside = "" if human is None else f" Human raters agree with each other at {figure(human)}."
    return f"{comparison.settings.covers}{beside}"


def _arms(comparison: AnyComparison) -> Section:
    words = "Dots with intervals; small strokes are seeds."
    gallery = Gallery("arms-figure", "", words, [arms_picture(comparison)], size="large")
    return Section("arms", "Arms", [gallery, arms_table(comparison)])


def _differences(comparison: AnyComparison) -> list[Section]:
    blocks: list[Block] = []
    for place, (kind, answered) in enumerate(comparison.differences.items(), start=1):
        picture = difference_picture(answered)
        if picture is None:
            continue
        name = f"differences-{place}"
        gallery = Gallery(f"{name}-figure", "", "", [picture], size="large")
        blocks += [gallery, difference_table(comparison, kind, name=name).known_rows()]
        by_prompt = difference_table(comparison, kind, "prompts", f"{name}-prompts").known_rows()
        if by_prompt.rows and len(comparison.essays) > 1:
            blocks.append(Folded("The same by prompt", [by_prompt]))
    correction = Words(f"Correction for many comparisons: {comparison.settings.correction}.")
    title = f"Differences from {comparison.control}"
    return [Section("differences", title, [*blocks, correction])] if blocks else []


def _prompts(comparison: AnyComparison) -> list[Section]:
    tables = list(prompt_tables(comparison).values())
    return [Section("prompts", "Prompts", tables)] if tables and len(comparison.essays) > 1 else []


def _others(comparison: AnyComparison) -> list[Section]:
    """Floors, human raters, published systems, and costs."""
    if not isinstance(comparison, Benchmark):
        return []
    beside, costs = beside_table(comparison), cost_table(comparison)
    return [
        *([] if beside is None else [Section("beside", "Floors, human raters and published systems", [beside])]),
        *([] if costs is None else [Section("costs", "Costs", [costs])]),
    ]
