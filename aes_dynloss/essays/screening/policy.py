"""What follows from an advisory: the score is kept, withheld, or the kind is not looked at."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.screening.kinds import KINDS, Action, Advisory


def _action(kind: str) -> Action:
    default: Action = Field(
        default=KINDS[kind].default, description=f"For essays that are found to be: {KINDS[kind].title}."
    )
    return default


class Policy(ConfigModel):
    """For each kind of advisory: advise (the score stays), withhold (there is none), or off."""

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

    def action(self, kind: str) -> Action:
        """What follows from a kind of `KINDS`."""
        action: Action = getattr(self, kind)
        return action

    def looked_at(self, advisories: Sequence[Advisory]) -> tuple[Advisory, ...]:
        """Those whose kind is not off."""
        return tuple(found for found in advisories if self.action(found.kind) != "off")

    def withholds(self, advisories: Sequence[Advisory]) -> bool:
        """Whether an essay with these gets no score."""
        return any(self.action(found.kind) == "withhold" for found in advisories)
