"""``aes-dynloss init``."""

from __future__ import annotations

from pathlib import Path

import click

from aes_dynloss.errors import ConfigError


@click.command()
@click.argument("name", type=click.Path(path_type=Path, allow_dash=True), default="finetune.yaml")
def init(name: Path) -> None:
    """Write a commented configuration to start from.

    NAME is the file to write, finetune.yaml by default; - prints it.
    """
    from aes_dynloss.essays.finetune.config import config_template

    if str(name) == "-":
        click.echo(config_template(), nl=False)
        return
    try:
        with name.open("x", encoding="utf-8") as file:
            file.write(config_template())
    except FileExistsError:
        raise ConfigError(f"{name} is there already. Choose another NAME.") from None
    except OSError as error:
        raise ConfigError(f"{name} cannot be written: {error.strerror or error}.") from None
    click.echo(
        f"Wrote {name}. Set data.source in it, then: aes-dynloss finetune {name} --output-dir runs/first", err=True
    )
