"""From a request's essays to what the model says of them, as plain values of JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.score import score_essays
from aes_dynloss.essays.screening.policy import Policy
from aes_dynloss.serving.batching import Row
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.messages import EssayToScore, KnownPrompt
from aes_dynloss.serving.refusals import RefusalError, shortened

# What follows from advisories. Essays of several clients are scored side by side, so that no kind may be looked at that
# holds an essay against the others of its window.
POLICY = Policy(duplicate="off")


@dataclass(frozen=True)
class EssayService:
    """A scorer, and how it is asked.

    Args:
        scorer: The scorer.
        name: What the model is called.
        coverage: Stated coverage of the prediction intervals, between 0 and 1.
        limits: What one client may ask for.
        policy: What follows from advisories, the same for all clients; duplicates are never looked for.
    """

    scorer: Scorer
    name: str
    coverage: float
    limits: Limits
    policy: Policy = POLICY

    def rows(self, essays: Sequence[UnscoredEssay]) -> list[Row]:
        """One row an essay, in order; no forward call is given more essays than the limits say."""
        windows = score_essays(
            self.scorer,
            essays,
            coverage=self.coverage,
            policy=self.policy.model_copy(update={"duplicate": "off"}),
            window=self.limits.batch_size,
            progress=None,
            warn=False,
        )
        return [row for window in windows for row in column_rows(window.columns)]

    def known_prompts(self) -> list[KnownPrompt]:
        """The prompts that can be scored."""
        return [
            KnownPrompt(
                prompt_id=prompt.id,
                low=prompt.range.low,
                high=prompt.range.high,
                step=prompt.range.step,
                text=prompt.text,
            )
            for prompt in self.scorer.prompts.values()
        ]

    def checked(self, essays: Sequence[EssayToScore]) -> list[UnscoredEssay]:
        """A request's essays as the scorer takes them.

        Raises:
            RefusalError: They are too many or too long (413), or one of them cannot be scored (422).
        """
        limits, known = self.limits, list(self.scorer.prompts)
        if len(essays) > limits.max_essays:
            raise RefusalError(413, f"The request holds {len(essays)} essays; {limits.max_essays} at most are taken.")
        found = []
        for place, essay in enumerate(essays):
            where = f"essays[{place}]"
            if len(essay.text) > limits.max_characters:
                raise RefusalError(
                    413,
                    f"{where}.text has {len(essay.text)} characters; {limits.max_characters} at most are taken.",
                )
            essay_id = str(place + 1) if essay.essay_id is None else essay.essay_id
            found.append(UnscoredEssay(essay_id, _prompt(essay.prompt_id, known, where), essay.text))
        return found


def column_rows(columns: Mapping[str, Sequence[object]]) -> list[Row]:
    """The rows of some columns of one length, whatever their names; what is no finite number is None."""
    return [
        {name: _plain(value) for name, value in zip(columns, values, strict=True)}
        for values in zip(*columns.values(), strict=True)
    ]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prompt(prompt_id: str | None, known: Sequence[str], where: str) -> str:
    if prompt_id in known:
        return str(prompt_id)
    names = ", ".join(known)
    if prompt_id is not None:
        raise RefusalError(
            422, f"{where}.prompt_id {shortened(prompt_id)!r} is not known to the model, which knows {names}."
        )
    if len(known) > 1:
        raise RefusalError(422, f"{where}.prompt_id is missing; the model knows {names}.")
    return known[0]
