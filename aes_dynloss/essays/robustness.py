"""Robustness: a scorer's response to changes of essays with a known effect on the score."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.augmentation import gather_materials, possible_kinds
from aes_dynloss.essays.data.essay_table import traits_of
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.protocol import Scorer, known_prompts
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS, Material, check_kinds, perturb
from aes_dynloss.essays.scoring.score import ScoredWindow, prompts_of, score_essays
from aes_dynloss.measures.differences import change_figures, prompt_change_figures
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import scale_id

MOST = 100
# A raw score has changed if it did so by more than this part of its range; other lengths in a batch move it by less.
RAW_TOLERANCE = 1e-4
AS_IT_WAS = ""


def measure_robustness(
    scorer: Scorer,
    essays: Sequence[UnscoredEssay],
    *,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    most: int | None = MOST,
    prompt_texts: Mapping[str, str] | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Score essays before and after each kind of change.

    What one essay becomes depends on the seed, the kind and its place among the essays alone, not on the other kinds.

    Args:
        scorer: The scorer; each of its processes must be given the same essays.
        essays: Essays; one without a prompt answers the model's only one.
        kinds: Names out of `PERTURBATIONS`; all, but for those without material, by default.
        seed: Seed of the sample and of the changes, >= 0.
        most: Essays a prompt that are drawn at most; None for all.
        prompt_texts: Words of prompts by id, before those that the model holds.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        Plain values, fit for strict JSON: the share of essays whose score rises, falls and stays, and the mean change,
        by kind and prompt and in total; an undefined value is None. An essay that a change leaves as it is is counted
        apart.

    Raises:
        ConfigError: A kind is unknown, or a setting is out of bounds.
        DataError: There is no essay, a prompt is unknown, or a kind that was asked for lacks material for all prompts.
    """
    _check(kinds, seed, most, confidence)
    if not essays:
        raise DataError("There is no essay to change. Give essays that the model can score.")
    prompts = np.array(prompts_of(scorer, essays), dtype=object)
    known = {prompt.prompt_id: prompt.text for prompt in scorer.prompts.values()} | dict(prompt_texts or {})
    materials, notes = gather_materials(prompts.tolist(), [essay.text for essay in essays], known)
    notes += _unused(prompt_texts or {}, scorer)
    chosen = _possible(kinds, materials, notes)
    drawn = _sample(prompts, most, seed)
    plan: list[tuple[int, str]] = []
    unchanged: Counter[tuple[str, str]] = Counter()
    texts = _texts(plan, unchanged, essays, prompts, drawn, chosen, materials, seed)
    changes = _changes(scorer, plan, list(score_essays(scorer, texts, coverage=None, long=True)))
    counts = Counter(prompts[drawn].tolist())
    return {
        "settings": {
            "seed": seed,
            "most": most,
            "confidence": confidence,
            "interval": "Wilson, over several changes an essay with the effective number of independent ones",
            "raw_tolerance": RAW_TOLERANCE,
        },
        "essays": {scale: count for prompt, count in counts.items() for scale in _scales(scorer, [prompt])},
        "expected": _by_expectation(changes, list(chosen), confidence),
        "kinds": {kind: _kind(scorer, changes, kind, able, unchanged, confidence) for kind, able in chosen.items()},
        "notes": notes,
        **({"traits": traits} if (traits := traits_of(scorer.prompts.values())) else {}),
    }


def _check(kinds: Sequence[str] | None, seed: int, most: int | None, confidence: float) -> None:
    if kinds is not None:
        check_kinds(kinds)
        if not kinds:
            raise ConfigError("No kind of change is named. Name one at least, or leave the choice out for all.")
    if seed < 0 or (most is not None and most < 1) or not 0 < confidence < 1:
        raise ConfigError(
            f"Robustness needs seed >= 0, most >= 1 and 0 < confidence < 1, found {seed}, {most} and {confidence}."
        )


def _unused(prompt_texts: Mapping[str, str], scorer: Scorer) -> list[str]:
    """A note on texts of prompts that the model does not know; where it knows none, the ids are wrong."""
    known = known_prompts(scorer)
    unknown = [prompt for prompt in prompt_texts if prompt not in known]
    if prompt_texts and len(unknown) == len(prompt_texts):
        raise DataError(
            f"None of the prompts whose texts are given ({', '.join(unknown)}) is one that the model knows: "
            f"{', '.join(known)}. Map the ids."
        )
    if unknown:
        return [f"Texts of prompts that the model does not know are not used: {', '.join(unknown)}."]
    return []


def _possible(kinds: Sequence[str] | None, materials: Mapping[str, Material], notes: list[str]) -> dict[str, list[str]]:
    """The kinds that can be made, each with the prompts whose essays it can be made of; what cannot goes to notes."""
    able, lacking = possible_kinds(PERTURBATIONS if kinds is None else dict.fromkeys(kinds), materials)
    for kind, reason in lacking.items():
        if not able[kind] and kinds is not None:
            raise DataError(
                f"The change {kind} cannot be made {reason}. Give the prompts' texts (--prompts), or essays to several "
                "prompts, or leave the kind out."
            )
        notes.append(f"{kind} is left out {reason}.")
    return {kind: prompts for kind, prompts in able.items() if prompts}


def _sample(prompts: NDArray[Any], most: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of the essays that are drawn, in their order."""
    drawn = []
    for prompt in dict.fromkeys(prompts):
        indices = np.flatnonzero(prompts == prompt)
        if most is not None and len(indices) > most:
            indices = np.random.default_rng([seed, zlib.crc32(prompt.encode())]).choice(indices, most, replace=False)
        drawn.append(indices)
    return np.sort(np.concatenate(drawn))


def _texts(
    plan: list[tuple[int, str]],
    unchanged: Counter[tuple[str, str]],
    essays: Sequence[UnscoredEssay],
    prompts: NDArray[Any],
    drawn: NDArray[np.int64],
    kinds: Mapping[str, Sequence[str]],
    materials: Mapping[str, Material],
    seed: int,
) -> Iterator[UnscoredEssay]:
    """Each drawn essay, followed by its changed forms; index and kind of each ("": as it was) go to ``plan``."""
    for index in drawn.tolist():
        essay, prompt = essays[index], prompts[index]
        plan.append((index, AS_IT_WAS))
        yield essay._replace(prompt_id=prompt)
        for kind in (kind for kind, able in kinds.items() if prompt in able):
            generator = np.random.default_rng([seed, zlib.crc32(kind.encode()), index])
            text = perturb(kind, essay.text, generator, materials[prompt])
            if text.strip() == essay.text.strip():  # sentences in pieces lose what stands around them
                unchanged[kind, prompt] += 1
            else:
                plan.append((index, kind))
                yield essay._replace(prompt_id=prompt, text=text)


def _scales(scorer: Scorer, prompts: Collection[str]) -> list[str]:
    """Some prompts, or where essays are scored on several traits these prompts with each of their traits."""
    return [scale for prompt in prompts for scale, own in scorer.prompts.items() if own.prompt_id == prompt]


def _changes(scorer: Scorer, plan: Sequence[tuple[int, str]], windows: Sequence[ScoredWindow]) -> pd.DataFrame:
    """A row for each changed essay (and trait), with the columns `CHANGE_COLUMNS` and its kind."""
    starts = np.cumsum([0, *map(len, windows)])
    places = [start + place for start, window in zip(starts, windows, strict=False) for place in window.owner]
    table = pd.DataFrame([plan[place] for place in places], columns=["essay", "kind"])
    for name in ("prompt_id", "score", "raw"):
        table[name] = [value for window in windows for value in window.columns[name]]
    if all(TRAIT_COLUMN in window.columns for window in windows):
        traits = (trait for window in windows for trait in window.columns[TRAIT_COLUMN])
        table["prompt_id"] = [scale_id(prompt, trait) for prompt, trait in zip(table.prompt_id, traits, strict=True)]
    is_changed = table.kind != AS_IT_WAS
    before, after = table[~is_changed].drop(columns="kind"), table[is_changed]
    prompts = before.groupby("prompt_id").agg(unit=("raw", "std"))
    prompts["unit"] = prompts.unit.where(prompts.unit > 0)
    ranges = [scorer.prompts[str(prompt)].range for prompt in prompts.index]
    prompts["lowest"] = [score_range.low for score_range in ranges]
    prompts["tolerance"] = [RAW_TOLERANCE * (score_range.high - score_range.low) for score_range in ranges]
    after = after.rename(columns={"score": "changed_score", "raw": "changed_raw"})
    return after.merge(before.join(prompts, on="prompt_id"), on=["essay", "prompt_id"])


def _by_expectation(changes: pd.DataFrame, kinds: Sequence[str], confidence: float) -> dict[str, Any]:
    """Figures over all kinds of one expectation, and over all that must not make a score rise: the headline."""
    groups = {"must_not_rise": ("fall", "not_rise"), "fall": ("fall",), "not_rise": ("not_rise",), "stay": ("stay",)}
    figures = {}
    for name, expected in groups.items():
        members = [kind for kind in kinds if PERTURBATIONS[kind].expected in expected]
        if members:
            figures[name] = {"kinds": members, **change_figures(changes[changes.kind.isin(members)], confidence)}
    return figures


def _kind(
    scorer: Scorer,
    changes: pd.DataFrame,
    kind: str,
    able: Sequence[str],
    unchanged: Counter[tuple[str, str]],
    confidence: float,
) -> dict[str, Any]:
    """One kind's figures, in total and by prompt."""
    perturbation = PERTURBATIONS[kind]
    changes = changes[changes.kind == kind]
    return {
        "title": perturbation.title,
        "expected": perturbation.expected,
        "worthless": perturbation.worthless,
        "total": {
            **change_figures(changes, confidence),
            "unchanged": sum(unchanged[kind, prompt] for prompt in able),
        },
        "prompts": {
            scale: {
                **prompt_change_figures(changes[changes.prompt_id == scale], confidence),
                "unchanged": unchanged[kind, scorer.prompts[scale].prompt_id],
            }
            for scale in _scales(scorer, able)
        },
    }
