"""``aes-dynloss audit``: look at the log that --audit writes."""

from __future__ import annotations

from pathlib import Path

import click

from aes_dynloss.cli.options import CHANGED

_MOST_FAULTS = 20


@click.group()
def audit() -> None:
    """Look at the log of scored essays that --audit writes."""


@audit.command()
@click.argument("log", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
def verify(log: Path) -> int:
    """Look whether a line of FILE was changed, removed, moved or cut off: exit code 3 where one was.

    FILE.head has the number of lines and the last hash. Who can write both files can forge both: keep copies of it
    where others cannot write.
    """
    from aes_dynloss.tables.audit_log import verify_log

    found = verify_log(log)
    for fault in found.faults[:_MOST_FAULTS]:
        click.echo(f"Changed: {fault}.")
    if len(found.faults) > _MOST_FAULTS:
        click.echo(f"{len(found.faults) - _MOST_FAULTS} more faults.")
    for note in found.notes:
        click.echo(f"Note: {note}; the next writer mends it.")
    if found.faults:
        return CHANGED
    click.echo(f"{log}: {found.lines} lines, as they were written.")
    return 0
