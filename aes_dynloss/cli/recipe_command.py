"""The command line that recipes of students other than essay scorers share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import click

from aes_dynloss.cli.main import log_to_stderr, run_command
from aes_dynloss.cli.options import force_precision_option
from aes_dynloss.configfile import ConfigModel, apply_overrides, dump_yaml, read_mapping, validate
from aes_dynloss.training.grid import run_in_turn
from aes_dynloss.training.run_folder import write_json


class RecipeRun(Protocol):
    """Trains and tests a student as a configuration says, in a folder."""

    def __call__(
        self,
        config: Any,  # noqa: ANN401 - of the class that the recipe names
        folder: Path,
        *,
        resume: bool,
        force: bool,
        force_precision: bool,
    ) -> Mapping[str, Any]:
        """The content of report.json; the measures under ``test`` are printed."""


def recipe_command(name: str, config: type[ConfigModel], run: RecipeRun) -> None:
    """The command line of a recipe: CONFIG [KEY=VALUE ...] --output-dir DIR [--resume | --force] [--print-config].

    Args:
        name: The script's name.
        config: The class of its configuration.
        run: Trains and tests its student.
    """

    @click.command(help=f"Train as CONFIG says, a YAML file; KEY=VALUE changes it. See the README beside {name}.")
    @click.argument("file", metavar="CONFIG", type=click.Path(path_type=Path))
    @click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    @click.option("--output-dir", "-o", type=click.Path(path_type=Path), help="Folder for all that the run leaves.")
    @click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
    @click.option("--force", is_flag=True, help="Replace an earlier run in the folder.")
    @force_precision_option
    @click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
    def recipe(
        file: Path,
        overrides: tuple[str, ...],
        output_dir: Path | None,
        resume: bool,
        force: bool,
        force_precision: bool,
        print_config: bool,
    ) -> None:
        resolved = validate(config, apply_overrides(read_mapping(file), overrides), str(file))
        if print_config:
            click.echo(dump_yaml(resolved.model_dump(mode="json")), nl=False)
            return
        if resume and force:
            raise click.UsageError("--resume and --force exclude each other.")
        if output_dir is None:
            raise click.UsageError("--output-dir is missing: name a folder for all that the run leaves.")
        report = run(resolved, output_dir, resume=resume, force=force, force_precision=force_precision)
        for measure, value in report["test"].items():
            click.echo(f"{measure} {value:.4f}")

    log_to_stderr(logging.INFO)
    sys.exit(run_command(recipe, name))


def grid_command(
    name: str,
    config: type[ConfigModel],
    cells_of: Callable[[Any, Path], Sequence[Any]],
    results: Callable[[Any, Any], Mapping[str, Any]],
    table: Callable[[Mapping[str, Any]], str],
) -> click.Command:
    """The command of a recipe's grid: CONFIG [KEY=VALUE ...] --output-dir DIR [--results FILE].

    Args:
        name: The script's name.
        config: The class of a grid's configuration.
        cells_of: The runs of a grid in a folder, each a :class:`aes_dynloss.training.grid.Cell` with the field
            ``force_precision``.
        results: The figures of a grid whose runs are complete, without a path of this machine.
        table: These figures as a README shows them.
    """

    @click.command(name, help="Run the grid that CONFIG describes, and write its results.")
    @click.argument("file", metavar="CONFIG", type=click.Path(path_type=Path))
    @click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    @click.option("--output-dir", "-o", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
    @click.option(
        "--results",
        "output",
        type=click.Path(path_type=Path),
        help="File of the results; by default results.json in the runs' folder.",
    )
    @force_precision_option
    def grid(
        file: Path, overrides: tuple[str, ...], output_dir: Path, output: Path | None, force_precision: bool
    ) -> None:
        resolved = validate(config, apply_overrides(read_mapping(file), overrides), str(file))
        cells = [replace(cell, force_precision=force_precision) for cell in cells_of(resolved, output_dir.resolve())]
        for cell in cells:
            cell.check()
        run_in_turn(cells)
        figures = results(resolved, cells)
        write_json(output or output_dir / "results.json", dict(figures))
        click.echo(table(figures))

    return grid
