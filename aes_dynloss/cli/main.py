"""The command ``aes-dynloss``: its group, its logging, and how errors become exit codes."""

from __future__ import annotations

import importlib
import logging
import os
import sys

import click

from aes_dynloss.errors import AesDynlossError

# Command: where it is written. Only the one that is asked for is imported.
COMMANDS = {
    "finetune": "aes_dynloss.cli.finetune:finetune",
    "score": "aes_dynloss.cli.score:score",
    "evaluate": "aes_dynloss.cli.evaluate:evaluate",
    "data": "aes_dynloss.cli.data:data",
    "init": "aes_dynloss.cli.init:init",
    "quickstart": "aes_dynloss.cli.quickstart:quickstart",
}


class _LazyGroup(click.Group):
    """A group that imports a command when it is called, or when all are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aes-dynloss")
@click.option("--quiet", "-q", is_flag=True, help="Only warnings and errors on standard error.")
def group(quiet: bool) -> None:
    """Fine-tune Transformer essay scorers under dynamic losses, score essays, measure agreement."""
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("aes_dynloss").setLevel(level if _is_first_process() else logging.ERROR)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None: those of the process.

    Returns:
        Exit code: 0, or 2 for an error that the user can mend, 130 after an interrupt. A bug is raised.
    """
    try:
        result = group.main(args=arguments, prog_name="aes-dynloss", standalone_mode=False)
    except AesDynlossError as error:
        if _is_first_process():
            click.echo(f"Error: {error}", err=True)
        return 2
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        click.echo("Stopped. A run of finetune goes on with --resume.", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as with `| head`: nothing is wrong, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the command."""
    sys.exit(run())


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
