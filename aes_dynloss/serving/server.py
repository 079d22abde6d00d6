"""The HTTP/1.1 server: its socket, a deadline for each request's head, and a graceful shutdown.

On shutdown every request that was accepted is answered.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from aes_dynloss.errors import ConfigError
from aes_dynloss.serving.guards import LOOPBACK, Guarded, Traffic
from aes_dynloss.serving.limits import Limits


class DeadlineProtocol(H11Protocol):
    """Closes a connection on which no request comes to be; uvicorn itself waits for ever for a head's next byte."""

    # From a connection's beginning, or the first byte after a response, to the end of a request's head.
    seconds: ClassVar[float]
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's types differ from uvicorn's
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless that was the rest of a request's head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        if self._is_answering:
            self._stop_waiting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self._is_answering:
            self.transport.close()


logger = logging.getLogger(__name__)

# Requests that were under way to us when we stopped listening arrive in this time, in seconds.
_LAST_CALL = 0.3
_BACKLOG = 1024


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address, on which nobody listens yet.

    Args:
        host: Name or address.
        port: Port; 0 for a free one.

    Raises:
        ConfigError: There is no such host here, or its port is taken or forbidden.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise ConfigError(
            f"--host {host}: there is no host of this name. Give a name or address of this machine."
        ) from None
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _cannot_listen(host, port, error) from None
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def url_of(bound: socket.socket) -> str:
    """Where clients find a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def hosts_of(bound: socket.socket, host: str, further: tuple[str, ...]) -> set[str] | None:
    """Names that a request may give to the server; None for any, where other machines know it under names of theirs."""
    if not further and not is_loopback(bound):
        return None
    address = bound.getsockname()[0]
    return {*LOOPBACK, host, f"[{address}]" if ":" in address else address, *further}


def run_server(
    app: FastAPI, bound: socket.socket, *, limits: Limits, hosts: set[str] | None, ready: Callable[[], None]
) -> int:
    """Serve until a signal, SIGINT or SIGTERM, and then answer what was taken.

    Args:
        app: The application.
        bound: Where to listen.
        limits: What one client may ask for.
        hosts: Names that a request may give to the server; None: any.
        ready: Is called once clients are answered.

    Returns:
        Exit code: 0, or 130 after a second SIGINT, which waits for nothing.

    Raises:
        ConfigError: Somebody else has begun to listen there.
    """
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        host, taken_port, *_ = bound.getsockname()
        raise _cannot_listen(host, taken_port, error) from None
    traffic: Traffic = app.state.traffic
    config = uvicorn.Config(
        Guarded(app, traffic, hosts, app.state.metrics.request),
        loop="asyncio",
        http=type("_DeadlineProtocol", (DeadlineProtocol,), {"seconds": limits.header_seconds}),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=limits.connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=max(1, round(limits.client_seconds)),
    )
    server = _Server(config, app, ready)
    with _signals_end(server):
        server.run(sockets=[bound])
    logger.info("Stopped: %d of %d requests were answered.", traffic.answered, traffic.taken)
    return 130 if server.force_exit else 0


class _Server(uvicorn.Server):
    """Ends gently: it stops listening, answers all that was on its way, and closes each connection after its answer."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._application = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("Stopping: what was asked for is answered.")
        for listener in self.servers:
            listener.close()
        state = self._application.state
        state.traffic.closing = True
        await asyncio.sleep(_LAST_CALL)
        while not all(queue.idle for queue in state.queues.values()) and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


@contextmanager
def _signals_end(server: uvicorn.Server) -> Iterator[None]:
    """SIGINT and SIGTERM end the server, also before uvicorn handles them, and after, when it raises them again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Port {port} of {host} is in use. Stop what listens there, or choose another --port; 0 is any."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ConfigError(f"Port {port} of {host} may not be used. Choose a --port above 1023.")
    return ConfigError(f"Cannot listen on port {port} of {host}: {error.strerror}. Choose another --host or --port.")
