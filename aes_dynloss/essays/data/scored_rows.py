"""One row of a table of scored essays, checked against the layout that the configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.asap import ASAP_COLUMNS, ASAP_PROMPTS, ASAP_RATERS
from aes_dynloss.essays.data.data_config import Columns, DataConfig, PromptConfig
from aes_dynloss.essays.data.row_values import (
    RowError,
    check_score,
    group_value,
    id_value,
    nearest,
    number_value,
    optional_number,
    separator_advice,
    text_value,
)

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
            DataError: A column is missing, or prompts are named twice.
        """
        for column, key in self.wanted.items():
            if column not in row:
                advice = f"Name the right one in {key}."
                if key == "data.columns.prompt_id":
                    advice = f"Name the right one in {key}, or the one prompt of all essays in data.prompt."
                if self.asap and column not in {self.split_column, *self.subgroups}:
                    advice = "If this is not the ASAP training set, set format: table."
                raise DataError(
                    f"{source} has no column {column!r}; {nearest(column, row)} {advice}{separator_advice(row)}"
                )
        if self.prompt is not None and self.columns.prompt_id in row:
            both = (
                f"{source} has a column {self.columns.prompt_id!r}, and data.prompt says that all are {self.prompt!r}"
            )
            raise DataError(f"{both}. Remove data.prompt; to use some prompts only, set data.keep_prompts.")

    def prompt_of(self, row: Mapping[str, object]) -> str:
        """A row's prompt."""
        return self.prompt if self.prompt is not None else id_value(row, self.columns.prompt_id)

    def parse(self, row: Mapping[str, object]) -> ScoredEssay:
        """Check every value of a row.

        Raises:
            RowError: A value cannot be used.
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
            raise RowError(f"{unknown} Fix the row, add it to data.prompts, or leave it out by data.keep_prompts.")
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
            raise RowError(f"{self.split_column} is {value!r}; expected {', '.join(SPLIT_NAMES)}, or nothing.")
        return str(value)
