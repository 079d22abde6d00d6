"""``aes-dynloss monitor``: whether scores, essays or agreement with humans have drifted since training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aes_dynloss.cli.options import (
    CHANGED,
    EXISTING,
    FOLDER,
    ExistingPath,
    OnceCommand,
    each_once,
    map_option,
    read_score_ranges,
    reference_columns,
    reference_option,
    score_range_options,
)
from aes_dynloss.errors import ConfigError, DataError

if TYPE_CHECKING:
    from aes_dynloss.programme.administrations import Read, Scores
    from aes_dynloss.reports.monitor import Monitor

RESULT, TABLE, PAGE = "monitor.json", "monitor.csv", "monitor.html"


@click.command(cls=OnceCommand)
@click.argument("model", type=ExistingPath("model folder", "Give a run of finetune, or its folder model/."))
@click.argument("scores", type=EXISTING, nargs=-1, required=True, callback=each_once, metavar="NEW_SCORES...")
@click.option(
    "--baseline", type=EXISTING, help="Scores to compare with.  [default: predictions that MODEL's run keeps]"
)
@click.option(
    "--human",
    "samples",
    type=EXISTING,
    multiple=True,
    metavar="SAMPLE",
    help="Human scores of a sample of the last NEW_SCORES, with the weights of `plan` if it has design_weight; given k "
    "times, of each of the last k in their order.",
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
    "--feature",
    "features",
    multiple=True,
    callback=each_once,
    metavar="COLUMN",
    help="Numeric column of the scores; may be repeated.",
)
@click.option(
    "--features",
    "tables",
    type=EXISTING,
    multiple=True,
    callback=each_once,
    metavar="TABLE",
    help="Features of essays then or now, as `aes-dynloss features` writes them; may be repeated.",
)
@click.option("--criteria", type=EXISTING, metavar="FILE", help="Criteria of your own (YAML): thresholds by measure.")
@score_range_options
@reference_option
@map_option
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the resamples of QWK.")
@click.option("--output-dir", "-o", type=FOLDER, required=True, help=f"Write {PAGE}, {RESULT} and {TABLE} into it.")
@click.option("--force", is_flag=True, help="Overwrite an existing monitor.")
@click.option("--fail-on-alarm", is_flag=True, help=f"Exit code {CHANGED} where there is an alarm.")
def monitor(
    *,
    model: Path,
    scores: tuple[Path, ...],
    baseline: Path | None,
    samples: tuple[Path, ...],
    subgroups: tuple[str, ...],
    features: tuple[str, ...],
    tables: tuple[Path, ...],
    criteria: Path | None,
    prompts: Path | None,
    spans: tuple[str, ...],
    reference: tuple[str, ...],
    mapped: tuple[str, ...],
    seed: int,
    output_dir: Path,
    force: bool,
    fail_on_alarm: bool,
) -> int:
    """Hold the scores that MODEL gave at the last administration against those of its own test, or of an earlier one.

    NEW_SCORES are what `aes-dynloss score --keep-columns` wrote, a file or folder for each administration, in their
    order; the last one is judged. Scores (of each trait, where there are several), lengths, features and advisories are
    compared by prompt and group. An alarm needs a difference beyond its criterion and evidence of it, so that without
    drift at most 5 % of pages have one.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.programme.administrations import Read, model_ranges, training_files
    from aes_dynloss.programme.monitor import build_monitor
    from aes_dynloss.reports.flags import read_criteria
    from aes_dynloss.reports.monitor import DRIFT_CRITERIA, DRIFT_JUDGED, monitor_text
    from aes_dynloss.reports.report_files import refuse_existing
    from aes_dynloss.tables.columns import ColumnNames, parse_map
    from aes_dynloss.tables.formats import check_mapped

    if not force:
        refuse_existing(output_dir, (RESULT, TABLE, PAGE))
    if len(samples) > len(scores):
        raise ConfigError(f"{len(samples)} --human for {len(scores)} NEW_SCORES. Give one for each.")
    ranges, digest = model_ranges(model, read_score_ranges(prompts, spans))
    human = reference_columns(reference)
    # Those of human scores may be in the samples alone.
    named = [] if human["reference"] is None else [f"reference={human['reference']}"]
    names = ColumnNames(mapped=parse_map([*mapped, *named]), traits=human["traits"])
    read = Read(names, ranges, subgroups, features, tables)
    then = training_files(model) if baseline is None else [baseline]
    given = [*scores, *then, *samples, *tables, *(path for path in (criteria, prompts) if path is not None)]
    check_mapped(read.columns.mapped, [*scores, *then, *samples])
    rules = DRIFT_CRITERIA if criteria is None else read_criteria(criteria, DRIFT_CRITERIA, DRIFT_JUDGED)
    before, administrations = _read(then, scores, samples, read, training=baseline is None)
    found = build_monitor(before, administrations, subgroups=subgroups, criteria=rules, seed=seed, model=digest)
    _write(found, output_dir, f"Monitor of {scores[-1].stem}", given, digest)
    click.echo(monitor_text(found))
    click.echo(f"Wrote {output_dir / PAGE}, {output_dir / TABLE} and {output_dir / RESULT}", err=True)
    return CHANGED if fail_on_alarm and found.alarms else 0


def _read(
    then: Sequence[Path], scores: Sequence[Path], samples: Sequence[Path], read: Read, *, training: bool
) -> tuple[Scores, list[Scores]]:
    """What was before, and the administrations, the last of which have samples; files of one name have folders."""
    from aes_dynloss.programme.administrations import training_scores
    from aes_dynloss.tables.provenance import short_names

    *names, earlier = short_names([*scores, then[0]])
    before = training_scores(then, read) if training else _read_one(then[0], None, read, earlier)
    without: list[Path | None] = [None] * (len(scores) - len(samples))
    given = zip(scores, [*without, *samples], names, strict=True)
    return before, [_read_one(path, human, read, name) for path, human, name in given]


def _read_one(path: Path, human: Path | None, read: Read, name: str) -> Scores:
    """An administration under its name, which goes before an error's words where other files are called alike."""
    from aes_dynloss.programme.administrations import read_scores

    try:
        return replace(read_scores(path, read, human), name=name)
    except (ConfigError, DataError) as error:
        raise type(error)(str(error) if name == path.name else f"{name}: {error}") from None


def _write(found: Monitor, folder: Path, title: str, given: Sequence[Path], digest: str) -> None:
    """The page, the table and the result, which marks them complete, and what they are made from."""
    import pandas as pd

    from aes_dynloss.reports.blocks import write_page
    from aes_dynloss.reports.monitor import monitor_rows
    from aes_dynloss.reports.monitor_page import monitor_page
    from aes_dynloss.reports.prompts import write_report
    from aes_dynloss.reports.report_files import replacing_together
    from aes_dynloss.tables.formats import write_table
    from aes_dynloss.tables.provenance import Provenance, sealed

    made = Provenance.now(given, digest)
    page = monitor_page(found, title=title, about=made.about())
    products = (PAGE, TABLE, RESULT)
    with sealed(made, folder, names=products), replacing_together(folder, products) as new:
        write_page(page, new / PAGE)
        write_table(pd.DataFrame(monitor_rows(found)), new / TABLE)
        write_report(found, new / RESULT)
