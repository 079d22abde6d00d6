"""Kinds of advisories, their reasons, and the policy: advise, withhold the score, or off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.data_config import TextKind

Action = Literal["advise", "withhold", "off"]


@dataclass(frozen=True)
class Kind:
    """One kind of advisory.

    Args:
        title: What it finds, in words for a table.
        default: What follows from it unless one says otherwise: advise keeps the score, withhold leaves it out.
        reason: Template of the reason, for a teacher. It may hold ``{value}``, what was measured, ``{threshold}``, and
            ``{other}``, another essay in words.
    """

    title: str
    default: Action
    reason: str


@dataclass(frozen=True)
class Advisory:
    """Why the score of one essay should be looked at, or not be given.

    Args:
        kind: One of `KINDS`.
        reason: In words, with the numbers.
        value: What was measured.
        threshold: What the value is beyond.
    """

    kind: str
    reason: str
    value: float
    threshold: float


KINDS: dict[str, Kind] = {
    "empty": Kind("no words", "withhold", "The essay has no words."),
    "too_short": Kind(
        "far shorter than the training essays",
        "advise",
        "It has {value:,.0f} words. Nearly all essays that the model learned from have {threshold:,.0f} or more.",
    ),
    "too_long": Kind(
        "far longer than the training essays",
        "advise",
        "It has {value:,.0f} words. Nearly all essays that the model learned from have {threshold:,.0f} or fewer.",
    ),
    "repetition": Kind(
        "the same words over and over",
        "withhold",
        "{value:.0%} of its runs of four words stand there more than once; in nearly all essays that the model learned "
        "from it is {threshold:.0%} or less.",
    ),
    "gibberish": Kind(
        "words that do not go together",
        "withhold",
        "{value:.0%} of its neighbouring words are known to go together; in nearly all essays that the model learned "
        "from it is {threshold:.0%} or more. It may be random letters or words, or nothing like those essays.",
    ),
    "copied_prompt": Kind(
        "mostly the prompt's own words",
        "withhold",
        "{value:.0%} of its runs of four words stand in the prompt, or in so many essays on it that they must come "
        "from there; in nearly all essays it is {threshold:.0%} or less.",
    ),
    "off_topic": Kind(
        "about something else than the prompt",
        "withhold",
        "Its words are not those of essays on this prompt: by their words the essay fits it by {value:.2f} (below 0: "
        "something else fits better); nearly all essays that the model learned from reach {threshold:.2f}.",
    ),
    "other_language": Kind(
        "another language than the training essays'",
        "withhold",
        "It is not in the language of the essays that the model learned from: {value:.0%} of its words are everyday "
        "words of another language or in another alphabet; in nearly all of those essays it is {threshold:.0%} or "
        "less.",
    ),
    "hidden_characters": Kind(
        "characters that a reader does not see",
        "withhold",
        "It holds {value:,.0f} characters or words that a reader does not see as they are (invisible characters, "
        "reversed text, letters of one alphabet disguised as another's); {threshold:,.0f} at most are let pass.",
    ),
    "prompt_injection": Kind(
        "words to a machine that scores",
        "withhold",
        "It seems to speak to a machine that scores it, such as to ask for a score: {value:,.0f} such passages.",
    ),
    "duplicate": Kind(
        "the same text as an earlier essay's",
        "advise",
        "It is the same text as {other}, but for case, spaces, punctuation and digits.",
    ),
    "unseen_prompt": Kind(
        "on a prompt that the model was not trained on",
        "advise",
        "The model has learned from essays on other prompts ({value:,.0f} of them), and from none on this one with a "
        "human score. Its scores may lie too high or too low as a whole.",
    ),
    "unlike_training": Kind(
        "unlike all training essays",
        "withhold",
        "To the model it is unlike the essays that it learned from: it is {value:.1f} times as far from them as nearly "
        "all such essays are.",
    ),
}


# What follows from advisories on short answers, where it is not the default. Words that are rare in answers to the
# question, or the question's own, make a wrong answer, which has a score; a short one may be right, and two the same.
OF_ANSWERS: Mapping[str, Action] = {
    "too_short": "off",
    "repetition": "advise",
    "gibberish": "advise",
    "copied_prompt": "advise",
    "off_topic": "advise",
    "duplicate": "off",
}


def advisory(
    kind: str, value: float, threshold: float, other: str = "an earlier essay", texts: TextKind = "essays"
) -> Advisory:
    """An advisory with its reason.

    Args:
        kind: One of `KINDS`.
        value: What was measured.
        threshold: What the value is beyond.
        other: Another essay that the reason speaks of, in words.
        texts: What the reason calls the texts.
    """
    reason = KINDS[kind].reason.format(value=value, threshold=threshold, other=other)
    if texts == "answers":
        reason = reason.replace("essay", "answer")
    return Advisory(kind, reason, value, threshold)


def _action(kind: str) -> Action:
    default: Action = Field(
        default=KINDS[kind].default, description=f"For essays that are found to be: {KINDS[kind].title}."
    )
    return default


class Policy(ConfigModel):
    """For each kind of advisory: advise (the score stays), withhold (there is none), or off.

    Example:
        >>> policy = Policy(gibberish="withhold")
        >>> policy.too_short, policy.of("answers").too_short, policy.of("answers").gibberish
        ('advise', 'off', 'withhold')
    """

    empty: Action = _action("empty")
    too_short: Action = _action("too_short")
    too_long: Action = _action("too_long")
    repetition: Action = _action("repetition")
    gibberish: Action = _action("gibberish")
    copied_prompt: Action = _action("copied_prompt")
    off_topic: Action = _action("off_topic")
    other_language: Action = _action("other_language")
    hidden_characters: Action = _action("hidden_characters")
    prompt_injection: Action = _action("prompt_injection")
    duplicate: Action = _action("duplicate")
    unseen_prompt: Action = _action("unseen_prompt")
    unlike_training: Action = _action("unlike_training")

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Policy:
        """A policy from words such as ``off_topic=withhold``.

        Args:
            words: Kinds that are not to be as they are by default; the last word on a kind counts.

        Raises:
            ConfigError: A word is not of this form, or names a kind or an action that does not exist.
        """
        values = {}
        for word in words:
            kind, equals, action = word.partition("=")
            if not equals or not kind.strip():
                raise ConfigError(f"Policy {word!r}: expected KIND=ACTION, such as off_topic=advise.")
            values[kind.strip()] = action.strip()
        return validate(cls, values, "The policy of advisories")

    def of(self, texts: TextKind) -> Policy:
        """The policy for a kind of texts: actions that nobody chose are this kind's own."""
        if texts == "essays":
            return self
        return self.model_copy(
            update={kind: own for kind, own in OF_ANSWERS.items() if kind not in self.model_fields_set}
        )

    def action(self, kind: str) -> Action:
        """What follows from a kind of `KINDS`."""
        action: Action = getattr(self, kind)
        return action

    def active(self, advisories: Sequence[Advisory]) -> tuple[Advisory, ...]:
        """Those whose kind is not off."""
        return tuple(one for one in advisories if self.action(one.kind) != "off")

    def withholds(self, advisories: Sequence[Advisory]) -> bool:
        """Whether an essay with these gets no score."""
        return any(self.action(one.kind) == "withhold" for one in advisories)
