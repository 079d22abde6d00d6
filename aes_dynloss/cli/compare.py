"""``aes-dynloss compare``: hold runs against a control on the same essays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import (
    EXISTING,
    FOLDER,
    ExistingPath,
    map_option,
    read_score_ranges,
    reference_columns,
    reference_option,
    score_range_options,
)

if TYPE_CHECKING:
    from aes_dynloss.reports.human_scores import HumanScores
    from aes_dynloss.tables.score_range import ScoreRange

COMPARISON, COMPARISON_PAGE = "comparison.json", "comparison.html"
_RUN = ExistingPath(advice="Name a run's folder, a folder with runs, or a file of predictions.")


@click.command()
@click.argument("runs", type=_RUN, nargs=-1, required=True, metavar="RUN RUN [RUN ...]")
@click.option("--control", metavar="NAME", help="Run that the others are compared with.  [default: the first]")
@click.option("--references", type=EXISTING, help="File with the human scores, for RUNs that hold none.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "asap"]),
    default="table",
    help="Of --references. table: columns named below. asap: the ASAP-AES training set, with its score ranges.",
)
@click.option("--id-column", "essay_id", help="Column of essay ids in --references.  [default: essay_id]")
@click.option("--prompt-column", "prompt_id", help="Column of prompt ids there.  [default: prompt_id, if present]")
@reference_option
@map_option
@score_range_options
@click.option("--resamples", type=int, default=1000, help="Number of bootstrap resamples.")
@click.option("--confidence", type=float, default=0.95, help="Confidence level of the intervals.")
@click.option("--seed", type=int, default=0, help="Seed of the resamples.")
@click.option("--output-dir", "-o", type=FOLDER, help="Write comparison.html and comparison.json into this folder.")
@click.option("--force", is_flag=True, help="Overwrite an existing comparison.")
@click.option("--json", "as_json", is_flag=True, help="Print comparison.json instead of the tables.")
def compare(
    *,
    runs: tuple[Path, ...],
    control: str | None,
    references: Path | None,
    layout: str,
    mapped: tuple[str, ...],
    prompts: Path | None,
    spans: tuple[str, ...],
    resamples: int,
    confidence: float,
    seed: int,
    output_dir: Path | None,
    force: bool,
    as_json: bool,
    reference: tuple[str, ...],
    **columns: Any,  # noqa: ANN401 - names of columns
) -> None:
    """Compare RUNs on the same test essays: a paired bootstrap of their QWK, corrected for the number of comparisons.

    A RUN is a folder that finetune wrote, a file of predictions (csv, jsonl or parquet), or a folder with such folders
    beneath it, told apart by their paths: seed_* are repetitions, anything else, such as fold_*, are other essays. Its
    name is the last part of its path. A file of published predictions has folds and seeds in its rows, and needs
    --references.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.reports.comparison import compare_arms
    from aes_dynloss.reports.comparison_page import comparison_page
    from aes_dynloss.reports.comparison_tables import comparison_text
    from aes_dynloss.reports.page import write_page
    from aes_dynloss.reports.prompts import report_json, write_report
    from aes_dynloss.reports.read_runs import read_arms
    from aes_dynloss.reports.report_files import refuse_existing, replacing_together
    from aes_dynloss.tables.columns import ColumnNames, parse_map
    from aes_dynloss.tables.formats import check_mapped
    from aes_dynloss.tables.provenance import Provenance, sealed

    if output_dir is not None and not force:
        refuse_existing(output_dir, (COMPARISON, COMPARISON_PAGE))
    pairs = parse_map(mapped)
    tables = [*runs, *([references] if references is not None and layout == "table" else [])]
    check_mapped(pairs, [path for path in tables if path.is_file()])
    ranges = read_score_ranges(prompts, spans)
    if ranges and references is None and not any(path.is_file() for path in runs):
        raise click.UsageError(
            "--prompts and --range are those of RUNs that are files; a run's folder has its own. Leave them out."
        )
    human = _human_scores(references, layout, ranges, columns | reference_columns(reference), pairs)
    arms = read_arms(runs, human, ColumnNames(mapped=pairs), ranges)
    chosen = next(iter(arms)) if control is None else control
    comparison = compare_arms(arms, chosen, resamples=resamples, confidence=confidence, seed=seed)
    if output_dir is not None:
        made = Provenance.now([*runs, *(path for path in (references, prompts) if path is not None)])
        page = comparison_page(comparison, title=f"{', '.join(arms)}: a comparison", about=made.about())
        names = (COMPARISON_PAGE, COMPARISON)
        with sealed(made, output_dir, names=names), replacing_together(output_dir, names) as new:
            write_page(page, new / COMPARISON_PAGE)
            write_report(comparison, new / COMPARISON)
        click.echo(f"Wrote {output_dir / COMPARISON} and {output_dir / COMPARISON_PAGE}", err=True)
    click.echo(report_json(comparison) if as_json else comparison_text(comparison), nl=not as_json)


def _human_scores(
    references: Path | None,
    layout: str,
    ranges: dict[str, ScoreRange],
    columns: dict[str, Any],
    mapped: tuple[tuple[str, str], ...],
) -> HumanScores | None:
    """The human scores that --references names, or None without."""
    named = any(columns.values())
    if references is None:
        if named or layout != "table":
            raise click.UsageError("--format and --..-column belong to --references, which is missing.")
        return None
    if layout == "asap":
        if named or ranges:
            raise click.UsageError("--format asap has columns and ranges of its own: leave out --range and the like.")
        from aes_dynloss.essays.data.data_config import DataConfig
        from aes_dynloss.essays.data.readers import read_essays

        return read_essays(DataConfig(source=str(references), format="asap")).human_scores
    from aes_dynloss.reports.human_scores import HumanScores
    from aes_dynloss.tables.columns import ColumnNames

    return HumanScores.read(references, ColumnNames(**columns, mapped=mapped), ranges)
