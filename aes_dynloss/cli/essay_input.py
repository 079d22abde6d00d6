"""The options that say how essays to be scored are laid out, for every command that reads such essays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.data_config import Columns

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--text-column", help="Column of the essays.  [default: text]"),
    click.option("--id-column", help="Column of their ids.  [default: essay_id, else rows are numbered]"),
    click.option("--prompt-column", help="Column of their prompts.  [default: prompt_id, if there]"),
    click.option("--prompt", help="The prompt of all essays, where there is no column of prompts."),
    click.option("--encoding", default="utf-8", show_default=True, help="Of text files."),
    click.option(
        "--quoting",
        type=click.Choice(["minimal", "none"]),
        default="minimal",
        show_default=True,
        help="Of csv and tsv.",
    ),
)


def essay_input_options(command: Command) -> Command:
    """Add --text-column, --id-column, --prompt-column, --prompt, --encoding and --quoting to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def named_columns(**named: str | None) -> Columns:
    """The columns, of which those that are not None have other names than by default."""
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_config import Columns

    given = {name: column for name, column in named.items() if column is not None}
    return validate(Columns, given, "The choice of columns")


def check_encoding(name: str) -> None:
    """Refuse an --encoding that does not exist.

    Raises:
        ConfigError: There is none of that name.
    """
    from aes_dynloss.essays.data.data_config import text_encoding

    try:
        text_encoding(name)
    except ValueError as error:
        raise ConfigError(f"--encoding: {error}.") from None
