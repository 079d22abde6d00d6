"""Columns of a table by their roles, and messages on those that are missing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from aes_dynloss.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

ID_COLUMNS = ("essay_id", "prompt_id")
# Which of an essay's several scores a row is about. In memory prompt_id is then that of prompt and trait together.
TRAIT_COLUMN = "trait"
# Columns of one score, with what a trait's name has behind it where each of several traits has its own.
TRAIT_COLUMNS = {
    "score": "",
    "raw": "_raw",
    "reported": "_reported",
    "low": "_low",
    "high": "_high",
    "certainty": "_certainty",
    "probabilities": "_probabilities",
}
REFERENCE_COLUMNS = ("reference", "second_reference")
PREDICTION_COLUMNS = ("raw", "score")
# Two raters' own scores, where the reference was resolved from them; they may be on a scale of their own.
RATER_COLUMNS = ("rater1", "rater2")
# Each essay's ratings with their raters and days, where a file has a row a rating.
RATINGS_COLUMN = "ratings_by_rater"
# Length of the essay, for what a machine owes to it.
LENGTH_COLUMN = "words"
# The score on the scale on which a programme reports it.
REPORTED_COLUMN = "reported"
NUMBER_COLUMNS = (*REFERENCE_COLUMNS, *PREDICTION_COLUMNS, REPORTED_COLUMN, *RATER_COLUMNS, LENGTH_COLUMN)
# The essay itself is read where its column is named, and never otherwise.
TEXT_COLUMN = "text"
# Columns that have a meaning in tables of essays or of predictions: no column of a user's own has such a name.
TABLE_COLUMNS = (
    *("essay_id", "prompt_id", "text", "score", "second_score", "split", "group", "weight", "rater", "trusted"),
    *("dropped_tokens", "part", "probabilities", "trait", RATINGS_COLUMN),
    *NUMBER_COLUMNS,
)


_PAIRS = ("mapped", "traits")  # fields of `ColumnNames` that name no single column


@dataclass(frozen=True)
class ColumnNames:
    """Names of a file's columns, where they differ from the default ones.

    None means: the column of the same name as the field, if the file has it and no other field names it. So a file
    whose column ``score`` is named as ``reference`` has no predicted score, rather than a perfect one.

    Args:
        essay_id: Ids, distinct within a prompt.
        prompt_id: Prompts; a file without it has one prompt, "all".
        reference: Human scores, the ones to be predicted.
        second_reference: A second human's scores; may be blank for essays that were not scored twice.
        raw: Predictions before rounding.
        score: Predicted score points.
        words: Essays' lengths in words.
        text: The essays themselves; None means: not read, whatever the file has.
        rater: Who gave the human score of a row, where an essay has a row for each of its ratings; None means: not
            read, likewise.
        date: When that score was given; read with ``rater`` alone.
        mapped: Pairs of a field and a column, for several files of different names: see :meth:`in_file`.
        traits: Pairs of a trait and the column of its human scores, where that is not called as the trait.

    Raises:
        ConfigError: Two fields name one column, or one field is named and mapped.

    Example:
        >>> names = ColumnNames(mapped=(("essay_id", "text_id"), ("reference", "grammar")))
        >>> names.in_file(["text_id", "grammar"]).named(), names.in_file(["essay_id", "raw"]).named()
        ({'essay_id': 'text_id', 'reference': 'grammar'}, {})
    """

    essay_id: str | None = None
    prompt_id: str | None = None
    reference: str | None = None
    second_reference: str | None = None
    raw: str | None = None
    score: str | None = None
    words: str | None = None
    text: str | None = None
    rater: str | None = None
    date: str | None = None
    mapped: tuple[tuple[str, str], ...] = ()
    traits: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check at construction that no column serves twice."""
        for role, column in self.mapped:
            if role in self.named():
                raise ConfigError(f"{role} is {self.named()[role]!r}, and {column!r} by --map. Name it in one way.")
        named = list(self.named().values())
        for name in named:
            if named.count(name) > 1:
                roles = [role for role, other in self.named().items() if other == name]
                raise ConfigError(f"Column {name!r} is named for {' and for '.join(roles)}; name it for one of them.")

    def named(self) -> dict[str, str]:
        """The columns that were named, by role."""
        return {role: name for role, name in vars(self).items() if name is not None and role not in _PAIRS}

    def in_file(self, columns: Collection[str]) -> ColumnNames:
        """The names for a file with these columns: a mapped column counts where it is there, the first of a field's."""
        there: dict[str, Any] = {role: column for role, column in reversed(self.mapped) if column in columns}
        return replace(self, mapped=(), **there)


def parse_map(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of a field of :class:`ColumnNames` and a column, from words such as ``essay_id=text_id``.

    Raises:
        ConfigError: A word is no pair, or names no field.

    Example:
        >>> parse_map(["essay_id=text_id", "reference=grammar"])
        (('essay_id', 'text_id'), ('reference', 'grammar'))
    """
    roles = [field.name for field in fields(ColumnNames) if field.name not in _PAIRS]
    pairs = []
    for word in words:
        role, equals, column = word.partition("=")
        if role not in roles or not equals or not column:
            raise ConfigError(f"--map {word}: expected ROLE=COLUMN, with a role out of {', '.join(roles)}.")
        pairs.append((role, column))
    return tuple(pairs)


def take_kept(
    table: pd.DataFrame, cells: pd.DataFrame, kept: Collection[str], names: ColumnNames, order: Collection[int] | None
) -> pd.DataFrame:
    """Put columns without a role, such as groups of writers, beside those with one.

    Args:
        table: Columns under their roles' names, to which those are added that ``cells`` has and the table lacks.
        cells: A file's cells.
        kept: Their names in the file, which they keep.
        names: The file's names of columns with a role.
        order: The file's row for each row of the table; None where they are the same.

    Returns:
        The table.

    Raises:
        ConfigError: A column to keep has a role, or a role's name.
    """
    for name in kept:
        if name in {*ID_COLUMNS, TRAIT_COLUMN, *NUMBER_COLUMNS, TEXT_COLUMN, *names.named().values()}:
            raise ConfigError(
                f"Column {name!r} holds ids, traits, scores or text, and no groups. Name a column of groups."
            )
        if name in cells and name not in table:
            values = cells[name].to_numpy(dtype=object)
            table[name] = values if order is None else values[list(order)]
    return table


def missing_columns(source: str, missing: Mapping[str, str], known: Collection[str]) -> str:
    """A message on all columns that are missing.

    Args:
        source: The table's name.
        missing: What to do about each missing column, such as the option that names another one.
        known: The columns that are there.

    Example:
        >>> missing_columns("a.csv", {"text": "Name it with --text-column."}, ["texts", "id"])
        "a.csv has no column 'text'; did you mean 'texts'? Name it with --text-column."
    """
    sentences = [f"no column {column!r}; {nearest(column, known)} {advice}" for column, advice in missing.items()]
    return f"{source} has {' It has '.join(sentences)}{_separator_advice(known)}"


def nearest(name: str, known: Collection[str]) -> str:
    """A hint on an unknown name: the nearest known one, or all."""
    by_folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    if near:
        return f"did you mean {by_folded[near[0]]!r}?"
    listed = sorted(known)
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return f"found {', '.join(repr(other) for other in listed[:20]) or 'none'}{more}."


def _separator_advice(columns: Collection[str]) -> str:
    """Advice on a header that is one name, for its separators are not those that its file's name says."""
    if len(columns) != 1 or not {";", "\t", ","} & set(next(iter(columns))):
        return ""
    return " The header is one name: save the table with commas between columns as .csv, or with tabs as .tsv."


def take_columns(
    cells: pd.DataFrame, names: ColumnNames, roles: Collection[str], source: str, optional: Collection[str] = ()
) -> pd.DataFrame:
    """The columns that play a role, under the roles' names; the others are left aside.

    Args:
        cells: A file's cells.
        names: The file's names of columns.
        roles: Roles to look for; of them, ``essay_id`` must be there.
        source: The file's name for messages.
        optional: Roles that may be missing although a column is named for them.

    Returns:
        Table with a column for each role that was found.

    Raises:
        DataError: Columns that are needed or named are not there; all of them are told.
    """
    import pandas as pd

    named = {role: name for role, name in names.named().items() if role in roles}
    columns, missing = {}, {}
    for role in roles:
        name = named.get(role, role)
        if name in cells and (role in named or name not in named.values()):
            columns[role] = cells[name]
        elif role == "essay_id" and name in cells:
            other = next(other for other, column in named.items() if column == name)
            raise DataError(
                f"Column {name!r} of {source} is named for {other}, so that none is left for {role}. Name another one."
            )
        elif role == "essay_id" or (role in named and role not in optional):
            missing[name] = f"Name the column for {role} with --map {role}=COLUMN."
    if missing:
        raise DataError(missing_columns(source, missing, list(cells.columns)))
    return pd.DataFrame(columns)
