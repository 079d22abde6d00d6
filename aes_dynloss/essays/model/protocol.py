"""What every scorer of essays answers, whatever it is made of: a Transformer, n-grams, trees, or several of these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import LARGEST_FEATURE, Prompt, prompts_of_scales
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals, same_score_probability
from aes_dynloss.tables.columns import TRAIT_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scores:
    """Scores of N essays, in their order.

    Args:
        raw: Continuous predictions on the original scale, (N,), neither rescaled nor trimmed.
        score: Score points, (N,): rescaled if the model says so, trimmed to the prompt's range, rounded half up.
        tokens: Tokens of each essay, (N,); words, where there is no encoder.
        dropped_tokens: Tokens that the model's cap cut off, (N,); 0 throughout for a model without a cap.
        certainty: Chance that a human gives the same score point, (N,), set right on dev; NaN where neither the
            head nor dev tells.
        probabilities: Of each prompt's score points, (N, P), 0 beyond a prompt's last one; None if the head gives none.
        ood_distance: Distance from training essays as a multiple of what nearly all essays keep to, (N,); NaN where the
            model does not know.
        traits: The same for each trait, where essays are scored on several; NaN, or 0 tokens, of a prompt without it.
            Then ``raw`` and ``score`` are those of the trait ``score`` or ``overall``, NaN where there is none.
    """

    raw: NDArray[np.float64]
    score: NDArray[np.float64]
    tokens: NDArray[np.int64]
    dropped_tokens: NDArray[np.int64]
    certainty: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None
    ood_distance: NDArray[np.float64]
    traits: Mapping[str, Scores] = field(default_factory=dict)

    def __getitem__(self, trait: str) -> Scores:
        """The scores of one of several traits."""
        return self.traits[trait]

    def to_frame(self) -> pd.DataFrame:
        """A row an essay: score, raw and certainty; of several traits NAME, NAME_raw and NAME_certainty of each.

        Example:
            >>> one, zero = np.ones(2), np.zeros(2, dtype=np.int64)
            >>> print(Scores(one, one, zero, zero, one / 2, None, one).to_frame())
               score  raw  certainty
            0    1.0  1.0        0.5
            1    1.0  1.0        0.5
        """
        import pandas as pd

        columns: dict[str, NDArray[np.float64]] = {}
        for trait, own in (self.traits or {"": self}).items():
            for name in ("score", "raw", "certainty"):
                columns[trait + TRAIT_COLUMNS[name] if trait else name] = getattr(own, name)
        return pd.DataFrame(columns)


class Scorer(Protocol):
    """Whatever scores essays: one model of any kind, or an ensemble."""

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompts that can be scored, by id."""

    @property
    def capped(self) -> bool:
        """Whether a cap on tokens may cut off an essay's end."""

    @property
    def intervals(self) -> Intervals:
        """Prediction intervals; of no prompt, where none were fitted."""

    @property
    def certainty(self) -> Certainty:
        """Sets chances right, and knows how sure it is of dev essays; of no prompt, where that is not known."""

    @property
    def screen(self) -> Screen | None:
        """What it knows of training essays' words; None where nothing was learned."""

    @property
    def postprocessing(self) -> Postprocessing:
        """From raw to score."""

    @property
    def own_features(self) -> tuple[str, ...]:
        """Numeric columns that it needs beside the text."""

    @property
    def sources(self) -> list[str]:
        """The prompts that taught it, whatever their essays are scored on; it may score others too."""

    def score(
        self,
        texts: Sequence[str],
        prompt_ids: Sequence[str] | None = None,
        *,
        features: Sequence[Mapping[str, float]] | None = None,
        progress: str | None = None,
        tokens: int = 32768,
    ) -> Scores:
        """Score essays.

        Args:
            texts: N essays.
            prompt_ids: The prompt that each answers, N ids; may be left out where there is one prompt. Where essays
                are scored on several traits: all of these are scored; or that of prompt and trait, which alone is.
            features: The numeric columns of each that :attr:`own_features` names, where there are any.
            progress: Words beside a progress bar on standard error; None for none.
            tokens: Padded tokens a forward pass of an encoder, at most.

        Raises:
            DataError: A prompt is unknown, a column is missing, or the lengths differ.
        """

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write a model folder; an existing one is replaced as a whole.

        Args:
            folder: Where to.
            card: Text of its README.md; a short one by default.
        """


def own_numbers(
    names: Sequence[str], features: Sequence[Mapping[str, float]] | None, essays: int
) -> NDArray[np.float64]:
    """The numeric columns that a scorer needs beside the text, (N, K).

    Args:
        names: Those columns.
        features: The columns of each of N essays.
        essays: N.

    Raises:
        DataError: A column is missing, or is no number up to LARGEST_FEATURE.
    """
    if not names:
        return np.zeros((essays, 0))
    if features is None or len(features) != essays or not all(name in each for each in features for name in names):
        raise DataError(
            f"The model sees the columns {', '.join(names)} beside the text of an essay. Give them for each essay."
        )
    try:
        values = np.array([[each[name] for name in names] for each in features], dtype=np.float64).reshape(essays, -1)
    except (TypeError, ValueError):
        values = np.full((essays, len(names)), np.nan)
    if not (np.abs(values) <= LARGEST_FEATURE).all():
        raise DataError(
            f"Each essay needs a number from {-LARGEST_FEATURE:g} to {LARGEST_FEATURE:g} in the columns "
            f"{', '.join(names)}."
        )
    return values


def probabilities_by_point(
    prompts: Mapping[str, Prompt], prompt_ids: Sequence[str], probabilities: NDArray[np.float64]
) -> list[dict[str, float]]:
    """Each essay's probabilities by score point, as tables have them.

    Args:
        prompts: Prompts by id.
        prompt_ids: Prompt of each of N essays.
        probabilities: Of each prompt's score points, (N, P), 0 beyond a prompt's last one.
    """
    points = {name: point_names(prompt) for name, prompt in prompts.items()}
    rows = zip(prompt_ids, probabilities.tolist(), strict=True)
    return [dict(zip(points[prompt], row, strict=False)) for prompt, row in rows]


def point_names(prompt: Prompt) -> list[str]:
    """The names of a prompt's score points in tables, in their order."""
    return [f"{point:.12g}" for point in prompt.range.points]


def probability_rows(by_point: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """Inverse of :func:`probabilities_by_point`, (N, P)."""
    rows = np.zeros((len(by_point), max(map(len, by_point), default=0)))
    for row, one in zip(rows, by_point, strict=True):
        row[: len(one)] = list(one.values())
    return rows


def check_essays(texts: Sequence[str], prompt_ids: Sequence[str], scorer: Scorer) -> None:
    """Refuse essays without a prompt, and prompts that a scorer does not know, by a DataError."""
    check_lengths(texts, prompt_ids)
    check_prompts(prompt_ids, scorer.prompts)


def check_lengths(texts: Sequence[str], prompt_ids: Sequence[str]) -> None:
    """Refuse essays without a prompt by a DataError."""
    if len(texts) != len(prompt_ids):
        raise DataError(f"Expected one prompt id an essay, found {len(texts)} essays and {len(prompt_ids)} ids.")


def known_prompts(scorer: Scorer) -> list[str]:
    """The ids of a scorer's prompts, whatever their essays are scored on."""
    return prompts_of_scales(scorer.prompts.values())


def answered_prompts(scorer: Scorer, texts: Sequence[str], prompt_ids: Sequence[str] | None) -> Sequence[str]:
    """The prompt that each essay answers: those that are given, else the scorer's only one.

    Args:
        scorer: The scorer.
        texts: N essays.
        prompt_ids: N prompts, or None.

    Raises:
        DataError: None are given, and the scorer knows several.
    """
    if prompt_ids is not None:
        return prompt_ids
    known = known_prompts(scorer)
    if len(known) > 1:
        raise DataError(
            f"The model knows the prompts {', '.join(known)}. Say by prompt_ids which one each essay answers."
        )
    return known * len(texts)


def check_prompts(prompt_ids: Sequence[str], known: Collection[str]) -> None:
    """Refuse prompts that a scorer, or a member of an ensemble, was not trained on.

    Args:
        prompt_ids: The prompts.
        known: Those that it was trained on.

    Raises:
        DataError: Naming the first such prompt and the known ones.
    """
    unknown = next((prompt for prompt in dict.fromkeys(prompt_ids) if prompt not in known), None)
    if unknown is not None:
        raise DataError(
            f"The model was not trained on prompt {unknown!r}; it knows {', '.join(known)}. Map the ids, or "
            "name the prompt of all essays with --prompt."
        )


def finished_scores(
    scorer: Scorer,
    prompt_ids: Sequence[str],
    raw: NDArray[np.float64],
    tokens: NDArray[np.int64],
    *,
    dropped_tokens: NDArray[np.int64] | None = None,
    probabilities: NDArray[np.float64] | None = None,
    ood_distance: NDArray[np.float64] | None = None,
    by_errors: bool = False,
) -> Scores:
    """What a scorer answers, from its raw predictions: score points and how sure they are.

    Args:
        scorer: Its postprocessing, intervals and certainty are used.
        prompt_ids: Prompt of each of N essays.
        raw: Continuous predictions, (N,).
        tokens: Tokens of each essay, (N,).
        dropped_tokens: (N,), by default 0.
        probabilities: Of each prompt's score points, (N, P), where a head gives them.
        ood_distance: (N,), by default unknown.
        by_errors: Whether certainty comes of the errors on dev even where there are probabilities.
    """
    score = scorer.postprocessing.points(scorer.prompts, prompt_ids, raw)
    known = None if by_errors else probabilities
    chances = agreement_probability(scorer.prompts, scorer.intervals, prompt_ids, raw, score, known)
    return Scores(
        raw,
        score,
        tokens,
        np.zeros(len(raw), dtype=np.int64) if dropped_tokens is None else dropped_tokens,
        scorer.certainty.of(prompt_ids, chances),
        probabilities,
        np.full(len(raw), np.nan) if ood_distance is None else ood_distance,
    )


def agreement_probability(
    prompts: Mapping[str, Prompt],
    intervals: Intervals,
    prompt_ids: Sequence[str],
    raw: NDArray[np.float64],
    score: NDArray[np.float64],
    probabilities: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Chances that a human gives the same score: what the head says of it, else what the errors on dev say.

    Args:
        prompts: Prompts by id.
        intervals: Errors on dev.
        prompt_ids: Prompt of each of N essays.
        raw: Continuous predictions, (N,).
        score: Score points, (N,).
        probabilities: Of each prompt's score points, (N, P), or None.

    Returns:
        (N,), NaN where neither is known.
    """
    chances = np.full(len(raw), np.nan)
    for prompt in dict.fromkeys(prompt_ids):
        rows = np.flatnonzero(np.asarray(prompt_ids, dtype=object) == prompt)
        score_range = prompts[prompt].range
        if probabilities is not None:
            chances[rows] = probabilities[rows, score_range.to_index(score[rows])]
        elif prompt in intervals.prompts:
            chances[rows] = same_score_probability(intervals.prompts[prompt], raw[rows], score[rows], score_range)
    return chances
