"""The web application: its routes, error handlers, OpenAPI documentation, and the page for people.

The page is one file; its content security policy lets a browser run the page's own script alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from aes_dynloss.serving.batching import EssayService, ScoringQueue
from aes_dynloss.serving.guards import keep_logs_private
from aes_dynloss.serving.messages import ExplainResponse, Fault, Health, ScoreRequest, ScoreResponse
from aes_dynloss.serving.requests import RefusalError, UnreadResponse, body_refusal, read_body
from aes_dynloss.versions import package_version


def page_and_policy() -> tuple[str, str]:
    """The page's html, and its content security policy: its own style and script, requests to this server alone."""
    html = (files("aes_dynloss.serving") / "page.html").read_text(encoding="utf-8")
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
        for name in ("style", "script")
        for content in re.findall(f"<{name}>(.*?)</{name}>", html, re.DOTALL)
    )
    policy = (
        f"default-src 'none'; style-src {style}; script-src {script}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return html, policy


_REF = "#/components/schemas/{model}"
_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The body is no JSON."},
    408: {"model": Fault, "description": "The body came too slowly."},
    413: {"model": Fault, "description": "Too many bytes, essays or characters."},
    415: {"model": Fault, "description": "The body is not said to be JSON."},
    422: {"model": Fault, "description": "Something is missing, of the wrong type, or an unknown prompt."},
    500: {"model": Fault, "description": "The server failed."},
    503: {"model": Fault, "description": "Too many essays wait; the header Retry-After says how many seconds."},
}
# FastAPI sends what it sees, bodies among it, to collectors that the environment names. Older versions know no such
# key and pass over it.
_NO_TELEMETRY: dict[str, Any] = {
    "telemetry": dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
}

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model="ScoreRequest")}}},
    }
}
_ABOUT = "Scores essays with one fine-tuned model. No essay is stored or logged."

router = APIRouter()


async def _asked(request: Request) -> ScoreRequest:
    """What a request's body asks for."""
    service: EssayService = request.app.state.service
    body = await read_body(request, service.limits)
    try:
        return await run_in_threadpool(ScoreRequest.model_validate_json, body)
    except ValidationError as error:
        raise body_refusal(error) from None


@router.post(
    "/score",
    summary="Score essays",
    response_model=ScoreResponse,
    responses=_FAULTS,
    openapi_extra=_BODY,
)
async def score(request: Request) -> Response:
    """Scores of the essays, in their order."""
    service: EssayService = request.app.state.service
    queue: ScoringQueue = request.app.state.queue
    rows = await queue.rows(service.checked((await _asked(request)).essays))
    # All columns, also those that this version of the documentation does not know.
    return Response(json.dumps({"scores": rows}, allow_nan=False), media_type="application/json")


@router.post(
    "/explain",
    summary="Explain the scores of essays",
    response_model=ExplainResponse,
    responses=_FAULTS,
    openapi_extra=_BODY,
)
async def explain(request: Request) -> Response:
    """What each sentence and each group of features adds to the scores; takes several times as long as scoring."""
    service: EssayService = request.app.state.service
    queue: ScoringQueue = request.app.state.explanations
    essays = service.checked_to_explain((await _asked(request)).essays)
    rows = []
    with queue.open_request():
        for essay in essays:  # one by one, so that essays to score come in between
            if await request.is_disconnected():
                raise RefusalError(503, "The client is gone.")
            rows += await queue.rows([essay])
    return Response(json.dumps({"explanations": rows}, allow_nan=False), media_type="application/json")


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="The server, its model and its limits")
async def health(request: Request) -> Health:
    """That the server is up, what its model knows, and how much it takes."""
    service: EssayService = request.app.state.service
    return Health(
        model=service.name,
        version=package_version("aes-dynloss") or "unknown",
        prompts=service.known_prompts(),
        features=list(service.scorer.own_features),
        coverage=service.coverage,
        waiting=request.app.state.queue.waiting,
        **service.limits.model_dump(include={"max_essays", "max_characters", "max_body"}),
    )


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page for people."""
    html, policy = request.app.state.page
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


class _DocumentedApp(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """OpenAPI, with the body of /score and /explain, which this module reads itself."""
        if self.openapi_schema is None:
            schema = get_openapi(title=self.title, version=self.version, description=_ABOUT, routes=self.routes)
            _, bodies = models_json_schema([(ScoreRequest, "validation")], ref_template=_REF)
            schema["components"]["schemas"] |= bodies["$defs"]
            self.openapi_schema = schema
        return self.openapi_schema


def create_app(service: EssayService) -> FastAPI:
    """The application around a scorer; its lifespan starts and ends the thread that scores.

    Args:
        service: The scorer, and how it is asked.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keep_logs_private(asyncio.get_running_loop())
        limits = service.limits
        with ThreadPoolExecutor(1, thread_name_prefix="scorer") as thread:
            queue = ScoringQueue(service.rows, thread, batch_size=limits.batch_size, max_queue=limits.max_queue)
            explanations = ScoringQueue(service.explanations, thread, batch_size=1, max_queue=limits.max_queue)
            app.state.queue, app.state.explanations = queue, explanations
            queue.start()
            explanations.start()
            yield
            await explanations.stop()
            await queue.stop()

    # The pages of FastAPI's own that show the documentation fetch their scripts from elsewhere.
    app = _DocumentedApp(
        title="aes-dynloss",
        version=package_version("aes-dynloss") or "unknown",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to /score, by an answer without a word
        lifespan=lifespan,
        **_NO_TELEMETRY,
    )
    app.state.service = service
    app.state.page = page_and_policy()
    app.include_router(router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    """A refusal of ours, or one by starlette of an address or a method."""
    if not isinstance(error, HTTPException):
        raise error
    messages = {
        404: "There is nothing at this address; POST /score scores essays, POST /explain says why, GET /health says "
        "what the server knows.",
        405: f"This address takes {(error.headers or {}).get('Allow', 'another method')} only.",
    }
    if isinstance(error, RefusalError):
        kind = UnreadResponse if error.unread else JSONResponse
        return kind({"detail": error.detail}, error.status_code, dict(error.headers or {}))
    detail = messages.get(error.status_code, "The request cannot be answered.")
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> Response:
    # The guards log it.
    return JSONResponse({"detail": "The server failed to answer."}, 500)
