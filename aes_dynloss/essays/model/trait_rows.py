"""Which scores essays get where they are scored on several traits, and how these stand in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.data.essay_table import Prompt, traits_of
from aes_dynloss.essays.model.protocol import Scorer, Scores, check_lengths, check_prompts, known_prompts
from aes_dynloss.tables.columns import TRAIT_COLUMN, TRAIT_COLUMNS
from aes_dynloss.tables.scale_ids import MAIN_TRAITS


@dataclass(frozen=True)
class Asked:
    """The scores that some essays get: one each, or one for each trait of its prompt.

    Args:
        scales: The prompt, or prompt and trait, of each score.
        owner: The place of its essay.
        traits: All traits of the scorer; none where essays have one score.
    """

    scales: list[str]
    owner: list[int]
    traits: list[str]

    @classmethod
    def of(cls, prompts: Mapping[str, Prompt], prompt_ids: Sequence[str]) -> Asked:
        """The scores of essays.

        Args:
            prompts: All prompts, or prompts and traits, of a scorer.
            prompt_ids: The prompt of each essay.

        Examples:
            >>> from aes_dynloss.tables.score_range import ScoreRange
            >>> prompts = [Prompt(f"1/{trait}", ScoreRange(1, 6), trait=trait) for trait in ("content", "style")]
            >>> asked = Asked.of({prompt.id: prompt for prompt in prompts}, ["1", "1"])
            >>> asked.scales, asked.owner
            (['1/content', '1/style', '1/content', '1/style'], [0, 0, 1, 1])
        """
        by_prompt: dict[str, list[str]] = {}
        for scale, prompt in prompts.items():
            by_prompt.setdefault(prompt.prompt_id, []).append(scale)
        pairs = [(scale, place) for place, prompt_id in enumerate(prompt_ids) for scale in by_prompt[prompt_id]]
        return cls([scale for scale, _ in pairs], [place for _, place in pairs], traits_of(prompts.values()))

    def names(self, prompts: Mapping[str, Prompt]) -> list[str | None]:
        """The trait of each score."""
        return [prompts[scale].trait for scale in self.scales]

    def first_places(self, essays: int) -> list[int]:
        """The place of each essay's first score."""
        first: dict[int, int] = {}
        for place, essay in enumerate(self.owner):
            first.setdefault(essay, place)
        return [first[essay] for essay in range(essays)]

    def wide(
        self, columns: Mapping[str, list[Any]], prompts: Mapping[str, Prompt], essays: int
    ) -> dict[str, list[Any]]:
        """Columns of one score as columns of each trait, a row an essay; None where a prompt lacks the trait.

        Args:
            columns: Some of TRAIT_COLUMNS, a value a score.
            prompts: All prompts and traits.
            essays: Number of essays.
        """
        rows: dict[str, list[Any]] = {
            trait + behind: [None] * essays
            for trait in self.traits
            for name, behind in TRAIT_COLUMNS.items()
            if name in columns
        }
        for place, (trait, essay) in enumerate(zip(self.names(prompts), self.owner, strict=True)):
            for name, values in columns.items():
                rows[f"{trait}{TRAIT_COLUMNS[name]}"][essay] = values[place]
        return rows


def row_kinds(kinds: Mapping[str, type], traits: Sequence[str], *, long: bool) -> dict[str, type]:
    """Types of the columns of scores where there are traits.

    Args:
        kinds: Those where essays have one score.
        traits: The traits; none: ``kinds`` as they are.
        long: Whether each score has a row of its own.
    """
    if not traits:
        return dict(kinds)
    if long:
        ids = {name: kinds[name] for name in ("essay_id", "prompt_id")}
        return ids | {TRAIT_COLUMN: str} | dict(kinds)
    wide = {trait + behind: kinds[name] for trait in traits for name, behind in TRAIT_COLUMNS.items()}
    return {name: kind for name, kind in kinds.items() if name not in TRAIT_COLUMNS} | wide


def asks_for_traits(scorer: Scorer, prompt_ids: Sequence[str]) -> bool:
    """Whether prompts are named whose essays a scorer scores on several traits, not traits of these."""
    return any(prompt.trait is not None for prompt in scorer.prompts.values()) and not all(
        prompt_id in scorer.prompts for prompt_id in prompt_ids
    )


def scored_on_traits(
    scorer: Scorer,
    texts: Sequence[str],
    prompt_ids: Sequence[str],
    *,
    features: Sequence[Mapping[str, float]] | None = None,
    progress: str | None = None,
    tokens: int = 32768,
) -> Scores:
    """All traits' scores of essays; the arguments are those of :meth:`Scorer.score`.

    Raises:
        DataError: A prompt is unknown, a column is missing, or the lengths differ.
    """
    check_lengths(texts, prompt_ids)
    check_prompts(prompt_ids, known_prompts(scorer))
    asked = Asked.of(scorer.prompts, prompt_ids)
    own = None if features is None else [features[place] for place in asked.owner]
    whole = [texts[place] for place in asked.owner]
    scores = scorer.score(whole, asked.scales, features=own, progress=progress, tokens=tokens)
    names, owner = np.array(asked.names(scorer.prompts), dtype=object), np.array(asked.owner)
    traits = {}
    for trait in asked.traits:
        rows = np.flatnonzero(names == trait)
        traits[trait] = _spread(scores, rows, owner[rows], len(texts))
    main = next((traits[trait] for trait in MAIN_TRAITS if trait in traits), None)
    if main is None:
        first = np.array(asked.first_places(len(texts)), dtype=np.int64)
        whole_essay = _spread(scores, first, np.arange(len(texts)), len(texts))
        unknown = np.full(len(texts), np.nan)
        main = replace(whole_essay, raw=unknown, score=unknown, certainty=unknown, probabilities=None)
    return replace(main, traits=traits)


def _spread(scores: Scores, rows: NDArray[np.int64], essays: NDArray[np.int64], count: int) -> Scores:
    """Some of the scores, each at the place of its essay; elsewhere NaN and 0."""

    def at(values: NDArray[Any]) -> NDArray[Any]:
        fill = 0 if values.dtype.kind == "i" else np.nan
        placed = np.full((count, *values.shape[1:]), fill, dtype=values.dtype)
        placed[essays] = values[rows]
        return placed

    return Scores(
        at(scores.raw),
        at(scores.score),
        at(scores.tokens),
        at(scores.dropped_tokens),
        at(scores.certainty),
        None if scores.probabilities is None else at(scores.probabilities),
        at(scores.ood_distance),
    )
