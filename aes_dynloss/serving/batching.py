"""Dynamic batching: requests that wait at the same time are scored together, by one thread.

A service turns a request's essays into rows of plain JSON values.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aes_dynloss.essays.data.essay_table import LARGEST_FEATURE
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import explain_essays
from aes_dynloss.essays.model.protocol import Scorer, known_prompts
from aes_dynloss.essays.scoring.score import score_essays
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.serving.guards import fault_words
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.messages import EssayToScore, KnownPrompt, KnownScale
from aes_dynloss.serving.requests import RefusalError, shortened

# What follows from advisories. Essays of several clients are scored side by side, so that no kind may be looked at that
# holds an essay against the others of its window.
POLICY = Policy(duplicate="off")


@dataclass(frozen=True)
class EssayService:
    """A scorer, and how it is asked.

    Args:
        scorer: The scorer.
        name: What the model is called.
        coverage: Stated coverage of the prediction intervals, between 0 and 1.
        limits: What one client may ask for.
        policy: What follows from advisories, the same for all clients; duplicates are never looked for.
    """

    scorer: Scorer
    name: str
    coverage: float
    limits: Limits
    policy: Policy = POLICY

    def rows(self, essays: Sequence[UnscoredEssay]) -> list[Row]:
        """One row an essay, in order; no forward call is given more essays than the limits say."""
        windows = score_essays(
            self.scorer,
            essays,
            coverage=self.coverage,
            policy=self.policy.model_copy(update={"duplicate": "off"}),
            window=self.limits.batch_size,
            progress=None,
            warn=False,
        )
        return [row for window in windows for row in column_rows(window.columns)]

    def explanations(self, essays: Sequence[UnscoredEssay]) -> list[Row]:
        """One explanation an essay, in order, without training essays; of a withheld score nothing is explained."""
        explained = explain_essays(self.scorer, essays, coverage=self.coverage, policy=self.policy, nearest=False)
        rows = [_plain(one.to_dict()) for one in explained]
        # What sentences add would tell the score.
        return [row | {"scores": []} if row["withheld"] else row for row in rows]

    def known_prompts(self) -> list[KnownPrompt]:
        """The prompts that can be scored."""
        known: dict[str, KnownPrompt] = {}
        for prompt in self.scorer.prompts.values():
            scale = {**asdict(prompt.range), "levels": dict(prompt.levels)}
            if prompt.trait is None:
                known[prompt.id] = KnownPrompt(prompt_id=prompt.id, text=prompt.text, **scale)
            else:
                whole = known.setdefault(prompt.prompt_id, KnownPrompt(prompt_id=prompt.prompt_id, text=prompt.text))
                whole.traits[prompt.trait] = KnownScale(**scale)
        return list(known.values())

    def checked_to_explain(self, essays: Sequence[EssayToScore]) -> list[UnscoredEssay]:
        """A request's essays as the scorer takes them, of which fewer and shorter ones are explained than scored.

        Raises:
            RefusalError: They are too many or too long (413), or one of them cannot be scored (422).
        """
        limits = self.limits
        fewer = min(limits.max_essays, limits.max_explained)
        shorter = min(limits.max_characters, limits.max_explained_characters)
        service = replace(self, limits=limits.model_copy(update={"max_essays": fewer, "max_characters": shorter}))
        return service.checked(essays)

    def checked(self, essays: Sequence[EssayToScore]) -> list[UnscoredEssay]:
        """A request's essays as the scorer takes them.

        Raises:
            RefusalError: They are too many or too long (413), or one of them cannot be scored (422).
        """
        limits, known = self.limits, known_prompts(self.scorer)
        if len(essays) > limits.max_essays:
            raise RefusalError(413, f"The request holds {len(essays)} essays; {limits.max_essays} at most are taken.")
        names = ", ".join(known)
        checked = []
        for index, essay in enumerate(essays):
            path = f"essays[{index}]"
            prompt_id = essay.prompt_id
            if len(essay.text) > limits.max_characters:
                raise RefusalError(
                    413, f"{path}.text has {len(essay.text)} characters; {limits.max_characters} at most are taken."
                )
            if prompt_id is None and len(known) > 1:
                raise RefusalError(422, f"{path}.prompt_id is missing; the model knows {names}.")
            if prompt_id is not None and prompt_id not in known:
                raise RefusalError(
                    422, f"{path}.prompt_id {shortened(prompt_id)!r} is not known to the model, which knows {names}."
                )
            for name in self.scorer.own_features:
                if name not in essay.features:
                    raise RefusalError(422, f"{path}.features lacks a number for {name!r}, which the model needs.")
                if not abs(essay.features[name]) <= LARGEST_FEATURE:  # NaN, too
                    bounds = f"from {-LARGEST_FEATURE:g} to {LARGEST_FEATURE:g}"
                    raise RefusalError(422, f"{path}.features.{shortened(name)} must be a number {bounds}.")
            essay_id = str(index + 1) if essay.essay_id is None else essay.essay_id
            prompt_id = known[0] if prompt_id is None else prompt_id
            checked.append(UnscoredEssay(essay_id, prompt_id, essay.text, essay.features))
        return checked


def column_rows(columns: Mapping[str, Sequence[object]]) -> list[Row]:
    """The rows of some columns of one length, whatever their names; what is no finite number is None."""
    return [
        {name: _plain(value) for name, value in zip(columns, values, strict=True)}
        for values in zip(*columns.values(), strict=True)
    ]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of JSON
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        score: Answers one row an essay, in order.
        thread: The one thread that asks the model; other queues may share it.
        batch_size: Essays that are taken together, at most; a request with more is taken alone.
        max_queue: Essays that may wait.
    """

    def __init__(self, score: Score, thread: ThreadPoolExecutor, *, batch_size: int, max_queue: int) -> None:
        self._score = score
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

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """A request that asks for its essays one after the other: until its end the queue is not idle."""
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
            start = time.monotonic()
            try:
                answers = await asyncio.get_running_loop().run_in_executor(
                    self._thread, answers_of, self._score, [request.essays for request in taken]
                )
                seconds = (time.monotonic() - start) / sum(len(request.essays) for request in taken)
                before = self._seconds_an_essay or seconds
                self._seconds_an_essay = before + 0.2 * (seconds - before)
                for request, answer in zip(taken, answers, strict=True):
                    if not request.answer.done():  # a client may have been told to go
                        request.answer.set_result(answer)
            finally:
                self._busy = False

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
