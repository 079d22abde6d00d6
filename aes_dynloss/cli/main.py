"""The command ``aes-dynloss``: its group, its logging, and how errors become exit codes."""

from __future__ import annotations

import errno
import importlib.metadata
import logging
import os
import sys

import click

from aes_dynloss.errors import AesDynlossError
from aes_dynloss.tables.provenance import command_words

# Command: where it is written. Only the one that is asked for is imported.
COMMANDS = {
    "finetune": "aes_dynloss.cli.finetune:finetune",
    "tune": "aes_dynloss.cli.tune:tune",
    "score": "aes_dynloss.cli.score:score",
    "explain": "aes_dynloss.cli.explain:explain",
    "serve": "aes_dynloss.cli.serve:serve",
    "ensemble": "aes_dynloss.cli.ensemble:ensemble",
    "calibrate": "aes_dynloss.cli.calibrate:calibrate",
    "plan": "aes_dynloss.cli.plan:plan",
    "dossier": "aes_dynloss.cli.dossier:dossier",
    "evaluate": "aes_dynloss.cli.evaluate:evaluate",
    "monitor": "aes_dynloss.cli.monitor:monitor",
    "compare": "aes_dynloss.cli.compare:compare",
    "robustness": "aes_dynloss.cli.robustness:robustness",
    "benchmark": "aes_dynloss.cli.benchmark:benchmark",
    "data": "aes_dynloss.cli.data:data",
    "verify": "aes_dynloss.cli.verify:verify",
    "audit": "aes_dynloss.cli.audit:audit",
    "features": "aes_dynloss.cli.features:features",
    "parts": "aes_dynloss.cli.parts:parts",
    "init": "aes_dynloss.cli.init:init",
    "quickstart": "aes_dynloss.cli.quickstart:quickstart",
}

# What the system may refuse in any place: a full or read-only disk, rights, a limit. The user can mend it.
_REFUSALS = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENAMETOOLONG", "ENFILE", "ENOSPC", "EPERM", "EROFS")
    if hasattr(errno, name)
}
_LONGEST_LINE = 2000


class _ReaderGoneError(Exception):
    """The reader of our output has gone, as with `| head`. Click would make a failure of it."""


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

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGoneError from None


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("aes-dynloss")
        except importlib.metadata.PackageNotFoundError:
            version = "unknown: it is not installed"
        click.echo(f"aes-dynloss, version {version}")
        context.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--quiet", "-q", is_flag=True, help="Only warnings, errors and progress bars on standard error.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE|FILE.py",
    help="Python that registers losses, schedules, teachers or features of your own; it is run. Installed packages "
    "with entry points need none; AES_DYNLOSS_PLUGINS names modules too.",
)
def group(quiet: bool, plugins: tuple[str, ...]) -> None:
    """Fine-tune Transformer essay scorers under dynamic losses, score essays, measure agreement."""
    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    if plugins:
        from aes_dynloss.parts import add_plugins

        add_plugins(plugins)


def log_to_stderr(level: int) -> None:
    """Let our own words of a level go to standard error, of the first process alone, and warnings of others.

    Where that is no terminal, lines have a time stamp.
    """
    line = "%(message)s" if _is_terminal() else "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=line, datefmt="%Y-%m-%d %H:%M:%S", stream=sys.stderr, force=True)
    logging.getLogger("aes_dynloss").setLevel(level if _is_first_process() else logging.ERROR)


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def run(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None: those of the process.

    Returns:
        See :func:`run_command`.
    """
    return run_command(group, "aes-dynloss", arguments)


def run_command(command: click.Command, name: str, arguments: list[str] | None = None) -> int:
    """Run a command of ours or of a recipe, and make an exit code of how it ended.

    Args:
        command: The command.
        name: The program's name.
        arguments: Words after it; None: those of the process.

    Returns:
        Exit code: 0, or 2 for an error that the user can mend, 130 after an interrupt. A bug is raised.
    """
    command_words.set((name, *(sys.argv[1:] if arguments is None else arguments)))
    try:
        result = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except AesDynlossError as error:
        if _is_first_process():
            click.echo(f"Error: {_readable(str(error))}", err=True)
        return 2
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        click.echo("Stopped. What was finished is kept; --help says how to go on.", err=True)
        return 130
    except _ReaderGoneError:
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _drop_output()
        fault = f"{error.filename} cannot be used" if error.filename else "A file cannot be read or written"
        click.echo(f"Error: {fault}: {error.strerror}. Look at the disk, its rights and its limits.", err=True)
        return 2
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the command."""
    sys.exit(run())


def _readable(message: str) -> str:
    """A message without control characters, which may come from damaged data, and without endless lines."""
    lines = (
        "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
        for line in message.split("\n")
    )
    return "\n".join(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..." for line in lines)


def _drop_output() -> None:
    """Lead standard output to nowhere, lest Python try once more, as it ends, to write what nobody takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
