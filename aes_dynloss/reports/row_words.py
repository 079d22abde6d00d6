"""What the rows of a report or a comparison are called: prompts, or the traits of a prompt's essays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aes_dynloss.reports.table import MEAN, PROMPT, Cell, Column, words, words_column
from aes_dynloss.tables.scale_ids import prompt_and_trait

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class RowWords:
    """Words for rows, each with a name: that of a prompt, of a trait, or of both.

    Args:
        traits: Whether rows are traits.
        many_prompts: Whether several prompts have them, so that a row's name is that of both.

    Examples:
        >>> RowWords().title("3"), RowWords(traits=True).title("3/content")
        ('Prompt 3', 'content')
        >>> RowWords(traits=True, many_prompts=True).listed(["3/content", "4/content"])
        'traits 3/content, 4/content'
    """

    traits: bool = False
    many_prompts: bool = False

    @classmethod
    def of(cls, rows: Iterable[str], *, traits: bool) -> RowWords:
        """Words for rows by their ids: prompts, or where ``traits`` prompts and traits."""
        return cls(traits=traits, many_prompts=traits and len({prompt_and_trait(row)[0] for row in rows}) > 1)

    @property
    def kind(self) -> str:
        """What a mean over rows is over first: prompts, or traits."""
        return "trait" if self.traits else "prompt"

    @property
    def noun(self) -> str:
        """What a row is."""
        return "prompt and trait" if self.many_prompts else self.kind

    @property
    def plural(self) -> str:
        """What rows are."""
        return f"pairs of {self.noun}" if self.many_prompts else f"{self.kind}s"

    @property
    def column(self) -> Column:
        """The column that says what a row is about."""
        if not self.traits:
            return PROMPT
        title, short = ("Prompt and trait", "prompt/trait") if self.many_prompts else ("Trait", "trait")
        return words_column("prompt", title, short)

    @property
    def mean(self) -> Cell:
        """The cell that says that a row is the mean."""
        return words("Mean over traits", short="mean") if self.traits else MEAN

    def name(self, row: str) -> str:
        """A row's name; of one prompt's traits that of the trait alone."""
        return prompt_and_trait(row)[1] if self.traits and not self.many_prompts else row

    def title(self, row: str) -> str:
        """A row at the head of a column or beside a mark."""
        return self.name(row) if self.traits else f"Prompt {row}"

    def within(self, row: str) -> str:
        """A row within a sentence."""
        return f"{self.kind} {self.name(row)}"

    def listed(self, rows: Iterable[str]) -> str:
        """Some rows within a sentence."""
        names = list(map(self.name, rows))
        return f"{self.kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"

    def counted(self, number: int) -> str:
        """So many rows."""
        return f"{number} {self.plural}" if number != 1 else f"1 {self.kind}"

    def of_prompts(self, essays: Mapping[str, Number]) -> dict[str, Number]:
        """Numbers of essays by prompt, from those by row: an essay counts once, whatever it is scored on.

        Args:
            essays: Numbers of essays by row.

        Examples:
            >>> RowWords(traits=True).of_prompts({"3/content": 120, "3/style": 118})
            {'3': 120}
        """
        most: dict[str, Number] = {}
        for row, number in essays.items():
            prompt = prompt_and_trait(row)[0] if self.traits else row
            most[prompt] = max(number, most.get(prompt, number))
        return most

    def across(self, row: str) -> Column:
        """The column of a row, in a table that has the rows side by side."""
        return Column(f"prompt {row}", self.title(row), self.name(row))


PROMPT_ROWS = RowWords()
