"""Requests and responses of the service, as OpenAPI documents them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, Strict, model_validator

_TEXT = "Dear editor, I think that pupils should keep their phones because they may need them on the way home."


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


class EssayToScore(_Asked):
    """One essay."""

    essay_id: str | None = Field(
        default=None, description="Comes back with the score; by default the essay's number in the request, from 1."
    )
    prompt_id: str | None = Field(
        default=None, description="The prompt that the essay answers; may be left out if the model knows one only."
    )
    text: str = Field(description="The essay's words.")
    features: dict[str, Annotated[float, Strict()]] = Field(
        default={}, description="Numbers by name that the model sees beside the text, if it was trained with any."
    )


class ScoreRequest(_Asked):
    """Essays to score."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"essays": [{"essay_id": "17", "prompt_id": "phones", "text": _TEXT}]}]}
    )

    # Validation ends at the first faulty essay.
    essays: Annotated[list[EssayToScore], FailFast()] = Field(min_length=1, description="One essay or several.")


class ScoredEssay(BaseModel):
    """The score of one essay. What the model cannot tell is left out.

    With several traits, NAME, NAME_raw, NAME_low, NAME_high, NAME_certainty of each stand for score, raw, and so on.
    """

    model_config = ConfigDict(extra="allow")

    essay_id: str
    prompt_id: str
    raw: float | None = Field(default=None, description="Continuous prediction, neither rescaled nor trimmed.")
    score: float | None = Field(default=None, description="Score point in the prompt's range; null if it is withheld.")
    low: float | None = Field(default=None, description="Lower end of the prediction interval; null if unknown.")
    high: float | None = Field(default=None, description="Upper end of the prediction interval; null if unknown.")
    certainty: float | None = Field(default=None, description="Chance that a human gives the same score.")
    probabilities: dict[str, float] | None = Field(default=None, description="Of each score point.")
    withheld: bool | None = Field(default=None, description="Whether the advisories forbid a score.")
    advisories: list[str] | None = Field(
        default=None, description="Kinds of reasons to look at the score, or not to give it."
    )
    reasons: list[str] | None = Field(default=None, description="The same in sentences.")
    dropped_tokens: int | None = Field(default=None, description="Tokens that the model's cap cut off.")


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

    scores: list[ScoredEssay]


class Sentence(BaseModel):
    """A part of an essay; together they are the essay."""

    start: int = Field(description="Its first character, in code points of the text from 0.")
    end: int = Field(description="Behind its last one.")
    text: str = Field(description="What stands there.")


class ExplainedScore(BaseModel):
    """Why an essay got one score; see aes-dynloss explain."""

    model_config = ConfigDict(extra="allow")

    trait: str | None = Field(default=None, description="The trait; null where essays have one score.")
    raw: float = Field(description="Continuous prediction, neither rescaled nor trimmed.")
    score: float = Field(description="Score point in the prompt's range.")
    contributions: list[float] = Field(description="What each sentence adds to raw, in score points.")
    left_out: list[float] = Field(description="What raw loses without each sentence.")
    features: dict[str, Any] | None = Field(description="What groups of features add to a baseline; null if unknown.")
    next_point: dict[str, Any] | None = Field(description="How far it is to the next score point.")


class ExplainedEssay(BaseModel):
    """Why an essay got its scores."""

    model_config = ConfigDict(extra="allow")

    essay_id: str
    prompt_id: str
    withheld: bool = Field(description="Whether the advisories forbid a score.")
    sentences: list[Sentence]
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
                            "sentences": [{"start": 0, "end": len(_TEXT), "text": _TEXT}],
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

    explanations: list[ExplainedEssay]


class KnownScale(BaseModel):
    """Score points."""

    low: float = Field(description="Lowest score point.")
    high: float = Field(description="Highest score point.")
    step: float = Field(description="Distance of neighbouring score points.")
    levels: dict[str, str] = Field(default={}, description="The rubric's words for score points.")


class KnownPrompt(BaseModel):
    """A prompt that the model scores; with several traits each has score points of its own."""

    prompt_id: str
    low: float | None = Field(default=None, description="Lowest score point.")
    high: float | None = Field(default=None, description="Highest score point.")
    step: float | None = Field(default=None, description="Distance of neighbouring score points.")
    text: str | None = Field(default=None, description="The prompt's own words, where the model holds them.")
    levels: dict[str, str] = Field(default={}, description="The rubric's words for score points.")
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
                }
            ]
        }
    )

    status: Literal["ok"] = "ok"
    model: str = Field(description="Name of the model's folder.")
    version: str = Field(description="Version of aes-dynloss.")
    prompts: list[KnownPrompt]
    features: list[str] = Field(description="Numbers beside the text that each essay must come with.")
    coverage: float = Field(description="Part of essays whose human score lies from low to high.")
    waiting: int = Field(description="Essays that wait to be scored.")
    max_essays: int = Field(description="Essays of one request, at most.")
    max_characters: int = Field(description="Characters of one essay, at most.")
    max_body: int = Field(description="Bytes of one request's body, at most.")


class Fault(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"detail": "essays[0].text is missing."}]})

    detail: str = Field(description="One sentence.")
