"""What the essays of each prompt may be mixed with, when they are changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aes_dynloss.essays.data.readers import iterate_unscored
from aes_dynloss.essays.perturbations import PERTURBATIONS, Material, has_material
from aes_dynloss.essays.samples import ESSAYS

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
    answers, notes = dict(by_prompt), []
    if len(by_prompt) == 1:
        notes.append(BUNDLED_OTHERS)
        for essay in iterate_unscored(str(ESSAYS)):
            if essay.prompt_id not in by_prompt:
                answers.setdefault(str(essay.prompt_id), []).append(essay.text)
    materials = {}
    for prompt in by_prompt:
        others = [text for other, found in answers.items() if other != prompt for text in found]
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
    able = {kind: [prompt for prompt, own in materials.items() if has_material(kind, own)] for kind in kinds}
    lacking = {}
    for kind, prompts in able.items():
        without = [prompt for prompt in materials if prompt not in prompts]
        needs = PERTURBATIONS[kind].needs
        if without and needs is not None:
            lacking[kind] = f"for want of {_LACKING[needs]}: prompt {', '.join(without)}"
    return able, lacking
