"""Dynamic batching: requests that wait at the same time are scored together, by one thread."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.serving.guards import REQUEST_ID, fault_words
from aes_dynloss.serving.requests import RefusalError
from aes_dynloss.serving.service import Row

logger = logging.getLogger(__name__)

Score = Callable[[Sequence[UnscoredEssay]], list[Row]]
Observer = Callable[[int, Sequence[Row]], None]
_LONGEST_ADVICE = 60
_ENDS = "The server is about to end."


def _unobserved(_: int, __: Sequence[Row]) -> None:
    pass


@dataclass(eq=False)
class _Request:
    essays: Sequence[UnscoredEssay]
    id: str = field(default_factory=REQUEST_ID.get)
    answer: asyncio.Future[list[Row] | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ScoringQueue:
    """Scores the essays of many requests with one model.

    While the model is at work, requests gather; when it is free it takes as many whole ones as fit, so that an idle
    server answers at once and a busy one scores in large batches.

    Args:
        score: Answers one row an essay, in order.
        thread: The one thread that asks the model; other queues may share it.
        batch_size: Essays that are taken together, at most; a request with more is taken alone.
        max_queue: Essays that may wait.
        max_open: Requests that may ask for their essays portion by portion at the same time.
        observe: Is told of each batch: how many essays it had, and their rows but those that failed.
    """

    def __init__(
        self,
        score: Score,
        thread: ThreadPoolExecutor,
        *,
        batch_size: int,
        max_queue: int,
        max_open: int | None = None,
        observe: Observer = _unobserved,
    ) -> None:
        self._score = score
        self._max_open = max_open
        self._observe = observe
        self._batch_size = batch_size
        self._max_queue = max_queue
        self._requests: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self._busy = False
        self._open = 0
        self._stopping = False
        self._seconds_an_essay = 0.0
        self._thread = thread
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Essays that wait."""
        return sum(len(request.essays) for request in self._requests)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being scored."""
        return not self._requests and not self._busy and not self._open

    @property
    def refusal(self) -> str | None:
        """Why no essay would be taken now; None if one would."""
        if not self.works:
            return "The server does not score any more."
        if self._stopping:
            return _ENDS
        return None if self.waiting < self._max_queue else f"{self.waiting} essays are waiting already."

    @property
    def works(self) -> bool:
        """Whether what is put in will be answered."""
        return self._task is not None and not self._task.done()

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """A request that asks for its essays portion by portion: until its end the queue is not idle.

        Raises:
            RefusalError: There are so many of them already (503).
        """
        if self._max_open is not None and self._open >= self._max_open:
            raise RefusalError(
                503,
                f"{self._open} such requests are being answered already; try again in {_LONGEST_ADVICE} s.",
                {"Retry-After": str(_LONGEST_ADVICE)},
                unread=True,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def start(self) -> None:
        """Begin to score; to be called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Score what waits, and end."""
        self._stopping = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def rows(self, essays: Sequence[UnscoredEssay]) -> list[Row]:
        """Scores of a request's essays, in their order.

        Raises:
            RefusalError: The queue is full or ends (503), or the model failed on these essays (500).
        """
        waiting = self.waiting
        if self._stopping:
            raise RefusalError(503, _ENDS, {"Retry-After": "5"})
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
            start = time.monotonic()
            try:
                answers = await asyncio.get_running_loop().run_in_executor(
                    self._thread, answers_of, self._score, [request.essays for request in taken]
                )
                size = sum(len(request.essays) for request in taken)
                seconds = (time.monotonic() - start) / size
                before = self._seconds_an_essay or seconds
                self._seconds_an_essay = before + 0.2 * (seconds - before)
                for request, answer in zip(taken, answers, strict=True):
                    if answer is None:
                        logger.error("Request %s was not scored.", request.id)
                    if not request.answer.done():  # a client may have been told to go
                        request.answer.set_result(answer)
                self._report(size, [row for answer in answers for row in answer or ()])
            finally:
                self._busy = False

    def _report(self, size: int, rows: Sequence[Row]) -> None:
        """Tell the observer of a batch; a fault of its own is logged, and ends nothing."""
        try:
            self._observe(size, rows)
        except Exception as error:  # of whatever kind: the next clients wait for their essays
            logger.error("A batch of %d essays was not counted: %s", size, fault_words(error))

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
    remaining = iter(rows)
    return [list(itertools.islice(remaining, len(request))) for request in requests]
