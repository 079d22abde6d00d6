"""A queue in front of a model: requests that wait at the same time are scored together, by one thread."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.serving.private_logs import fault_words
from aes_dynloss.serving.refusals import RefusalError

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Score = Callable[[Sequence[UnscoredEssay]], list[Row]]
_LONGEST_ADVICE = 60


@dataclass(eq=False)
class _Request:
    essays: Sequence[UnscoredEssay]
    answer: asyncio.Future[list[Row] | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ScoringQueue:
    """Scores the essays of many requests with one model.

    While the model is at work, requests gather; when it is free it takes as many whole ones as fit, so that an idle
    server answers at once and a busy one scores in large batches.

    Args:
        score: Answers one row an essay, in order. It runs in one thread of its own, never twice at once.
        batch_size: Essays that are taken together, at most; a request with more is taken alone.
        max_queue: Essays that may wait.
    """

    def __init__(self, score: Score, *, batch_size: int, max_queue: int) -> None:
        self._score = score
        self._batch_size = batch_size
        self._max_queue = max_queue
        self._requests: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self._busy = False
        self._stopping = False
        self._seconds_an_essay = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Essays that wait."""
        return sum(len(request.essays) for request in self._requests)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being scored."""
        return not self._requests and not self._busy

    def start(self) -> None:
        """Begin to score; to be called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Score what waits, and end."""
        self._stopping = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def rows(self, essays: Sequence[UnscoredEssay]) -> list[Row]:
        """Scores of a request's essays, in their order.

        Raises:
            RefusalError: The queue is full or ends (503), or the model failed on these essays (500).
        """
        waiting = self.waiting
        if self._stopping:
            raise RefusalError(503, "The server is about to end.", {"Retry-After": "5"})
        if waiting + len(essays) > self._max_queue:
            seconds = min(max(1, math.ceil(waiting * self._seconds_an_essay)), _LONGEST_ADVICE)
            raise RefusalError(
                503, f"{waiting} essays are waiting already; try again in {seconds} s.", {"Retry-After": str(seconds)}
            )
        request = _Request(essays)
        self._requests.append(request)
        self._arrived.set()
        rows = await request.answer
        if rows is None:
            raise RefusalError(500, "The server failed to score these essays.")
        return rows

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            taken = self._take()
            if not taken:
                if self._stopping:
                    return
                self._arrived.clear()
                continue
            self._busy = True
            try:
                answers = await self._answers([request.essays for request in taken])
                for request, answer in zip(taken, answers, strict=True):
                    if not request.answer.done():  # a client may have been told to go
                        request.answer.set_result(answer)
            finally:
                self._busy = False

    async def _answers(self, requests: list[Sequence[UnscoredEssay]]) -> list[list[Row] | None]:
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._thread, answers_of, self._score, requests)
        seconds = (time.monotonic() - start) / sum(map(len, requests))
        self._seconds_an_essay += 0.2 * (seconds - self._seconds_an_essay) if self._seconds_an_essay else seconds
        return answers

    def _take(self) -> list[_Request]:
        """The oldest requests, as many as make a batch; those whose client is gone are left out."""
        taken: list[_Request] = []
        size = 0
        while self._requests:
            request = self._requests[0]
            if taken and size + len(request.essays) > self._batch_size:
                break
            self._requests.popleft()
            if not request.answer.done():
                taken.append(request)
                size += len(request.essays)
        return taken


def answers_of(score: Score, requests: Sequence[Sequence[UnscoredEssay]]) -> list[list[Row] | None]:
    """Scores of several requests, which are scored together; if that fails, each is scored alone.

    Args:
        score: Answers one row an essay, in order.
        requests: Essays, request by request.

    Returns:
        For each request its rows, or None where the scorer failed on it alone.
    """
    try:
        rows = score([essay for request in requests for essay in request])
        if len(rows) != sum(map(len, requests)):
            raise RuntimeError
    except BaseException as error:
        # A tokenizer's panic is no Exception; nothing that a request brings may end this thread.
        logger.error("Scoring %d requests failed: %s", len(requests), fault_words(error))
        return [None] if len(requests) == 1 else [answers_of(score, [request])[0] for request in requests]
    answers: list[list[Row] | None] = []
    start = 0
    for request in requests:
        answers.append(rows[start : start + len(request)])
        start += len(request)
    return answers
