"""The tables of a comparison of arms, and of a benchmark, which is one with more beside it.

Pictures of arms held against each other: their kappas, and their differences from the control.

The pages of a comparison of arms and of a benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aes_dynloss.reports.blocks import Block, Folded, Gallery, Section, Words, render_page
from aes_dynloss.reports.comparison_text import TITLES, difference_rows, p_words, signed_words
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
from aes_dynloss.reports.page import note_sections, training_sections
from aes_dynloss.reports.table import (
    NOTHING,
    UNDEFINED,
    Cell,
    Entry,
    Heading,
    Table,
    count,
    figure,
    heading,
    interval,
    minus,
    number,
    words,
)
from aes_dynloss.reports.text import figure_words

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


DEV_MISSING = "Unknown: a run has no predictions of dev essays."
_ARM = Heading("Arm", numeric=False)


def arms_table(comparison: Comparison) -> Table:
    """The arms' means."""
    arms: Mapping[str, Entry] = comparison["arms"]
    raw = [name for name in ("pearson", "sd_ratio") if all(name in entry["mean"] for entry in arms.values())]
    costs = any(entry.get("cost") for entry in arms.values())
    rows = []
    for arm, entry in arms.items():
        mean = entry["mean"]
        behind = entry.get("runs", entry.get("members"))
        kappas = [number(mean[name], mean[f"{name}_interval"], DEV_MISSING) for name in TITLES]
        spread = [number(_sd_over_seeds(mean))] if "over_seeds" in mean else []
        cost = [_cost(entry)] if costs else []
        rows.append([words(arm), count(behind), *kappas, *(number(mean[name]) for name in raw), *spread, *cost])
    first = next(iter(arms.values()))
    columns = [
        _ARM,
        Heading("Runs" if "runs" in first else "Models behind a score"),
        *map(heading, [*TITLES, *raw]),
        *([Heading("sd over seeds", hint="Of the QWK.")] if "over_seeds" in first["mean"] else []),
        *([Heading("Seconds of a run")] if costs else []),
    ]
    level = f"{100 * comparison['settings']['confidence']:g} %"
    return Table("arms-table", f"Means over strata and prompts, {level} intervals below", columns, rows)


def _sd_over_seeds(mean: Entry) -> float | None:
    found = mean["over_seeds"]["qwk"]
    value: float | None = None if found is None else found["sd"]
    return value


def _cost(entry: Entry) -> Cell:
    """Seconds of a run; an ensemble takes those of all its members."""
    cost = entry["cost"]
    if cost is None or cost["seconds_per_run"] is None:
        return number(None)
    seconds, members = cost["seconds_per_run"], entry["members"]
    times = f"{members} × " if members > 1 else ""  # noqa: RUF001 - a product, not a letter
    text = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    return Cell(f"{times}{text}", members * seconds, small=str(cost["unit"]))


def difference_table(kind: Entry, name: str, part: str, confidence: str) -> Table | None:
    """One family of differences from the control; None where there is none.

    Args:
        kind: One kind of difference, as ``answer`` gives it.
        name: The table's name in the page's address.
        part: The family: ``mean`` or ``prompts``.
        confidence: The intervals' level in words.
    """
    found = {row: entry for row, entry in difference_rows(kind, part).items() if entry is not None}
    if not found:
        return None
    rows = [
        [
            words(row),
            Cell(minus(signed_words(entry["difference"])), entry["difference"], small=_signed(entry["interval"])),
            Cell(p_words(entry["p"]), entry["p"]),
            Cell(p_words(entry["p_holm"]), entry["p_holm"]),
        ]
        for row, entry in found.items()
    ]
    columns = [_ARM, Heading("Difference"), Heading("p"), heading("p_holm")]
    family = f"comparisons that Holm p corrects for: {kind['comparisons'][part]}"
    where = "mean over prompts" if part == "mean" else "by prompt"
    title = kind["difference"][:1].upper() + kind["difference"][1:]
    return Table(name, f"{title}, {where}, {confidence} intervals below; {family}", columns, rows)


def _signed(ends: list[float]) -> str:
    return " to ".join(minus(signed_words(end)) for end in ends)


def prompt_tables(comparison: Comparison) -> list[Table]:
    """Each version of QWK by arm and prompt, where some arm has it; floors and human raters below the first."""
    prompts = list(comparison["essays"])
    columns = [_ARM, Heading("Mean"), *(Heading(f"Prompt {prompt}") for prompt in prompts)]
    tables = []
    for version in TITLES:
        rows = [
            [
                words(arm),
                number(entry["mean"][version], why=DEV_MISSING),
                *_versions(entry["prompts"], prompts, version),
            ]
            for arm, entry in comparison["arms"].items()
        ]
        if all(cell.undefined for row in rows for cell in row[1:]):
            continue
        foot = _beside_prompts(comparison, prompts) if version == "qwk" else []
        caption = f"{heading(version).title} by prompt"
        tables.append(Table(f"prompts-{version.replace('_', '-')}", caption, columns, rows, foot))
    return tables


def _versions(entries: Mapping[str, Entry], prompts: list[str], version: str) -> list[Cell]:
    figures = [entries[prompt] for prompt in prompts]
    return [number(one[version], one[f"{version}_interval"], DEV_MISSING) for one in figures]


def _beside_prompts(comparison: Comparison, prompts: list[str]) -> list[list[Cell]]:
    """Floors and human raters by prompt."""
    rows = [
        [words(f"floor: {name}"), number(floor["mean"]), *(number(floor["prompts"][prompt]) for prompt in prompts)]
        for name, floor in comparison.get("floors", {}).items()
    ]
    human = comparison.get("human_human", {"prompts": {}})
    if human["prompts"]:
        own = (number(human["prompts"].get(prompt, {}).get("qwk")) for prompt in prompts)
        rows.append([words("human-human"), number(human["mean"]), *own])
    return rows


def beside_table(comparison: Comparison) -> Table | None:
    """What the arms' QWK is to be read with: floors, human raters, published systems; None without any."""
    rows = [
        [words(f"floor: {name}"), number(floor["mean"]), words("on the same essays"), NOTHING]
        for name, floor in comparison.get("floors", {}).items()
    ]
    human = comparison.get("human_human", {"prompts": {}})
    if human["prompts"]:
        twice = sum(entry["n"] for entry in human["prompts"].values())
        pair = words(f"two raters with each other, on {twice:,} essays")
        rows.append([words("human-human"), number(human["mean"]), pair, NOTHING])
    rows += [
        [words(one["system"]), number(one["qwk"]), words(one["protocol"]), words(one["source"])]
        for one in comparison.get("published", ())
    ]
    if not rows:
        return None
    columns = [Heading("System", numeric=False), Heading("QWK"), *_wordy("Measured", "Source")]
    return Table("beside-table", "Mean QWK of others", columns, rows)


def cost_table(comparison: Comparison) -> Table | None:
    """What the arms' runs cost; None where it is not known of any."""
    rows = []
    for arm, entry in comparison["arms"].items():
        cost = entry.get("cost")
        if cost:
            seconds = (count(cost[key]) for key in ("seconds_per_run", "total_seconds"))
            kind = words(cost["unit"] or UNDEFINED)
            rows.append([words(arm), count(cost["runs"]), *seconds, kind, words("; ".join(cost["devices"]))])
    if not rows:
        return None
    columns = [_ARM, *map(Heading, ("Runs", "Seconds of a run", "Seconds of all")), *_wordy("Unit", "Devices")]
    return Table("costs-table", "Wall time of a run times its processes", columns, rows)


def _wordy(*titles: str) -> list[Heading]:
    return [Heading(title, numeric=False) for title in titles]


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
