"""``aes-dynloss compare``: hold runs against a control on the same essays."""

from __future__ import annotations

from pathlib import Path

import click

from aes_dynloss.cli.options import FILE, FOLDER

COMPARISON, COMPARISON_PAGE = "comparison.json", "comparison.html"


@click.command()
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN RUN [RUN ...]")
@click.option("--control", metavar="NAME", help="Run that the others are compared with.  [default: the first]")
@click.option("--resamples", type=int, default=1000, help="Number of bootstrap resamples.")
@click.option("--confidence", type=float, default=0.95, help="Confidence level of the intervals.")
@click.option("--seed", type=int, default=0, help="Seed of the resamples.")
@click.option("--output-dir", type=FOLDER, help="Write comparison.html and comparison.json into this folder.")
@click.option("--force", is_flag=True, help="Overwrite an existing comparison.")
@click.option("--json", "as_json", is_flag=True, help="Print comparison.json instead of the tables.")
def compare(
    *,
    runs: tuple[Path, ...],
    control: str | None,
    resamples: int,
    confidence: float,
    seed: int,
    output_dir: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compare RUNs on the same test essays: a paired bootstrap of their QWK, corrected for the number of comparisons.

    A RUN is a folder that finetune wrote, a file of predictions (csv, jsonl or parquet), or a folder with such folders
    beneath it, told apart by their paths: seed_* are repetitions, anything else, such as fold_*, are other essays. Its
    name is the last part of its path.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.reports.comparison import compare_arms, read_arms
    from aes_dynloss.reports.comparison_page import comparison_page
    from aes_dynloss.reports.comparison_tables import comparison_text
    from aes_dynloss.reports.page import write_page
    from aes_dynloss.reports.prompts import report_json, write_report
    from aes_dynloss.reports.report_files import refuse_existing, replacing_together

    if output_dir is not None and not force:
        refuse_existing(output_dir, (COMPARISON, COMPARISON_PAGE))
    arms = read_arms(runs)
    chosen = next(iter(arms)) if control is None else control
    comparison = compare_arms(arms, chosen, resamples=resamples, confidence=confidence, seed=seed)
    if output_dir is not None:
        page = comparison_page(comparison, title=f"{', '.join(arms)}: a comparison")
        with replacing_together(output_dir, (COMPARISON_PAGE, COMPARISON)) as new:
            write_page(page, new / COMPARISON_PAGE)
            write_report(comparison, new / COMPARISON)
        click.echo(f"Wrote {output_dir / COMPARISON} and {output_dir / COMPARISON_PAGE}", err=True)
    click.echo(report_json(comparison) if as_json else comparison_text(comparison), nl=not as_json)
