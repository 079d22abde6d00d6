"""A screen as plain arrays, and back, with every array held against what it must be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.screening.bit_table import LARGEST, SMALLEST
from aes_dynloss.essays.screening.foreign import NAMES
from aes_dynloss.essays.screening.topics import HIGHEST, LOWEST, PLACES

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
