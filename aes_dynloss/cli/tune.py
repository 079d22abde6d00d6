"""``aes-dynloss tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aes_dynloss.cli.options import FILE, read_run_input, scored_table_options


@click.command()
@click.argument("source", metavar="INPUT", type=FILE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output-dir", "-o", type=FILE, required=True, help="Folder of the search, resumed if it was stopped.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=30.0, help="Begin no further trial after so long."
)
@click.option(
    "--trials", type=FILE, help="YAML of the settings to try, {NAME: {KEY: VALUE}}.  [default: a list of ten]"
)
@scored_table_options
def tune(
    *,
    source: Path,
    overrides: tuple[str, ...],
    output_dir: Path,
    minutes: float,
    trials: Path | None,
    **table: Any,  # noqa: ANN401 - click
) -> None:
    """Try a short list of settings, and keep the best one's configuration and model.

    INPUT is a table of scored essays, or a configuration, as for `aes-dynloss finetune`. For a table the list has
    presets and what is near to them: solvers, layers, rates, losses; for a configuration its rates and other losses.
    Settings are judged on essays that their scorers did not learn from, and never on test.
    """
    from aes_dynloss.configfile import apply_overrides, read_mapping
    from aes_dynloss.errors import ConfigError

    values, said = read_run_input(source, table)
    values = apply_overrides(values, overrides)
    listed = None if trials is None else read_mapping(trials)
    for name, changes in (listed or {}).items():
        if not isinstance(changes, dict) or "/" in str(name):
            raise ConfigError(f"{trials}: {name} should hold keys and values, such as {{training.epochs: 3}}.")
    from aes_dynloss.essays.finetune.presets import cross_fitted_if_few
    from aes_dynloss.essays.finetune.tuning import TABLE, candidates
    from aes_dynloss.essays.finetune.tuning import tune as search
    from aes_dynloss.reports.report_tables import report_text
    from aes_dynloss.tables.formats import is_table
    from aes_dynloss.tables.provenance import Provenance, sealed
    from aes_dynloss.training.hardware import leave_busy_cores

    if is_table(source):
        values, parts = cross_fitted_if_few(values)
        said += parts
    for line in said:
        click.echo(line, err=True)
    leave_busy_cores()
    settings = candidates(values, table=is_table(source)) if listed is None else listed
    data = values.get("data")
    named = (source, trials, data.get("source") if isinstance(data, dict) else None)
    made = Provenance.now({Path(str(path)).expanduser(): None for path in named if path is not None})
    with sealed(made, output_dir):
        found = search(
            values,
            settings,
            output_dir,
            minutes,
            say=lambda one: click.echo(
                f"{one.name}: {one.note or f'QWK {one.mean:.4f} on held-out essays, {one.minutes:.1f} min'}", err=True
            ),
        )
    click.echo(report_text(found.report))
    click.echo(
        f"Best: {found.winner.name}, of {sum(bool(one.qwk) for one in found.trials)} settings\n"
        f"Configuration: {output_dir / 'config.yaml'}\nModel: {output_dir / 'model'}\nTrials: {output_dir / TABLE}",
        err=True,
    )
