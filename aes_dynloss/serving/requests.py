"""Bodies of requests and refusals: read within limits, refused in one sentence without a word of an essay."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

_EXPECTED = {
    "string_type": "must be text in quotes",
    "float_type": "must be a number",
    "string_unicode": "holds half a surrogate pair, which is no character",
    "list_type": "must be a list in square brackets",
    "model_type": "must be an object in curly brackets",
    "model_attributes_type": "must be an object in curly brackets",
    "dict_type": "must be an object in curly brackets",
    "too_short": "must hold one essay or more",
    "missing": "is missing",
    "extra_forbidden": "is no key that is known here",
    "bool_parsing": "must be true or false",
    "string_too_long": "is too long for a name",
}
_LONGEST_NAME = 60


class RefusalError(HTTPException):
    """A request that is not answered as it asks.

    Args:
        status: HTTP status, 400 or above.
        sentence: For the client, without a word of any essay.
        headers: Further headers of the response.
        unread: Whether the request's body was not read to its end, so that its connection cannot go on.
    """

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None, *, unread: bool = False
    ) -> None:
        super().__init__(status, sentence, headers)
        self.unread = unread


def body_refusal(error: ValidationError) -> RefusalError:
    """The refusal of a body that is no JSON, 400, or not what is expected, 422.

    Args:
        error: What pydantic found; its first fault is told.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return RefusalError(400, f"The body is not valid JSON: {first['ctx']['error']}.")
    return RefusalError(422, _fault_sentence(first["loc"], first))


def query_refusal(faults: Sequence[Mapping[str, Any]]) -> RefusalError:
    """The refusal of an address's query, 422; the body was not read.

    Args:
        faults: What FastAPI found; the first is told.
    """
    _, *name = faults[0]["loc"]
    return RefusalError(422, f"In the address, {_fault_sentence(name, faults[0])}", unread=True)


def _fault_sentence(loc: Sequence[int | str], fault: Mapping[str, Any]) -> str:
    # Such as essays[0].text.
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" for part in loc)
    message = _EXPECTED.get(fault["type"], "is not as expected")
    if fault["type"] == "literal_error":
        message = f"must be {fault['ctx']['expected']}"
    return f"{path.removeprefix('.') or 'The body'} {message}."


def shortened(name: str) -> str:
    """A name that a client chose, of bearable length."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


# A client that is still sending when it is refused is listened to a little longer: a connection that is cut while
# bytes come in takes the refusal with it.
_LISTEN_SECONDS = 2.0


def check_json(request: Request) -> None:
    """Refuse a body that is not said to be JSON.

    Raises:
        RefusalError: It is of another type (415).
    """
    if media_type(request) != "application/json":
        raise RefusalError(415, "Send the body as JSON, with the header Content-Type: application/json.", unread=True)


def media_type(request: Request) -> str:
    """What a request's body is said to be, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """The body of a request.

    Args:
        request: The request.
        most: Bytes that are taken.
        seconds: Time in which they must arrive.

    Raises:
        RefusalError: It is too long (413), or comes too slowly (408); or the client has gone.
    """
    too_long = RefusalError(413, f"The body is larger than {most} bytes, the most that is taken.", unread=True)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise RefusalError(408, f"The body did not arrive within {seconds:g} seconds.", unread=True) from None
    except ClientDisconnect:
        raise RefusalError(400, "The client has gone.") from None
    return bytes(body)


class UnreadResponse(JSONResponse):
    """The answer to a request whose body was not read to its end: it is given at once and ends the connection."""

    def __init__(self, content: object, status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(content, status_code, {**headers, "Connection": "close"})

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answer, then take in and drop what still comes, for a while."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LISTEN_SECONDS):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
