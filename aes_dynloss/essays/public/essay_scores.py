"""Scores of essays in memory: arrays by name, and the table that ``aes-dynloss score`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import traits_of
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.model.trait_rows import row_kinds
from aes_dynloss.essays.scoring.output import COLUMN_KINDS
from aes_dynloss.essays.scoring.score import ScoredWindow
from aes_dynloss.tables.columns import TRAIT_COLUMNS
from aes_dynloss.tables.scale_ids import MAIN_TRAITS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class EssayScores:
    """Scores of N essays in their order, with what to know of each.

    Example:
        >>> scores = EssayScores(
        ...     {"essay_id": ["1", "2"], "prompt_id": ["a", "a"], "raw": [2.8, None], "score": [3.0, None],
        ...      "withheld": [False, True], "advisories": [[], ["empty"]], "reasons": [[], ["It has no words."]]}
        ... )
        >>> scores
        EssayScores(2 essays, 1 without a score)
        >>> scores.score, scores.advisories
        (array([ 3., nan]), [[], ['empty']])

    Args:
        columns: The columns of the table that ``aes-dynloss score`` writes, of N values each; None is a blank.
        trait_names: Traits that essays are scored on; none where they have one score.
        index: Labels of the rows of :meth:`to_frame`, N; None for 0, 1, ...
    """

    columns: Mapping[str, Sequence[Any]]
    trait_names: Sequence[str] = ()
    index: pd.Index[Any] | None = None

    @classmethod
    def of(cls, scorer: Scorer, windows: Sequence[ScoredWindow], index: pd.Index[Any] | None = None) -> EssayScores:
        """The scores of some windows together.

        Args:
            scorer: What scored them.
            windows: They, one after the other.
            index: See above.
        """
        names = traits_of(scorer.prompts.values())
        known = windows[0].columns if windows else row_kinds(COLUMN_KINDS, names, long=False)
        columns = {name: [*chain.from_iterable(window.columns[name] for window in windows)] for name in known}
        return cls(columns, names, index)

    def __len__(self) -> int:
        """Number of essays."""
        return len(self.columns["essay_id"])

    def __repr__(self) -> str:
        """How many essays have scores, and on what."""
        essays = "1 essay" if len(self) == 1 else f"{len(self)} essays"
        on = f" on {', '.join(self.trait_names)}" if self.trait_names else ""
        withheld = f", {self.withheld.sum()} without a score" if self.withheld.any() else ""
        return f"{type(self).__name__}({essays}{on}{withheld})"

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        return self.to_frame().to_html(max_rows=20)

    @property
    def essay_ids(self) -> list[str]:
        """The essays' ids; numbers from 1, where they came without."""
        return list(self.columns["essay_id"])

    @property
    def prompt_ids(self) -> list[str]:
        """The prompt that each answers."""
        return list(self.columns["prompt_id"])

    @property
    def raw(self) -> NDArray[np.float64]:
        """Continuous predictions on the original scale, (N,), neither rescaled nor trimmed; NaN where withheld."""
        return self._numbers("raw")

    @property
    def score(self) -> NDArray[np.float64]:
        """Score points, (N,); NaN where withheld."""
        return self._numbers("score")

    @property
    def reported(self) -> NDArray[np.float64]:
        """Scores on the model's reported scale, (N,); NaN where it has none, or where withheld."""
        return self._known_numbers("reported")

    @property
    def low(self) -> NDArray[np.float64]:
        """Lower ends of the prediction intervals, (N,), in score points; NaN where unknown or withheld."""
        return self._known_numbers("low")

    @property
    def high(self) -> NDArray[np.float64]:
        """Upper ends of the prediction intervals, (N,), in score points; NaN where unknown or withheld."""
        return self._known_numbers("high")

    @property
    def certainty(self) -> NDArray[np.float64]:
        """Chances from 0 to 1 that a human gives the same score, (N,); NaN where unknown or withheld."""
        return self._known_numbers("certainty")

    @property
    def probabilities(self) -> list[dict[str, float] | None] | None:
        """Of each score point, by its name; None where they were not asked for, or the model gives none."""
        columns = self._main().columns
        return list(columns["probabilities"]) if "probabilities" in columns else None

    @property
    def withheld(self) -> NDArray[np.bool_]:
        """Whether the advisories forbid a score, (N,)."""
        return np.array(self.columns["withheld"], dtype=np.bool_)

    @property
    def advisories(self) -> list[list[str]]:
        """Kinds of reasons to look at the score, or not to give it; ``aes-dynloss score --list`` shows them."""
        return list(self.columns["advisories"])

    @property
    def reasons(self) -> list[list[str]]:
        """The same in sentences."""
        return list(self.columns["reasons"])

    @cached_property
    def traits(self) -> dict[str, EssayScores]:
        """The scores by trait; none where essays have one score."""
        return {trait: self._of(trait) for trait in self.trait_names}

    def __getitem__(self, trait: str) -> EssayScores:
        """The scores of one of several traits."""
        if trait not in self.traits:
            known = f"known are {', '.join(self.trait_names)}" if self.trait_names else "essays have one score"
            raise KeyError(f"There is no trait {trait!r}; {known}.")
        return self.traits[trait]

    def to_frame(self) -> pd.DataFrame:
        """The table that ``aes-dynloss score`` writes: a row an essay, labelled as the essays were if they were."""
        import pandas as pd

        kinds = row_kinds(COLUMN_KINDS, self.trait_names, long=False)
        columns = {
            name: np.array(values, dtype=np.float64) if kinds[name] is float else list(values)
            for name, values in self.columns.items()
        }
        return pd.DataFrame(columns, index=self.index)

    def _of(self, trait: str) -> EssayScores:
        """One trait's scores, as if there were no others."""
        own = {trait + behind: name for name, behind in TRAIT_COLUMNS.items()}
        others = {other + behind for other in self.trait_names for behind in TRAIT_COLUMNS.values()} - own.keys()
        columns = {own.get(name, name): values for name, values in self.columns.items() if name not in others}
        return EssayScores(columns, (), self.index)

    def _numbers(self, name: str) -> NDArray[np.float64]:
        """A column of the one score."""
        return np.array(self._main().columns[name], dtype=np.float64)

    def _known_numbers(self, name: str) -> NDArray[np.float64]:
        """The same, NaN where the model does not tell it."""
        return self._numbers(name) if name in self._main().columns else np.full(len(self), np.nan)

    def _main(self) -> EssayScores:
        """The one score, or that of the essay as a whole among several."""
        if not self.trait_names:
            return self
        main = next((trait for trait in MAIN_TRAITS if trait in self.traits), None)
        if main is None:
            raise DataError(
                f"Essays have a score for each of {', '.join(self.trait_names)}, and none as a whole. Name one, as in "
                f"scores[{self.trait_names[0]!r}].score."
            )
        return self.traits[main]
