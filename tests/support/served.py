"""A server that is asked: in this process without a socket, and as a process of its own over real ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import finish, start

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The one sentence of a refusal, after a look that it is nothing else."""
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["detail"]
        return self.json["detail"]


def essays(*texts: str, prompt: str | None = "letter", **more: object) -> dict[str, Any]:
    """What a client sends."""
    return {"essays": [{"text": text, **({} if prompt is None else {"prompt_id": prompt}), **more} for text in texts]}


async def call(
    app: Any,
    method: str,
    path: str,
    body: Any = b"",
    headers: Mapping[str, str] = {},
    pauses: Iterable[float] = (),
) -> Answer:
    """One request to an ASGI application; a body that is no bytes is sent as JSON, a list of bytes in parts."""
    if not isinstance(body, bytes | list) or (isinstance(body, list) and not all(isinstance(b, bytes) for b in body)):
        body, headers = json.dumps(body).encode(), {**JSON, **headers}
    parts = body if isinstance(body, list) else [body]
    names = {"host": "127.0.0.1:8000", **headers}
    if isinstance(body, bytes):
        names.setdefault("content-length", str(len(body)))
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in names.items()],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "state": {},
    }
    incoming, waits = list(parts), list(pauses)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waits:
            await asyncio.sleep(waits.pop(0))
        if not incoming:
            await asyncio.sleep(3600)
        part = incoming.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(incoming)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * (len(sent) - 1)]
    assert not sent[-1].get("more_body", False)
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message["body"] for message in sent[1:]))


class Process:
    """``aes-dynloss serve`` as a process, with its address."""

    def __init__(self, model: Path, folder: Path, *words: str) -> None:
        self._folder = folder
        self._process = start("serve", model, "--port", "0", "--cpu", *words, folder=folder)
        until = time.monotonic() + 120
        while self._process.is_alive() and not self._said("out").endswith("\n") and time.monotonic() < until:
            time.sleep(0.01)
        self.url = self._said("out").strip()
        assert self.url.startswith("http://"), self.err
        self.host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.port = int(port)

    @property
    def err(self) -> str:
        """What it has said so far."""
        return self._said("err")

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def _said(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        os.kill(self._process.pid, number)

    def finish(self) -> int:
        """Wait for its end; the exit code, or minus the signal that ended it."""
        return finish(self._process)


@contextmanager
def process(model: Path, folder: Path, *words: str):
    """A server that is there within the block, and whose end is looked at."""
    served = Process(model, folder, *words)
    try:
        yield served
        if served.is_alive:
            served.signal()
        assert served.finish() == 0, served.err
        assert "Traceback" not in served.err
    finally:
        if served.is_alive:
            served.signal(signal.SIGKILL)


class Connection:
    """A client's connection that is kept alive."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        """One response; None if the server closed the connection before a word of it came.

        Raises:
            asyncio.IncompleteReadError: It ended in the middle.
        """
        try:
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
            content = b"" if body is None else json.dumps(body).encode()
            kind = "" if body is None else "Content-Type: application/json\r\n"
            head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{kind}"
            self.writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            await self.writer.drain()
            first = await self.reader.readline()
        except (ConnectionError, OSError):
            self.close()
            return None
        if not first:
            self.close()
            return None
        return await self._rest(first)

    async def _rest(self, first: bytes) -> Answer:
        headers: dict[str, str] = {}
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(first.split()[1]), headers, body)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None
