"""``aes-dynloss evaluate``: measure a file of predictions against human scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import (
    EXISTING,
    FOLDER,
    map_option,
    read_score_ranges,
    reference_columns,
    reference_option,
    score_range_options,
)
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.reports.adjudication import Decisions
    from aes_dynloss.reports.features import FeatureTable
    from aes_dynloss.reports.predictions import PredictionTable
    from aes_dynloss.tables.columns import ColumnNames


@click.command()
@click.argument("predictions", type=EXISTING)
@click.option(
    "--references", type=EXISTING, help="File with the human scores, if PREDICTIONS has none; joined by essay id."
)
@click.option(
    "--adjudicated",
    type=EXISTING,
    help="A review sheet of `aes-dynloss score --review` with the human_score filled in; the final scores are reported "
    "beside the machine's.",
)
@click.option(
    "--audit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --adjudicated: add a line for each decision to this log, as `score --audit` does for scores.",
)
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
    dev: Path | None,
    prompts: Path | None,
    spans: tuple[str, ...],
    subgroups: tuple[str, ...],
    mapped: tuple[str, ...],
    robustness: Path | None,
    features: Path | None,
    adjudicated: Path | None,
    audit: Path | None,
    output_dir: Path | None,
    export: tuple[str, Path] | None,
    force: bool,
    as_json: bool,
    reference: tuple[str, ...],
    **columns: Any,  # noqa: ANN401 - names of columns
) -> None:
    """Measure PREDICTIONS (csv, jsonl or parquet) against human scores: QWK and related measures by prompt.

    The file has one row per essay, with the columns essay_id, prompt_id, reference (human score) and raw (unrounded
    prediction) or score (score point) or both. Measures have confidence intervals. Scores of `aes-dynloss score` and
    human scores with other names: evaluate scores.csv --references human.csv --map essay_id=ID --map reference=GRADE.
    With several traits there is a row for each of an essay's, named in the column trait; or columns NAME, NAME_raw of
    each trait, and NAME in the file with the human scores.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.reports.adjudication import adjudication_entry, adjudication_text, read_decisions
    from aes_dynloss.reports.exports import export_rsmeval
    from aes_dynloss.reports.predictions import read_predictions
    from aes_dynloss.reports.prompts import build_report, report_json
    from aes_dynloss.reports.report_files import FEATURES, PAGE, REPORT, TABLE, refuse_existing, write_report_files
    from aes_dynloss.reports.report_tables import report_text
    from aes_dynloss.reports.robustness import of_same_prompts, read_robustness
    from aes_dynloss.reports.traits import by_scale
    from aes_dynloss.tables.columns import TRAIT_COLUMN, ColumnNames, parse_map
    from aes_dynloss.tables.formats import check_mapped
    from aes_dynloss.tables.provenance import Provenance, seal

    changed = None if robustness is None else read_robustness(robustness)
    written = (REPORT, TABLE, PAGE, *([] if features is None else [FEATURES]))
    if output_dir is not None and not force:
        refuse_existing(output_dir, written)
    if features is not None and output_dir is not None and features.resolve() == (output_dir / FEATURES).resolve():
        raise ConfigError(f"--features: the report would replace {features}. Choose another --output-dir.")
    names = ColumnNames(**columns, **reference_columns(reference), mapped=parse_map(mapped))
    check_mapped(names.mapped, [path for path in (predictions, references, dev, features) if path is not None])
    ranges = read_score_ranges(prompts, spans)
    test = read_predictions(predictions, columns=names, references=references, ranges=ranges, kept=subgroups)
    without = tuple((role, column) for role, column in names.mapped if role not in {"text", "words"})
    dev_names = replace(names, text=None, words=None, mapped=without)
    dev_table = None if dev is None else read_predictions(dev, columns=dev_names, ranges=ranges)
    scales = list(test.ranges) if TRAIT_COLUMN in test.table else []
    decisions = None if adjudicated is None else read_decisions(adjudicated, scales)
    feature_table = None if features is None else _read_features(features, test, names)
    report = build_report(test, dev=dev_table, features=feature_table, subgroups=subgroups)
    if decisions is not None:
        report = replace(report, adjudicated=adjudication_entry(report, test, decisions))
    if audit is not None:
        _log(audit, test, decisions)
    if changed is not None:
        report = replace(report, robustness=of_same_prompts(changed, by_scale(report).prompts, robustness))
    if export is not None:
        for path in export_rsmeval(test, dev_table, export[1], subgroups=subgroups, force=force):
            click.echo(f"Wrote {path}", err=True)
    if output_dir is not None:
        given = (predictions, references, adjudicated, dev, prompts, robustness, features)
        made = Provenance.now(path for path in given if path is not None)
        title = f"Agreement of {predictions.stem} with human scores"
        write_report_files(report, output_dir, title=title, about=made.about())
        seal(output_dir, made, written)
        *others, last = (str(output_dir / name) for name in written)
        click.echo(f"Wrote {', '.join(others)} and {last}", err=True)
    click.echo(report_json(report) if as_json else report_text(report), nl=not as_json)
    if report.adjudicated is not None and not as_json:
        click.echo(adjudication_text(report.adjudicated, report.rows))


def _log(path: Path, machine: PredictionTable, decisions: Decisions | None) -> None:
    """Add human decisions to an audit log."""
    from aes_dynloss.reports.adjudication import decision_entries
    from aes_dynloss.tables.audit_log import AuditLog

    if decisions is None:
        raise ConfigError("--audit logs the decisions of --adjudicated. Give both.")
    AuditLog(path).append(decision_entries(machine, decisions))


def _read_features(path: Path, predictions: PredictionTable, names: ColumnNames) -> FeatureTable:
    """A table of features, clamped as a scorer clamps them."""
    from aes_dynloss.essays.features.linguistic import MOST_SD, describe_columns
    from aes_dynloss.reports.features import compared_with_themselves, read_features

    features = read_features(path, predictions.table, names)
    return compared_with_themselves(features, path.name, MOST_SD, describe_columns(features.columns))
