"""What the server counts, in the text form of Prometheus: no text, and no id of an essay.

Needs prometheus-client, the extra ``metrics``; without it nothing is counted.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from aes_dynloss.essays.screening.kinds import KINDS
from aes_dynloss.serving.requests import RefusalError
from aes_dynloss.serving.service import Row

UNCOUNTED = "This server counts nothing: install prometheus-client, pip install 'aes-dynloss[metrics]'."
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics(Protocol):
    """What is told of requests and batches, and asked for."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            route: Its address without the query, or words for one that is unknown.
            status: Of the response; 499 where the client was gone before it was sent whole.
            seconds: From its head to the response's end.
        """

    def batch(self, size: int, rows: Sequence[Row]) -> None:
        """Count a batch.

        Args:
            size: Its essays.
            rows: The rows of those that could be scored.
        """

    def text(self) -> bytes:
        """All counts, in Prometheus' text form.

        Raises:
            RefusalError: Nothing is counted here (501).
        """


class NoMetrics:
    """Counts nothing."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Pass."""

    def batch(self, size: int, rows: Sequence[Row]) -> None:
        """Pass."""

    def text(self) -> bytes:
        """Say what is missing."""
        raise RefusalError(501, UNCOUNTED)


class PrometheusMetrics:
    """Counts in a registry of its own.

    Args:
        waiting: Returns how many essays wait in a queue.
        queues: Names of the queues.
    """

    def __init__(self, waiting: Callable[[str], int], queues: Sequence[str]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "aes_dynloss_requests", "Requests, by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "aes_dynloss_request_seconds",
            "Time from a request's head to its response's end.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._essays = Counter("aes_dynloss_essays", "Essays that were looked at.", registry=registry)
        self._withheld = Counter("aes_dynloss_withheld", "Essays whose score was withheld.", registry=registry)
        self._advisories = Counter("aes_dynloss_advisories", "Advisories, by kind.", ["kind"], registry=registry)
        self._sizes = Histogram(
            "aes_dynloss_batch_essays", "Essays that were scored together.", buckets=_SIZES, registry=registry
        )
        queue = Gauge("aes_dynloss_queue_essays", "Essays that wait, by queue.", ["queue"], registry=registry)
        for name in queues:
            queue.labels(name).set_function(partial(waiting, name))
        for kind in KINDS:
            self._advisories.labels(kind)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, size: int, rows: Sequence[Row]) -> None:
        """Count a batch."""
        self._sizes.observe(size)
        self._essays.inc(len(rows))
        self._withheld.inc(sum(bool(row.get("withheld")) for row in rows))
        for row in rows:
            for kind in row.get("advisories") or ():
                self._advisories.labels(kind).inc()

    def text(self) -> bytes:
        """All counts."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self._registry)
        return text


def open_metrics(waiting: Callable[[str], int], queues: Sequence[str]) -> Metrics:
    """Metrics where prometheus-client is installed.

    Args:
        waiting: Returns how many essays wait in a queue.
        queues: Names of the queues.
    """
    known = importlib.util.find_spec("prometheus_client") is not None
    return PrometheusMetrics(waiting, queues) if known else NoMetrics()
