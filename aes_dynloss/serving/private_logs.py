"""Words on faults that hold no word of an essay: an exception's message may quote what it fell over."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import PurePath
from typing import Any

logger = logging.getLogger(__name__)

_FRAMES = 8


def fault_words(error: BaseException) -> str:
    """An exception's kind and the innermost lines of code where it arose, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return f"{type(error).__name__} in {' > '.join(places) or 'no known place'}"


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
