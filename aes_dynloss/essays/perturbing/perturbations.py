"""Changes to an essay of which one knows what they should do to its score: by name, seeded, and pure.

References:
    Powers, Burstein, Chodorow, Fowles and Kukich (2002), Stumping e-rater: challenging the validity of automated essay
    scoring. Perelman (2014), When "the state of the art" is counting words. Kabra, Bhatia, Singla, Li and Shah (2022),
    Evaluation toolkit for robustness testing of automatic essay scoring systems.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.perturbing.rewriting import (
    SONGS,
    SPEECHES,
    babble,
    drawn,
    key_words,
    misspelt,
    paragraphs_of,
    random_letters,
    sentences_of,
    with_contractions_changed,
    with_other_spaces,
    with_synonyms,
    without_third,
    words_of,
)

TYPO_SHARE = 0.2
# Part of the essay's sentences that are repeated, or that off-topic ones add.
_ADDED_SHARE = 1 / 3

Expected = Literal["fall", "not_rise", "stay"]


@dataclass(frozen=True)
class Material:
    """What some perturbations need beside the essay.

    Args:
        prompt_text: The words of the prompt that the essay answers, where they are known.
        others: Essays to other prompts.
    """

    prompt_text: str | None = None
    others: Sequence[str] = ()


Make = Callable[[str, np.random.Generator, Material], str]


@dataclass(frozen=True)
class Perturbation:
    """One kind of change.

    Args:
        title: What it does, in words for a table.
        expected: What the score should do. fall: less is there to score. not_rise: nothing was added that deserves a
            point. stay: a reader finds the same essay.
        make: The changed text, from the text, the source of chance and the material.
        needs: What material it cannot do without.
        worthless: Whether nothing is left that deserves more than the prompt's lowest score.
    """

    title: str
    expected: Expected
    make: Make
    needs: Literal["prompt_text", "others"] | None = None
    worthless: bool = False


def perturb(kind: str, text: str, generator: np.random.Generator, material: Material) -> str:
    """Change an essay.

    Args:
        kind: One of `PERTURBATIONS`.
        text: The essay; any text will do.
        generator: Source of chance; the same state gives the same text.
        material: What the kind may need beside the essay.

    Returns:
        The changed essay, which is not blank unless the essay is; the same one where there is nothing to change, such
        as sentences to shuffle in an essay of one word.

    Raises:
        ConfigError: There is no such kind.
        DataError: The kind needs material that is not there.
    """
    check_kinds([kind])
    perturbation = PERTURBATIONS[kind]
    if not has_material(kind, material):
        wanted = "the prompt's text" if perturbation.needs == "prompt_text" else "an essay to another prompt"
        raise DataError(f"The perturbation {kind} needs {wanted}, and there is none. Give it, or leave the kind out.")
    return perturbation.make(text, generator, material)


def has_material(kind: str, material: Material) -> bool:
    """Whether the material holds what a kind of `PERTURBATIONS` needs."""
    needs = PERTURBATIONS[kind].needs
    if needs == "prompt_text":
        return material.prompt_text is not None and bool(material.prompt_text.strip())
    return needs is None or any(other.strip() for other in material.others)


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse names that are no kind.

    Raises:
        ConfigError: Naming the first, and the nearest known.
    """
    for kind in kinds:
        if kind not in PERTURBATIONS:
            near = difflib.get_close_matches(kind, PERTURBATIONS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"There is no perturbation {kind!r}.{hint} Known are {', '.join(PERTURBATIONS)}.")


def _off_topic(text: str, generator: np.random.Generator, material: Material) -> str:  # noqa: ARG001
    """One of the other essays, from a place drawn on the first that is not blank."""
    start = int(generator.integers(len(material.others)))
    return next(other for other in (*material.others[start:], *material.others[:start]) if other.strip())


def _append_off_topic(text: str, generator: np.random.Generator, material: Material) -> str:
    other = sentences_of(_off_topic(text, generator, material))
    count = min(len(other), _part(len(sentences_of(text))))
    start = int(generator.integers(len(other) - count + 1))
    return _joined(text, other.between(start, start + count))


def _repeat_paragraph(text: str, generator: np.random.Generator, _: Material) -> str:
    """A paragraph three times more at the end; of a single paragraph, a third of its sentences."""
    parts, count = paragraphs_of(text), 1
    if len(parts) == 1:
        parts = sentences_of(text)
        count = _part(len(parts))
    start = int(generator.integers(len(parts) - count + 1))
    repeated = parts.between(start, start + count)
    return "\n\n".join([text.rstrip(), repeated, repeated, repeated])


def _repeat_sentences(text: str, generator: np.random.Generator, _: Material) -> str:
    sentences = sentences_of(text)
    pieces = list(sentences.pieces)
    for index in generator.choice(len(pieces), _part(len(pieces)), replace=False):
        pieces[index] = f"{pieces[index]} {pieces[index]}"
    return sentences.text(pieces)


def _put_in(passages: Sequence[str], text: str, generator: np.random.Generator, _: Material) -> str:
    """One of the passages in front of the essay, behind it, or between two of its sentences."""
    passage = drawn(passages, generator)
    sentences = sentences_of(text)
    position = int(generator.integers(len(sentences) + 1))
    parts = (sentences.between(0, position), passage, sentences.between(position, len(sentences)))
    return " ".join(part for part in parts if part)


def _part(count: int) -> int:
    return max(1, round(_ADDED_SHARE * count))


def _joined(text: str, addition: str) -> str:
    return f"{text.rstrip()} {addition.strip()}".strip()


PERTURBATIONS: dict[str, Perturbation] = {
    "off_topic": Perturbation("another prompt's essay", "fall", _off_topic, "others", worthless=True),
    "babble": Perturbation(
        "fluent nonsense",
        "fall",
        lambda text, generator, _: babble(len(words_of(text)), key_words(text), generator),
        worthless=True,
    ),
    "random_letters": Perturbation(
        "random letters",
        "fall",
        lambda text, generator, _: random_letters(len(words_of(text)), generator),
        worthless=True,
    ),
    "copy_prompt": Perturbation(
        "the prompt's text instead",
        "fall",
        lambda _text, _generator, material: material.prompt_text or "",
        "prompt_text",
        worthless=True,
    ),
    "shuffle_words": Perturbation(
        "words shuffled", "fall", lambda text, generator, _: words_of(text).shuffled(generator), worthless=True
    ),
    "delete_first": Perturbation("first third deleted", "fall", lambda text, *_: without_third(text, 0)),
    "delete_middle": Perturbation("middle third deleted", "fall", lambda text, *_: without_third(text, 1)),
    "delete_last": Perturbation("last third deleted", "fall", lambda text, *_: without_third(text, 2)),
    "append_off_topic": Perturbation("sentences off topic added", "not_rise", _append_off_topic, "others"),
    "append_prompt": Perturbation(
        "the prompt's text added",
        "not_rise",
        lambda text, _, material: _joined(text, material.prompt_text or ""),
        "prompt_text",
    ),
    "repeat_essay": Perturbation("the essay twice", "not_rise", lambda text, *_: f"{text.rstrip()}\n\n{text.lstrip()}"),
    "repeat_paragraph": Perturbation("a paragraph three times more", "not_rise", _repeat_paragraph),
    "repeat_sentences": Perturbation("a third of sentences twice", "not_rise", _repeat_sentences),
    "shuffle_sentences": Perturbation(
        "sentences shuffled", "not_rise", lambda text, generator, _: sentences_of(text).shuffled(generator)
    ),
    "add_song": Perturbation("lines of a song put in", "not_rise", partial(_put_in, SONGS)),
    "add_speech": Perturbation("lines of a speech put in", "not_rise", partial(_put_in, SPEECHES)),
    "typos": Perturbation(
        "a slip in every fifth word", "not_rise", lambda text, generator, _: misspelt(text, TYPO_SHARE, generator)
    ),
    "synonyms": Perturbation("synonyms", "stay", lambda text, *_: with_synonyms(text)),
    "contractions": Perturbation("contractions written out", "stay", lambda text, *_: with_contractions_changed(text)),
    "capitals": Perturbation("all in capitals", "stay", lambda text, *_: text.upper()),
    "spaces": Perturbation("other spaces after stops", "stay", lambda text, *_: with_other_spaces(text)),
}
