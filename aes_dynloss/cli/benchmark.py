"""``aes-dynloss benchmark``: a grid of fine-tuning runs, and its report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from aes_dynloss.cli.options import EXISTING, FILE, force_precision_option
from aes_dynloss.errors import ConfigError


@click.command()
@click.argument("config", type=FILE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output-dir", "-o", type=FILE, help="Folder of the grid: its runs and its report.")
@click.option(
    "--against",
    type=EXISTING,
    multiple=True,
    help="File of published predictions, to stand beside the grid's arms; may be repeated.",
)
@click.option("--folds", metavar="K,K,...", help="Only these folds, such as 0,1.")
@click.option("--seeds", type=click.IntRange(min=1), help="Number of seeds, counted from 0.")
@click.option(
    "--engine",
    type=click.Choice(["in-turn", "ray"]),
    default="in-turn",
    help="in-turn: one run after the other. ray: on the Ray cluster that RAY_ADDRESS names, or on this machine.",
)
@click.option("--gpus-per-run", type=click.FloatRange(min=0), help="With ray: GPUs per run, such as 0.25.")
@click.option(
    "--cpus-per-run", type=click.FloatRange(min=0, min_open=True), default=1.0, help="With ray: CPU cores per run."
)
@force_precision_option
@click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
def benchmark(
    config: Path,
    overrides: tuple[str, ...],
    output_dir: Path | None,
    against: tuple[Path, ...],
    folds: str | None,
    seeds: int | None,
    engine: str,
    gpus_per_run: float | None,
    cpus_per_run: float,
    force_precision: bool,
    print_config: bool,
) -> None:
    """Run the grid of CONFIG (arms x folds x seeds), and report it so that arms can be compared.

    An interrupted grid is resumed when it is run again; more arms, folds and seeds are added. Several
    processes on one folder share the runs. KEY=VALUE changes the configuration, such as
    finetune.training.epochs=3. Paths in it are relative to the current folder.
    """
    if engine != "ray" and gpus_per_run is not None:
        raise click.UsageError("--gpus-per-run belongs to --engine ray.")
    words = [*overrides, *([f"folds=[{folds}]"] if folds else []), *([f"seeds={seeds}"] if seeds else [])]
    from aes_dynloss.configfile import apply_overrides, dump_yaml, read_mapping, validate
    from aes_dynloss.tables.formats import is_table

    if is_table(config):
        raise ConfigError(
            f"{config} is a table of essays; CONFIG is the YAML of a grid that names it in finetune.data.source. See "
            "recipes/essays/grids for examples, and `aes-dynloss data split` for its folds."
        )
    values = apply_overrides(read_mapping(config), words)
    from aes_dynloss.essays.benchmark.config import BenchmarkConfig

    resolved = validate(BenchmarkConfig, values, str(config))
    if print_config:
        click.echo(dump_yaml(resolved.model_dump(mode="json", by_alias=True)), nl=False)
        return
    if output_dir is None:
        raise click.UsageError("--output-dir is missing: name a folder for the runs and the report.")
    from aes_dynloss.essays.benchmark.ray_cluster import run_on_ray
    from aes_dynloss.essays.benchmark.results import MARKDOWN, PAGE
    from aes_dynloss.essays.benchmark.run import benchmark as run
    from aes_dynloss.reports.comparison_tables import benchmark_markdown
    from aes_dynloss.training.grid import run_in_turn
    from aes_dynloss.training.hardware import leave_busy_cores

    on_ray = partial(run_on_ray, gpus=gpus_per_run, cpus=cpus_per_run)
    leave_busy_cores()
    chosen = on_ray if engine == "ray" else run_in_turn
    report = run(resolved, output_dir, chosen, against, force_precision=force_precision, written_in=config)
    click.echo(benchmark_markdown(report), nl=False)
    click.echo(f"Report: {output_dir / PAGE}, and {MARKDOWN}, .json and .csv beside it", err=True)
