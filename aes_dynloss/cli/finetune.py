"""``aes-dynloss finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aes_dynloss.cli.options import (
    FILE,
    check_sources,
    force_precision_option,
    preset_options,
    scored_table_options,
    table_options,
)


@click.command()
@click.argument("source", metavar="INPUT", type=FILE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output-dir", "-o", type=FILE, help="Folder for everything that the run writes.")
@click.option("--resume", is_flag=True, help="Resume an interrupted run.")
@click.option("--force", is_flag=True, help="Replace an earlier run in the folder.")
@force_precision_option
@preset_options
@click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
@scored_table_options
def finetune(
    *,
    source: Path,
    overrides: tuple[str, ...],
    output_dir: Path | None,
    resume: bool,
    force: bool,
    force_precision: bool,
    print_config: bool,
    preset: str | None,
    minutes: float,
    **table: Any,  # noqa: ANN401 - click
) -> None:
    """Fine-tune a scorer on a table of scored essays, or as a configuration says.

    INPUT is a table (.csv, .tsv, .jsonl, .parquet, .xlsx) with a column of essays and one of human scores, which are
    found by their names or named by options; or a configuration in YAML or JSON, of which `aes-dynloss init` makes one.
    KEY=VALUE changes it in either case, such as training.epochs=3. Paths in it are relative to the current folder.

    What a table's scorer is made of is a preset: the best that this machine is expected to fit within --minutes.
    """
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other: one keeps the run, the other replaces it.")
    if output_dir is None and not print_config:
        raise click.UsageError("--output-dir is missing: name a folder for the model, the predictions and the report.")
    from aes_dynloss.configfile import dump_yaml
    from aes_dynloss.essays.finetune.run_input import resolve_run

    options = table_options(**table)
    resolved, said = resolve_run(source, preset=preset, minutes=minutes, overrides=overrides, **options)
    for line in said:
        click.echo(line, err=True)
    if output_dir is None or print_config:
        click.echo(dump_yaml(resolved.model_dump(mode="json")), nl=False)
        return
    check_sources([resolved.data.source])
    from accelerate import PartialState

    from aes_dynloss.essays.public.finetune import finetune as run
    from aes_dynloss.reports.report_files import PAGE, REPORT
    from aes_dynloss.reports.report_tables import report_text
    from aes_dynloss.training.hardware import leave_busy_cores

    leave_busy_cores()
    result = run(resolved, output_dir, resume=resume, force=force, force_precision=force_precision)
    if not PartialState().is_main_process:
        return
    click.echo(report_text(result.report))
    report = output_dir / (PAGE if resolved.evaluation.page else REPORT)
    click.echo(f"Model: {output_dir / 'model'}\nReport: {report}", err=True)
