"""Score ranges: the score points of a prompt, the way to [0, 1] and back, rounding; read, given or inferred."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.configfile import clipped_repr
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.tables.csv_jsonl import unique_keys

# More than any scale of scores has; a typing error beyond it would fill the memory with score points.
MOST_POINTS = 10_000


@dataclass(frozen=True)
class ScoreRange:
    """The score points low, low + step, ..., high of one prompt.

    Args:
        low: Lowest score point.
        high: Highest score point, above ``low``.
        step: Distance of neighbouring score points: 1 for whole scores, .5 for half points.

    Raises:
        ConfigError: ``high`` is not above ``low``, or the range is no whole number of steps or has too many.

    Examples:
        >>> score_range = ScoreRange(0, 4, step=0.5)
        >>> str(score_range), score_range.count
        ('0 to 4 in steps of 0.5', 9)
        >>> score_range.to_unit([0, 1, 4])
        array([0.  , 0.25, 1.  ])
        >>> score_range.to_point([1.2, 1.25, 9.0])  # trimmed to the range, then rounded half up
        array([1. , 1.5, 4. ])
    """

    low: float
    high: float
    step: float = 1.0

    def __post_init__(self) -> None:
        """Check the range at construction."""
        if not all(math.isfinite(value) for value in (self.low, self.high, self.step)):
            raise ConfigError(f"A score range needs finite numbers, found {self}.")
        if self.step <= 0 or self.high <= self.low:
            raise ConfigError(f"A score range needs low < high and step > 0, found {self}.")
        steps = (self.high - self.low) / self.step
        if steps >= MOST_POINTS:
            raise ConfigError(
                f"The range {self} has more than {MOST_POINTS} score points; correct low, high or step, or look "
                "whether these are scores."
            )
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
            raise ConfigError(f"The range {self} is no whole number of steps; correct low, high or step.")

    def __str__(self) -> str:
        """Words for messages: ``1 to 6``."""
        step = "" if self.step == 1 else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}"

    @property
    def count(self) -> int:
        """Number of score points."""
        return round((self.high - self.low) / self.step) + 1

    @property
    def points(self) -> NDArray[np.float64]:
        """All score points, ascending, shape (count,)."""
        return np.asarray(self.low + self.step * np.arange(self.count), dtype=np.float64)

    def is_score_point(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Whether each score is one of the score points, same shape; none is that is not finite."""
        values = np.asarray(scores, dtype=np.float64)
        position = (np.where(np.isfinite(values), values, np.inf) - self.low) / self.step
        inside = (position > -0.5) & (position < self.count - 0.5)
        position = np.where(inside, position, 0.5)
        return np.asarray(inside & (np.abs(position - np.rint(position)) < 1e-6))

    def to_unit(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores on the original scale to [0, 1]: (score - low) / (high - low)."""
        return (np.asarray(scores, dtype=np.float64) - self.low) / (self.high - self.low)

    def from_unit(self, unit: ArrayLike) -> NDArray[np.float64]:
        """Values on [0, 1] back to the original scale; values outside are not trimmed."""
        return np.asarray(unit, dtype=np.float64) * (self.high - self.low) + self.low

    def to_index(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Number of each score point, counted from 0; trims and rounds half up. NaN raises DataError."""
        position = (np.asarray(scores, dtype=np.float64) - self.low) / self.step
        if np.isnan(position).any():
            raise DataError("A prediction that is NaN has no score point. Look for the cause in the scorer's outputs.")
        # 1e-9: 2.5 reached through float arithmetic as 2.4999999999 is a half.
        return np.clip(np.floor(position + 0.5 + 1e-9), 0, self.count - 1).astype(np.int64)

    def to_point(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Nearest score point of each value: trimmed to the range, then rounded half up."""
        return np.asarray(self.low + self.step * self.to_index(scores), dtype=np.float64)


RANGE_KEYS = {"low", "high", "step"}
# A file of prompts may carry their wording; evaluation has no use for it.
WORDING_KEYS = {"prompt"}


# What the prompt of a table without a column of prompts is called; a range of that name holds for every prompt that has
# none of its own.
ONE_PROMPT = "all"


def parse_range(text: str) -> tuple[str, ScoreRange]:
    """Prompt and range written as ``ID=LOW:HIGH`` or ``ID=LOW:HIGH:STEP``; without ID it holds for all prompts.

    Args:
        text: Such as ``2=1:6``, ``ielts=0:9:0.5`` or ``1:6``.

    Returns:
        Prompt id, or ONE_PROMPT where none is named, and range.

    Raises:
        ConfigError: The text has another form, or the range is none.
    """
    prompt_id, equals, span = text.rpartition("=")
    try:
        numbers = [float(part) for part in span.split(":")]
    except ValueError:
        numbers = []
    if (equals and not prompt_id) or len(numbers) not in {2, 3}:
        raise ConfigError(
            f"A range is written ID=LOW:HIGH or ID=LOW:HIGH:STEP, such as 2=1:6; found {text!r}. Without ID= it holds "
            "for all prompts."
        )
    return prompt_id or ONE_PROMPT, ScoreRange(*numbers)


def parse_ranges(texts: Iterable[str], option: str = "--range") -> dict[str, ScoreRange]:
    """Ranges as :func:`parse_range` reads them, one a prompt.

    Args:
        texts: The ranges.
        option: What gave them, for messages.

    Raises:
        ConfigError: A text is no range, or a prompt has two.
    """
    ranges: dict[str, ScoreRange] = {}
    for text in texts:
        prompt_id, score_range = parse_range(text)
        if prompt_id in ranges:
            prompt = "all prompts" if prompt_id == ONE_PROMPT else f"prompt {prompt_id!r}"
            raise ConfigError(f"{option} names {prompt} twice. Give each prompt one range.")
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
        entries = json.loads(text, object_pairs_hook=unique_keys) if is_json else _load_yaml(text)
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
            unique_keys([(key.value, None) for key, _ in node.value])
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _read_entry(prompt_id: str, entry: object, source: str) -> ScoreRange:
    """One prompt's range from its entry in a file."""
    where = f"Prompt {prompt_id} in {source}"
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry):
        raise ConfigError(f"{where} needs the keys low and high, and may have step; found {clipped_repr(entry)}.")
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


# Wider than any scale of essays: a wrong column, such as an id or a date, is likelier.
WIDEST_SEEN = 1000
_ROUNDING = 1e-6


# Distances of score points that human scores tell by themselves, the widest first.
STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05)


def infer_range(scores: Iterable[NDArray[np.float64]], where: str, steps: Sequence[float] = STEPS[:1]) -> ScoreRange:
    """The score points from the lowest to the highest score seen.

    QWK does not change with end points that nobody was given, so that this grid serves where the official range is not
    known. A single value seen is widened by one step on both sides.

    Args:
        scores: Columns of scores of one prompt; NaN is a blank.
        where: Words for the error, such as ``prompt 2 in scores.csv``.
        steps: Distances of score points that may be, the widest first; the first is taken of which all scores are
            multiples. Only where all are human scores, not predictions, does that tell what score points there are.

    Raises:
        DataError: A score is no multiple of any step, the scores span more than WIDEST_SEEN, or there is none.

    Examples:
        >>> str(infer_range([np.array([1.0, 3.5, 2.0])], "essays.csv", steps=STEPS))
        '1 to 3.5 in steps of 0.5'
    """
    values = np.concatenate([np.ravel(column) for column in scores])
    values = values[~np.isnan(values)]
    if values.size == 0:
        raise DataError(
            f"There is no score to tell the range of {where} from. Give its range (data.prompts, --prompts or --range)."
        )
    broken = {step: values[np.abs(values / step - np.round(values / step)) > _ROUNDING] for step in steps}
    step = next((step for step in steps if not broken[step].size), None)
    if step is None:
        listed = ", ".join(f"{one:g}" for one in steps)
        kind = "not whole" if listed == "1" else f"no multiple of {listed}"
        raise DataError(
            f"The score {broken[steps[-1]][0]:g} of {where} is {kind}, and no range is given to say which scores there "
            "are. Give the range with its step (data.prompts or --range ID=LOW:HIGH:STEP), or put unrounded "
            "predictions in the raw column."
        )
    low, high = float(values.min()), float(values.max())
    if high - low > WIDEST_SEEN:
        raise DataError(
            f"The scores of {where} reach from {low:g} to {high:g}. If that is meant, give the range (data.prompts or "
            "--range ID=LOW:HIGH); else name the right column."
        )
    low, high = (round(round(end / step) * step, 9) for end in (low, high))
    return ScoreRange(low, high, step) if low < high else ScoreRange(low - step, high + step, step)


def spanning(ranges: Iterable[ScoreRange]) -> ScoreRange:
    """The range from the lowest to the highest score point of some ranges, with the widest step that holds all theirs.

    Args:
        ranges: One range or more.

    Examples:
        >>> str(spanning([ScoreRange(1, 6), ScoreRange(1, 5.5, step=0.5)]))
        '1 to 6 in steps of 0.5'
    """
    known = list(dict.fromkeys(ranges))
    if len(known) == 1:
        return known[0]
    low, high = min(one.low for one in known), max(one.high for one in known)
    # The greatest common divisor of steps and of distances between lowest points, in exact fractions.
    lengths = [length for one in known for length in (_fraction(one.step), _fraction(one.low) - _fraction(low))]
    whole = math.lcm(*(length.denominator for length in lengths))
    step = Fraction(math.gcd(*(int(length * whole) for length in lengths)), whole)
    return ScoreRange(low, high, float(step))


def _fraction(value: float) -> Fraction:
    """The fraction that a float stands for: 1/10 for .1, 1/3 for .3333333333333333."""
    return Fraction(value).limit_denominator(1_000_000)


def widened(ranges: Mapping[str, ScoreRange], others: Mapping[str, ScoreRange]) -> dict[str, ScoreRange]:
    """Inferred ranges that span those of other essays too.

    Args:
        ranges: Inferred ranges by prompt id.
        others: Ranges of other essays; prompts that ``ranges`` lacks are left out.

    Returns:
        Range by the prompt ids of ``ranges``.
    """
    return {prompt_id: spanning([one, others.get(prompt_id, one)]) for prompt_id, one in ranges.items()}
