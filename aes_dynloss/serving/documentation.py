"""OpenAPI documentation: what FastAPI cannot see because the service reads bodies and writes answers itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from aes_dynloss.serving.messages import ESSAY_TEXT, Fault, ScoreRequest
from aes_dynloss.serving.metrics import UNCOUNTED
from aes_dynloss.serving.tables import READ_TYPES, WRITTEN_TYPES

_ABOUT = "Scores essays with one fine-tuned model. No essay is stored or logged."
_TAGS = [
    {"name": "scores", "description": "Essays in, scores or explanations out."},
    {"name": "server", "description": "The server's state, for people and for what watches it."},
]
_REF = "#/components/schemas/{model}"
# By status: what it means, and a message.
_FAULTS = {
    400: (
        "The body is no JSON, or the server was asked by another name.",
        "The body is not valid JSON.",
    ),
    408: ("The body came too slowly.", "The body did not arrive within 30 seconds."),
    413: ("Too many bytes, essays or characters.", "The request holds 300 essays; 256 at most are taken."),
    415: ("The body is not said to be of a type that is read.", "Send the body as JSON, with its Content-Type."),
    422: ("Something is missing, of the wrong type, or an unknown prompt.", "essays[0].text is missing."),
    500: ("The server failed.", "The server failed to score these essays."),
    501: ("Nothing is counted here.", UNCOUNTED),
    503: ("Not now: Retry-After says in how many seconds.", "1024 essays are waiting already; try again in 12 s."),
}


def faults(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of refusals, as a route's ``responses``.

    Args:
        statuses: Those that the route may answer.
    """
    return {
        status: {
            "model": Fault,
            "description": _FAULTS[status][0],
            "content": {"application/json": {"example": {"detail": _FAULTS[status][1]}}},
        }
        for status in statuses
    }


def _content(media_type: str, example: str | None) -> dict[str, Any]:
    """A table or text in a body; what is no text has no example."""
    if example is None:
        return {media_type: {"schema": {"type": "string", "contentMediaType": media_type}}}
    return {media_type: {"schema": {"type": "string"}, "example": example}}


_TABLES_IN = {
    ".csv": f'essay_id,prompt_id,text\n17,phones,"{ESSAY_TEXT}"\n',
    ".tsv": f"essay_id\tprompt_id\ttext\n17\tphones\t{ESSAY_TEXT}\n",
    ".jsonl": f'{{"essay_id": "17", "prompt_id": "phones", "text": "{ESSAY_TEXT}"}}\n',
}
_TABLES_OUT = {
    "csv": "essay_id,prompt_id,raw,score,low,high,certainty,withheld,advisories,reasons\n"
    "17,phones,3.2,3.0,2.0,4.0,0.6,false,,\n",
    "jsonl": '{"essay_id": "17", "prompt_id": "phones", "raw": 3.2, "score": 3.0, "low": 2.0, "high": 4.0, '
    '"certainty": 0.6, "withheld": false, "advisories": [], "reasons": []}\n',
}

ESSAYS_BODY = {
    "requestBody": {
        "description": "The essays.",
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model="ScoreRequest")}}},
    }
}
TABLE_BODY = {
    "requestBody": {
        "description": "A table with a column of essays, and of their prompts where the model knows several.",
        "required": True,
        "content": {
            name: part
            for media_type, suffix in READ_TYPES.items()
            for name, part in _content(media_type, _TABLES_IN.get(suffix)).items()
        },
    }
}
TABLE_ANSWER = {
    "description": "The table of scores, in the order of the rows.",
    "content": {
        name: part
        for form, media_type in WRITTEN_TYPES.items()
        for name, part in _content(media_type.partition(";")[0], _TABLES_OUT.get(form)).items()
    },
}
METRICS_ANSWER = {
    "description": "One count a line.",
    "content": _content("text/plain", 'aes_dynloss_requests_total{route="/score",status="200"} 12.0\n'),
}

_ID_DESCRIPTION = "Names the request in the server's log: up to 64 letters, digits, dots, hyphens and underscores."
_ID = {
    "description": _ID_DESCRIPTION,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "example": "7f3c2d60f1f84c1b",
}


class DocumentedApp(FastAPI):
    """An application whose documentation knows the bodies and headers that the service handles itself."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            schema = get_openapi(
                title=self.title, version=self.version, description=_ABOUT, tags=_TAGS, routes=self.routes
            )
            _, bodies = models_json_schema([(ScoreRequest, "validation")], ref_template=_REF)
            schema["components"]["schemas"] |= bodies["$defs"]
            for path in schema["paths"].values():
                for operation in path.values():
                    _add_request_id(operation)
            self.openapi_schema = schema
        return self.openapi_schema


def _add_request_id(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append({"name": "X-Request-ID", "in": "header", "required": False, **_ID})
    for response in operation["responses"].values():
        response["headers"] = {"X-Request-ID": _ID}
