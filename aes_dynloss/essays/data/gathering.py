"""From rows to a table of scored essays: each row is checked against the configured layout, and each fault logged.

A quote that is not closed swallows the rows up to the next quote: they become part of a text, and another essay's score
is taken for its own, without a fault. The ASAP file does so to a reader that takes its quotes for quotes. Texts whose
lines look like rows are reported.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Value
from tqdm import tqdm

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.asap import ASAP_COLUMNS, ASAP_ENCODING, ASAP_PROMPTS, ASAP_RATERS
from aes_dynloss.essays.data.data_config import Columns, DataConfig, PromptConfig
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.sources import open_rows
from aes_dynloss.tables.cells import (
    CellError,
    check_score,
    group_value,
    id_value,
    nearest,
    number_value,
    optional_number,
    text_value,
)
from aes_dynloss.tables.columns import missing_columns
from aes_dynloss.tables.formats import DELIMITERS, source_name
from aes_dynloss.tables.rows import FaultLog, RowFault
from aes_dynloss.tables.score_range import infer_range
from aes_dynloss.tables.text_rows import Quoting

SPLIT_NAMES = ("train", "dev", "test", "teacher_dev")


@dataclass(frozen=True, slots=True)
class ScoredEssay:
    """One checked row; `numbers` are the raters' scores, `groups` the writer's, that the layout names, in its order."""

    essay_id: str
    prompt_id: str
    text: str
    score: float
    numbers: tuple[float | None, ...]
    split: str | None
    groups: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What a table's columns mean.

    Args:
        columns: Names of the columns.
        numbers: Further columns of scores, with their names in `EssayTable`; they may have gaps.
        asap: Whether this is the ASAP set, whose raters' scores are on a scale of their own.
        prompts: Ranges of the prompts that may occur; None: any may, and ranges come from the scores.
        prompt: The one prompt of a table without a column of prompts.
        split_column: Column of the splits.
        subgroups: Columns of groups of writers.
    """

    columns: Columns
    numbers: dict[str, str]
    asap: bool
    prompts: dict[str, PromptConfig] | None
    prompt: str | None
    split_column: str | None
    subgroups: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: DataConfig) -> Layout:
        """The layout that a configuration describes."""
        split_column, groups = config.split.column, tuple(config.subgroups)
        if config.format == "asap":
            prompts = {**ASAP_PROMPTS, **(config.prompts or {})}
            return cls(ASAP_COLUMNS, ASAP_RATERS, True, prompts, None, split_column, groups)
        second = config.columns.second_score
        numbers = {} if second is None else {second: "second_score"}
        return cls(config.columns, numbers, False, config.prompts, config.prompt, split_column, groups)

    @property
    def wanted(self) -> dict[str, str]:
        """Every column that must be there, with the key of the configuration that names it."""
        fields = ["essay_id", "text", "score"] + (["prompt_id"] if self.prompt is None else [])
        wanted = {getattr(self.columns, field): f"data.columns.{field}" for field in fields}
        wanted |= dict.fromkeys(self.numbers, "data.columns.second_score")
        wanted |= dict.fromkeys(self.subgroups, "data.subgroups")
        return wanted if self.split_column is None else {**wanted, self.split_column: "data.split.column"}

    def check_columns(self, row: Mapping[str, object], source: str) -> None:
        """Compare the first row's columns with those that are wanted.

        Raises:
            DataError: Columns are missing, all of which are told, or prompts are named twice.
        """
        missing = {column: self._advice(column, key) for column, key in self.wanted.items() if column not in row}
        if missing:
            raise DataError(missing_columns(source, missing, row))
        if self.prompt is not None and self.columns.prompt_id in row:
            both = (
                f"{source} has a column {self.columns.prompt_id!r}, and data.prompt says that all are {self.prompt!r}"
            )
            raise DataError(f"{both}. Remove data.prompt; to use some prompts only, set data.keep_prompts.")

    def _advice(self, column: str, key: str) -> str:
        if self.asap and column not in {self.split_column, *self.subgroups}:
            return "If this is not the ASAP training set, set format: table."
        if key == "data.columns.prompt_id":
            return f"Name the right one in {key}, or the one prompt of all essays in data.prompt."
        return f"Name the right one in {key}."

    def prompt_of(self, row: Mapping[str, object]) -> str:
        """A row's prompt."""
        return self.prompt if self.prompt is not None else id_value(row, self.columns.prompt_id)

    def parse(self, row: Mapping[str, object]) -> ScoredEssay:
        """Check every value of a row.

        Raises:
            CellError: A value cannot be used.
        """
        essay_id = id_value(row, self.columns.essay_id)
        prompt_id = self.prompt_of(row)
        text = text_value(row, self.columns.text)
        score = number_value(row, self.columns.score)
        numbers = tuple(optional_number(row, column) for column in self.numbers)
        if self.prompts is not None:
            self._check_range(prompt_id, score, numbers)
        groups = tuple(group_value(row, column) for column in self.subgroups)
        return ScoredEssay(essay_id, prompt_id, text, score, numbers, self._split_of(row), groups)

    def _check_range(self, prompt_id: str, score: float, numbers: tuple[float | None, ...]) -> None:
        prompts = self.prompts or {}
        if prompt_id not in prompts:
            unknown = f"prompt {prompt_id!r} has no range; {nearest(prompt_id, prompts)}"
            raise CellError(f"{unknown} Fix the row, add it to data.prompts, or leave it out by data.keep_prompts.")
        score_range = prompts[prompt_id].range()
        check_score(score, self.columns.score, prompt_id, score_range)
        for column, number in zip(self.numbers, numbers, strict=True):
            if not self.asap and number is not None:
                check_score(number, column, prompt_id, score_range)

    def _split_of(self, row: Mapping[str, object]) -> str | None:
        if self.split_column is None:
            return None
        value = row.get(self.split_column)
        if value is None or value == "":
            return None
        if value not in SPLIT_NAMES:
            raise CellError(f"{self.split_column} is {value!r}; expected {', '.join(SPLIT_NAMES)}, or nothing.")
        return str(value)


_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")


def swallowed_line(row: Mapping[str, object], text_column: str, delimiter: str) -> str | None:
    """A line inside a row's text that begins as the row itself does.

    Cells before the text are compared by their kind: digits are alike, and so are letters. It is a guess, good for a
    warning: numbered paragraphs can look like rows with numbers for ids.

    Args:
        row: A row of a csv or tsv file, its columns in the file's order.
        text_column: The column that may span lines.
        delimiter: Of the file.
    """
    text = row[text_column]
    if not isinstance(text, str) or "\n" not in text:
        return None
    names = list(row)
    own = [_kind(str(row[name])) for name in names[: names.index(text_column)]]
    # A lone word is how many a paragraph begins.
    if own in ([], ["a"]):
        return None
    for line in text.split("\n")[1:]:
        cells = line.split(delimiter)
        if len(cells) > len(own) and [_kind(cell) for cell in cells[: len(own)]] == own:
            return line
    return None


def _kind(cell: str) -> str:
    return _LETTERS.sub("a", _DIGITS.sub("0", cell))


logger = logging.getLogger(__name__)


@dataclass
class Gathering:
    """What the rows of a source came to.

    Args:
        essays: Rows that can be used, each id once.
        left_out: Ids of essays of prompts that are not kept.
        left_out_prompts: Those prompts.
        repeated: Ids of rows that say again what an earlier row said; they are dropped, with a warning.
        swallowing: Ids of essays in whose text other rows seem to hide.
    """

    essays: list[ScoredEssay] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    left_out_prompts: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    swallowing: list[str] = field(default_factory=list)

    def take(self, essay_id: str, row: dict[str, object], layout: Layout, keep_prompts: list[str] | None) -> None:
        """Parse one row, or leave it out for its prompt.

        Raises:
            CellError: A value cannot be used.
        """
        if keep_prompts is not None:
            prompt_id = layout.prompt_of(row)
            if prompt_id not in keep_prompts:
                self.left_out.add(essay_id)
                self.left_out_prompts.add(prompt_id)
                return
        self.essays.append(layout.parse(row))


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
    gathering = Gathering()
    seen: dict[str, tuple[int, bytes]] = {}
    begun = False
    encoding, quoting = _text_format(config)
    delimiter = DELIMITERS.get(Path(config.source).suffix.lower())
    try:
        rows = open_rows(
            config.source,
            encoding=encoding,
            quoting=quoting,
            wanted=layout.wanted,
            hub_split=config.hub_split,
            on_fault=faults,
        )
        for number, row in tqdm(rows, desc=f"Reading {name}", unit=" rows", delay=3, disable=None, leave=False):
            if not begun:
                layout.check_columns(row, name)
                begun = True
            essay_id: str | None = None
            try:
                essay_id = id_value(row, layout.columns.essay_id)
                if _is_repeated(essay_id, number, row, layout, seen):
                    gathering.repeated.append(essay_id)
                else:
                    gathering.take(essay_id, row, layout, config.keep_prompts)
                    if delimiter is not None and swallowed_line(row, layout.columns.text, delimiter) is not None:
                        gathering.swallowing.append(essay_id)
            except CellError as error:
                faults(RowFault(name, number, str(error), essay_id))
    except DataError as error:
        faults.stopped = str(error)
    _warn(gathering, name)
    return gathering


def build_table(config: DataConfig, gathering: Gathering) -> EssayTable:
    """Put the usable rows into a table, with the prompts' ranges.

    Raises:
        DataError: No essay is left, a kept prompt has none, or a range cannot be told from the scores.
    """
    name = source_name(config.source)
    layout = Layout.of(config)
    found = {essay.prompt_id for essay in gathering.essays}
    for prompt_id in config.keep_prompts or ():
        if prompt_id not in found:
            advice = nearest(prompt_id, found | gathering.left_out_prompts)
            raise DataError(f"{name} holds no essay of prompt {prompt_id!r}, which data.keep_prompts names; {advice}")
    if not found:
        raise DataError(f"{name} holds no usable essay.")
    unused = sorted(set(config.prompts or ()) - found - gathering.left_out_prompts)
    if unused:
        logger.warning("%s holds no essay of the prompts %s, which data.prompts names.", name, ", ".join(unused))
    essays = gathering.essays
    values: dict[str, list[object]] = {
        "essay_id": [essay.essay_id for essay in essays],
        "prompt_id": [essay.prompt_id for essay in essays],
        "text": [essay.text for essay in essays],
        "score": [essay.score for essay in essays],
    }
    types = dict.fromkeys(values, "string") | {"score": "float64"}
    for place, column in enumerate(layout.numbers.values()):
        values[column] = [essay.numbers[place] for essay in essays]
        types[column] = "float64"
    for place, column in enumerate(layout.subgroups):
        values[column] = [essay.groups[place] for essay in essays]
        types[column] = "string"
    if layout.split_column is not None:
        values["split"] = [essay.split for essay in essays]
        types["split"] = "string"
    features = Features({column: Value(kind) for column, kind in types.items()})
    prompts = _prompts_of(essays, layout, name)
    return EssayTable(Dataset.from_dict(values, features=features), prompts, frozenset(gathering.left_out))


def _text_format(config: DataConfig) -> tuple[str, Quoting]:
    original_asap = config.format == "asap" and config.source.lower().endswith(".tsv")
    encoding = config.encoding or (ASAP_ENCODING if original_asap else "utf-8")
    return encoding, config.quoting or ("none" if original_asap else "minimal")


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
        own = scores.setdefault(essay.prompt_id, [])
        own.append(essay.score)
        own.extend(number for number in essay.numbers if not layout.asap and number is not None)
    if layout.prompts is None:
        where = {prompt_id: f"prompt {prompt_id} in {name}" for prompt_id in scores}
        ranges = {one: Prompt(one, infer_range([np.array(own)], where[one])) for one, own in scores.items()}
        listed = "; ".join(f"prompt {prompt.id}: {prompt.range}" for prompt in list(ranges.values())[:20])
        logger.warning("No ranges are given in data.prompts; taken from the scores seen in %s: %s", name, listed)
        return ranges
    known = {prompt_id: layout.prompts[prompt_id] for prompt_id in scores}
    return {prompt_id: Prompt(prompt_id, config.range(), config.text) for prompt_id, config in known.items()}
