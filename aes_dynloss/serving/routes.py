"""The addresses of the service: what each takes, and whom it asks for the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.responses import HTMLResponse, Response

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.serving.batching import ScoringQueue
from aes_dynloss.serving.documentation import ESSAYS_BODY, METRICS_ANSWER, TABLE_ANSWER, TABLE_BODY, faults
from aes_dynloss.serving.messages import Alive, ExplainResponse, Health, Ready, ScoreRequest, ScoreResponse
from aes_dynloss.serving.requests import RefusalError, body_refusal, check_json, read_body
from aes_dynloss.serving.service import EssayService, Row
from aes_dynloss.serving.tables import WRITTEN_TYPES, TableOptions, read_table, scored_table, table_suffix
from aes_dynloss.versions import package_version

router = APIRouter()

_SCORING_FAULTS = faults(400, 408, 413, 415, 422, 500, 503)


async def _asked(request: Request) -> ScoreRequest:
    """What a request's body asks for."""
    limits = request.app.state.service.limits
    check_json(request)
    body = await read_body(request, most=limits.max_body, seconds=limits.client_seconds)
    try:
        return await run_in_threadpool(ScoreRequest.model_validate_json, body)
    except ValidationError as error:
        raise body_refusal(error) from None


async def _rows_by_portion(
    request: Request, queue: ScoringQueue, essays: Sequence[UnscoredEssay], size: int
) -> list[Row]:
    """Rows of a request's essays, so many at a time, so that other requests come in between."""
    rows: list[Row] = []
    for start in range(0, len(essays), size):
        if await request.is_disconnected():
            raise RefusalError(503, "The client is gone.")
        rows += await queue.rows(essays[start : start + size])
    return rows


@router.post(
    "/score",
    tags=["scores"],
    summary="Score essays",
    response_model=ScoreResponse,
    response_description="One row an essay, in order.",
    responses=_SCORING_FAULTS,
    openapi_extra=ESSAYS_BODY,
)
async def score(request: Request) -> Response:
    """Scores of the essays, in their order. Requests that wait at the same time are scored together."""
    service: EssayService = request.app.state.service
    queue: ScoringQueue = request.app.state.queues["score"]
    rows = await queue.rows(service.checked((await _asked(request)).essays))
    # All columns, also those that this version of the documentation does not know.
    return Response(json.dumps({"scores": rows}, allow_nan=False), media_type="application/json")


@router.post(
    "/score-table",
    tags=["scores"],
    summary="Score a table of essays",
    response_class=Response,
    responses={200: TABLE_ANSWER, **faults(400, 408, 413, 415, 422, 500, 503)},
    openapi_extra=TABLE_BODY,
)
async def score_table(request: Request, options: Annotated[TableOptions, Query()]) -> Response:
    """The same table with scores, as `aes-dynloss score` writes it: one row an essay, in order.

    The body is the file itself, its header Content-Type says of which format. A row that cannot be used refuses the
    table. Essays go to the model batch by batch, so that other requests come in between.
    """
    service: EssayService = request.app.state.service
    queue: ScoringQueue = request.app.state.queues["table"]
    limits, suffix = service.limits, table_suffix(request)
    with queue.open_request():
        body = await read_body(request, most=limits.max_table_body, seconds=limits.client_seconds)
        essays = await run_in_threadpool(read_table, service, body, suffix, options)
        rows = await _rows_by_portion(request, queue, essays, limits.batch_size)
        table = await run_in_threadpool(scored_table, service, essays, rows, options)
    headers = {"Content-Disposition": f'attachment; filename="scores.{options.format}"'}
    return Response(table, media_type=WRITTEN_TYPES[options.format], headers=headers)


@router.post(
    "/explain",
    tags=["scores"],
    summary="Explain the scores of essays",
    response_model=ExplainResponse,
    response_description="One explanation an essay, in order.",
    responses=_SCORING_FAULTS,
    openapi_extra=ESSAYS_BODY,
)
async def explain(request: Request) -> Response:
    """What each sentence and each group of features adds to the scores; takes several times as long as scoring."""
    service: EssayService = request.app.state.service
    queue: ScoringQueue = request.app.state.queues["explain"]
    essays = service.checked_to_explain((await _asked(request)).essays)
    with queue.open_request():
        rows = await _rows_by_portion(request, queue, essays, 1)
    return Response(json.dumps({"explanations": rows}, allow_nan=False), media_type="application/json")


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    tags=["server"],
    summary="The server, its model and its limits",
    response_description="The state.",
    responses=faults(500),
)
async def health(request: Request) -> Health:
    """What the model knows, and how much the server takes."""
    service: EssayService = request.app.state.service
    return Health(
        model=service.name,
        version=package_version("aes-dynloss") or "unknown",
        prompts=service.known_prompts(),
        features=list(service.scorer.own_features),
        coverage=service.coverage,
        waiting=request.app.state.queues["score"].waiting,
        **service.limits.model_dump(
            include={"max_essays", "max_characters", "max_body", "max_table_rows", "max_table_body"}
        ),
    )


@router.head("/health/live", include_in_schema=False)
@router.get(
    "/health/live",
    tags=["server"],
    summary="Whether the server works",
    response_description="It does.",
    responses=faults(503),
)
async def live(request: Request) -> Alive:
    """That the server answers, and its queues are worked at; if not, start it anew."""
    if not all(queue.works for queue in request.app.state.queues.values()):
        raise RefusalError(503, "The server does not score any more.")
    return Alive()


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    tags=["server"],
    summary="Whether essays are taken",
    response_description="They are.",
    responses=faults(503),
)
async def ready(request: Request) -> Ready:
    """That essays would be scored now: the model is there, the queue has room, and the server is not about to end."""
    refusal = request.app.state.queues["score"].refusal
    if request.app.state.traffic.closing:
        refusal = "The server is about to end."
    if refusal is not None:
        raise RefusalError(503, refusal, {"Retry-After": "5"})
    return Ready()


@router.get(
    "/metrics",
    tags=["server"],
    summary="Counts in Prometheus' text form",
    response_class=Response,
    responses={200: METRICS_ANSWER, **faults(501)},
)
async def metrics(request: Request) -> Response:
    """Requests by route and status, their times, essays, withheld scores, advisories, batch sizes and queues."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page for people."""
    html, policy = request.app.state.page
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})
