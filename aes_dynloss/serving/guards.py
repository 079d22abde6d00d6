"""Middleware around the application: allowed hosts, security headers, request ids, access logs, counts, and faults.

A fault is logged by its kind and place, since an exception's message may quote an essay.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aes_dynloss.errors import ConfigError

logger = logging.getLogger(__name__)

_FRAMES = 8


def fault_words(error: BaseException) -> str:
    """An exception's kind and the innermost lines of code where it arose, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    lines = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return f"{type(error).__name__} in {' > '.join(lines) or 'no known place'}"


class WithoutMessages(logging.Filter):
    """Takes exceptions, whose messages may quote an essay, out of what others log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the exception's kind and place where it would have been printed whole."""
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            record.msg = f"{record.getMessage().strip()}: {fault_words(record.exc_info[1])}"
            record.args = None
            record.exc_info = record.exc_text = None
        return True


def keep_logs_private(loop: asyncio.AbstractEventLoop) -> None:
    """Let neither the server below us nor the event loop log what an exception quotes."""
    for name in ("uvicorn.access", "uvicorn.asgi"):  # which log addresses as clients write them
        logging.getLogger(name).disabled = True
    server = logging.getLogger("uvicorn.error")
    if not any(isinstance(known, WithoutMessages) for known in server.filters):
        server.addFilter(WithoutMessages())
    loop.set_exception_handler(_log_loop_fault)


def _log_loop_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    words = fault_words(error) if error is not None else "no exception"
    logger.error("The event loop found a fault: %s: %s", str(context.get("message"))[:200], words)


LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(?P<name>\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
# Anything else may be a client's own words, and is neither logged nor counted by name.
_PROBED_PATHS = ("/health", "/health/live", "/health/ready", "/metrics")  # again and again
_KNOWN_PATHS = ("/", "/score", "/score-table", "/explain", "/openapi.json", *_PROBED_PATHS)
_LOGGED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


# Of the request that is being answered.
REQUEST_ID: ContextVar[str] = ContextVar("REQUEST_ID", default="-")
_REQUEST_ID_HEADER = "X-Request-ID"
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499  # as nginx has it

Count = Callable[[str, int, float], None]


_WRONG_HOST = JSONResponse(
    {"detail": "The header Host names a server that this one is not; --allowed-host lets it answer to further names."},
    400,
)


@dataclass
class Traffic:
    """What the server is doing.

    Args:
        taken: Requests whose head has arrived.
        answered: Responses that were sent whole.
        closing: Whether each response is to be its connection's last.
    """

    taken: int = 0
    answered: int = 0
    closing: bool = False


class Guarded:
    """An application behind its guards.

    Args:
        app: The application.
        traffic: Is kept up to date.
        hosts: Names that a request may give to the server in its header Host, without ports; None: any. A page of
            another site can make a browser ask a loopback address under a name of its own (DNS rebinding).
        count: Is told of each request's route, status and seconds.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic, hosts: Collection[str] | None, count: Count) -> None:
        self._app = app
        self._count = count
        self._traffic = traffic
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent, is_whole, start = 0, False, time.monotonic()  # the status that was sent, and whether all was
        self._traffic.taken += 1
        request_id = _request_id(Headers(scope=scope).get(_REQUEST_ID_HEADER, ""))
        REQUEST_ID.set(request_id)

        async def guarded_send(message: Message) -> None:
            nonlocal sent, is_whole
            if message["type"] == "http.response.start":
                sent = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers[_REQUEST_ID_HEADER] = request_id
                if self._traffic.closing:
                    headers["Connection"] = "close"
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                is_whole = True
                self._traffic.answered += 1

        host = host_name(Headers(scope=scope).get("host", ""))
        app = self._app if self._hosts is None or host in self._hosts else _WRONG_HOST
        refusal = None
        try:
            await app(scope, receive, guarded_send)
        except asyncio.CancelledError:  # the end of a stop's patience
            refusal = JSONResponse({"detail": "The server has ended."}, 503, {"Connection": "close"})
        except Exception as error:
            logger.error("Request %s failed: %s", request_id, fault_words(error))
            refusal = JSONResponse({"detail": "The server failed to answer."}, 500, {"Connection": "close"})
        if refusal is not None and not sent:  # a response that has begun is left, and its connection ends
            await refusal(scope, receive, guarded_send)
        self._tell(scope, sent if is_whole else _CLIENT_GONE, time.monotonic() - start, request_id)

    def _tell(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        """Count and log an answered request, by names that are ours."""
        method = scope["method"] if scope["method"] in _LOGGED_METHODS else "(unknown method)"
        path = scope["path"] if scope["path"] in _KNOWN_PATHS else "(unknown path)"
        self._count(path, status, seconds)
        level = logging.DEBUG if path in _PROBED_PATHS and status < 400 else logging.INFO
        word = "(client gone)" if status == _CLIENT_GONE else str(status)
        logger.log(level, "%s %s %s %.0f ms %s", method, path, word, 1000 * seconds, request_id)


def _request_id(given: str) -> str:
    """The id that a client gave its request, if it is one that can be logged; else a new one."""
    return given if _REQUEST_ID_FORM.fullmatch(given) else uuid.uuid4().hex


def host_name(header: str) -> str:
    """The name in a header Host, in lower case and without its port; empty if the header is malformed.

    Square brackets stay around an IPv6 address.
    """
    match = _HOST.fullmatch(header.strip())
    return match["name"].lower() if match else ""


def allowed_name(given: str) -> str:
    """The name that a word of --allowed-host means, as :func:`host_name` finds it in a header.

    Args:
        given: A name, or an address, maybe with a port.

    Raises:
        ConfigError: It is no such name, so that no header would ever match it.
    """
    # An IPv6 address, which headers put in square brackets.
    bare = given.count(":") > 1 and not given.strip().startswith("[")
    name = host_name(f"[{given.strip()}]" if bare else given)
    if not name or re.search(r"[\s/*@?#]", name):
        raise ConfigError(
            f"--allowed-host {given}: expected the name of a host alone, such as scores.example, without http://, a "
            "path or *."
        )
    return name
