"""Statements of a dossier, each with the file that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aes_dynloss.programme.dossier_files import Source
from aes_dynloss.reports.blocks import Words
from aes_dynloss.reports.table import Table, words, words_column


def cited(text: str, *sources: Source) -> str:
    """A statement and where it comes from, as words.

    Args:
        text: The statement.
        sources: Its files.
    """
    return f"{text} [{', '.join(source.name for source in sources)}]"


def said(text: str, *sources: Source) -> Words:
    """A statement and where it comes from, as a block.

    Args:
        text: The statement.
        sources: Its files.
    """
    return Words(cited(text, *sources))


def sourced_table(table: Table, source: Source, role: str) -> Table:
    """A table with its source, under a name that no other table of the dossier has.

    Args:
        table: As a report has it.
        source: The report's file.
        role: What goes behind its name.
    """
    return replace(table, name=f"{table.name}-{role}", caption=cited(table.caption, source), sortable=False)


def facts(name: str, caption: str, rows: Sequence[tuple[str, object, Source]]) -> Table | None:
    """Facts with their sources; what is not known is left out, and a table of nothing.

    Args:
        name: The table's name.
        caption: What it holds.
        rows: What, what was found, and in which file.
    """
    columns = [words_column("what", "What"), words_column("found", "Found"), words_column("source", "Source")]
    cells = [
        [words(what), words(_plain(found)), words(source.name)] for what, found, source in rows if found is not None
    ]
    return Table(name, caption, columns, cells, sortable=False) if cells else None


def _plain(value: object) -> str:
    """A value in words, without where it lies on the machine."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)


def leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    """The values of nested mappings that are not null, by their keys with dots between.

    Args:
        key: Of the value.
        value: A mapping, or a value.

    Examples:
        >>> list(leaves("model", {"kind": "strings", "prompts": {"a": 1, "b": None}}))
        [('model.kind', 'strings'), ('model.prompts.a', 1)]
    """
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from leaves(f"{key}.{name}", one)
    elif value is not None:
        yield key, value
