"""What a row of a table of scored essays says: each cell checked by what its column means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aes_dynloss.configfile import clipped_repr
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.asap import ASAP_COLUMNS, ASAP_PROMPTS, ASAP_RATERS
from aes_dynloss.essays.data.data_config import ID_FILE, ONE_SCORE, DataConfig, PromptConfig
from aes_dynloss.essays.data.essay_table import LARGEST_FEATURE
from aes_dynloss.tables.cells import (
    CellError,
    check_score,
    group_value,
    id_value,
    number_cell,
    number_value,
    optional_number,
    text_value,
    truth_cell,
)
from aes_dynloss.tables.columns import missing_columns, nearest
from aes_dynloss.tables.scale_ids import prompt_and_trait, scale_id

SPLIT_NAMES = ("train", "dev", "test", "teacher_dev")
# Of an essay: sums of weights keep their digits.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-6, 1e6

# One checked score: the columns of `EssayTable` with their values.
ScoredEssay = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """Where a column of `EssayTable` comes from.

    Args:
        column: The source's column.
        key: The key of the configuration that names it.
        read: A row's value of it; raises CellError.
        type: The type of the table's column.
    """

    column: str
    key: str
    read: Callable[[Mapping[str, object], str], Any]
    type: str = "string"


@dataclass(frozen=True)
class Layout:
    """What a table's columns mean.

    Args:
        fields: For each column of `EssayTable`, where it comes from; further columns of scores may have gaps. Without
            the column of ids, essays are numbered by their rows.
        traits: Where several traits' scores come from, each with its second rater's if there is one: then ``score``
            and ``second_score`` are no fields, and a row is read as a score for each trait that it has.
        asap: Whether this is the ASAP set, whose raters' scores are on a scale of their own.
        prompts: Ranges of the prompts that may occur; None: any may, and ranges come from the scores.
        prompt: The one prompt of a table without a column of prompts.
    """

    fields: dict[str, Field]
    traits: dict[str, tuple[Field, Field | None]]
    asap: bool
    prompts: dict[str, PromptConfig] | None
    prompt: str | None

    @classmethod
    def of(cls, config: DataConfig) -> Layout:
        """The layout that a configuration describes."""
        asap = config.format == "asap"
        columns = ASAP_COLUMNS if asap else config.columns
        fields = (
            {} if columns.essay_id is None else {"essay_id": Field(columns.essay_id, "data.columns.essay_id", id_value)}
        )
        fields |= {
            "prompt_id": Field(columns.prompt_id, "data.columns.prompt_id", id_value),
            "text": Field(columns.text, "data.columns.text", text_value),
        }
        first, second = columns.scores, columns.second_scores
        traits = {}
        for name in columns.traits:
            seconds = _second(second[name]) if name in second else None
            traits[name] = (Field(first[name], "data.columns.score", optional_number, "float64"), seconds)
        if not traits:
            fields["score"] = Field(first[ONE_SCORE], "data.columns.score", number_value, "float64")
            raters = ASAP_RATERS if asap else dict.fromkeys(second.values(), "second_score")
            fields |= {name: _second(column) for column, name in raters.items()}
        fields |= {column: Field(column, "data.subgroups", group_value) for column in config.subgroups}
        own = config.columns
        fields |= {column: Field(column, "data.columns.features", feature_value, "float64") for column in own.features}
        if own.weight is not None:
            fields["weight"] = Field(own.weight, "data.columns.weight", _weight_value, "float64")
        if own.rater is not None:
            fields["rater"] = Field(own.rater, "data.columns.rater", group_value)
        if config.trusted is not None and not config.trusted.endswith(ID_FILE):
            fields["trusted"] = Field(config.trusted, "data.trusted", _trusted_value, "bool")
        if config.split.column is not None:
            fields["split"] = Field(config.split.column, "data.split.column", _split_value)
        if config.split.group is not None:
            fields["group"] = Field(config.split.group, "data.split.group", group_value)
        prompts = {**ASAP_PROMPTS, **(config.prompts or {})} if asap else config.prompts
        return cls(fields, traits, asap, prompts, None if asap else config.prompt)

    @property
    def wanted(self) -> dict[str, str]:
        """Every column that must be there, with the key of the configuration that names it."""
        without = set() if self.prompt is None else {"prompt_id"}
        single = [source for name, source in self.fields.items() if name not in without]
        several = [source for pair in self.traits.values() for source in pair if source is not None]
        return {source.column: source.key for source in (*single, *several)}

    def check_columns(self, row: Mapping[str, object], source: str) -> None:
        """Compare the first row's columns with those that are wanted.

        Raises:
            DataError: Columns are missing, all of which are told, or prompts are named twice.
        """
        missing = {}
        for column, key in self.wanted.items():
            if column not in row:
                advice = f"Name the right one in {key}"
                if key == "data.columns.prompt_id":
                    advice += ", or the one prompt of all essays in data.prompt"
                if self.asap and key.startswith("data.columns"):
                    advice = "If this is not the ASAP training set, set format: table"
                missing[column] = f"{advice}."
        if missing:
            raise DataError(missing_columns(source, missing, row))
        column = self.fields["prompt_id"].column
        if self.prompt is not None and column in row:
            both = f"{source} has a column {column!r}, and data.prompt says that all are {self.prompt!r}"
            raise DataError(f"{both}. Remove data.prompt; to use some prompts only, set data.keep_prompts.")

    def id_of(self, row: Mapping[str, object], number: int) -> str:
        """A row's id."""
        return id_value(row, self.fields["essay_id"].column) if "essay_id" in self.fields else str(number)

    def prompt_of_scale(self, scale: str) -> str:
        """The prompt of a scale's id, which is the prompt's own where essays have one score."""
        return prompt_and_trait(scale)[0] if self.traits else scale

    def prompt_of(self, row: Mapping[str, object]) -> str:
        """A row's prompt."""
        return self.prompt if self.prompt is not None else id_value(row, self.fields["prompt_id"].column)

    def parse(self, row: Mapping[str, object], number: int) -> list[ScoredEssay]:
        """Check every value of a row, which has that number.

        Returns:
            The essay with its score, or with each score of a trait that it has, in the order of the traits.

        Raises:
            CellError: A value cannot be used, or an essay has no score.
        """
        essay: ScoredEssay = {"essay_id": self.id_of(row, number)} | {
            name: self.prompt_of(row) if name == "prompt_id" else source.read(row, source.column)
            for name, source in self.fields.items()
        }
        if self.prompts is not None and essay["prompt_id"] not in self.prompts:
            unknown = f"prompt {essay['prompt_id']!r} has no range; {nearest(essay['prompt_id'], self.prompts)}"
            raise CellError(f"{unknown} Fix the row, add it to data.prompts, or leave it out by data.keep_prompts.")
        if not self.traits:
            self._check_scores(essay, essay["prompt_id"], None, self.fields)
            return [essay]
        labels = [self._label(essay, row, trait) for trait in self.traits]
        scored = [label for label in labels if label["score"] is not None]
        if not scored:
            named = ", ".join(source.column for source, _ in self.traits.values())
            raise CellError(f"{named} are all blank: an essay needs at least one score. Fix the row or drop it.")
        return scored

    def _label(self, essay: ScoredEssay, row: Mapping[str, object], trait: str) -> ScoredEssay:
        """An essay with its score of a trait, which may be None."""
        first, second = self.traits[trait]
        prompt_id = essay["prompt_id"]
        label = essay | {"prompt_id": scale_id(prompt_id, trait), "score": first.read(row, first.column)}
        sources = {"score": first}
        if self._scored_twice:
            label["second_score"] = None if second is None else second.read(row, second.column)
            sources |= {} if second is None else {"second_score": second}
        self._check_scores(label, prompt_id, trait, sources)
        return label

    @property
    def _scored_twice(self) -> bool:
        """Whether some trait has a second rater's scores."""
        return any(second is not None for _, second in self.traits.values())

    @property
    def types(self) -> dict[str, str]:
        """The columns of `EssayTable` with their types."""
        scores = ["score", "second_score"] if self._scored_twice else ["score"] if self.traits else []
        single = {name: source.type for name, source in self.fields.items()}
        return {"essay_id": "string"} | single | dict.fromkeys(scores, "float64")

    def _check_scores(
        self, essay: ScoredEssay, prompt_id: str, trait: str | None, sources: Mapping[str, Field]
    ) -> None:
        """Refuse scores that are none of their scale, where ranges are given."""
        if self.prompts is None:
            return
        limits = self.prompts[prompt_id].range(trait)
        for name in ("score", "second_score"):
            if essay.get(name) is None:
                continue
            column = sources[name].column
            if limits is None:
                where = f"data.prompts.{prompt_id}.traits"
                raise CellError(f"{column} has a score, but {trait} has no range in {where}. Add low and high there.")
            check_score(essay[name], column, prompt_id, limits)


def _second(column: str) -> Field:
    """Where a second rater's scores come from."""
    return Field(column, "data.columns.second_score", optional_number, "float64")


def feature_value(row: Mapping[str, object], column: str) -> float:
    """A row's number in a column of the user's own; raises CellError."""
    value = number_value(row, column)
    if abs(value) > LARGEST_FEATURE:
        limits = f"from {-LARGEST_FEATURE:g} to {LARGEST_FEATURE:g}"
        raise CellError(f"{column} is {value:g}; expected a number {limits}. Fix the row, or take another unit.")
    return value


def _weight_value(row: Mapping[str, object], column: str) -> float:
    weight = number_value(row, column)
    if weight <= 0:
        raise CellError(f"{column} is {weight:g}; expected a number above 0. To leave an essay out, remove its row.")
    if not _SMALLEST_WEIGHT <= weight <= _LARGEST_WEIGHT:
        limits = f"from {_SMALLEST_WEIGHT:g} to {_LARGEST_WEIGHT:g}"
        raise CellError(f"{column} is {weight:g}; expected a number {limits}. Only the ratios of weights matter.")
    return weight


def _trusted_value(row: Mapping[str, object], column: str) -> bool:
    value = row.get(column)
    with suppress(CellError):
        return truth_cell(value, column)
    with suppress(CellError):
        if (number := number_cell(value, column)) in {0.0, 1.0}:
            return number == 1.0
    expected = "expected 1 or true for an adjudicated score, else 0, false or nothing"
    raise CellError(f"{column} is {clipped_repr(value)}; {expected}. Fix the row.")


def _split_value(row: Mapping[str, object], column: str) -> str | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    if value not in SPLIT_NAMES:
        raise CellError(f"{column} is {value!r}; expected {', '.join(SPLIT_NAMES)}, or nothing.")
    return str(value)
