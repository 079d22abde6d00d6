"""The queue: what waits together is scored together, whole requests, in order, each answered by its own rows."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.serving.batching import ScoringQueue, answers_of
from aes_dynloss.serving.requests import RefusalError


class Panic(BaseException):
    """As a tokenizer's."""


class Model:
    """Answers each essay's words; can be held, and falls over "bad"."""

    def __init__(self, fault: type[BaseException] = ValueError) -> None:
        self.calls: list[list[str]] = []
        self.threads: set[str] = set()
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()
        self.fault = fault

    def __call__(self, essays: Sequence[UnscoredEssay]) -> list[dict[str, str]]:
        self.calls.append([essay.text for essay in essays])
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        assert self.free.wait(30)
        if any(essay.text == "bad" for essay in essays):
            raise self.fault("a secret essay")
        return [{"text": essay.text} for essay in essays]


def of(*texts: str) -> list[UnscoredEssay]:
    return [UnscoredEssay("1", "p", text) for text in texts]


def run(model, scenario, batch_size=4, max_queue=12, **options):
    async def main():
        with ThreadPoolExecutor(1) as thread:
            queue = ScoringQueue(model, thread, batch_size=batch_size, max_queue=max_queue, **options)
            queue.start()
            try:
                return await asyncio.wait_for(scenario(queue), 60)
            finally:
                model.free.set()
                await queue.stop()

    return asyncio.run(main())


async def held(queue, model):
    """A first request that keeps the model busy; its task."""
    model.free.clear()
    model.begun.clear()
    first = asyncio.create_task(queue.rows(of("first")))
    await asyncio.to_thread(model.begun.wait, 30)
    return first


def test_an_idle_queue_answers_at_once_and_alone():
    model = Model()

    async def scenario(queue):
        for text in ("one", "two"):
            assert await queue.rows(of(text)) == [{"text": text}]
        assert queue.idle

    run(model, scenario)
    assert model.calls == [["one"], ["two"]]


def test_what_waits_is_scored_together_in_whole_requests():
    model = Model()

    async def scenario(queue):
        first = await held(queue, model)
        waiting = [of("a"), of("b", "c"), of("d", "e"), of("f")]
        tasks = [asyncio.create_task(queue.rows(request)) for request in waiting]
        await asyncio.sleep(0)
        assert (queue.waiting, queue.idle) == (6, False)
        model.free.set()
        assert await first == [{"text": "first"}]
        for request, rows in zip(waiting, await asyncio.gather(*tasks), strict=True):
            assert rows == [{"text": essay.text} for essay in request]

    run(model, scenario)
    assert model.calls == [["first"], ["a", "b", "c"], ["d", "e", "f"]]
    assert len(model.threads) == 1


def test_a_request_larger_than_a_batch_is_taken_alone():
    model = Model()

    async def scenario(queue):
        first = await held(queue, model)
        tasks = [asyncio.create_task(queue.rows(of(*"abcdefg"))), asyncio.create_task(queue.rows(of("h")))]
        await asyncio.sleep(0)
        model.free.set()
        await asyncio.gather(first, *tasks)

    run(model, scenario)
    assert model.calls == [["first"], list("abcdefg"), ["h"]]


def test_a_full_queue_refuses_and_says_when_to_come_back():
    model = Model()

    async def scenario(queue):
        first = await held(queue, model)
        fits = asyncio.create_task(queue.rows(of(*"abcdefghijkl")))
        await asyncio.sleep(0)
        with pytest.raises(RefusalError) as caught:
            await queue.rows(of("m"))
        model.free.set()
        await asyncio.gather(first, fits)
        assert await queue.rows(of("m")) == [{"text": "m"}]
        return caught.value

    refusal = run(model, scenario)
    assert (refusal.status_code, refusal.headers) == (503, {"Retry-After": "1"})
    assert refusal.detail == "12 essays are waiting already; try again in 1 s."


@pytest.mark.parametrize("fault", [ValueError, Panic, SystemExit])
def test_a_fault_meets_the_culprit_alone(caplog, fault):
    model = Model(fault)

    async def scenario(queue):
        first = await held(queue, model)
        tasks = [asyncio.create_task(queue.rows(of(text))) for text in ("a", "bad", "b")]
        await asyncio.sleep(0)
        model.free.set()
        await first
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return answers, await queue.rows(of("later"))

    with caplog.at_level(logging.DEBUG):
        (a, refusal, b), later = run(model, scenario)
    assert (a, b, later) == ([{"text": "a"}], [{"text": "b"}], [{"text": "later"}])
    assert (refusal.status_code, refusal.detail) == (500, "The server failed to score these essays.")
    assert model.calls == [["first"], ["a", "bad", "b"], ["a"], ["bad"], ["b"], ["later"]]
    assert f"{fault.__name__} in" in caplog.text
    assert "secret" not in caplog.text


def test_a_fault_of_the_observer_ends_nothing(caplog):
    seen = []

    def observe(size, rows):
        seen.append((size, rows))
        raise KeyError(rows[0]["text"])

    async def scenario(queue):
        for text in ("a secret essay", "later"):
            assert await asyncio.wait_for(queue.rows(of(text)), 10) == [{"text": text}]
        assert queue.works

    with caplog.at_level(logging.DEBUG):
        run(Model(), scenario, observe=observe)
    assert seen == [(1, [{"text": "a secret essay"}]), (1, [{"text": "later"}])]
    assert caplog.text.count("A batch of 1 essays was not counted: KeyError in") == 2
    assert "secret" not in caplog.text


def test_too_few_rows_are_a_fault_and_no_shift():
    assert answers_of(lambda essays: [{}] * (len(essays) - 1), [of("a"), of("b", "c")]) == [None, None]


def test_a_client_that_has_gone_is_not_scored():
    model = Model()

    async def scenario(queue):
        first = await held(queue, model)
        gone, stays = (asyncio.create_task(queue.rows(of(text))) for text in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.free.set()
        await asyncio.gather(first, stays)

    run(model, scenario)
    assert model.calls == [["first"], ["stays"]]


def test_a_stop_scores_what_waits_and_takes_no_more():
    model = Model()

    async def scenario(queue):
        first = await held(queue, model)
        tasks = [asyncio.create_task(queue.rows(of(text))) for text in "abcdefghij"]
        await asyncio.sleep(0)
        stop = asyncio.create_task(queue.stop())
        await asyncio.sleep(0)
        with pytest.raises(RefusalError, match="503"):
            await queue.rows(of("late"))
        model.free.set()
        assert await asyncio.gather(first, *tasks) == [[{"text": text}] for text in ["first", *"abcdefghij"]]
        await stop

    run(model, scenario)
