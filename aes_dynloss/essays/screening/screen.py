"""The screen: text statistics learned once from training essays, and advisories on other essays by them.

It is stored as plain arrays, each of which is validated when it is read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.screening.content import (
    HIGHEST,
    LOWEST,
    PLACES,
    PromptRuns,
    Topics,
    learn_runs,
    learn_topics,
    repeated,
)
from aes_dynloss.essays.screening.content import MILDEST_REPETITION as MILDEST
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.language import (
    NAMES,
    Foreign,
    KnownPairs,
    learn_foreign,
    learn_pairs,
    letters_by_alphabet,
    share_outside,
)
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
_DESCRIPTION = "description"
_FORMAT = 1
_TYPES = {
    "thresholds": np.float64,
    "weights": np.float16,
    "averages": np.float64,
    "pairs": np.uint8,
    "runs": np.uint8,
    "foreign": np.uint8,
    _DESCRIPTION: np.uint8,
}
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Described:
    """What is no array.

    Args:
        prompts: Ids of the prompts that were learned.
        home: Alphabets of the training essays.
        average: Share of known pairs of words.
    """

    prompts: list[str]
    home: list[str]
    average: float


def write_parts(described: Mapping[str, object], parts: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
    """Arrays to store.

    Args:
        described: What is no array.
        parts: The arrays.
    """
    words = json.dumps({"format": _FORMAT, **described}, ensure_ascii=True).encode()
    arrays = {**parts, _DESCRIPTION: np.frombuffer(words, dtype=np.uint8)}
    return {name: arrays[name].astype(kind) for name, kind in _TYPES.items()}


def read_parts(arrays: Mapping[str, NDArray[Any]]) -> tuple[Described, dict[str, NDArray[Any]]]:
    """What ``write_parts`` was given, the weights as float32.

    Raises:
        CheckpointError: An array is missing or unknown, or not what it must be.
    """
    wrong = sorted(_TYPES.keys() ^ arrays.keys())
    if wrong:
        raise CheckpointError(f"What advisories were learned lacks {wrong[0]!r}, or should not hold it.")
    for name, kind in _TYPES.items():
        if arrays[name].dtype != kind:
            raise CheckpointError(f"{name} of the advisories must be {np.dtype(kind)}, found {arrays[name].dtype}.")
    described = _described(arrays[_DESCRIPTION])
    prompts = len(described.prompts)
    shapes = {"thresholds": (prompts + 1, len(LEARNED)), "weights": (PLACES, prompts), "averages": (prompts,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"{name} of the advisories must have shape {shape}, found {arrays[name].shape}.")
    for name in ("pairs", "runs", "foreign"):
        shape, size = arrays[name].shape, arrays[name].size
        if len(shape) != 1 or not SMALLEST <= size <= LARGEST or size & (size - 1):
            raise CheckpointError(
                f"{name} of the advisories must be a row of bytes, a power of 2 from {SMALLEST} to {LARGEST} of them, "
                f"found shape {shape}."
            )
    weights = arrays["weights"].astype(np.float32)
    _check_numbers(arrays["thresholds"], arrays["averages"], weights)
    return described, {name: arrays[name] for name in _TYPES if name != _DESCRIPTION} | {"weights": weights}


def _check_numbers(thresholds: NDArray[Any], averages: NDArray[Any], weights: NDArray[Any]) -> None:
    if np.isinf(thresholds).any():  # NaN: none
        raise CheckpointError("A threshold of the advisories is infinite.")
    if not np.isfinite(averages).all():
        raise CheckpointError("An average of the advisories is not finite.")
    if not ((weights >= LOWEST) & (weights <= HIGHEST)).all():
        raise CheckpointError(f"A weight of the advisories is outside {LOWEST} to {HIGHEST}.")


def _described(written: NDArray[Any]) -> Described:
    """The part that is no array."""
    if written.ndim != 1 or written.size > _LONGEST:
        raise CheckpointError(f"The description of the advisories has shape {written.shape}; it cannot be one.")
    try:
        values = json.loads(written.tobytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"The description of the advisories is not JSON: {error}.") from None
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise CheckpointError(f"The description of the advisories is not of format {_FORMAT}.")
    prompts, home, average = _texts(values.get("prompts")), _texts(values.get("home")), values.get("average")
    if prompts is None or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise CheckpointError(f"The advisories must name from 1 to {MOST_PROMPTS} prompts, each once.")
    if home is None or not set(home) <= set(NAMES):
        raise CheckpointError("The advisories name an alphabet that does not exist, or one twice.")
    if not isinstance(average, float) or not 0 <= average <= 1:
        raise CheckpointError("The advisories' share of known pairs must be a number from 0 to 1.")
    return Described(prompts, home, average)


def _texts(values: object) -> list[str] | None:
    """A list of texts each of which stands in it once; None for anything else."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return None
    return values if len(set(values)) == len(values) else None


@dataclass(frozen=True, eq=False)
class Screen:
    """What was learned from training essays.

    Args:
        prompts: The P prompts whose essays it learned from.
        thresholds: Of the kinds of `LEARNED` (columns) for each prompt and, in the last row, for essays on any other,
            (P + 1, 7); NaN flags none. Numbers of words as logarithms of one more than them.
        pairs: Neighbouring words that go together.
        topics: The prompts' words.
        runs: The prompts' runs of words.
        foreign: Words of other languages.
    """

    prompts: tuple[str, ...]
    thresholds: Values
    pairs: KnownPairs
    topics: Topics
    runs: PromptRuns
    foreign: Foreign

    @classmethod
    def fit(cls, texts: Sequence[str], prompt_ids: Sequence[str], prompt_texts: Mapping[str, str | None]) -> Screen:
        """Learn from training essays.

        A kind's threshold for a prompt is learned from its essays if there are 30 of them, else from all
        essays; where these are fewer, and for essays on a prompt that was not learned, see `examine`.

        Args:
            texts: Training essays, N >= 1.
            prompt_ids: The prompt of each.
            prompt_texts: Prompts' own words where they are known.

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
        pairs, gibberish = learn_pairs(essays)
        topics, off_topic = learn_topics(essays)
        runs, copied = learn_runs(essays, names, prompt_texts)
        foreign, language = learn_foreign(essays, letters_by_alphabet(texts))
        learned = {
            "too_short": thresholds_by_prompt(lengths, essays, "low", None),
            "too_long": thresholds_by_prompt(lengths, essays, "high", None),
            "repetition": thresholds_by_prompt(repeated(words)[0], essays, "high", MILDEST),
            "gibberish": gibberish,
            "copied_prompt": copied,
            "off_topic": off_topic,
            "other_language": language,
        }
        thresholds = np.column_stack([learned[kind] for kind in LEARNED])
        kept = [*range(len(prompts)), essays.prompt_count]
        topics = Topics(topics.weights[:, : len(prompts)], topics.averages[: len(prompts)])
        return cls(prompts, thresholds[kept], pairs, topics, runs, foreign)

    def examine(self, texts: Sequence[str], prompt_ids: Sequence[str]) -> list[tuple[Advisory, ...]]:
        """What should keep a reader from believing the scores of some essays.

        An essay on a prompt that was not learned is held to the thresholds of all prompts together; what word pairs it
        should know is measured between prompts. Of such an essay, off_topic says nothing, copied_prompt only where the
        prompt's wording is known, and gibberish nothing if one prompt alone was learned.

        Args:
            texts: Essays, N.
            prompt_ids: The prompt of each, learned or not.

        Returns:
            For each its advisories, in the order of `KINDS`; all kinds but duplicate and unlike_training.

        Raises:
            DataError: There is not a prompt for each essay.
        """
        if len(texts) != len(prompt_ids):
            raise DataError(f"Each essay needs its prompt; found {len(texts)} essays and {len(prompt_ids)} prompts.")
        found: list[tuple[Advisory, ...]] = []
        for start in range(0, len(texts), CHUNK):
            found.extend(self._examine(texts[start : start + CHUNK], prompt_ids[start : start + CHUNK]))
        return found

    def _examine(self, texts: Sequence[str], prompt_ids: Sequence[str]) -> list[tuple[Advisory, ...]]:
        normal = [normal_text(text) for text in texts]
        words = hash_words(normal)
        places = {prompt: place for place, prompt in enumerate(self.prompts)}
        rows = np.array([places.get(prompt, len(places)) for prompt in prompt_ids], dtype=np.int64)
        lengths = np.log1p(words.counts)
        letters = share_outside(letters_by_alphabet(texts), self.foreign.home)
        # Of each kind what is judged, and what a reader is told.
        fits = self.topics.fit(words, rows)
        measured = {
            "too_short": (lengths, words.counts),
            "too_long": (lengths, words.counts),
            "repetition": repeated(words),
            "gibberish": self.pairs.known(words),
            "copied_prompt": self.runs.copied(words, prompt_ids),
            "off_topic": (fits, fits),
            "other_language": self.foreign.share(words, letters),
        }
        hidden = np.array([hidden_characters(text) for text in texts], dtype=np.int64)
        asked = injections(normal, words)
        found: list[list[Advisory]] = [[] for _ in texts]
        _add(found, "empty", words.counts == 0, words.counts, np.zeros(len(texts)))
        for column, (kind, side) in enumerate(LEARNED.items()):
            judged, told = measured[kind]
            limit = self.thresholds[rows, column]
            beyond = (judged < limit) if side == "low" else (judged > limit)
            shown = np.expm1(limit) if kind in {"too_short", "too_long"} else limit
            _add(found, kind, beyond & (words.counts > 0), told, shown)
        _add(found, "hidden_characters", hidden > LET_PASS, hidden, np.full(len(texts), LET_PASS))
        _add(found, "prompt_injection", asked > 0, asked, np.zeros(len(texts)))
        return [tuple(own) for own in found]

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays of all that was learned; no word can be read from them."""
        described = {"prompts": list(self.prompts), "home": list(self.foreign.home), "average": self.pairs.average}
        return write_parts(
            described,
            {
                "thresholds": self.thresholds,
                "weights": self.topics.weights,
                "averages": self.topics.averages,
                "pairs": self.pairs.table.table,
                "runs": self.runs.table.table,
                "foreign": self.foreign.words.table,
            },
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Screen:
        """What `to_arrays` made arrays of.

        Args:
            arrays: Those.

        Raises:
            CheckpointError: One is missing or too many, or has another type, shape or content than they have.
        """
        described, parts = read_parts(arrays)
        return cls(
            tuple(described.prompts),
            parts["thresholds"],
            KnownPairs(BitTable(parts["pairs"]), described.average),
            Topics(parts["weights"], parts["averages"]),
            PromptRuns(BitTable(parts["runs"])),
            Foreign(BitTable(parts["foreign"]), tuple(described.home)),
        )


def _add(
    found: list[list[Advisory]], kind: str, beyond: NDArray[np.bool_], told: NDArray[np.generic], limit: Values
) -> None:
    for row in np.flatnonzero(beyond):
        found[row].append(advisory(kind, float(told[row]), float(limit[row])))


def _by_size(prompt_ids: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The prompts that are learned one by one, and each essay's place among them, the last one past them for others."""
    sizes = Counter(prompt_ids)
    largest = {prompt for prompt, _ in sizes.most_common(MOST_PROMPTS)}
    places = {prompt: place for place, prompt in enumerate(prompt for prompt in sizes if prompt in largest)}
    return tuple(places), np.array([places.get(prompt, len(places)) for prompt in prompt_ids], dtype=np.int64)
