"""How a scorer answers changes of essays of which one knows what they should do to a score."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.readers import UnscoredEssay, iterate_unscored
from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.perturbations import PERTURBATIONS, Material, check_kinds, has_material, perturb
from aes_dynloss.essays.samples import ESSAYS
from aes_dynloss.essays.score import prompts_of, score_essays
from aes_dynloss.evaluation.score_changes import change_figures, prompt_change_figures

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
        ConfigError: A kind is unknown, a setting is out of bounds, or nothing is left to do.
        DataError: There is no essay, a prompt is unknown, or a kind that was asked for lacks material for all prompts.
    """
    _check(kinds, seed, most, confidence)
    if not essays:
        raise DataError("There is no essay to change. Give essays that the model can score.")
    prompts = np.array(prompts_of(scorer, essays), dtype=object)
    materials, notes = _materials(scorer, essays, prompts, prompt_texts or {})
    chosen = _possible_kinds(kinds, materials, notes)
    drawn = _sample(prompts, most, seed)
    plan: list[tuple[int, str]] = []
    unchanged: list[tuple[int, str]] = []
    texts = _texts(plan, unchanged, essays, prompts, drawn, chosen, materials, seed)
    windows = [window.columns for window in score_essays(scorer, texts)]
    changes = _changes(scorer, plan, windows)
    return {
        "settings": {
            "seed": seed,
            "most": most,
            "confidence": confidence,
            "interval": "Wilson, over several changes an essay with the effective number of independent ones",
            "raw_tolerance": RAW_TOLERANCE,
        },
        "essays": {prompt: int(np.sum(prompts[drawn] == prompt)) for prompt in dict.fromkeys(prompts[drawn].tolist())},
        "expected": _by_expectation(changes, list(chosen), confidence),
        "kinds": {kind: _kind(changes, kind, able, unchanged, prompts, confidence) for kind, able in chosen.items()},
        "notes": notes,
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


def _materials(
    scorer: Scorer, essays: Sequence[UnscoredEssay], prompts: NDArray[Any], prompt_texts: Mapping[str, str]
) -> tuple[dict[str, Material], list[str]]:
    """What each prompt's essays may be mixed with: of the same data, or the package's own where it has one prompt."""
    notes = []
    by_prompt: dict[str, list[str]] = {}
    for prompt, essay in zip(prompts, essays, strict=True):
        by_prompt.setdefault(prompt, []).append(essay.text)
    answers = dict(by_prompt)
    if len(by_prompt) == 1:
        notes.append(
            "The essays answer one prompt, so that the made-up essays of the package stand for those off topic."
        )
        for essay in iterate_unscored(str(ESSAYS)):
            if essay.prompt_id not in by_prompt:
                answers.setdefault(str(essay.prompt_id), []).append(essay.text)
    materials = {}
    for prompt in by_prompt:
        others = [text for other, texts in answers.items() if other != prompt for text in texts]
        materials[prompt] = Material(prompt_texts.get(prompt, scorer.prompts[prompt].text), others)
    return materials, notes


def _possible_kinds(
    kinds: Sequence[str] | None, materials: Mapping[str, Material], notes: list[str]
) -> dict[str, list[str]]:
    """The kinds that can be made, each with the prompts whose essays it can be made of; what cannot goes to notes."""
    possible = {}
    for kind in PERTURBATIONS if kinds is None else dict.fromkeys(kinds):
        able = [prompt for prompt, material in materials.items() if has_material(kind, material)]
        lacking = [prompt for prompt in materials if prompt not in able]
        if lacking and not able and kinds is not None:
            raise DataError(
                f"The perturbation {kind} needs the prompt's text, and none is known. Give the prompts' texts "
                "(--prompts), or leave the kind out."
            )
        if lacking:
            notes.append(f"{kind} is left out for want of the prompt's text: prompt {', '.join(lacking)}.")
        if able:
            possible[kind] = able
    return possible


def _sample(prompts: NDArray[Any], most: int | None, seed: int) -> NDArray[np.int64]:
    """Places of the essays that are drawn, in their order."""
    drawn = []
    for prompt in dict.fromkeys(prompts):
        places = np.flatnonzero(prompts == prompt)
        if most is not None and len(places) > most:
            places = np.random.default_rng([seed, zlib.crc32(prompt.encode())]).choice(places, most, replace=False)
        drawn.append(places)
    return np.sort(np.concatenate(drawn))


def _texts(
    plan: list[tuple[int, str]],
    unchanged: list[tuple[int, str]],
    essays: Sequence[UnscoredEssay],
    prompts: NDArray[Any],
    drawn: NDArray[np.int64],
    kinds: Mapping[str, Sequence[str]],
    materials: Mapping[str, Material],
    seed: int,
) -> Iterator[UnscoredEssay]:
    """Each drawn essay, followed by its changed forms; place and kind of each ("": as it was) go to ``plan``."""
    for place in drawn.tolist():
        essay, prompt = essays[place], prompts[place]
        plan.append((place, AS_IT_WAS))
        yield UnscoredEssay(essay.essay_id, prompt, essay.text)
        for kind in (kind for kind, able in kinds.items() if prompt in able):
            generator = np.random.default_rng([seed, zlib.crc32(kind.encode()), place])
            text = perturb(kind, essay.text, generator, materials[prompt])
            if text == essay.text:
                unchanged.append((place, kind))
            else:
                plan.append((place, kind))
                yield UnscoredEssay(essay.essay_id, prompt, text)


def _changes(
    scorer: Scorer, plan: Sequence[tuple[int, str]], windows: Sequence[Mapping[str, Sequence[Any]]]
) -> pd.DataFrame:
    """A row for each changed essay, with the columns `CHANGE_COLUMNS` and its kind."""
    names = ("prompt_id", "score", "raw")
    table = pd.DataFrame({name: [value for window in windows for value in window[name]] for name in names})
    table["essay"] = [place for place, _ in plan]
    table["kind"] = [kind for _, kind in plan]
    before = table[table.kind == AS_IT_WAS].drop(columns="kind")
    ranges = {prompt: scorer.prompts[prompt].range for prompt in before.prompt_id.unique()}
    units = before.groupby("prompt_id").raw.std()
    before["unit"] = before.prompt_id.map(units.where(units > 0))
    before["lowest"] = before.prompt_id.map({prompt: own.low for prompt, own in ranges.items()})
    spans = {prompt: RAW_TOLERANCE * (own.high - own.low) for prompt, own in ranges.items()}
    before["tolerance"] = before.prompt_id.map(spans)
    after = table.loc[table.kind != AS_IT_WAS, ["essay", "kind", "score", "raw"]]
    return after.rename(columns={"score": "changed_score", "raw": "changed_raw"}).merge(before, on="essay")


def _by_expectation(changes: pd.DataFrame, kinds: Sequence[str], confidence: float) -> dict[str, Any]:
    """Figures over all kinds of one expectation, and over all that must not make a score rise: the headline."""
    groups = {"must_not_rise": ("fall", "not_rise"), "fall": ("fall",), "not_rise": ("not_rise",), "stay": ("stay",)}
    found = {}
    for name, expected in groups.items():
        own = [kind for kind in kinds if PERTURBATIONS[kind].expected in expected]
        if own:
            found[name] = {"kinds": own, **change_figures(changes[changes.kind.isin(own)], confidence)}
    return found


def _kind(
    changes: pd.DataFrame,
    kind: str,
    able: Sequence[str],
    unchanged: Sequence[tuple[int, str]],
    prompts: NDArray[Any],
    confidence: float,
) -> dict[str, Any]:
    """One kind's figures, in total and by prompt."""
    perturbation = PERTURBATIONS[kind]
    own = changes[changes.kind == kind]
    left = Counter(prompts[place] for place, other in unchanged if other == kind)
    return {
        "title": perturbation.title,
        "expected": perturbation.expected,
        "worthless": perturbation.worthless,
        "total": {**change_figures(own, confidence), "unchanged": left.total()},
        "prompts": {
            prompt: {**prompt_change_figures(own[own.prompt_id == prompt], confidence), "unchanged": left[prompt]}
            for prompt in able
        },
    }
