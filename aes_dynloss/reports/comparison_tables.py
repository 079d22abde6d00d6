"""The tables of a comparison of arms, and of a benchmark, which is one with more beside it.

A comparison as plain text for a terminal; a benchmark's report as GitHub markdown, and as rows of a csv file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aes_dynloss.reports.blocks import template
from aes_dynloss.reports.comparison import (
    VERSIONS,
    ArmDifferences,
    Benchmark,
    Comparison,
    Cost,
    GridArm,
)
from aes_dynloss.reports.grid_traits import trait_arms_table
from aes_dynloss.reports.measure_list import Missing, floor_title
from aes_dynloss.reports.model import Floor
from aes_dynloss.reports.table import (
    MOST_ACROSS,
    NOTHING,
    UNDEFINED,
    Cell,
    Column,
    Ends,
    Record,
    Table,
    count,
    measure_cell,
    measure_column,
    number,
    p_value,
    signed,
    text_table,
    words,
    words_column,
)

AnyComparison = Comparison | Benchmark

HUMAN, MEAN = "human-human", "mean"
_ARM = words_column("arm", "Arm", "arm")


def level_words(comparison: AnyComparison) -> str:
    """The level of a comparison's intervals."""
    return f"{100 * comparison.settings.confidence:g} %"


def arms_table(comparison: AnyComparison) -> Table:
    """The arms' means."""
    level, costs = level_words(comparison), _costs(comparison)
    units = sorted({cost.unit for cost in costs.values() if cost.unit is not None})
    rows = []
    for arm, entry in comparison.arms.items():
        kappas = [measure_cell(entry.mean, name, Missing.NO_DEV_OF_RUN) for name in VERSIONS]
        if isinstance(entry, GridArm):
            over_seeds = entry.mean.over_seeds["qwk"]
            figures = (entry.mean.pearson, entry.mean.sd_ratio, over_seeds.sd if over_seeds else None)
            cost = [_cost_cell(entry, named=len(units) > 1)] if costs else []
            rows.append(
                [words(arm), count(entry.members, why=Missing.PUBLISHED), *kappas, *map(number, figures), *cost]
            )
        else:
            rows.append([words(arm), count(entry.runs), *kappas])
    columns = [_ARM, Column("runs", "Runs", "runs"), *map(measure_column, VERSIONS)]
    if isinstance(comparison, Benchmark):
        columns[1] = Column("members", "Models behind a score")
        columns += [measure_column("pearson"), measure_column("sd_ratio")]
        columns += [Column("over_seeds", "sd over seeds", explanation="Of the QWK.")]
    if costs:
        columns += [Column("seconds", "Seconds of a run", f"seconds ({units[0]})" if len(units) == 1 else "seconds")]
    return Table(
        "arms-table",
        f"Means over strata and {comparison.rows.plural}, {level} intervals below",
        columns,
        rows,
        (),
        level,
    )


def _costs(comparison: AnyComparison) -> dict[str, Cost]:
    """What is known of the arms' costs."""
    arms = comparison.arms.items()
    return {arm: entry.cost for arm, entry in arms if isinstance(entry, GridArm) and entry.cost}


def _cost_cell(entry: GridArm, *, named: bool) -> Cell:
    """Seconds of a run; an ensemble takes those of all its members."""
    cost, members = entry.cost, entry.members or 1
    if cost is None or cost.seconds_per_run is None:
        return number(None, why=Missing.NO_COST)
    seconds = cost.seconds_per_run
    text = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    short, long = (f"{members} {times} {text}" if members > 1 else text for times in ("x", "×"))  # noqa: RUF001
    return Cell(members * seconds, short=f"{short} {cost.unit}" if named else short, long=long, note=str(cost.unit))


def difference_table(comparison: AnyComparison, kind: str, part: str = "mean", name: str = "differences") -> Table:
    """One family of differences from the control; an arm without one has a row of unknown cells.

    Args:
        comparison: What ``compare_arms`` returned.
        kind: The kind of difference, a key of ``differences``.
        part: The family: ``mean`` or ``prompts``.
        name: The table's name in a page's address.
    """
    differences, level, why = comparison.differences[kind], level_words(comparison), Missing.NO_DEV_OF_RUN
    if part == "mean":
        entries = {arm: arm_entries.mean for arm, arm_entries in differences.arms.items()}
    else:
        prompts = dict.fromkeys(prompt for arm_entries in differences.arms.values() for prompt in arm_entries.prompts)
        entries = {
            f"{comparison.rows.within(prompt)}, {arm}": arm_entries.prompts[prompt]
            for prompt in prompts
            for arm, arm_entries in differences.arms.items()
        }
    rows = []
    for row, entry in entries.items():
        figures = entry or dict.fromkeys(("difference", "interval", "p", "p_holm"))
        difference = signed(figures["difference"], figures["interval"], why)
        rows.append([words(row), difference, *(p_value(figures[p], why=why) for p in ("p", "p_holm"))])
    columns = [_ARM, Column("difference", "Difference", "difference"), Column("p", "p"), measure_column("p_holm")]
    noun = comparison.rows.noun
    where = f"mean over {comparison.rows.plural}" if part == "mean" else f"by {noun}"
    family = f"comparisons that Holm p corrects for: {differences.comparisons[part]}"
    title = differences.difference[:1].upper() + differences.difference[1:]
    return Table(name, f"{title}, {where}, {level} intervals below; {family}", columns, rows, (), level)


_DIFFERENCE = ("arm", "difference", "difference_interval", "p", "p_holm")


def prompt_tables(comparison: AnyComparison) -> dict[str, Table]:
    """Each version of QWK by arm and prompt, where some arm has it; floors and human raters below the first.

    A row is an arm; where there are more prompts than go side by side, a prompt.
    """
    prompts = list(comparison.essays)
    columns = [_ARM, Column(MEAN, "Mean", MEAN), *map(comparison.rows.across, prompts)]
    mean_last = [_ARM.key, *(column.key for column in columns[2:]), MEAN]
    tables = {}
    for version in VERSIONS:
        rows = []
        for arm, entry in comparison.arms.items():
            cells = [measure_cell(entry.prompts[prompt], version, Missing.NO_DEV_OF_RUN) for prompt in prompts]
            rows.append([words(arm), number(entry.mean[version], why=Missing.NO_DEV_OF_RUN), *cells])
        if all(cell.missing for row in rows for cell in row[1:]):
            continue
        foot = _beside_prompts(comparison, prompts) if isinstance(comparison, Benchmark) and version == "qwk" else []
        title = measure_column(version).title
        name = f"prompts-{version.replace('_', '-')}"
        tables[version] = Table(
            name, f"{title} by {comparison.rows.noun}", columns, rows, foot, level_words(comparison)
        )
        if len(prompts) > max(MOST_ACROSS, len(rows) + len(foot)):
            tables[version] = tables[version].chosen(*mean_last).turned(comparison.rows.column)
    return tables


def _beside_prompts(report: Benchmark, prompts: list[str]) -> list[list[Cell]]:
    """Floors and human raters by prompt."""
    rows = [
        [_floor(name), number(floor.mean), *(number(floor.prompts[prompt]) for prompt in prompts)]
        for name, floor in report.floors.items()
    ]
    raters = report.human_human.prompts
    if raters:
        kappas = (raters[prompt].qwk if prompt in raters else None for prompt in prompts)
        cells = (number(kappa, why=Missing.NO_SECOND_SCORE) for kappa in kappas)
        rows.append([words(HUMAN), number(report.human_human.mean, why=Missing.SOME_PROMPTS), *cells])
    return rows


def _floor(name: str) -> Cell:
    return words(f"floor: {floor_title(name)}")


def beside_table(report: Benchmark) -> Table:
    """What the arms' QWK is to be read with: floors, human raters, published systems."""
    rows = [
        [_floor(name), number(floor.mean), words("on the same essays"), NOTHING]
        for name, floor in report.floors.items()
    ]
    human = report.human_human
    if human.prompts:
        pair = f"two raters with each other, not with the resolved score, on {report.scored_twice:,} essays"
        rows.append([words(HUMAN), number(human.mean, why=Missing.SOME_PROMPTS), words(pair), NOTHING])
    for one in report.published:
        protocol = words(one.protocol, short=f"{one.protocol}: {one.source}")
        rows.append([words(one.system), number(one.qwk), protocol, words(one.source)])
    columns = [
        words_column("system", "System", "system"),
        Column("qwk", "QWK"),
        words_column("measured", "Measured", "measured"),
        words_column("source", "Source"),
    ]
    return Table("beside-table", "Mean QWK of others", columns, rows)


def cost_table(report: Benchmark) -> Table:
    """What the arms' runs cost, where it is known."""
    rows = []
    for arm, cost in _costs(report).items():
        seconds = (count(value, why=Missing.NO_COST) for value in (cost.seconds_per_run, cost.total_seconds))
        kind, devices = words(cost.unit or UNDEFINED), words("; ".join(cost.devices))
        rows.append([words(arm), count(cost.runs), *seconds, kind, devices])
    numbers = {"runs": "Runs", "seconds_per_run": "Seconds of a run", "total_seconds": "Seconds of all"}
    columns = [_ARM, *(Column(key, title) for key, title in numbers.items())]
    columns += [words_column("unit", "Unit"), words_column("devices", "Devices")]
    return Table("costs-table", "Wall time of a run times its processes", columns, rows)


def comparison_text(comparison: AnyComparison) -> str:
    """The comparison's figures as text: the means first, then the prompts.

    Args:
        comparison: What ``compare_arms`` returned.

    Returns:
        Tables of the arms' own kappas and of each kind of difference, with what intervals cover, how p values are
        corrected, and the notes; ends without a line break. "-" is an undefined value.
    """
    many = len(comparison.essays)
    mean = f"one {comparison.rows.kind}" if many == 1 else f"mean over {comparison.rows.counted(many)}"
    kappas = [key for version in VERSIONS for key in (version, f"{version}_interval")]
    arms = arms_table(comparison).chosen("arm", "runs", *kappas).known_columns()
    blocks = [[f"Test essays: {comparison.essay_count}, {mean}. Control: {comparison.control}", *text_table(arms)]]
    # Of one prompt, the mean has said it.
    for part, title in {"mean": mean, **({"prompts": f"each {comparison.rows.noun}"} if many > 1 else {})}.items():
        for name, kind in comparison.differences.items():
            table = difference_table(comparison, name, part)
            if table.known_rows():
                family = f"{title}; comparisons that Holm p corrects for: {kind.comparisons[part]}"
                lines = text_table(table.chosen(*_DIFFERENCE).retitled(arm=""))
                blocks.append([f"{kind.difference} ({family})", *lines])
    settings = comparison.settings
    closing = [f"{settings.covers} Resamples: {settings.resamples}."]
    closing += [f"Note: {note}" for note in comparison.notes]
    return "\n\n".join("\n".join(block) for block in [*blocks, closing])


def benchmark_markdown(content: Mapping[str, Any]) -> str:
    """A grid's report for a reader.

    Args:
        content: What ``build_benchmark_report`` returned, or the content of benchmark.json.

    Returns:
        GitHub markdown, ends with a line break: a table of the arms; floors, human agreement and published figures;
        mean differences from the control; QWK by prompt; notes. "-" is an undefined value. Differences by prompt are in
        the report alone.
    """
    report = Benchmark.from_dict(content)
    arms = arms_table(report)
    measures = (column.key for column in arms.columns if column.key not in {"arm", "members", "qwk"})
    seeds = [one.seeds for one in report.arms.values() if one.ensemble_of is None and one.members is not None]
    counts, alike = list(map(len, seeds)), all(one == seeds[0] for one in seeds)
    differences = [(kind, difference_table(report, name).known_rows()) for name, kind in report.differences.items()]
    prompts = {}
    for version, table in prompt_tables(report).items() if len(report.essays) > 1 else ():
        title = "QWK" if version == "qwk" else f"QWK, {measure_column(version).short}"
        columns = (_ARM.key, *(column.key for column in table.columns[2:]), MEAN)
        prompts[title] = table.chosen(*columns).retitled(arm=report.rows.noun) if table.columns[0] == _ARM else table
    return template("benchmark.md").render(
        report=report,
        seeds=counts[:1] if alike else [min(counts), max(counts)],
        arms=arms.chosen("arm", "qwk", "qwk_interval", *measures),
        traits=trait_arms_table(report),
        devices=sorted({device for cost in _costs(report).values() for device in cost.devices}),
        beside=beside_table(report).chosen("system", "qwk", "measured"),
        differences=[(kind, table.chosen(*_DIFFERENCE)) for kind, table in differences if table],
        prompts=prompts,
    )


def benchmark_rows(report: Benchmark) -> list[Record]:
    """A grid's figures as rows, one a figure, with all digits.

    Args:
        report: What ``build_benchmark_report`` returned.

    Returns:
        Rows of ``arm``, ``prompt`` (an id, or ``mean``), ``measure``, ``value``, ``low`` and ``high`` (the interval),
        ``sd_over_seeds`` and ``n`` (essays; for ``seconds_per_run`` runs); None where there is none. Measures are the
        arms' own, ``difference_*`` by the kinds of difference, and ``seconds_per_run`` in the report's unit. Floors
        are named ``floor NAME``, published systems ``published NAME``, human raters ``human-human``.
    """
    rows = [row for arm, entry in report.arms.items() for row in _arm_rows(arm, entry, report)]
    for kind, differences in report.differences.items():
        for arm, entries in differences.arms.items():
            for prompt, entry, n in _places(entries, report):
                if entry is not None:
                    rows.append(_row(arm, prompt, f"difference_{kind}", entry.difference, entry.interval, n=n))
    for name, floor in report.floors.items():
        rows += [_row(f"floor {name}", prompt, "qwk", value, n=n) for prompt, value, n in _places(floor, report)]
    human = report.human_human
    if human.prompts:
        rows += [_row(HUMAN, prompt, "qwk", entry.qwk, n=entry.n) for prompt, entry in human.prompts.items()]
        rows.append(_row(HUMAN, MEAN, "qwk", human.mean, n=report.scored_twice))
    return rows + [_row(f"published {one.system}", MEAN, "qwk", one.qwk) for one in report.published]


def _places(entry: GridArm | ArmDifferences | Floor, report: Benchmark) -> Iterator[tuple[str, Any, int]]:
    """What an entry has for each prompt and in the mean, with the number of essays."""
    for prompt, value in entry.prompts.items():
        yield prompt, value, report.essays[prompt]
    yield MEAN, entry.mean, sum(report.rows.of_prompts(report.essays).values())


def _arm_rows(arm: str, entry: GridArm, report: Benchmark) -> Iterator[Record]:
    """An arm's own measures and its cost."""
    for prompt, figures, n in _places(entry, report):
        for version in VERSIONS:
            over_seeds = figures["over_seeds"][version]
            sd, ends = over_seeds.sd if over_seeds else None, figures[f"{version}_interval"]
            yield _row(arm, prompt, version, figures[version], ends, sd_over_seeds=sd, n=n)
        for measure in ("pearson", "sd_ratio"):
            yield _row(arm, prompt, measure, figures[measure], n=n)
    if entry.cost is not None:
        yield _row(arm, MEAN, "seconds_per_run", entry.cost.seconds_per_run, n=entry.cost.runs)


def _row(arm: str, prompt: str, measure: str, value: float | None, ends: Ends = None, **others: float | None) -> Record:
    low, high = ends or (None, None)
    figures = {"value": value, "low": low, "high": high, "sd_over_seeds": None, "n": None, **others}
    return {"arm": arm, "prompt": prompt, "measure": measure, **figures}
