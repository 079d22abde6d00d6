"""Essays from any source: a checked table of scored ones, or a stream of ones to score.

From rows to a table of scored essays: each row is checked against the configured layout, and each fault logged.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, Features, Value

from aes_dynloss.configfile import user_path, validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.asap import ASAP_ENCODING
from aes_dynloss.essays.data.data_config import Columns, DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.group_columns import LONGEST_NAME, UnusedColumns
from aes_dynloss.essays.data.ratings import check_rater_names
from aes_dynloss.essays.data.scored_rows import Layout, ScoredEssay, feature_value
from aes_dynloss.essays.data.sources import named_in, open_rows
from aes_dynloss.essays.data.table_layout import naming, unscored_columns
from aes_dynloss.progress import Progress
from aes_dynloss.tables.cells import (
    CellError,
    id_value,
    kept_cells,
    text_value,
)
from aes_dynloss.tables.columns import ID_COLUMNS, missing_columns, nearest
from aes_dynloss.tables.csv_jsonl import Quoting, swallowed_line
from aes_dynloss.tables.formats import is_table, source_name
from aes_dynloss.tables.frames import is_frame
from aes_dynloss.tables.rows import FaultHandler, FaultLog, RowFault, refuse
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import STEPS, infer_range

logger = logging.getLogger(__name__)

DEFAULT_COLUMNS = Columns()


@dataclass
class Gathering:
    """What the rows of a source came to.

    Args:
        essays: Scores that can be used: one a row, or one for each trait of a row, those of an essay together.
        left_out: Ids of essays of prompts that are not kept, each with its prompt.
        repeated: Ids of rows that say again what an earlier row said; they are dropped, with a warning.
        swallowing: Ids of essays in whose text other rows seem to hide.
        unused: Cells of the columns without a role.
    """

    essays: list[ScoredEssay] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    swallowing: list[str] = field(default_factory=list)
    unused: UnusedColumns = field(default_factory=UnusedColumns)


def gather_essays(config: DataConfig, faults: FaultLog) -> Gathering:
    """Read scored essays and log every row that cannot be used.

    Args:
        config: Source and layout.
        faults: Takes the faults, and the error that ended the reading early.

    Raises:
        ConfigError: A hub split is named for a local source.
    """
    layout = Layout.of(config)
    name = source_name(config.source)
    text_column = layout.fields["text"].column
    gathering = Gathering()
    used = frozenset({*layout.wanted} - {*config.subgroups})
    seen: dict[str, tuple[int, bytes]] = {}
    begun = False
    original_asap = layout.asap and config.source.lower().endswith(".tsv")
    try:
        rows = open_rows(
            config.source,
            encoding=config.encoding or (ASAP_ENCODING if original_asap else "utf-8"),
            quoting=config.quoting or ("none" if original_asap else "minimal"),
            wanted=layout.wanted,
            short=LONGEST_NAME,
            hub_split=config.hub_split,
            on_fault=faults,
        )
        for number, row in Progress(rows, desc=f"Reading {name}", unit="row", delay=3, leave=False):
            if not begun:
                layout.check_columns(row, name)
                begun = True
            essay_id: str | None = None
            try:
                essay_id = layout.id_of(row, number)
                if _is_repeated(essay_id, number, row, layout, seen):
                    gathering.repeated.append(essay_id)
                elif config.keep_prompts is not None and layout.prompt_of(row) not in config.keep_prompts:
                    gathering.left_out[essay_id] = layout.prompt_of(row)
                else:
                    gathering.essays.extend(layout.parse(row, number))
                    gathering.unused.add(row, used)
                    if swallowed_line(row, text_column) is not None:
                        gathering.swallowing.append(essay_id)
            except CellError as error:
                faults(RowFault(name, number, str(error), essay_id))
    except DataError as error:
        faults.stopped = str(error)
    _warn(gathering, name)
    return gathering


def build_table(config: DataConfig, gathering: Gathering, lost: Collection[str] = ()) -> EssayTable:
    """Put the usable rows into a table, with the prompts' ranges.

    Args:
        config: Source and layout.
        gathering: The usable rows.
        lost: Ids of rows that cannot be used, which a file of trusted ids may name.

    Raises:
        DataError: No essay is left, a kept prompt has none, a range cannot be told from the scores, a file of trusted
            ids is of other essays, or nobody is said to have given a score.
    """
    name = source_name(config.source)
    layout = Layout.of(config)
    essays = gathering.essays
    prompt_ids = {layout.prompt_of_scale(essay["prompt_id"]) for essay in essays}
    for prompt_id in config.keep_prompts or ():
        if prompt_id not in prompt_ids:
            advice = nearest(prompt_id, prompt_ids.union(gathering.left_out.values()))
            raise DataError(f"{name} holds no essay of prompt {prompt_id!r}, which data.keep_prompts names; {advice}")
    if not prompt_ids:
        raise DataError(f"{name} holds no usable essay.")
    unused = sorted(set(config.prompts or ()) - prompt_ids - set(gathering.left_out.values()))
    if unused:
        logger.warning("%s holds no essay of the prompts %s, which data.prompts names.", name, ", ".join(unused))
    types = layout.types
    values = {column: [essay[column] for essay in essays] for column in types}
    features = Features({column: Value(kind) for column, kind in types.items()})
    if config.trusted is not None and "trusted" not in layout.fields:
        path = user_path(config.trusted, "data.trusted")
        values["trusted"] = named_in(path, values["essay_id"], {*gathering.left_out, *lost})
        features["trusted"] = Value("bool")
    check_rater_names(values, config, name)
    prompts = _prompts_of(essays, layout, name)
    lengths = {essay["essay_id"]: len(essay["text"].split()) for essay in essays}
    groups = {} if config.split.group else gathering.unused.likely_groups(list(lengths), list(lengths.values()))
    return EssayTable(Dataset.from_dict(values, features=features), prompts, frozenset(gathering.left_out), groups)


def _warn(gathering: Gathering, name: str) -> None:
    if gathering.repeated:
        listed = ", ".join(gathering.repeated[:10])
        logger.warning("%s repeats %d rows exactly; each is used once: %s", name, len(gathering.repeated), listed)
    if gathering.swallowing:
        listed = ", ".join(gathering.swallowing[:10])
        count = len(gathering.swallowing)
        advice = "Is a quote before them not closed, or are quotes plain characters (quoting: none)?"
        logger.warning("%s: in %d texts, further rows seem to hide: %s. %s", name, count, listed, advice)


def _is_repeated(
    essay_id: str, number: int, row: dict[str, object], layout: Layout, seen: dict[str, tuple[int, bytes]]
) -> bool:
    content = repr([row.get(column) for column in layout.wanted])
    digest = hashlib.sha256(content.encode("utf-8", "backslashreplace")).digest()
    first_number, first_digest = seen.setdefault(essay_id, (number, digest))
    if digest != first_digest:
        raise CellError(f"row {first_number} has the same id and other content. Give each essay an id of its own.")
    return first_number != number


def _prompts_of(essays: list[ScoredEssay], layout: Layout, name: str) -> dict[str, Prompt]:
    scores: dict[str, list[float]] = {}
    for essay in essays:
        numbers = (essay["score"], essay.get("second_score"))
        scores.setdefault(essay["prompt_id"], []).extend(number for number in numbers if number is not None)
    prompts = {}
    for scale, seen in scores.items():
        prompt_id, trait = prompt_and_trait(scale) if layout.traits else (scale, None)
        given = None if layout.prompts is None else layout.prompts[prompt_id]
        span = None if given is None else given.range(trait)
        span = span or infer_range([np.array(seen)], f"prompt {scale} in {name}", STEPS)
        text, words = (None, {}) if given is None else (given.text, given.words(trait))
        prompts[scale] = Prompt(scale, span, text, trait, words)
    if layout.prompts is not None:
        return prompts
    listed = "; ".join(f"prompt {prompt.id}: {prompt.range}" for prompt in list(prompts.values())[:20])
    logger.warning("No ranges are given in data.prompts; taken from the scores seen in %s: %s", name, listed)
    return prompts


def read_essays(config: DataConfig) -> EssayTable:
    """Read and check scored essays.

    Args:
        config: Source and layout.

    Returns:
        The essays in the order of the source, with their prompts.

    Raises:
        DataError: The source cannot be read or a row cannot be used; up to 20 such rows are reported together.
        ConfigError: A hub split is named for a local source.

    Example:
        >>> table = read_essays(DataConfig(source="made-up-essays"))
        >>> len(table), table.essay_ids[0], float(table.scores[0])
        (230, 'phones-001', 3.0)
        >>> print(table.prompts["river"].range)
        0 to 4
    """
    faults = FaultLog()
    gathering = gather_essays(config, faults)
    faults.raise_if_any()
    return build_table(config, gathering)


class UnscoredEssay(NamedTuple):
    """An essay to score, with the numeric columns that were asked for, and the row's other cells if they were."""

    essay_id: str
    prompt_id: str | None
    text: str
    features: Mapping[str, float] = {}
    kept: Mapping[str, object] = {}


def iterate_unscored(
    source: str,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    prompt: str | None = None,
    encoding: str = "utf-8",
    quoting: Quoting = "minimal",
    hub_split: str | None = None,
    features: Sequence[str] = (),
    keep: bool = False,
    on_fault: FaultHandler = refuse,
    content: bytes | None = None,
) -> Iterator[UnscoredEssay]:
    """Essays to score, one at a time, in the order of the source.

    A table without the default id column is numbered by its rows; one without the default prompt column, and with no
    ``prompt`` given, yields None as prompts. A blank text is an essay without words.
    A column that ``columns`` names otherwise must be there. Ids may repeat:
    every row in gives one essay out, so that the places of the output are those of the input.

    Args:
        source: As `read_essays` takes it.
        columns: Names of the columns; those of scores are not looked at.
        prompt: The one prompt of a table without a column of prompts.
        encoding: Of text files.
        quoting: Of csv and tsv.
        hub_split: Split of a hub data set.
        features: Numeric columns that a model sees beside the text; they must be there, without gaps.
        keep: Whether each essay has its row's cells with it, but those of the columns essay_id and prompt_id where they
            are its id and its prompt.
        on_fault: Is given each row that cannot be used; the default raises.
        content: A table in memory, of which ``source`` is the name.

    Raises:
        DataError: The source cannot be read, a column is missing, or a row cannot be used.
        ConfigError: A hub split is named for a local source.
    """
    name = source_name(source)
    wanted = [name for name in (columns.essay_id, columns.prompt_id, columns.text, *features) if name is not None]
    first: dict[str, object] | None = None
    known = [role for role, column in columns if role in ID_COLUMNS and role == column]
    rows = open_rows(
        source,
        encoding=encoding,
        quoting=quoting,
        wanted=None if keep else wanted,
        hub_split=hub_split,
        on_fault=on_fault,
        content=content,
    )
    for number, row in rows:
        if first is None:
            first = row
            _check_unscored(row, columns, prompt, features, name)
        try:
            for column in (columns.essay_id, columns.prompt_id):
                if (column in row) != (column in first):
                    raise CellError(f"{column!r} stands in some rows only; give it in all or none.")
            essay_id = id_value(row, columns.essay_id) if columns.essay_id in row else str(number)
            prompt_id = id_value(row, columns.prompt_id) if columns.prompt_id in row else prompt
            own = {column: feature_value(row, column) for column in features}
            text = text_value(row, columns.text, blank="")
            yield UnscoredEssay(essay_id, prompt_id, text, own, kept_cells(row, known) if keep else {})
        except CellError as error:
            on_fault(RowFault(name, number, str(error)))


def essays_to_score(
    sources: Sequence[str],
    named: Mapping[str, str],
    *,
    say: Callable[[str], None],
    encoding: str = "utf-8",
    quoting: Quoting = "minimal",
    **options: Any,  # noqa: ANN401 - those of iterate_unscored
) -> Iterator[UnscoredEssay]:
    """Essays of some sources, one source after the other, whose columns are found where they have no usual names.

    Args:
        sources: As `read_essays` takes them.
        named: Columns that the user named, by ``text``, ``essay_id`` and ``prompt_id``.
        say: Is told of each column that was found, and why.
        encoding: Of text files.
        quoting: Of csv and tsv.
        options: Those of `iterate_unscored`.

    Raises:
        ConfigError: One column is named twice.
        DataError: A source cannot be read, or it remains open which of its columns is the text.
    """
    columns = {
        source: columns_to_score(source, named, say=say, encoding=encoding, quoting=quoting) for source in sources
    }
    return (
        essay
        for source in sources
        for essay in iterate_unscored(source, columns=columns[source], encoding=encoding, quoting=quoting, **options)
    )


def columns_to_score(
    source: str, named: Mapping[str, str], *, say: Callable[[str], None], encoding: str, quoting: Quoting
) -> Columns:
    """The columns of essays to score, found where they have no usual names.

    Args:
        source: As `read_essays` takes it.
        named: Columns that the user named, by ``text``, ``essay_id`` and ``prompt_id``.
        say: Is told of each column that was found, and why.
        encoding: Of text files.
        quoting: Of csv and tsv.

    Raises:
        ConfigError: One column is named twice.
        DataError: The source cannot be read, or it remains open which of its columns is the text.
    """
    validate(Columns, named, "The choice of columns")
    found: Mapping[str, str] = {}
    if is_table(source) and (is_frame(source) or Path(source).is_file()):
        layout = unscored_columns(Path(source), named, encoding=encoding, quoting=quoting)
        found = layout.data
        for line in layout.said:
            say(line)
    return validate(Columns, {**named, **found}, source_name(source))


def _check_unscored(
    row: dict[str, object], columns: Columns, prompt: str | None, features: Sequence[str], name: str
) -> None:
    # The ids and prompts of a table without the columns of the default names are known otherwise.
    needed = {columns.text: naming("text")}
    if columns.essay_id is not None and columns.essay_id != "essay_id":
        needed[columns.essay_id] = naming("essay_id")
    needed |= {columns.prompt_id: naming("prompt_id")} if columns.prompt_id != "prompt_id" else {}
    missing = {column: f"Name the right one with {option}." for column, option in needed.items() if column not in row}
    missing |= {
        column: "The model was trained with this column beside the text: add it."
        for column in features
        if column not in row
    }
    if missing:
        raise DataError(missing_columns(name, missing, row))
    if prompt is not None and columns.prompt_id in row:
        both = f"{name} has a column {columns.prompt_id!r}, and the prompt {prompt!r} is given for all rows"
        raise DataError(f"{both}. Give one of the two.")
    if columns.essay_id not in row:
        logger.warning(
            "%s has no column %r; essays are numbered by their rows. --id-column names another.", name, columns.essay_id
        )
