"""The web application: its state, the thread that scores, and how errors become refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from aes_dynloss.serving.batching import ScoringQueue
from aes_dynloss.serving.documentation import DocumentedApp
from aes_dynloss.serving.guards import Traffic, keep_logs_private
from aes_dynloss.serving.metrics import open_metrics
from aes_dynloss.serving.page import page_and_policy
from aes_dynloss.serving.requests import RefusalError, UnreadResponse, query_refusal
from aes_dynloss.serving.routes import router
from aes_dynloss.serving.service import EssayService
from aes_dynloss.versions import package_version

# FastAPI sends what it sees, bodies among it, to collectors that the environment names. Older versions know no such
# key and pass over it.
_NO_TELEMETRY: dict[str, Any] = {
    "telemetry": dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
}
_QUEUES = ("score", "table", "explain")


def create_app(service: EssayService) -> FastAPI:
    """The application around a scorer; its lifespan starts and ends the thread that scores.

    Its state: ``service``, ``queues`` by name while it lives, ``traffic``, ``metrics`` and ``page``.

    Args:
        service: The scorer, and how it is asked.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keep_logs_private(asyncio.get_running_loop())
        with ThreadPoolExecutor(1, thread_name_prefix="scorer") as thread:
            app.state.queues = _queues(service, thread, app)
            for queue in app.state.queues.values():
                queue.start()
            yield
            for queue in reversed(app.state.queues.values()):
                await queue.stop()

    # The pages of FastAPI's own that show the documentation fetch their scripts from elsewhere.
    app = DocumentedApp(
        title="aes-dynloss",
        version=package_version("aes-dynloss") or "unknown",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to /score, by an answer without a word
        lifespan=lifespan,
        **_NO_TELEMETRY,
    )
    app.state.service = service
    app.state.traffic = Traffic()
    app.state.metrics = open_metrics(lambda name: app.state.queues[name].waiting, _QUEUES)
    app.state.page = page_and_policy()
    app.include_router(router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(Exception, _failed)
    return app


def _queues(service: EssayService, thread: ThreadPoolExecutor, app: FastAPI) -> dict[str, ScoringQueue]:
    """One queue for each kind of work, so that none waits for all of another's: the thread takes them in turn."""
    limits, observe = service.limits, app.state.metrics.batch
    size, most, tables = limits.batch_size, limits.max_queue, limits.max_tables
    score = ScoringQueue(service.rows, thread, batch_size=size, max_queue=most, observe=observe)
    # Tables come batch by batch, so that so many of them never wait with more essays.
    table = ScoringQueue(
        service.rows, thread, batch_size=size, max_queue=size * tables, max_open=tables, observe=observe
    )
    explain = ScoringQueue(service.explanations, thread, batch_size=1, max_queue=most)
    return dict(zip(_QUEUES, (score, table, explain), strict=True))


async def _refused(_: Request, error: Exception) -> Response:
    """A refusal of ours, or one by starlette or FastAPI of an address, a method or a query."""
    if isinstance(error, RequestValidationError):
        error = query_refusal(error.errors())
    if not isinstance(error, HTTPException):
        raise error
    messages = {
        404: "There is nothing at this address; POST /score scores essays, POST /score-table a table of them, POST "
        "/explain says why, GET /health says what the server knows.",
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
