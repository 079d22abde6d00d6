"""Requests and responses of the service, as OpenAPI documents them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, Strict, model_validator

# Of examples.
ESSAY_TEXT = "Dear editor, I think that pupils should keep their phones because they may need them on the way home."


class _Asked(BaseModel):
    # A client's mistake is told without what it sent: that may be an essay.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_key(cls, values: Any) -> Any:  # noqa: ANN401 - whatever the client sent
        """Keep the first unknown key alone: an error is built for each, and a body has room for a great many."""
        if not isinstance(values, dict):
            return values
        unknown = next((key for key in values if key not in cls.model_fields), None)
        return {key: value for key, value in values.items() if key in cls.model_fields or key == unknown}


def _said(description: str, *examples: Any) -> Any:  # noqa: ANN401 - a pydantic field and its examples
    return Field(description=description, examples=list(examples))


def _maybe(description: str, *examples: Any) -> Any:  # noqa: ANN401 - as above
    return Field(default=None, description=description, examples=list(examples))


class EssayToScore(_Asked):
    """One essay."""

    essay_id: str | None = Field(
        default=None,
        description="Comes back with the score; by default the essay's number in the request, from 1.",
        examples=["17"],
    )
    prompt_id: str | None = Field(
        default=None,
        description="The prompt that the essay answers; may be left out if the model knows one only.",
        examples=["phones"],
    )
    text: str = Field(description="The essay's words.", examples=[ESSAY_TEXT])
    features: dict[str, Annotated[float, Strict()]] = Field(
        default={},
        description="Numbers by name that the model sees beside the text, if it was trained with any.",
        examples=[{"age": 12}],
    )


class ScoreRequest(_Asked):
    """Essays to score."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"essays": [{"essay_id": "17", "prompt_id": "phones", "text": ESSAY_TEXT}]}]}
    )

    # Validation ends at the first faulty essay.
    essays: Annotated[list[EssayToScore], FailFast()] = Field(min_length=1, description="One essay or several.")


class ScoredEssay(BaseModel):
    """The score of one essay. What the model cannot tell is left out.

    With several traits, NAME, NAME_raw, NAME_low, NAME_high, NAME_certainty of each stand for score, raw, and so on.
    """

    model_config = ConfigDict(extra="allow")

    essay_id: str = _said("As it was sent, or the essay's number.", "17")
    prompt_id: str = _said("The prompt that the essay answers.", "phones")
    raw: float | None = _maybe("Continuous prediction, neither rescaled nor trimmed.", 3.2)
    score: float | None = _maybe("Score point in the prompt's range; null if it is withheld.", 3.0)
    reported: float | None = _maybe("The score on the reported scale, where the model has one.", 40.0)
    low: float | None = _maybe("Lower end of the prediction interval; null if unknown.", 2.0)
    high: float | None = _maybe("Upper end of the prediction interval; null if unknown.", 4.0)
    certainty: float | None = _maybe("Chance that a human gives the same score.", 0.6)
    probabilities: dict[str, float] | None = _maybe("Of each score point.", {"2": 0.2, "3": 0.6, "4": 0.2})
    withheld: bool | None = _maybe("Whether the advisories forbid a score.", False)
    advisories: list[str] | None = _maybe("Kinds of reasons to look at the score, or not to give it.", ["too_short"])
    reasons: list[str] | None = _maybe("The same in sentences.", ["It has 19 words. Nearly all essays have 80."])
    dropped_tokens: int | None = _maybe("Tokens that the model's cap cut off.", 0)


class ScoreResponse(BaseModel):
    """The scores of a request's essays, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "scores": [
                        {
                            "essay_id": "17",
                            "prompt_id": "phones",
                            "raw": 3.2,
                            "score": 3.0,
                            "low": 2.0,
                            "high": 4.0,
                            "certainty": 0.6,
                            "withheld": False,
                            "advisories": [],
                            "reasons": [],
                        }
                    ]
                }
            ]
        }
    )

    scores: list[ScoredEssay] = Field(description="One row an essay.")


class Sentence(BaseModel):
    """A part of an essay; together they are the essay."""

    start: int = _said("Its first character, in code points of the text from 0.", 0)
    end: int = _said("Behind its last one.", len(ESSAY_TEXT))
    text: str = _said("What stands there.", ESSAY_TEXT)


class ExplainedScore(BaseModel):
    """Why an essay got one score; see aes-dynloss explain."""

    model_config = ConfigDict(extra="allow")

    trait: str | None = _maybe("The trait; null where essays have one score.", "content")
    raw: float = _said("Continuous prediction, neither rescaled nor trimmed.", 3.2)
    score: float = _said("Score point in the prompt's range.", 3.0)
    reported: float | None = _maybe("The score on the reported scale, where the model has one.", 40.0)
    contributions: list[float] = _said("What each sentence adds to raw, in score points.", [0.4])
    left_out: list[float] = _said("What raw loses without each sentence.", [0.4])
    features: dict[str, Any] | None = _said(
        "What groups of features add to a baseline; null if unknown.",
        {"baseline": 3.1, "groups": {"encoder": 0.2, "length": -0.1}},
    )
    next_point: dict[str, Any] | None = _said(
        "How far it is to the next score point.", {"score": 4, "distance": 0.3, "moves": []}
    )


class ExplainedEssay(BaseModel):
    """Why an essay got its scores."""

    model_config = ConfigDict(extra="allow")

    essay_id: str = _said("As it was sent, or the essay's number.", "17")
    prompt_id: str = _said("The prompt that the essay answers.", "phones")
    withheld: bool = _said("Whether the advisories forbid a score.", False)
    sentences: list[Sentence] = Field(description="The essay's sentences, in order.")
    scores: list[ExplainedScore] = Field(description="One, or one of each trait; none if the score is withheld.")


class ExplainResponse(BaseModel):
    """The explanations of a request's essays, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "explanations": [
                        {
                            "essay_id": "17",
                            "prompt_id": "phones",
                            "withheld": False,
                            "sentences": [{"start": 0, "end": len(ESSAY_TEXT), "text": ESSAY_TEXT}],
                            "scores": [
                                {
                                    "trait": None,
                                    "raw": 3.2,
                                    "score": 3,
                                    "contributions": [0.4],
                                    "left_out": [0.4],
                                    "features": {"baseline": 3.1, "groups": {"encoder": 0.2, "length": -0.1}},
                                    "next_point": {"score": 4, "distance": 0.3, "moves": []},
                                }
                            ],
                        }
                    ]
                }
            ]
        }
    )

    explanations: list[ExplainedEssay] = Field(description="One explanation an essay.")


_LOW, _HIGH = "Lowest score point.", "Highest score point."
_STEP, _LEVELS = "Distance of neighbouring score points.", "The rubric's words for score points."
_WORDS = {"1": "no position", "6": "a convincing position"}


class KnownScale(BaseModel):
    """Score points."""

    low: float = _said(_LOW, 1.0)
    high: float = _said(_HIGH, 6.0)
    step: float = _said(_STEP, 1.0)
    levels: dict[str, str] = Field(default={}, description=_LEVELS, examples=[_WORDS])


class KnownPrompt(BaseModel):
    """A prompt that the model scores; with several traits each has score points of its own."""

    prompt_id: str = _said("Its id.", "phones")
    low: float | None = _maybe(_LOW, 1.0)
    high: float | None = _maybe(_HIGH, 6.0)
    step: float | None = _maybe(_STEP, 1.0)
    text: str | None = _maybe("The prompt's own words, where the model holds them.", "Should phones be allowed?")
    levels: dict[str, str] = Field(default={}, description=_LEVELS, examples=[_WORDS])
    traits: dict[str, KnownScale] = Field(default={}, description="Score points of several traits, by trait.")


class Health(BaseModel):
    """The server, its model and its limits."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "model": "model",
                    "version": "0.1.0",
                    "prompts": [{"prompt_id": "phones", "low": 1, "high": 6, "step": 1, "text": None}],
                    "features": [],
                    "coverage": 0.9,
                    "waiting": 0,
                    "max_essays": 256,
                    "max_characters": 100_000,
                    "max_body": 2_097_152,
                    "max_table_rows": 5_000,
                    "max_table_body": 16_777_216,
                }
            ]
        }
    )

    status: Literal["ok"] = Field(default="ok", description="That the server answers.", examples=["ok"])
    model: str = _said("Name of the model's folder.", "spring/model")
    version: str = _said("Version of aes-dynloss.", "0.1.0")
    prompts: list[KnownPrompt] = Field(description="The prompts that are scored.")
    features: list[str] = _said("Numbers beside the text that each essay must come with.", ["age"])
    coverage: float = _said("Part of essays whose human score lies from low to high.", 0.9)
    waiting: int = _said("Essays that wait to be scored.", 0)
    max_essays: int = _said("Essays of one request, at most.", 256)
    max_characters: int = _said("Characters of one essay, at most.", 100_000)
    max_body: int = _said("Bytes of one request's body, at most.", 2_097_152)
    max_table_rows: int = _said("Essays of one table, at most.", 5_000)
    max_table_body: int = _said("Bytes of one table, at most.", 16_777_216)


class Alive(BaseModel):
    """The server works."""

    status: Literal["alive"] = Field(default="alive", description="That it works.", examples=["alive"])


class Ready(BaseModel):
    """Essays are taken."""

    status: Literal["ready"] = Field(default="ready", description="That essays are taken.", examples=["ready"])


class Fault(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"detail": "essays[0].text is missing."}]})

    detail: str = _said("One sentence; on a table that cannot be read, a few.", "essays[0].text is missing.")
