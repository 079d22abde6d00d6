"""``aes-dynloss plan``: which scored essays to read by hand, and sheets for those who read them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aes_dynloss.cli.options import (
    EXISTING,
    FOLDER,
    OnceCommand,
    each_once,
    map_option,
    read_score_ranges,
    score_range_options,
)
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.programme.plan import Plan
    from aes_dynloss.programme.sheets import Form, Markers

logger = logging.getLogger(__name__)


@click.command(cls=OnceCommand)
@click.argument("scored", type=EXISTING)
@click.option("--output-dir", "-o", type=FOLDER, required=True, help="Folder for the plan; must be new or empty.")
@click.option(
    "--half-width",
    "half_widths",
    multiple=True,
    required=True,
    metavar="qwk|smd=WIDTH",
    help="Half of the 95 % interval that is wanted of QWK or SMD, for each prompt and group, such as qwk=0.03; may be "
    "repeated.",
)
@click.option(
    "--report", type=EXISTING, help="The model's run, or its report.json: the QWK, r and score range to expect."
)
@click.option(
    "--assume-qwk",
    "assumed",
    multiple=True,
    metavar="[ID=]QWK",
    help="QWK to expect of a prompt (ID), of one of its traits (ID/TRAIT), or of all, in place of --report's; may be "
    "repeated.",
)
@click.option(
    "--subgroup",
    "subgroups",
    multiple=True,
    callback=each_once,
    metavar="COLUMN",
    help="Column of groups of writers; may be repeated.",
)
@click.option(
    "--uncertain",
    type=click.FloatRange(0, 1),
    default=0.05,
    help="The least certain share of each prompt's essays that is read for certain, beside those with advisories.",
)
@click.option("--markers", type=click.IntRange(1), help="Number of markers.  [default: 1]")
@click.option("--marker", "names", multiple=True, metavar="NAME", help="A marker, for each of them.")
@click.option(
    "--blind-share",
    type=click.FloatRange(0, 1),
    help="Share of the essays that a second marker reads too.  [default: 0.2, with one marker 0]",
)
@click.option("--format", "form", type=click.Choice(["csv", "xlsx"]), default="csv", help="Format of the sheets.")
@score_range_options
@map_option
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of what is drawn, and of the order of sheets.")
def plan(
    *,
    scored: Path,
    output_dir: Path,
    half_widths: tuple[str, ...],
    report: Path | None,
    assumed: tuple[str, ...],
    subgroups: tuple[str, ...],
    uncertain: float,
    markers: int | None,
    names: tuple[str, ...],
    blind_share: float | None,
    form: Form,
    prompts: Path | None,
    spans: tuple[str, ...],
    mapped: tuple[str, ...],
    seed: int,
) -> None:
    """Plan which essays of SCORED humans read, so that agreement is known to a wanted precision.

    SCORED is the file or folder that `aes-dynloss score --keep-columns` wrote. Essays with advisories or without a
    score, and the least certain ones, are read for certain; of the others a random sample is drawn within prompts and
    groups. The folder has plan.json, essays.csv with each essay's chance to be drawn, and sheets/MARKER.csv, which tell
    nothing of the machine's scores. Once they are filled in: evaluate SCORED --adjudicated FOLDER. Scores of several
    traits have one sample, as large as the trait needs that needs most, and sheets with a column a trait.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.programme.plan import (
        Wanted,
        assumed_agreement,
        draw_plan,
        parse_assumed,
        parse_half_widths,
        read_scored,
    )
    from aes_dynloss.programme.sheets import write_plan
    from aes_dynloss.tables.columns import ColumnNames, parse_map
    from aes_dynloss.tables.formats import check_mapped

    wanted = Wanted(parse_half_widths(half_widths), subgroups, uncertain, seed)
    readers, given = _markers(markers, names, blind_share, form), parse_assumed(assumed)
    columns = ColumnNames(mapped=parse_map(mapped))
    check_mapped(columns.mapped, [scored])
    essays = read_scored(scored, columns, read_score_ranges(prompts, spans), subgroups, uncertain)
    expected, known = assumed_agreement(essays.scales, given, report)
    drawn = draw_plan(essays.with_ranges(known), expected, wanted)
    write_plan(drawn, readers, output_dir, [path for path in (scored, report, prompts) if path is not None])
    click.echo("\n".join(_lines(drawn)))
    if "text" not in drawn.essays:
        logger.warning("The sheets have no texts, for %s has none: score with --keep-columns.", scored.name)
    listed = ", ".join(readers.names)
    logger.info("%d essays are to be read by %s: %s.", len(drawn.essays), listed, output_dir / "sheets")


def _markers(count: int | None, names: Sequence[str], blind_share: float | None, form: Form) -> Markers:
    """Who reads."""
    from aes_dynloss.programme.sheets import Markers

    if names and count is not None:
        raise ConfigError("--markers and --marker both say who reads. Give one of them.")
    readers = names or [f"marker_{number}" for number in range(1, (count or 1) + 1)]
    return Markers(readers, (0.2 if len(readers) > 1 else 0.0) if blind_share is None else blind_share, form)


def _lines(drawn: Plan) -> list[str]:
    """How many essays of each prompt and group are read, and the half width to expect."""
    from aes_dynloss.reports.measure_list import MEASURES
    from aes_dynloss.reports.table import Column, Table, count, number, text_table, words, words_column

    rows = []
    for domain, figures in drawn.domains():
        group = "" if domain.column is None else f"{drawn.wanted.subgroups[domain.column]} {domain.group}"
        sizes = [count(figures[name]) for name in ("essays", "certain", "random")]
        widths = [number(figures[name]) for name in drawn.wanted.half_widths]
        rows.append([words(domain.prompt), words(group), *sizes, *widths])
    columns = [words_column("prompt", "prompt"), words_column("group", "group")]
    columns += [Column(name, name) for name in ("essays", "certain", "random")]
    columns += [Column(name, f"{MEASURES[name].title} +-") for name in drawn.wanted.half_widths]
    return [*text_table(Table("plan", "", columns, rows).known_columns()), *_neediest_lines(drawn)]


def _neediest_lines(drawn: Plan) -> list[str]:
    """Which trait sets the size of the sample, of each prompt with several."""
    from aes_dynloss.reports.measure_list import MEASURES
    from aes_dynloss.tables.scale_ids import prompt_and_trait

    lines = []
    for prompt, measures in drawn.neediest.items():
        if len(drawn.scored.traits.get(prompt, ())) > 1:
            named = [f"{prompt_and_trait(scale)[1]} for {MEASURES[name].title}" for name, scale in measures.items()]
            lines.append(f"Prompt {prompt}: the trait that needs most sets the number of essays: {', '.join(named)}.")
    return lines
