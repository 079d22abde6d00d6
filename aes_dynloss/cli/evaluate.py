"""``aes-dynloss evaluate``: measure a file of predictions against human scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.human_scores import HumanSource, human_score_options, log_decisions
from aes_dynloss.cli.options import (
    EXISTING,
    FILE,
    FOLDER,
    map_option,
    read_score_ranges,
    reference_columns,
    reference_option,
    score_range_options,
)
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.measures.resolution import Rule
    from aes_dynloss.reports.features import FeatureTable
    from aes_dynloss.reports.model import Report
    from aes_dynloss.reports.predictions import PredictionTable
    from aes_dynloss.tables.columns import ColumnNames
    from aes_dynloss.tables.provenance import Provenance


@click.command()
@click.argument("predictions", type=EXISTING)
@human_score_options
@click.option(
    "--dev", type=EXISTING, help="Predictions on dev essays with human scores, to fit rescaling and cut points."
)
@score_range_options
@click.option("--id-column", "essay_id", help="Column of essay ids.  [default: essay_id]")
@click.option("--prompt-column", "prompt_id", help="Column of prompt ids.  [default: prompt_id, or one prompt]")
@reference_option
@click.option(
    "--second-column",
    "second_reference",
    help="Column of a second human's scores.  [default: second_reference, if present]",
)
@click.option(
    "--rater-column",
    "rater",
    help="Column of who gave each human score; the file with the human scores then has a row for each rating.",
)
@click.option("--date-column", "date", help="Column of when it was given (2026-11-30), to tell raters' drift.")
@click.option(
    "--adjusted-scores",
    type=FILE,
    metavar="FILE",
    help="Write each essay's human score adjusted for its raters' severity to this table (csv, jsonl, parquet).",
)
@map_option
@click.option("--raw-column", "raw", help="Column of unrounded predictions.  [default: raw, if present]")
@click.option("--score-column", "score", help="Column of predicted score points.  [default: score, if present]")
@click.option("--words-column", "words", help="Column of the essays' lengths in words.  [default: words, if present]")
@click.option(
    "--text-column", "text", help="Column of the essays; the report then shows the text of the worst disagreements."
)
@click.option(
    "--subgroup", "subgroups", multiple=True, metavar="COLUMN", help="Column of groups of writers; may be repeated."
)
@click.option(
    "--min-group",
    type=click.IntRange(1),
    help="Groups and score levels of fewer essays are merged or left out, and none is flagged.  [default: 10]",
)
@click.option(
    "--criteria",
    type=EXISTING,
    metavar="FILE",
    help="Criteria of your own (YAML): thresholds by measure, beside or in place of the usual ones.",
)
@click.option("--title", help="Title of report.html.  [default: after PREDICTIONS]")
@click.option("--robustness", type=EXISTING, help="robustness.json of the same model, to include in the report.")
@click.option(
    "--features",
    type=EXISTING,
    metavar="TABLE",
    help="Table of features of the same essays, as `aes-dynloss features` writes it or with columns of your own, to "
    "hold against the human scores in the report.",
)
@click.option(
    "--output-dir",
    "-o",
    type=FOLDER,
    help="Write report.html, report.json, report.csv and, with --features, features.csv into this folder.",
)
@click.option(
    "--export",
    type=(click.Choice(["rsmeval"]), FOLDER),
    metavar="rsmeval DIR",
    help="Write the input files of RSMTool's rsmeval into this folder.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of the table.")
def evaluate(
    *,
    predictions: Path,
    references: Path | None,
    weight_column: str | None,
    dev: Path | None,
    prompts: Path | None,
    spans: tuple[str, ...],
    subgroups: tuple[str, ...],
    min_group: int | None,
    criteria: Path | None,
    title: str | None,
    adjusted_scores: Path | None,
    mapped: tuple[str, ...],
    robustness: Path | None,
    features: Path | None,
    adjudicated: tuple[Path, ...],
    rule: Rule,
    audit: Path | None,
    output_dir: Path | None,
    export: tuple[str, Path] | None,
    force: bool,
    as_json: bool,
    reference: tuple[str, ...],
    **columns: Any,  # noqa: ANN401 - names of columns
) -> None:
    """Measure PREDICTIONS (csv, jsonl or parquet) against human scores: QWK and related measures by prompt.

    The file, or the folder of scores, has one row per essay, with the columns essay_id, prompt_id, reference (human
    score) and raw (unrounded prediction) or score (score point) or both. Measures have confidence intervals. Scores of
    `aes-dynloss score` and human scores with other names: evaluate scores.csv --references human.csv --map essay_id=ID
    --map reference=GRADE. With several traits there is a row for each of an essay's, named in the column trait; or
    columns NAME, NAME_raw of each trait, and NAME in the file with the human scores.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.reports.adjudication import adjudication_text
    from aes_dynloss.reports.flags import read_criteria
    from aes_dynloss.reports.predictions import read_predictions
    from aes_dynloss.reports.prompts import report_json
    from aes_dynloss.reports.report_files import FEATURES, PAGE, REPORT, TABLE, refuse_existing
    from aes_dynloss.reports.report_tables import report_text
    from aes_dynloss.reports.robustness import of_same_prompts, read_robustness
    from aes_dynloss.reports.traits import by_scale
    from aes_dynloss.tables.columns import ColumnNames, parse_map
    from aes_dynloss.tables.formats import check_mapped
    from aes_dynloss.tables.provenance import Provenance, model_of

    changed = None if robustness is None else read_robustness(robustness)
    written = (REPORT, TABLE, PAGE, *([] if features is None else [FEATURES]))
    if output_dir is not None and not force:
        refuse_existing(output_dir, written)
    if features is not None and output_dir is not None and features.resolve() == (output_dir / FEATURES).resolve():
        raise ConfigError(f"--features: the report would replace {features}. Choose another --output-dir.")
    names = ColumnNames(**columns, **reference_columns(reference), mapped=parse_map(mapped))
    given = [predictions, references, *adjudicated, dev, prompts, robustness, features, criteria]
    _check_rater_options(names, adjusted_scores, given, force=force)
    if audit is not None and not adjudicated:
        raise ConfigError("--audit logs the decisions of --adjudicated. Give both.")
    human = HumanSource.of(references, weight_column, adjudicated, rule, read_score_ranges(prompts, spans))
    human.refuse(dev=dev, features=features, export=export, rater_column=names.rater)
    references, ranges = human.references, human.ranges
    check_mapped(names.mapped, [path for path in (predictions, references, dev, features) if path is not None])
    test = read_predictions(
        predictions,
        columns=names,
        references=references,
        ranges=ranges,
        kept=(*subgroups, *human.kept),
        sampled=human.weights is not None,
    )
    without = tuple((role, column) for role, column in names.mapped if role not in {"text", "words"})
    # Dev may have a row an essay, whatever the other file has.
    by_rater = [(role, column) for role, column in names.named().items() if role in {"rater", "date"}]
    dev_names = replace(names, text=None, words=None, rater=None, date=None, mapped=(*without, *by_rater))
    dev_table = None if dev is None else read_predictions(dev, columns=dev_names, ranges=ranges)
    decisions = human.decisions(test)
    feature_table = None if features is None else _read_features(features, test, names)
    report = human.report(
        test,
        subgroups,
        dev=dev_table,
        features=feature_table,
        criteria=None if criteria is None else read_criteria(criteria),
        min_group=min_group,
    )
    report = human.adjudicated(report, test, decisions)
    if changed is not None:
        report = replace(report, robustness=of_same_prompts(changed, by_scale(report).prompts, robustness))
    made = Provenance.now((path for path in given if path is not None), model_of(predictions))
    if export is not None:
        _export(test, dev_table, export[1], subgroups, made, force=force)
    if adjusted_scores is not None:
        _write_adjusted(test, adjusted_scores, made)
    if output_dir is not None:
        _write(report, output_dir, title or f"Agreement of {predictions.stem} with human scores", made, written)
    inputs = [predictions, *([] if references is None else [references]), *adjudicated]
    log_decisions(audit, test, decisions, rule, inputs)
    click.echo(report_json(report) if as_json else report_text(report), nl=not as_json)
    if report.adjudicated is not None and not as_json:
        click.echo(adjudication_text(report.adjudicated, report.rows))


def _write(report: Report, folder: Path, title: str, made: Provenance, names: Sequence[str]) -> None:
    """Write a report, and where it comes from."""
    from aes_dynloss.reports.report_files import write_report_files
    from aes_dynloss.tables.provenance import sealed

    with sealed(made, folder, names=names):
        write_report_files(report, folder, title=title, about=made.about())
    *others, last = (str(folder / name) for name in names)
    click.echo(f"Wrote {', '.join(others)} and {last}", err=True)


def _export(
    test: PredictionTable,
    dev: PredictionTable | None,
    folder: Path,
    subgroups: Sequence[str],
    made: Provenance,
    *,
    force: bool,
) -> None:
    """Write what RSMTool's rsmeval reads."""
    from aes_dynloss.reports.exports import export_rsmeval
    from aes_dynloss.tables.provenance import sealed

    with sealed(made, folder):
        paths = export_rsmeval(test, dev, folder, subgroups=subgroups, force=force)
    for path in paths:
        click.echo(f"Wrote {path}", err=True)


def _check_rater_options(
    names: ColumnNames, adjusted: Path | None, given: Sequence[Path | None], *, force: bool
) -> None:
    """Refuse options that need the raters' column without it, and a file that is there or is read."""
    if "rater" not in {*names.named(), *(role for role, _ in names.mapped)}:
        for option, value in (("--date-column", names.date), ("--adjusted-scores", adjusted)):
            if value is not None:
                raise ConfigError(f"{option} needs to know who gave each score: name the column with --rater-column.")
    if adjusted is not None and adjusted.exists() and not force:
        raise ConfigError(f"{adjusted} is there already. Choose another --adjusted-scores, or give --force.")
    if adjusted is not None and os.path.realpath(adjusted) in {os.path.realpath(path) for path in given if path}:
        raise ConfigError(f"--adjusted-scores would replace {adjusted}, which is read. Choose another path.")


def _write_adjusted(test: PredictionTable, path: Path, made: Provenance) -> None:
    """Write human scores adjusted for severity."""
    from aes_dynloss.reports.rater_report import adjusted_scores
    from aes_dynloss.tables.formats import write_table
    from aes_dynloss.tables.provenance import sealed

    table = adjusted_scores(test.table)
    if table is None:
        raise ConfigError("--adjusted-scores needs the scores of two raters or more, which are not all equal.")
    with sealed(made, path):
        write_table(table, path)
    click.echo(f"Wrote {path}", err=True)


def _read_features(path: Path, predictions: PredictionTable, names: ColumnNames) -> FeatureTable:
    """A table of features, clamped as a scorer clamps them."""
    from aes_dynloss.essays.features.linguistic import MOST_SD, describe_columns
    from aes_dynloss.reports.features import compared_with_themselves, read_features

    features = read_features(path, predictions.table, names)
    return compared_with_themselves(features, path.name, MOST_SD, describe_columns(features.columns))
