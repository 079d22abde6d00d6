"""Whether the server works and takes essays, and the ids of requests."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from served import call, essays
from served_app import SECRET, WORDS, Served

from aes_dynloss.serving.app import create_app
from aes_dynloss.serving.messages import EssayToScore


def test_alive_and_ready(served):
    live, ready = served.ask("GET", "/health/live"), served.ask("GET", "/health/ready")
    assert (live.status, live.json) == (200, {"status": "alive"})
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    assert served.ask("HEAD", "/health/ready").status == 200


def states(scorer, change, **limits):
    """What both say after a change to the application."""

    async def main():
        app = create_app(Served(scorer, **limits).service)
        async with app.router.lifespan_context(app):
            await change(app)
            found = [await call(app, "GET", f"/health/{name}") for name in ("live", "ready")]
        return [(one.status, one.json.get("detail")) for one in found]

    return asyncio.run(main())


def test_about_to_end(scorer):
    async def close(app):
        app.state.traffic.closing = True

    assert states(scorer, close) == [(200, None), (503, "The server is about to end.")]


def test_a_full_queue(scorer):
    tasks = []

    async def fill(app):
        queue = app.state.queues["score"]
        given = app.state.service.checked([EssayToScore(text=WORDS, prompt_id="letter")] * 2)
        tasks.append(asyncio.create_task(queue.rows(given)))
        await asyncio.sleep(0)

    assert states(scorer, fill, max_queue=2, max_essays=2) == [(200, None), (503, "2 essays are waiting already.")]


def test_a_queue_at_which_nobody_works(scorer):
    async def end(app):
        await app.state.queues["score"].stop()

    words = "The server does not score any more."
    assert states(scorer, end) == [(503, words), (503, words)]


class TestRequestIds:
    @pytest.mark.parametrize("given", ["7f3c-2d60", "A.b_c-9", "x" * 64])
    def test_a_clients_own(self, served, caplog, given):
        with caplog.at_level(logging.INFO):
            answer = served.ask("POST", "/score", essays(WORDS), {"x-request-id": given})
        assert answer.headers["x-request-id"] == given
        assert re.search(rf"POST /score 200 \d+ ms {given}$", caplog.text, re.MULTILINE)

    @pytest.mark.parametrize("given", ["", f"a {SECRET}", "x" * 65, "é", "a\tb", "<b>", "a;b", "a\r\nb"])
    def test_one_that_is_none(self, served, caplog, given):
        with caplog.at_level(logging.INFO):
            answer = served.ask("POST", "/score", essays(WORDS), {"x-request-id": given})
        made = answer.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
        assert made in caplog.text
        assert SECRET not in caplog.text

    def test_of_every_answer(self, served):
        asked = [("GET", "/"), ("GET", "/nothing"), ("POST", "/score", b"{"), ("GET", "/health", b"", {"host": "x"})]
        made = [answer.headers["x-request-id"] for answer in served.together(*asked)]
        assert len(set(made)) == len(asked)

    def test_in_the_log_of_a_fault(self, scorer, caplog):
        class Failing:
            def __getattr__(self, name):
                return getattr(scorer, name)

            def score(self, texts, *_, **__):
                raise ValueError(texts)

        Served(Failing()).ask("POST", "/score", essays(SECRET), {"x-request-id": "mine-1"})
        assert "Request mine-1 was not scored." in caplog.text
        assert SECRET not in caplog.text

    def test_probes_are_not_in_the_log(self, served, caplog):
        with caplog.at_level(logging.INFO):
            for path in ("/health", "/health/live", "/health/ready", "/metrics"):
                assert served.ask("GET", path).status in {200, 501}
            served.ask("GET", "/health", b"", {"host": "x"})
        lines = [one for one in caplog.messages if one.startswith("GET")]
        assert len([one for one in lines if " 400 " in one]) == 1
        assert not [one for one in lines if " 200 " in one]
