"""A table of scored essays with their prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, Value
from numpy.typing import NDArray

from aes_dynloss.reports.human_scores import HumanScores
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ScoreRange

# Magnitude of a number of the user's own, at most: encoders' heads read it in float32, and its square is taken.
LARGEST_FEATURE = 1e30


@dataclass(frozen=True)
class Prompt:
    """One prompt, or where essays have several traits one trait of it: what has score points of its own.

    Args:
        id: Its id in the table: the prompt's, or that of prompt and trait, see :func:`scale_id`.
        range: Its score points.
        text: The prompt's own words, where they are known.
        trait: The trait; None where essays have one score.
        levels: The rubric's words for score points, by score point.

    Example:
        >>> Prompt("3/content", ScoreRange(0, 3), trait="content").prompt_id
        '3'
    """

    id: str
    range: ScoreRange
    text: str | None = None
    trait: str | None = None
    levels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model folder."""
        more = {"trait": self.trait, "levels": dict(self.levels)}
        known = {name: value for name, value in more.items() if value}
        return {"id": self.id, "range": asdict(self.range), "text": self.text, **known}

    @property
    def prompt_id(self) -> str:
        """The prompt's own id."""
        return self.id if self.trait is None else prompt_and_trait(self.id)[0]


def traits_of(prompts: Iterable[Prompt]) -> list[str]:
    """The traits of prompts and traits, in their order; none where essays have one score."""
    return list(dict.fromkeys(prompt.trait for prompt in prompts if prompt.trait is not None))


def trait_numbers(prompts: Sequence[Prompt]) -> list[int]:
    """The number of each one's trait, in the order of :func:`traits_of`; 0 for all where essays have one score."""
    traits = traits_of(prompts)
    return [0 if prompt.trait is None else traits.index(prompt.trait) for prompt in prompts]


def prompts_of_scales(prompts: Iterable[Prompt]) -> list[str]:
    """The ids of the prompts alone, in their order, whatever their essays are scored on."""
    return list(dict.fromkeys(prompt.prompt_id for prompt in prompts))


@dataclass(frozen=True)
class EssayTable:
    """Scored essays: a row an essay, or where essays have several traits, a row for each trait's score of an essay.

    Args:
        essays: In memory, with the text columns ``essay_id``, ``prompt_id``, ``text`` and the float64 column ``score``;
            the rows of an essay stand together, and with traits ``prompt_id`` is that of prompt and trait;
            and where the source has them ``second_score`` (with gaps), ``rater1`` and ``rater2`` (ASAP, with gaps),
            ``split`` (train, dev, test, teacher_dev or None), ``weight`` (above 0), ``rater`` (who gave the score),
            ``trusted`` (bool), and columns of groups of writers and of numbers under their own names.
        prompts: Every prompt of these essays by its id.
        left_out: Ids of essays that the source holds but ``keep_prompts`` does not name.
        likely_groups: Columns without a role that seem to say whose an essay is, each with its value by essay id.
    """

    essays: Dataset
    prompts: dict[str, Prompt]
    left_out: frozenset[str] = frozenset()
    likely_groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.essays)

    @property
    def traits(self) -> list[str]:
        """The traits on which essays are scored, in their order; none where they have one score."""
        return traits_of(self.prompts.values())

    @property
    def prompt_ids(self) -> list[str]:
        """The prompts, whatever their essays are scored on."""
        return prompts_of_scales(self.prompts.values())

    @property
    def answered(self) -> list[str]:
        """The prompt of each row, whatever it is scored on."""
        return [self.prompts[scale].prompt_id for scale in self.values("prompt_id")]

    @property
    def trait_column(self) -> dict[str, list[str | None]]:
        """The trait of each row as a column of that name; no column, where essays have one score."""
        return {TRAIT_COLUMN: [self.prompts[scale].trait for scale in self.values("prompt_id")]} if self.traits else {}

    @property
    def once(self) -> EssayTable:
        """The first row of each essay: all rows, where essays have one score."""
        return self.select(self.first_rows)

    @property
    def essay_count(self) -> int:
        """Number of essays."""
        return len(self.first_rows)

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """The first row of each essay, ascending: all rows, where essays have one score."""
        if not self.traits:
            return np.arange(len(self))
        _, first = np.unique(np.array(self.essay_ids, dtype=object), return_index=True)
        return np.sort(first)

    def values(self, column: str) -> list[Any]:
        """All values of a column, in order."""
        values: list[Any] = self.essays[column][:]
        return values

    def all_values(self) -> dict[str, list[Any]]:
        """All columns at once, by name: to take many one by one costs the square of their number."""
        columns: dict[str, list[Any]] = self.essays.with_format("arrow")[:].to_pydict()
        return columns

    @property
    def essay_ids(self) -> list[str]:
        """Ids, in order."""
        return self.values("essay_id")

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores on the original scale, shape (n,)."""
        return np.asarray(self.values("score"), dtype=np.float64)

    @property
    def human_scores(self) -> HumanScores:
        """Ids, prompts and scores, to be joined with predictions."""
        columns = {"essay_id": self.essay_ids, "prompt_id": self.values("prompt_id"), "reference": self.scores}
        ranges = {prompt.id: prompt.range for prompt in self.prompts.values()}
        return HumanScores(pd.DataFrame(columns), ranges, "The data set")

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """What each essay counts in training, (n,), where the source says it."""
        return np.asarray(self.values("weight")) if "weight" in self.essays.column_names else None

    @property
    def raters(self) -> list[str] | None:
        """Who or what gave each essay's score, where the source says it."""
        return self.values("rater") if "rater" in self.essays.column_names else None

    @property
    def groups(self) -> list[str | None] | None:
        """Whose each essay is, for parts that share no writer, class or school; None where the source does not say."""
        return self.values("group") if "group" in self.essays.column_names else None

    @property
    def trusted(self) -> NDArray[np.bool_] | None:
        """Whether each essay's score is adjudicated, (n,), where the source says it."""
        return np.asarray(self.values("trusted"), dtype=bool) if "trusted" in self.essays.column_names else None

    def numbers(self, columns: Sequence[str]) -> NDArray[np.float64]:
        """Numeric columns of the user's own, (n, K)."""
        if not columns:
            return np.zeros((len(self), 0))
        values = self.all_values()
        return np.array([values[column] for column in columns], dtype=np.float64).T

    @property
    def rater_columns(self) -> tuple[str, str] | None:
        """The two columns of single raters' scores, for human-human agreement.

        ASAP's ``score`` is resolved from ``rater1`` and ``rater2``, so it is no rater's.
        """
        for pair in (("rater1", "rater2"), ("score", "second_score")):
            if set(pair) <= set(self.essays.column_names):
                return pair
        return None

    def with_column(self, name: str, values: NDArray[np.float64]) -> EssayTable:
        """The same essays with a column of numbers, in place of the one of that name if there is one."""
        essays = self.essays
        if name in essays.column_names:
            essays = essays.remove_columns(name)
        essays = essays.add_column(name, values.tolist(), feature=Value("float64"))
        return replace(self, essays=essays)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> EssayTable:
        """The essays at these places, in this order.

        Args:
            rows: Places counted from 0.
        """
        return replace(self, essays=self.essays.select(rows, keep_in_memory=True))
