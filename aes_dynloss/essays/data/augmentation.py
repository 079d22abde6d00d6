"""Augmentation: changed copies of training essays, with the scores that the changes deserve.

A scorer learns from them that nonsense is worth nothing, and that repeated or added text adds nothing. Nonsense gets
the prompt's lowest score, as in Ding et al.; what must not raise a score keeps it, minus a penalty if one is set; what
a reader would not notice keeps it. Changes mix in material of the prompt: other essays, its wording, bundled texts.

References:
    Ding, Riordan, Horbach, Cahill and Zesch (2020), Don't take "nswvtnvakgxpm" for an answer: the surprising
    vulnerability of automatic content scoring systems to adversarial input, COLING. Kabra, Bhatia, Singla, Li and Shah
    (2022), Evaluation toolkit for robustness testing of automatic essay scoring systems, CODS-COMAD.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import AugmentationConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import iterate_unscored
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS, Material, has_material, perturb
from aes_dynloss.essays.samples import ESSAYS
from aes_dynloss.tables.score_range import ScoreRange

BUNDLED_OTHERS = "The essays answer one prompt, so that the made-up essays of the package stand for those off topic."
_LACKING = {"prompt_text": "the prompt's text", "others": "an essay to another prompt that is not blank"}


def gather_materials(
    prompts: Sequence[str], texts: Sequence[str], prompt_texts: Mapping[str, str | None]
) -> tuple[dict[str, Material], list[str]]:
    """What each prompt's essays may be mixed with: others of these, or the package's own where all are to one prompt.

    Args:
        prompts: The prompt of each essay, N ids.
        texts: N essays.
        prompt_texts: Words of prompts, where they are known.

    Returns:
        The material of each prompt that has an essay, and notes on it for a reader.
    """
    by_prompt: dict[str, list[str]] = {}
    for prompt, text in zip(prompts, texts, strict=True):
        by_prompt.setdefault(prompt, []).append(text)
    own_prompts, notes = list(by_prompt), []
    if len(own_prompts) == 1:
        notes.append(BUNDLED_OTHERS)
        for essay in iterate_unscored(str(ESSAYS)):
            if essay.prompt_id not in own_prompts:
                by_prompt.setdefault(str(essay.prompt_id), []).append(essay.text)
    materials = {}
    for prompt in own_prompts:
        others = [text for other, essays in by_prompt.items() if other != prompt for text in essays]
        materials[prompt] = Material(prompt_texts.get(prompt), others)
    return materials, notes


def possible_kinds(
    kinds: Iterable[str], materials: Mapping[str, Material]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The kinds of change that can be made, each with the prompts whose essays it can be made of.

    Args:
        kinds: Names out of `PERTURBATIONS`.
        materials: The material of each prompt.

    Returns:
        The prompts of each kind, which may be none, and what those that a kind is impossible for lack, in words.
    """
    able = {kind: [prompt for prompt, material in materials.items() if has_material(kind, material)] for kind in kinds}
    lacking = {}
    for kind, prompts in able.items():
        without = [prompt for prompt in materials if prompt not in prompts]
        needs = PERTURBATIONS[kind].needs
        if without and needs is not None:
            lacking[kind] = f"for want of {_LACKING[needs]}: prompt {', '.join(without)}"
    return able, lacking


_FEATURES = Features(
    {"essay_id": Value("string"), "prompt_id": Value("string"), "text": Value("string"), "score": Value("float64")}
)


@dataclass(frozen=True)
class Augmentation:
    """Changed copies of training essays.

    Args:
        table: The copies, each with the score that it deserves; its id is its essay's with the kind behind it.
        kinds: Copies of each kind.
        unchanged: Drawn essays that their change left as they were, of which there is no copy.
        notes: What a reader of the run's report must know.
    """

    table: EssayTable
    kinds: dict[str, int]
    unchanged: int
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """For the manifest of a run: counts, and a digest of texts and scores."""
        columns = [self.table.values(name) for name in _FEATURES]
        digest = hashlib.sha256(json.dumps(list(zip(*columns, strict=True))).encode()).hexdigest()
        return {"sha256": digest, "essays": self.table.essay_count, "kinds": self.kinds, "unchanged": self.unchanged}


def augment(train: EssayTable, config: AugmentationConfig) -> Augmentation:
    """Change copies of some training essays.

    Essays are drawn without replacement; those of one prompt get the kinds in turn. Off-topic text is that of other
    prompts' training essays, so that no essay of dev or test has a part in it.

    Args:
        train: Training essays.
        config: How many, of which kinds.

    Raises:
        DataError: A kind lacks its material for every prompt, or no copy comes out.
    """
    scales, scores = train.values("prompt_id"), train.scores
    rows_of: dict[str, list[int]] = {}
    for row, essay_id in enumerate(train.essay_ids):
        rows_of.setdefault(essay_id, []).append(row)
    ids, once = list(rows_of), train.once
    prompts, texts = once.answered, once.values("text")
    known = {prompt.prompt_id: prompt.text for prompt in train.prompts.values()}
    materials, notes = gather_materials(prompts, texts, known)
    able, lacking = possible_kinds(config.kinds, materials)
    for kind, able_prompts in able.items():
        if not able_prompts:
            raise DataError(
                f"data.augmentation.kinds names {kind}, which cannot be made {lacking[kind]}. Give the prompts' texts "
                "in data.prompts, or leave the kind out."
            )
    by_prompt = {prompt: [kind for kind in able if prompt in able[kind]] for prompt in materials}
    notes += [f"{kind} is left out {reason}." for kind, reason in lacking.items()]
    drawn = np.random.default_rng([config.seed, zlib.crc32(b"augmentation")]).permutation(len(once))
    turns = {prompt: cycle(kinds) for prompt, kinds in by_prompt.items()}
    copies: list[dict[str, Any]] = []
    counts = dict.fromkeys(config.kinds, 0)
    rows = [row for row in drawn.tolist() if by_prompt[prompts[row]]][: round(config.share * len(once))]
    for row in rows:
        prompt = prompts[row]
        kind = next(turns[prompt])
        generator = np.random.default_rng([config.seed, zlib.crc32(kind.encode()), row])
        text = perturb(kind, texts[row], generator, materials[prompt])
        if text.strip() == texts[row].strip():
            continue
        for place in rows_of[ids[row]]:
            score = deserved_score(kind, float(scores[place]), train.prompts[scales[place]].range, config.penalty)
            copy = {"essay_id": f"{ids[row]} {kind}", "prompt_id": scales[place], "text": text, "score": score}
            copies.append(copy)
        counts[kind] += 1
    if not copies:
        raise DataError(
            f"data.augmentation: a share of {config.share:g} of {len(once)} training essays gives no changed copy. "
            "Raise data.augmentation.share, or set data.augmentation to null."
        )
    changed = sum(counts.values())
    unchanged = len(rows) - changed
    made = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    left = f" {unchanged} drawn essays had nothing to change." if unchanged else ""
    notes.append(
        f"{changed} changed copies of training essays were learned from, too (data.augmentation): {made}.{left}"
    )
    table = EssayTable(Dataset.from_list(copies, features=_FEATURES), train.prompts)
    return Augmentation(table, counts, unchanged, tuple(notes))


def deserved_score(kind: str, score: float, score_range: ScoreRange, penalty: int) -> float:
    """The score that an essay deserves once it is changed.

    Args:
        kind: One of `PERTURBATIONS` whose effect is known, see `AugmentationConfig`.
        score: The essay's own score.
        score_range: The prompt's score points.
        penalty: Score points off for a change that must not raise a score; the lowest is the floor.
    """
    perturbation = PERTURBATIONS[kind]
    if perturbation.worthless:
        return score_range.low
    lowered = penalty if perturbation.expected == "not_rise" else 0
    return float(score_range.to_point(score - lowered * score_range.step))
