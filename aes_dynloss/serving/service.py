"""The scorer as clients ask it: checks of what they send, rows of scores and explanations as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from aes_dynloss.essays.data.essay_table import LARGEST_FEATURE
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import explain_essays
from aes_dynloss.essays.model.protocol import Scorer, known_prompts
from aes_dynloss.essays.scoring.audit import ScoreAudit
from aes_dynloss.essays.scoring.score import score_essays
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.messages import EssayToScore, KnownPrompt, KnownScale
from aes_dynloss.serving.requests import RefusalError, shortened

Row = dict[str, Any]

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
        audit: Where each score is logged before it is answered.
    """

    scorer: Scorer
    name: str
    coverage: float
    limits: Limits
    policy: Policy = POLICY
    audit: ScoreAudit | None = None

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
        windows = windows if self.audit is None else self.audit.told(windows)
        return [row for window in windows for row in column_rows(window.columns)]

    def explanations(self, essays: Sequence[UnscoredEssay]) -> list[Row]:
        """One explanation an essay, in order, without training essays; of a withheld score nothing is explained."""
        explained = explain_essays(self.scorer, essays, coverage=self.coverage, policy=self.policy, nearest=False)
        rows = [_plain(one.to_dict()) for one in explained]
        if self.audit is not None:
            self.audit.tell([_explained(self.audit, *each) for each in zip(essays, rows, strict=True)])
        # What sentences add would tell the score.
        return [row | {"scores": []} if row["withheld"] else row for row in rows]

    def known_prompts(self) -> list[KnownPrompt]:
        """The prompts that can be scored."""
        known: dict[str, KnownPrompt] = {}
        for prompt in self.scorer.prompts.values():
            scale = {**asdict(prompt.range), "levels": dict(prompt.levels)}
            if prompt.trait is None:
                known[prompt.id] = KnownPrompt(prompt_id=prompt.id, text=prompt.text, **scale)
            else:
                whole = known.setdefault(prompt.prompt_id, KnownPrompt(prompt_id=prompt.prompt_id, text=prompt.text))
                whole.traits[prompt.trait] = KnownScale(**scale)
        return list(known.values())

    def checked_to_explain(self, essays: Sequence[EssayToScore]) -> list[UnscoredEssay]:
        """A request's essays as the scorer takes them, of which fewer and shorter ones are explained than scored.

        Raises:
            RefusalError: They are too many or too long (413), or one of them cannot be scored (422).
        """
        limits = self.limits
        fewer = min(limits.max_essays, limits.max_explained)
        shorter = min(limits.max_characters, limits.max_explained_characters)
        service = replace(self, limits=limits.model_copy(update={"max_essays": fewer, "max_characters": shorter}))
        return service.checked(essays)

    def checked(self, essays: Sequence[EssayToScore]) -> list[UnscoredEssay]:
        """A request's essays as the scorer takes them.

        Raises:
            RefusalError: They are too many or too long (413), or one of them cannot be scored (422).
        """
        limits = self.limits
        if len(essays) > limits.max_essays:
            raise RefusalError(413, f"The request holds {len(essays)} essays; {limits.max_essays} at most are taken.")
        checked = []
        for index, essay in enumerate(essays):
            essay_id = str(index + 1) if essay.essay_id is None else essay.essay_id
            given = UnscoredEssay(essay_id, essay.prompt_id, essay.text, essay.features)
            checked.append(self.checked_essay(given, f"essays[{index}]."))
        return checked

    def checked_essay(self, essay: UnscoredEssay, path: str) -> UnscoredEssay:
        """An essay as the scorer takes it.

        Args:
            essay: The essay as it came.
            path: Where it stood, with which messages begin.

        Raises:
            RefusalError: It is too long (413), or cannot be scored (422).
        """
        limits, known = self.limits, known_prompts(self.scorer)
        names = ", ".join(known)
        if len(essay.text) > limits.max_characters:
            raise RefusalError(
                413, f"{path}text has {len(essay.text)} characters; {limits.max_characters} at most are taken."
            )
        if essay.prompt_id is None and len(known) > 1:
            raise RefusalError(422, f"{path}prompt_id is missing; the model knows {names}.")
        if essay.prompt_id is not None and essay.prompt_id not in known:
            raise RefusalError(
                422, f"{path}prompt_id {shortened(essay.prompt_id)!r} is not known to the model, which knows {names}."
            )
        for name in self.scorer.own_features:
            if name not in essay.features:
                raise RefusalError(422, f"{path}features lacks a number for {name!r}, which the model needs.")
            if not abs(essay.features[name]) <= LARGEST_FEATURE:  # NaN, too
                bounds = f"from {-LARGEST_FEATURE:g} to {LARGEST_FEATURE:g}"
                raise RefusalError(422, f"{path}features.{shortened(name)} must be a number {bounds}.")
        return essay._replace(prompt_id=known[0] if essay.prompt_id is None else essay.prompt_id)


def _explained(audit: ScoreAudit, essay: UnscoredEssay, row: Row) -> Row:
    """What the log says of an explanation: the scores that it tells."""
    scores = {
        one["trait"] or "score": {name: one[name] for name in ("raw", "score", "low", "high", "reported")}
        for one in row["scores"]
    }
    entry = audit.entry("explain", essay, {} if row["withheld"] else scores, row["withheld"], [])
    return entry | {"reasons": row["advisories"]}


def column_rows(columns: Mapping[str, Sequence[object]]) -> list[Row]:
    """The rows of some columns of one length, whatever their names; what is no finite number is None."""
    return [
        {name: _plain(value) for name, value in zip(columns, values, strict=True)}
        for values in zip(*columns.values(), strict=True)
    ]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of JSON
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
