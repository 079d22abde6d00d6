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
    rows_panel,
    saved,
)
from aes_dynloss.reports.grid_traits import trait_arms_table
from aes_dynloss.reports.measure_list import floor_title
from aes_dynloss.reports.page import measure_pairs, training_section
from aes_dynloss.reports.ratings import over_runs_table
from aes_dynloss.reports.table import figure, figure_words, interval, signed_words


def arms_picture(comparison: AnyComparison) -> Picture:
    """QWK of each arm in the mean over prompts, with its interval and seeds, beside floors and human raters."""
    arms = {arm: entry.mean for arm, entry in comparison.arms.items()}
    grid = comparison if isinstance(comparison, Benchmark) else None
    floors = {f"floor: {floor_title(name)}": floor.mean for name, floor in grid.floors.items()} if grid else {}
    with drawing():
        (axes,) = rows_panel([*arms, *floors], [f"QWK, mean over {comparison.rows.plural}"])
        human = grid.human_human.mean if grid else None
        if human is not None:
            axes.axvline(human, color=HUMAN, linewidth=1.2, linestyle="--", label="Human-human")
        seeds = [(value, row) for row, mean in enumerate(arms.values()) for value in _by_seed(mean).values()]
        if seeds:
            axes.plot(*zip(*seeds, strict=True), "|", color=FAINT, markersize=8, label="Seeds")
        values = [(mean.qwk, mean.qwk_interval) for mean in arms.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Arm")
        draw_marks(axes, [*[None] * len(arms), *floors.values()], label="Floor", colour=FAINT, marker="s")
        means = {name: mean.qwk for name, mean in arms.items()} | floors
        words = "; ".join(f"{drawn_name(name)} {figure_words(value)}" for name, value in means.items())
        also = "" if human is None else f" Human-human: {figure_words(human)}."
        return saved(axes, "QWK of the arms", f"Dots with intervals. {words}.{also}", legend_columns=3)


def _by_seed(mean: ArmFigures | GridFigures) -> Mapping[str, float]:
    """QWK by seed, where there are several."""
    if isinstance(mean, ArmFigures):
        by_seed = mean.qwk_by_seed or {}
    else:
        over_seeds = mean.over_seeds["qwk"]
        by_seed = over_seeds.by_seed if over_seeds else {}
    return by_seed if len(by_seed) > 1 else {}


def difference_picture(kind: DifferenceKind) -> Picture | None:
    """Differences from the control in the mean over prompts; None where no arm has one."""
    differences = {arm: entries.mean for arm, entries in kind.arms.items() if entries.mean is not None}
    if not differences:
        return None
    with drawing():
        (axes,) = rows_panel(list(differences), [kind.difference])
        axes.axvline(0, color=FAINT, linewidth=1)
        values = [(entry.difference, entry.interval) for entry in differences.values()]
        draw_intervals(axes, values, colour=MACHINE, label="Difference")
        words = "; ".join(f"{drawn_name(arm)} {signed_words(entry.difference)}" for arm, entry in differences.items())
        title = kind.difference[:1].upper() + kind.difference[1:]
        return saved(axes, title, f"Dots with intervals, and a line at no difference. {words}.")


_MEASURES = ("qwk", "qwk_rescaled", "qwk_cut_points", "pearson", "sd_ratio", "interval", "p_holm")


def comparison_page(
    comparison: AnyComparison, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
) -> str:
    """A comparison or a benchmark as one html page of the same kind as a report's.

    Args:
        comparison: What ``compare_arms`` or ``build_benchmark_report`` returned.
        title: The page's title.
        pictures: Further pictures, such as those that a training has left.
        about: Words for the foot by name; a benchmark's protocol stands before them.

    Returns:
        Html.

    Raises:
        DataError: A picture is no svg.
    """
    grid = comparison if isinstance(comparison, Benchmark) else None
    essays, prompts = comparison.essay_count, len(comparison.essays)
    facts = [
        f"{len(comparison.arms)} arms",
        f"{essays:,} essays",
        comparison.rows.counted(prompts),
        f"control: {comparison.control}",
    ]
    raters = grid.human_human.mean if grid else None
    beside = "" if raters is None else f" Human raters agree with each other at {figure(raters)}."
    sentences = [_measured(comparison, essays), _held_against(comparison), f"{comparison.settings.covers}{beside}"]
    explained = "Dots with intervals; small strokes are seeds."
    arms = Gallery("arms-figure", "", explained, [arms_picture(comparison)])
    by_prompt = list(prompt_tables(comparison).values()) if prompts > 1 else []
    protocol = {"Protocol": grid.protocol, "Measured on": grid.measured_on} if grid else {}
    others = "Floors, human raters and published systems"
    sections = [
        Section("summary", "Summary", [Words(sentence, lead=True) for sentence in sentences]),
        Section("arms", "Arms", [arms, arms_table(comparison), trait_arms_table(grid) if grid else None]),
        _differences(comparison),
        Section("prompts", comparison.rows.plural.capitalize(), by_prompt),
        Section("beside", others, [beside_table(grid) if grid else None]),
        Section(
            "raters", "Raters", [over_runs_table(grid.raters, level_words(grid)) if grid and grid.raters else None]
        ),
        Section("costs", "Costs", [cost_table(grid) if grid else None]),
        training_section(pictures),
        *closing_sections(comparison.notes, comparison.settings, [measure_pairs(_MEASURES)]),
    ]
    return render_page(title, facts, sections, {**protocol, **(about or {})})


def _measured(comparison: AnyComparison, essays: int) -> str:
    means = {arm: entry.mean for arm, entry in comparison.arms.items()}
    best = max(means, key=lambda arm: means[arm].qwk)
    qwk, ends = figure(means[best].qwk), interval(means[best].qwk_interval)
    where = comparison.measured_on if isinstance(comparison, Benchmark) else "test"
    many = "arm was" if len(means) == 1 else "arms were"
    return (
        f"{len(means)} {many} measured on {essays:,} {where} essays; the highest mean QWK is {qwk} "
        f"({level_words(comparison)} interval {ends}), that of {best}.{_floor_words(comparison, means[best].qwk)}"
    )


def _floor_words(comparison: AnyComparison, best: float) -> str:
    """A sentence on the best floor, if it is above the best arm."""
    floors = comparison.floors if isinstance(comparison, Benchmark) else {}
    name, floor = max(floors.items(), key=lambda one: one[1].mean, default=("", None))
    if floor is None or floor.mean <= best:
        return ""
    return f" A simple scorer does better than all of them: {floor_title(name)} has {figure(floor.mean)}."


def _held_against(comparison: AnyComparison) -> str:
    """How many arms differ from the control by more than chance."""
    control, level = comparison.control, 1 - comparison.settings.confidence
    entries = {arm: entries.mean for arm, entries in comparison.differences["qwk"].arms.items() if entries.mean}
    if not entries:
        return f"Nothing is held against {control}, the only arm."
    clear = {arm: entry.difference for arm, entry in entries.items() if entry.p_holm < level}
    if not clear:
        return (
            f"Held against {control}, no arm's QWK differs by more than chance would explain (Holm p below {level:g})."
        )
    higher = "; ".join(arm for arm, difference in clear.items() if difference > 0)
    lower = "; ".join(arm for arm, difference in clear.items() if difference < 0)
    sides = [*([f"Higher: {higher}."] if higher else []), *([f"Lower: {lower}."] if lower else [])]
    return (
        f"Held against {control}, {len(clear)} of {len(entries)} differ in QWK by more than chance would explain (Holm "
        f"p below {level:g}). {' '.join(sides)}"
    )


def _differences(comparison: AnyComparison) -> Section | None:
    """Pictures of the kinds of difference side by side, and a table of each."""
    pictures: list[Picture] = []
    tables: list[Block] = []
    for position, (kind, differences) in enumerate(comparison.differences.items(), start=1):
        picture, name = difference_picture(differences), f"differences-{position}"
        if picture is None:
            continue
        pictures.append(picture)
        by_prompt = difference_table(comparison, kind, "prompts", f"{name}-prompts").known_rows()
        tables += [
            difference_table(comparison, kind, name=name).known_rows(),
            Folded(f"The same by {comparison.rows.noun}", [by_prompt if len(comparison.essays) > 1 else None]),
        ]
    if not pictures:
        return None
    gallery = Gallery("differences-figure", "", "Dots with intervals; the line is no difference.", pictures)
    correction = Words(f"Correction for many comparisons: {comparison.settings.correction}.")
    return Section("differences", f"Differences from {comparison.control}", [gallery, *tables, correction])
