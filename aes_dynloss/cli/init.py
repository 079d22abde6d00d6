"""``aes-dynloss init``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aes_dynloss.cli.options import (
    FILE,
    is_given,
    preset_options,
    read_run_input,
    scored_table_options,
)
from aes_dynloss.errors import ConfigError


@click.command()
@click.argument("name", type=click.Path(path_type=Path, allow_dash=True), default="finetune.yaml")
@click.option("--output", "-o", type=FILE, help="Of a table: the file to write.  [default: finetune.yaml]")
@click.option("--full", is_flag=True, help="Of a table: every key, not only those that differ from the default.")
@preset_options
@scored_table_options
def init(
    *,
    name: Path,
    output: Path | None,
    full: bool,
    preset: str | None,
    minutes: float,
    **table: Any,  # noqa: ANN401 - click
) -> None:
    """Write a configuration to start from.

    NAME is the file to write, finetune.yaml by default, with every key, its default and a comment; - prints it. Or NAME
    is a table of scored essays (.csv, .tsv, .jsonl, .parquet, .xlsx): then the configuration is for that table.
    """
    from aes_dynloss.tables.formats import is_table

    if not is_table(name):
        if output is not None or full or preset is not None or is_given("minutes") or any(table.values()):
            raise click.UsageError(f"{name} is no table of scored essays, of which the options say how to read it.")
        from aes_dynloss.essays.finetune.config import config_template

        _write(name, config_template(), "Set data.source in it, then")
        return
    from aes_dynloss.configfile import dump_yaml

    values, said = read_run_input(name, table)
    from aes_dynloss.essays.finetune.config import config_template
    from aes_dynloss.essays.finetune.presets import settle, with_preset

    values, chosen = settle(values, minutes, preset=preset, table=True)
    for line in said + chosen:
        click.echo(line, err=True)
    short = f"# Configuration of `aes-dynloss finetune` for {name}; all else is the default (--full shows it).\n"
    _write(
        output or Path("finetune.yaml"),
        config_template(with_preset(values)) if full else short + dump_yaml(values),
        "Then",
    )


def _write(path: Path, text: str, then: str) -> None:
    """Write a new file, or print; what is there stays. ``then`` leads to the next command."""
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already. Choose another NAME.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from None
    click.echo(f"Wrote {path}. {then}: aes-dynloss finetune {path} --output-dir runs/first", err=True)
