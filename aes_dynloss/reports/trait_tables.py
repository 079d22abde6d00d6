"""Tables and words on traits: each one's agreement, means over them, and how they hang together."""

from __future__ import annotations

from aes_dynloss.reports.blocks import Block, Section, Words
from aes_dynloss.reports.model import Report, TraitCorrelations, TraitEntry, TraitMeans
from aes_dynloss.reports.table import (
    NOTHING,
    Column,
    Table,
    count,
    figure,
    figure_words,
    measure_cell,
    measure_column,
    number,
    text_table,
    words,
    words_column,
)
from aes_dynloss.reports.traits import by_scale

_MEASURES = ("qwk", "qwk_rescaled", "qwk_cut_points", "exact_agreement", "adjacent_agreement", "pearson")
_IN_TERMINAL = ("trait", "prompts", "n", "qwk", "qwk_interval", *_MEASURES[1:])
# Rows of a terminal's table at most, so that it fits a screen.
_MOST_ROWS = 12


def trait_table(report: Report) -> Table:
    """The mean over prompts of each trait's agreement; at the foot the means over traits.

    Args:
        report: A report with traits.
    """
    traits, means = _of(report)
    rows = []
    for name, trait in traits.items():
        essays = sum(entry.n for entry in trait.prompts.values())
        cells = [measure_cell(trait.mean, one) for one in _MEASURES]
        rows.append([words(name), count(len(trait.prompts)), count(essays), *cells])
    first = words("Mean over traits", short="mean")
    foot = [[first, NOTHING, NOTHING, *(measure_cell(means.over_prompts_first, one) for one in _MEASURES)]]
    if _orders_differ(report):
        second = words("Mean over prompts of means over traits", short="mean over traits first")
        foot.append([second, NOTHING, NOTHING, *(measure_cell(means.over_traits_first, one) for one in _MEASURES)])
    sizes = [Column("prompts", "Prompts", "prompts"), Column("n", "Essays", "n")]
    columns = [words_column("trait", "Trait", "trait"), *sizes, *map(measure_column, _MEASURES)]
    where = ", in the mean over prompts" if report.rows.many_prompts else ""
    return Table("traits-table", f"Agreement by trait{where}", columns, rows, foot, report.level)


def _orders_differ(report: Report) -> bool:
    """Whether the order of means over prompts and over traits matters: some prompt lacks a trait."""
    traits, _ = _of(report)
    return len({frozenset(trait.prompts) for trait in traits.values()}) > 1


def correlation_tables(found: TraitCorrelations) -> list[Table]:
    """How traits correlate with each other, the human scores and the machine's."""
    columns = [words_column("trait", "Trait"), *(Column(name, name) for name in found.traits)]
    tables = []
    for name, title, matrix in (
        ("human-traits", "Human scores", found.human),
        ("machine-traits", "Machine scores before rounding", found.machine),
    ):
        rows = [
            [words(trait), *(number(value) for value in row)] for trait, row in zip(found.traits, matrix, strict=True)
        ]
        tables.append(Table(name, f"{title}: correlations of traits within prompts", columns, rows, sortable=False))
    return tables


def trait_section(report: Report) -> Section | None:
    """The section on traits; None for a report without them."""
    if report.traits is None or report.trait_means is None:
        return None
    blocks: list[Block] = [trait_table(report).known_columns()]
    if report.trait_means.mcrmse is not None:
        blocks.append(Words(f"MCRMSE, the mean over traits of the RMSE: {figure(report.trait_means.mcrmse)}."))
    if report.trait_means.correlations is not None:
        halo = (
            "Where the machine's traits correlate much more than the humans', it tells them apart less than humans do."
        )
        blocks += [Words(halo), *correlation_tables(report.trait_means.correlations)]
    return Section("traits", "Traits", blocks)


def trait_lines(report: Report) -> list[str]:
    """Lines of text on traits and their means; of a report without traits none."""
    if report.traits is None or report.trait_means is None:
        return []
    means = report.trait_means
    lines = []
    if not fits_a_screen(report):
        lines = text_table(trait_table(report).chosen(*_IN_TERMINAL).known_columns())
        lines.append("Prompt by prompt: report.html, report.csv.")
    first, second = means.over_prompts_first.qwk, means.over_traits_first.qwk
    lines.append(f"QWK, mean over traits: {figure_words(first)}")
    if _orders_differ(report):
        lines[-1] += f" (over prompts first), {figure_words(second)} (over traits first)"
    if means.mcrmse is not None:
        lines.append(f"MCRMSE: {figure_words(means.mcrmse)}")
    return lines


def fits_a_screen(report: Report) -> bool:
    """Whether a terminal shows each prompt and trait."""
    return report.traits is None or len(by_scale(report).prompts) <= _MOST_ROWS


def _of(report: Report) -> tuple[dict[str, TraitEntry], TraitMeans]:
    if report.traits is None or report.trait_means is None:
        message = "the report has no traits"
        raise ValueError(message)
    return report.traits, report.trait_means
