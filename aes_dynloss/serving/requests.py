"""Reading a request's body: no more bytes than the limit, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.refusals import RefusalError

# A client that is still sending when it is refused is listened to a little longer: a connection that is cut while
# bytes come in takes the refusal with it.
_LISTEN_SECONDS = 2.0


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, which must say that it is JSON.

    Raises:
        RefusalError: It is of another type (415), too long (413), or comes too slowly (408).
        starlette.requests.ClientDisconnect: The client has gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(415, "Send the body as JSON, with the header Content-Type: application/json.", unread=True)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.max_body:
        raise _too_long(limits)
    try:
        async with asyncio.timeout(limits.client_seconds):
            return await _whole(request, limits)
    except TimeoutError:
        raise RefusalError(
            408, f"The body did not arrive within {limits.client_seconds:g} seconds.", unread=True
        ) from None


async def _whole(request: Request, limits: Limits) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limits.max_body:
            raise _too_long(limits)
    return bytes(body)


def _too_long(limits: Limits) -> RefusalError:
    return RefusalError(413, f"The body is larger than {limits.max_body} bytes, the most that is taken.", unread=True)


class UnreadResponse(JSONResponse):
    """The answer to a request whose body was not read to its end: it is given at once and ends the connection."""

    def __init__(self, content: object, status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(content, status_code, {**headers, "Connection": "close"})

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answer, then take in and drop what still comes, for a while."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(_LISTEN_SECONDS):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
