"""The screen: text statistics learned once from training essays, and advisories on other essays by them.

It is stored as plain arrays, each of which is validated when it is read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.data.data_config import TextKind
from aes_dynloss.essays.screening import content, language
from aes_dynloss.essays.screening.content import PLACES, Topics
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.language import NAMES, Foreign, KnownPairs
from aes_dynloss.essays.screening.manipulation import LET_PASS, hidden_characters, injections
from aes_dynloss.essays.screening.training_statistics import (
    CHUNK,
    LARGEST,
    SMALLEST,
    BitTable,
    Essays,
    Values,
    hash_essays,
    hash_words,
    normal_text,
    thresholds_by_prompt,
)

# The kinds that have a threshold for each prompt, and the side of it that is suspicious.
LEARNED = {
    "too_short": "low",
    "too_long": "high",
    "repetition": "high",
    "gibberish": "low",
    "copied_prompt": "high",
    "off_topic": "low",
    "other_language": "high",
}
# Of more prompts those with the most essays are learned one by one, and the others as if they were one.
MOST_PROMPTS = 64
_FORMAT = 1
_TYPES = {
    "thresholds": np.float64,
    "weights": np.float16,
    "averages": np.float64,
    "pairs": np.uint8,
    "runs": np.uint8,
    "foreign": np.uint8,
    "description": np.uint8,
}
_TABLES = ("pairs", "runs", "foreign")
_LONGEST = 1 << 20


@dataclass(frozen=True, eq=False)
class Screen:
    """What was learned from training essays.

    Args:
        prompts: The P prompts whose essays it learned from.
        thresholds: Of the kinds of `LEARNED` (columns) for each prompt and, in the last row, for essays on any other,
            (P + 1, 7); NaN flags none. Numbers of words as logarithms of one more than them.
        pairs: Neighbouring words that go together.
        topics: The prompts' words.
        runs: The prompts' runs of four words, mixed with their prompt's.
        foreign: Words of other languages.
        texts: Whether they are essays or short answers.
    """

    prompts: tuple[str, ...]
    thresholds: Values
    pairs: KnownPairs
    topics: Topics
    runs: BitTable
    foreign: Foreign
    texts: TextKind = "essays"

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        prompt_ids: Sequence[str],
        prompt_texts: Mapping[str, str | None],
        kind: TextKind = "essays",
    ) -> Screen:
        """Learn from training essays.

        A kind's threshold for a prompt is learned from its essays if there are 30 of them, else from all
        essays; where these are fewer, and for essays on a prompt that was not learned, see `examine`.

        Args:
            texts: Training essays, N >= 1.
            prompt_ids: The prompt of each.
            prompt_texts: Prompts' own words where they are known.
            kind: Whether they are essays or short answers.

        Raises:
            DataError: There is no essay, or not a prompt for each.
        """
        if not texts or len(texts) != len(prompt_ids):
            raise DataError(
                f"Advisories are learned from one training essay at least, each with its prompt; found {len(texts)} "
                f"essays and {len(prompt_ids)} prompts."
            )
        prompts, of_essay = _by_size(prompt_ids)
        words = hash_essays(texts)
        essays = Essays(words, of_essay, int(of_essay.max()) + 1)
        names = [*prompts, *[""] * (essays.prompt_count - len(prompts))]
        lengths = np.log1p(words.counts)
        pairs, gibberish = language.learn_pairs(essays)
        topics, off_topic = content.learn_topics(essays)
        runs, copying = content.learn_runs(essays, names, prompt_texts)
        foreign, foreign_share = language.learn_foreign(essays, language.letters_by_alphabet(texts))
        learned = {
            "too_short": thresholds_by_prompt(lengths, essays, "low", None),
            "too_long": thresholds_by_prompt(lengths, essays, "high", None),
            "repetition": thresholds_by_prompt(content.repeated(words)[0], essays, "high", content.MILDEST_REPETITION),
            "gibberish": gibberish,
            "copied_prompt": copying,
            "off_topic": off_topic,
            "other_language": foreign_share,
        }
        thresholds = np.column_stack([learned[kind] for kind in LEARNED])
        kept = [*range(len(prompts)), essays.prompt_count]
        topics = Topics(topics.weights[:, : len(prompts)], topics.averages[: len(prompts)])
        return cls(prompts, thresholds[kept], pairs, topics, runs, foreign, kind)

    def examine(self, texts: Sequence[str], prompt_ids: Sequence[str]) -> list[tuple[Advisory, ...]]:
        """What should keep a reader from believing the scores of some essays.

        An essay on a prompt that was not learned is held to the thresholds of all prompts together; what word pairs it
        should know is measured between prompts. Of such an essay, off_topic says nothing, copied_prompt only where the
        prompt's wording is known, and gibberish nothing if one prompt alone was learned.

        Args:
            texts: Essays, N.
            prompt_ids: The prompt of each, learned or not.

        Returns:
            For each its advisories, in the order of `KINDS`; all but duplicate, unseen_prompt and unlike_training.

        Raises:
            DataError: There is not a prompt for each essay.
        """
        if len(texts) != len(prompt_ids):
            raise DataError(f"Each essay needs its prompt; found {len(texts)} essays and {len(prompt_ids)} prompts.")
        advisories: list[tuple[Advisory, ...]] = []
        for start in range(0, len(texts), CHUNK):
            advisories += self._examine(texts[start : start + CHUNK], prompt_ids[start : start + CHUNK])
        return advisories

    def _examine(self, texts: Sequence[str], prompt_ids: Sequence[str]) -> list[tuple[Advisory, ...]]:
        normal = [normal_text(text) for text in texts]
        words = hash_words(normal)
        counts, lengths = words.counts, np.log1p(words.counts)
        indices = {prompt: index for index, prompt in enumerate(self.prompts)}
        rows = np.array([indices.get(prompt, len(indices)) for prompt in prompt_ids], dtype=np.int64)
        fits = self.topics.fit(words, rows)
        # Of each kind what is judged, and what a reader is told.
        measured = {
            "too_short": (lengths, counts),
            "too_long": (lengths, counts),
            "repetition": content.repeated(words),
            "gibberish": self.pairs.known(words),
            "copied_prompt": content.copied(self.runs, words, prompt_ids),
            "off_topic": (fits, fits),
            "other_language": self.foreign.share(words, language.letters_by_alphabet(texts)),
        }
        flags: list[tuple[str, NDArray[np.bool_], NDArray[Any], float | Values]] = [("empty", counts == 0, counts, 0)]
        for column, (kind, side) in enumerate(LEARNED.items()):
            judged, reported = measured[kind]
            limit = self.thresholds[rows, column]
            beyond = (judged < limit) if side == "low" else (judged > limit)
            shown = np.expm1(limit) if kind in {"too_short", "too_long"} else limit
            flags.append((kind, beyond & (counts > 0), reported, shown))
        hidden = np.array([hidden_characters(text) for text in texts], dtype=np.int64)
        passages = injections(normal, words)
        flags.append(("hidden_characters", hidden > LET_PASS, hidden, LET_PASS))
        flags.append(("prompt_injection", passages > 0, passages, 0))
        advisories: list[list[Advisory]] = [[] for _ in texts]
        for kind, beyond, reported, shown in flags:
            limits = np.broadcast_to(shown, len(texts))
            for row in np.flatnonzero(beyond):
                advisories[row].append(advisory(kind, float(reported[row]), float(limits[row]), texts=self.texts))
        return [tuple(of_essay) for of_essay in advisories]

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays of all that was learned; no word can be read from them."""
        description = {
            "format": _FORMAT,
            "prompts": self.prompts,
            "home": self.foreign.home,
            "average": self.pairs.average,
            "texts": self.texts,
        }
        arrays: dict[str, NDArray[Any]] = {
            "thresholds": self.thresholds,
            "weights": self.topics.weights,
            "averages": self.topics.averages,
            "pairs": self.pairs.table.table,
            "runs": self.runs.table,
            "foreign": self.foreign.words.table,
            "description": np.frombuffer(json.dumps(description).encode(), dtype=np.uint8),
        }
        return {name: arrays[name].astype(kind) for name, kind in _TYPES.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Screen:
        """What `to_arrays` made arrays of.

        Args:
            arrays: Those.

        Raises:
            CheckpointError: One is missing or too many, or has another type, shape or content than they have.
        """
        wrong = sorted(_TYPES.keys() ^ arrays.keys())
        if wrong:
            raise CheckpointError(f"What advisories were learned lacks {wrong[0]!r}, or should not hold it.")
        for name, kind in _TYPES.items():
            if arrays[name].dtype != kind:
                raise CheckpointError(f"{name} of the advisories must be {np.dtype(kind)}, found {arrays[name].dtype}.")
        prompts, home, average, texts = _read_description(arrays["description"])
        _check_arrays(arrays, len(prompts))
        tables = {name: BitTable(arrays[name].astype(np.uint8)) for name in _TABLES}
        return cls(
            prompts,
            arrays["thresholds"].astype(np.float64),
            KnownPairs(tables["pairs"], average),
            Topics(arrays["weights"].astype(np.float32), arrays["averages"].astype(np.float64)),
            tables["runs"],
            Foreign(tables["foreign"], home),
            texts,
        )


def _read_description(written: NDArray[Any]) -> tuple[tuple[str, ...], tuple[str, ...], float, TextKind]:
    """What is no array: prompts that were learned, alphabets and known pairs' share of the essays, kind of texts."""
    if written.ndim != 1 or written.size > _LONGEST:
        raise CheckpointError(f"The description of the advisories has shape {written.shape}; it cannot be one.")
    try:
        values = json.loads(written.tobytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"The description of the advisories is not JSON: {error}.") from None
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise CheckpointError(f"The description of the advisories is not of format {_FORMAT}.")
    prompts, home, average = (values.get(key) for key in ("prompts", "home", "average"))
    if not _are_names(prompts) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise CheckpointError(f"The advisories must name from 1 to {MOST_PROMPTS} prompts, each once.")
    if not _are_names(home) or not set(home) <= set(NAMES):
        raise CheckpointError("The advisories name an alphabet that does not exist, or one twice.")
    if not isinstance(average, float) or not 0 <= average <= 1:
        raise CheckpointError("The advisories' share of known pairs must be a number from 0 to 1.")
    texts: TextKind = "answers" if values.get("texts") == "answers" else "essays"  # earlier versions do not say it
    return tuple(prompts), tuple(home), average, texts


def _are_names(values: object) -> TypeGuard[list[str]]:
    """Whether this is a list of texts, each once."""
    return (
        isinstance(values, list) and all(isinstance(name, str) for name in values) and len(set(values)) == len(values)
    )


def _check_arrays(arrays: Mapping[str, NDArray[Any]], prompts: int) -> None:
    """Refuse shapes and numbers that nothing was learned with."""
    shapes = {"thresholds": (prompts + 1, len(LEARNED)), "weights": (PLACES, prompts), "averages": (prompts,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"{name} of the advisories must have shape {shape}, found {arrays[name].shape}.")
    for name in _TABLES:
        shape, size = arrays[name].shape, arrays[name].size
        if len(shape) != 1 or not SMALLEST <= size <= LARGEST or size & (size - 1):
            raise CheckpointError(
                f"{name} of the advisories must be a row of bytes, a power of 2 from {SMALLEST} to {LARGEST} of them, "
                f"found shape {shape}."
            )
    if np.isinf(arrays["thresholds"]).any():  # NaN: none
        raise CheckpointError("A threshold of the advisories is infinite.")
    if not np.isfinite(arrays["averages"]).all():
        raise CheckpointError("An average of the advisories is not finite.")
    if not ((arrays["weights"] >= content.LOWEST) & (arrays["weights"] <= content.HIGHEST)).all():
        raise CheckpointError(f"A weight of the advisories is outside {content.LOWEST} to {content.HIGHEST}.")


def _by_size(prompt_ids: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The prompts that are learned one by one, and each essay's index among them, the one past them for others."""
    sizes = Counter(prompt_ids)
    largest = {prompt for prompt, _ in sizes.most_common(MOST_PROMPTS)}
    indices = {prompt: index for index, prompt in enumerate(prompt for prompt in sizes if prompt in largest)}
    return tuple(indices), np.array([indices.get(prompt, len(indices)) for prompt in prompt_ids], dtype=np.int64)
