"""The server as a process over real sockets: many clients, damaged and slow ones, and the end in the middle of it all.

AES_DYNLOSS_LONG=1 makes seconds of load a minute.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from served import Connection, essays, process

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.service import EssayService

pytestmark = pytest.mark.slow

SECONDS = 60.0 if os.environ.get("AES_DYNLOSS_LONG") == "1" else 3.0
CLIENTS = 64
SECRET = "zebrafinch"


def _pool() -> list[UnscoredEssay]:
    chance = random.Random(4)
    words = [*("phones", "school", "bridge", "river", "council", "shop"), *("otter", "car", "walk", "good", "bad")]
    return [
        UnscoredEssay("", chance.choice(["letter", "notice"]), " ".join([*chance.choices(words, k=n % 60 + 1), SECRET]))
        for n in range(400)
    ]


POOL = _pool()


@pytest.fixture(scope="module")
def offline(scorer):
    """What each essay of the pool gets offline."""
    return EssayService(scorer, "model", 0.9, Limits()).rows(POOL)


class Client:
    """One of many: asks, looks whether the answer is its own, and asks again."""

    def __init__(self, number: int, served, offline) -> None:
        self.number, self.offline = number, offline
        self.connection = Connection(served.host, served.port)
        self.chance = random.Random(number)
        self.scored, self.refused, self.responses, self.cut_off = 0, 0, 0, 0

    async def work(self, until: float) -> None:
        """Ask until a time, or until nobody is there any more."""
        while time.monotonic() < until:
            places = [self.chance.randrange(len(POOL)) for _ in range(self.chance.choice([1, 1, 1, 2, 5]))]
            names = [f"{self.number}-{self.responses}-{place}" for place in places]
            named = [POOL[place]._replace(essay_id=name) for place, name in zip(places, names, strict=True)]
            asked = [{key: getattr(essay, key) for key in ("essay_id", "prompt_id", "text")} for essay in named]
            answer = await self.connection.ask("POST", "/score", {"essays": asked})
            if answer is None:
                self.cut_off += 1
                if self.cut_off > 20:
                    return
                await asyncio.sleep(0.01)
                continue
            self.responses += 1
            if answer.status == 503:
                assert int(answer.headers["retry-after"]) >= 1
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            assert answer.status == 200
            self.check(places, names, answer.json["scores"])
        self.connection.close()

    def check(self, places, names, rows) -> None:
        assert [row["essay_id"] for row in rows] == names
        for place, row in zip(places, rows, strict=True):
            own = self.offline[place]
            assert row["prompt_id"] == POOL[place].prompt_id
            assert row["raw"] == pytest.approx(own["raw"], abs=1e-5)
            # A score may turn where raw lies on the edge between two points, to within rounding.
            assert row["score"] == own["score"] or abs(row["raw"] * 4 - round(row["raw"] * 4)) < 1e-4
            self.scored += 1


def load(served, offline, seconds, during=None) -> list[Client]:
    async def main():
        clients = [Client(number, served, offline) for number in range(CLIENTS)]
        until = time.monotonic() + seconds
        jobs = [client.work(until) for client in clients]
        await asyncio.gather(*jobs, *([] if during is None else [during()]))
        return clients

    return asyncio.run(main())


def counts(err: str) -> tuple[int, int]:
    """Requests that were answered, and that were taken, as the server says at its end."""
    ((answered, taken),) = re.findall(r"Stopped: (\d+) of (\d+) requests were answered\.$", err, re.MULTILINE)
    return int(answered), int(taken)


def test_offline_scores_tell_essays_apart(offline):
    raw = sorted(row["raw"] for row in offline)
    assert sum(b - a > 1e-4 for a, b in itertools.pairwise(raw)) > 300


def test_many_clients_each_get_their_own_scores(model, offline, tmp_path):
    with process(model, tmp_path) as served:
        clients = load(served, offline, SECONDS)
    responses = sum(client.responses for client in clients)
    assert counts(served.err) == (responses, responses)
    assert min(client.scored for client in clients) > 0
    assert [client.cut_off for client in clients] == [0] * CLIENTS
    assert SECRET not in served.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_request(model, offline, tmp_path, number):
    with process(model, tmp_path) as served:

        async def stop():
            await asyncio.sleep(SECONDS / 3)
            served.signal(number)

        clients = load(served, offline, 60 + SECONDS, stop)
        assert served.finish() == 0
    responses = sum(client.responses for client in clients)
    assert responses > CLIENTS
    assert counts(served.err) == (responses, responses)
    assert all(client.cut_off > 20 for client in clients)


def test_a_full_queue_under_load(model, offline, tmp_path):
    with process(model, tmp_path, "--max-queue", "8", "--max-essays", "8") as served:
        clients = load(served, offline, 2)
    assert sum(client.refused for client in clients) > 0
    assert sum(client.scored for client in clients) > 0


def test_logs_at_the_most_talkative(model):
    """Whatever asyncio, uvicorn and others have to say, in debug mode too."""
    program = (
        "import logging, sys; from aes_dynloss.cli.main import run; logging.basicConfig(level=1); "
        "logging.basicConfig = lambda **_: None; logging.Logger.setLevel = lambda *_: None; sys.exit(run())"
    )
    words = [sys.executable, "-X", "dev", "-c", program, "serve", str(model), "--port", "0", "--cpu"]
    talking = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        host, _, port = talking.stdout.readline().strip().removeprefix("http://").rpartition(":")
        place = SimpleNamespace(host=host, port=int(port))
        body = json.dumps(essays(*[SECRET] * 3, essay_id=SECRET)).encode()
        told = raw(place, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert told.startswith(b"HTTP/1.1 200 ")
        raw(place, b"GET /" + SECRET.encode() + b"?q=" + SECRET.encode() + b" HTTP/1.0\r\n\r\n")
        raw(place, SECRET.encode() + b" / \r\n\r\n")
        talking.send_signal(signal.SIGTERM)
        _, err = talking.communicate(timeout=60)
    finally:
        talking.kill()
        talking.wait()
    assert talking.returncode == 0
    assert "DEBUG:asyncio:" in err
    assert "POST /score 200" in err
    assert SECRET not in err
    assert "Traceback" not in err


def raw(served, *parts: bytes, seconds: float = 20, pause: float = 0.0) -> bytes:
    """What the server says to some bytes until it closes the connection."""
    with socket.create_connection((served.host, served.port), timeout=seconds) as client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        found = b""
        try:
            while part := client.recv(65536):
                found += part
        except OSError:
            pass
        return found


HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_clients_that_misbehave(model, tmp_path):
    with process(model, tmp_path, "--max-body", "1000") as served:
        # Answered at once, while the client holds back the rest for ever.
        start = time.monotonic()
        told = raw(served, HEAD + b"Content-Length: 100000000\r\n\r\n{")
        assert told.startswith(b"HTTP/1.1 413 ")
        assert b"larger than 1000 bytes" in told
        assert time.monotonic() - start < 10
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        endless = raw(served, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 500)
        assert endless.startswith(b"HTTP/1.1 413 ")
        for damaged in (
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"POST /score HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ):
            found = raw(served, damaged, b"\r\n\r\n")
            assert found == b"" or found.startswith(b"HTTP/1.1 400 ")
        raw(served, HEAD + b"Content-Length: 50\r\n\r\n{", seconds=0.1)  # goes in the middle
        body = json.dumps(essays("The bridge.")).encode()
        told = raw(served, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert told.startswith(b"HTTP/1.1 200 ")


def test_slow_clients_are_let_go_and_hold_up_no_end(model, tmp_path):
    with process(model, tmp_path) as served:
        start = time.monotonic()
        assert raw(served, b"POST /sco", seconds=40) == b""
        assert 5 < time.monotonic() - start < 30
        silent = socket.create_connection((served.host, served.port))
        served.signal()
        start = time.monotonic()
        assert served.finish() == 0
        assert time.monotonic() - start < 20
        silent.close()


def test_an_upload_that_goes_on_while_the_server_ends_is_answered(model, tmp_path):
    body = json.dumps(essays("The bridge.")).encode()
    with process(model, tmp_path) as served, socket.create_connection((served.host, served.port), timeout=30) as client:
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
        time.sleep(0.3)
        served.signal()
        time.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((served.host, served.port), timeout=5)
        client.sendall(body[10:])
        told = client.recv(65536)
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in told.lower()
        assert served.finish() == 0
    assert counts(served.err) == (1, 1)
