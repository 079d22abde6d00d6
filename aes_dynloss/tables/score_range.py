"""Score ranges of prompts: from a file, from the command line, or from the scores seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation.score_range import ScoreRange
from aes_dynloss.evaluation.table_files import distinct_keys

RANGE_KEYS = {"low", "high", "step"}
# A file of prompts may carry their wording; evaluation has no use for it.
WORDING_KEYS = {"prompt"}


def parse_range(text: str) -> tuple[str, ScoreRange]:
    """Prompt and range written as ``ID=LOW:HIGH`` or ``ID=LOW:HIGH:STEP``.

    Args:
        text: Such as ``2=1:6`` or ``ielts=0:9:0.5``.

    Returns:
        Prompt id and range.

    Raises:
        ConfigError: The text has another form, or the range is none.
    """
    prompt_id, equals, span = text.rpartition("=")
    try:
        numbers = [float(part) for part in span.split(":")]
    except ValueError:
        numbers = []
    if not equals or not prompt_id or len(numbers) not in {2, 3}:
        raise ConfigError(f"A range is written ID=LOW:HIGH or ID=LOW:HIGH:STEP, such as 2=1:6; found {text!r}.")
    return prompt_id, ScoreRange(*numbers)


def parse_ranges(texts: Iterable[str]) -> dict[str, ScoreRange]:
    """Ranges as :func:`parse_range` reads them, one a prompt.

    Raises:
        ConfigError: A text is no range, or a prompt has two.
    """
    ranges: dict[str, ScoreRange] = {}
    for text in texts:
        prompt_id, score_range = parse_range(text)
        if prompt_id in ranges:
            raise ConfigError(f"--range names prompt {prompt_id!r} twice. Give each prompt one range.")
        ranges[prompt_id] = score_range
    return ranges


def read_ranges(path: str | Path) -> dict[str, ScoreRange]:
    """Ranges from a YAML or JSON file ``{ID: {low: 1, high: 6, step: 1}, ...}``; ``step`` may be left out.

    Prompt ids stay text as they are written: 007 is "007" and no is "no", not a number and not False.

    Args:
        path: File that ends in .yaml, .yml or .json. A key ``prompt`` beside the range (its wording) is allowed.

    Returns:
        Range by prompt id.

    Raises:
        ConfigError: The file is missing or damaged, or an entry is no range.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        entries = json.loads(text, object_pairs_hook=distinct_keys) if is_json else _load_yaml(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"Cannot read score ranges from {path}: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{path.name} must map prompt ids to ranges, such as {{2: {{low: 1, high: 6}}}}.")
    return {str(prompt_id): _read_entry(str(prompt_id), entry, path.name) for prompt_id, entry in entries.items()}


def _load_yaml(text: str) -> object:
    """YAML with every scalar a string; a key that comes twice is refused, of which YAML keeps the last."""
    loader = yaml.BaseLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if isinstance(node, yaml.MappingNode):
            distinct_keys([(key.value, None) for key, _ in node.value])
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _read_entry(prompt_id: str, entry: object, source: str) -> ScoreRange:
    """One prompt's range from its entry in a file."""
    where = f"Prompt {prompt_id} in {source}"
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry):
        raise ConfigError(f"{where} needs the keys low and high, and may have step; found {_clipped(entry)}.")
    unknown = sorted(set(entry) - RANGE_KEYS - WORDING_KEYS)
    if unknown:
        raise ConfigError(f"{where} has the unknown key {unknown[0]!r}; known are low, high, step and prompt.")
    try:
        return ScoreRange(**{key: _number(entry[key]) for key in RANGE_KEYS & set(entry)})
    except ValueError as error:
        raise ConfigError(f"{where} has no valid range: {error}") from error


def _number(value: object) -> float:
    """A number from YAML's text or JSON's number; JSON's true is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"{value!r} is not a number.")
    return float(value)


def _clipped(value: object) -> str:
    """A value in a message, kept short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def infer_range(scores: Iterable[NDArray[np.float64]], where: str) -> ScoreRange:
    """The whole scores from the lowest to the highest seen.

    QWK does not change with end points that nobody was given, so that this grid serves where the official range is not
    known. A single value seen is widened by one on both sides.

    Args:
        scores: Columns of scores of one prompt; NaN is a blank.
        where: Words for the error, such as ``prompt 2 in scores.csv``.

    Returns:
        Range with step 1.

    Raises:
        DataError: A score is not whole (the step cannot be guessed), or there is no score at all.
    """
    values = np.concatenate([np.ravel(column) for column in scores])
    values = values[~np.isnan(values)]
    if values.size == 0:
        raise DataError(f"There is no score to tell the range of {where} from. Give its range (--prompts or --range).")
    broken = values[values != np.round(values)]
    if broken.size:
        raise DataError(
            f"The score {broken[0]:g} of {where} is not whole, and no range is given to say which scores there are. "
            "Give the range with its step (--range ID=LOW:HIGH:STEP), or put unrounded predictions in the raw column."
        )
    low, high = float(values.min()), float(values.max())
    return ScoreRange(low, high) if low < high else ScoreRange(low - 1, high + 1)


def widened(ranges: Mapping[str, ScoreRange], others: Mapping[str, ScoreRange]) -> dict[str, ScoreRange]:
    """Ranges that span both, for inferred ranges of step 1.

    Args:
        ranges: Inferred ranges by prompt id.
        others: Inferred ranges of other essays; prompts that ``ranges`` lacks are left out.

    Returns:
        Range by the prompt ids of ``ranges``.
    """
    spans = {}
    for prompt_id, one in ranges.items():
        other = others.get(prompt_id, one)
        spans[prompt_id] = ScoreRange(min(one.low, other.low), max(one.high, other.high))
    return spans
