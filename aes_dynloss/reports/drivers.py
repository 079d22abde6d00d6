"""What drives a scorer's scores over some essays: parts of essays, and groups of features; as a section and as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.reports.blocks import Block, Section, Words
from aes_dynloss.reports.entry import Entry
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.reports.table import MOST_ACROSS, Cell, Column, Table, count, number, signed, words, words_column

# Parts of essays, each about a third of the characters.
PARTS = ("beginning", "middle", "end")
_DIGITS = 4
# What groups are called on pages where their name alone might be taken for another's.
_GROUP_WORDS = {
    "encoder": "encoder: the text as a whole",
    "length": "length of the essay",
    "lengths": "lengths of words and sentences",
    "counts": "counts of words, sentences and letters",
    "diversity": "diversity of words",
    "overlap": "overlap with the prompt's words",
}


class Effect(Entry):
    """Contributions to raw scores over some essays, in score points: their mean, and the mean of their sizes."""

    mean: float
    size: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Effect:
        """That of contributions, (N,)."""
        return cls(round(float(values.mean()), _DIGITS), round(float(np.abs(values).mean()), _DIGITS))


class DriversOf(Entry):
    """What drives the scores of ``n`` essays; no features where the scorer tells none apart."""

    n: int
    parts: dict[str, Effect]
    features: dict[str, Effect]


class PromptDrivers(Entry):
    """What drives the scores of a prompt's essays, of all and of subgroups by column."""

    LEFT_OUT = ("subgroups",)

    overall: DriversOf
    subgroups: dict[str, dict[str, DriversOf]] | None = None


class Drivers(Entry):
    """What drives scores, by prompt, or prompt and trait; of each ``most`` essays at most, which ``seed`` drew.

    ``learned`` says that the scorer was fitted to these essays, as that of a cross-fitted run is.
    """

    prompts: dict[str, PromptDrivers]
    most: int
    seed: int
    learned: bool = False


def drivers_of(parts: NDArray[np.float64], features: Sequence[Mapping[str, float]]) -> DriversOf:
    """What drives the scores of some essays.

    Args:
        parts: Contributions of the beginning, the middle and the end, (N, 3).
        features: Contributions of groups of features in each essay; empty where the scorer tells none apart.
    """
    names = dict.fromkeys(name for one in features for name in one)
    of_features = {name: np.array([one.get(name, 0.0) for one in features]) for name in names}
    return DriversOf(
        len(parts),
        {name: Effect.of(parts[:, column]) for column, name in enumerate(PARTS)},
        {name: Effect.of(values) for name, values in of_features.items()},
    )


def drivers_section(drivers: Drivers, rows: RowWords) -> Section:
    """What drives scores as a section of a page."""
    explained = (
        f"What raw predictions of up to {drivers.most} essays of a prompt come from, in score points: what the "
        "beginning, the middle and the end of an essay add in the mean over the orders in which they could come to it, "
        "and what groups of features add to the score of an average essay. It tells what the machine goes by, not what "
        "makes a good essay."
    )
    learned = "The model was fitted to these essays; those that gave them the scores above were not."
    blocks: list[Block | None] = [Words(explained), Words(learned) if drivers.learned else None]
    blocks += [_part_table(drivers, rows), _feature_table(drivers, rows)]
    return Section("drivers", "What scores go by", blocks)


def _named(drivers: Drivers, rows: RowWords) -> list[tuple[Cell, DriversOf]]:
    """A row for each prompt and, below it, for each subgroup."""
    return [
        (words(rows.name(scale) if column is None else f"{rows.name(scale)}, {column} {group}"), one)
        for scale, column, group, one in with_groups(drivers)
    ]


def _part_table(drivers: Drivers, rows: RowWords) -> Table:
    lines = [
        [name, count(one.n), *(signed(one.parts[part].mean) for part in PARTS)] for name, one in _named(drivers, rows)
    ]
    columns = [rows.column, Column("n", "Essays")]
    columns += [Column(part, f"{part.capitalize()} (points)") for part in PARTS]
    return Table("drivers-parts", "Mean contribution of parts of essays", columns, lines)


def _feature_table(drivers: Drivers, rows: RowWords) -> Table | None:
    """Groups of features down, what they are told of across; the other way round where that is more than a screen."""
    named = _named(drivers, rows)
    groups = dict.fromkeys(name for _, one in named for name in one.features)
    if not groups:
        return None
    lines = [
        [name, *(number(one.features[group].size if group in one.features else None) for group in groups)]
        for name, one in named
    ]
    title = "Mean size of the contributions of groups of features"
    titles = [group_words(group) for group in groups]
    if len(named) > MOST_ACROSS:
        columns = [rows.column, *(Column(f"group_{group}", name) for group, name in zip(groups, titles, strict=True))]
        return Table("drivers-features", title, columns, lines)
    across = [Column(f"size_{place}", name.text) for place, (name, _) in enumerate(named, start=1)]
    values = zip(*(one[1:] for one in lines), strict=True)
    cells = [[words(name), *row] for name, row in zip(titles, values, strict=True)]
    return Table("drivers-features", title, [words_column("group", "Group of features"), *across], cells)


def group_words(group: str) -> str:
    """What a page calls a group of features.

    Example:
        >>> group_words("lengths"), group_words("function_words")
        ('lengths of words and sentences', 'function words')
    """
    return _GROUP_WORDS.get(group, group.replace("_", " "))


def with_groups(drivers: Drivers) -> Iterator[tuple[str, str | None, str | None, DriversOf]]:
    """What drives scores by prompt, and by column and group of subgroups; None of all essays."""
    for scale, prompt in drivers.prompts.items():
        yield scale, None, None, prompt.overall
        for column, groups in (prompt.subgroups or {}).items():
            yield from ((scale, column, group, one) for group, one in groups.items())
