"""Counts at /metrics: those of what was asked, by names of ours, and a clear answer where nothing counts."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest
from served import call, essays
from served_app import SECRET, WORDS, Served

from aes_dynloss.serving.app import create_app
from aes_dynloss.serving.guards import LOOPBACK, Guarded

counting = pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None, reason="the extra `metrics` is not installed"
)


class Advised:
    """A scorer whose screen withholds odd essays and advises on short ones."""

    texts = "essays"

    def __init__(self, scorer) -> None:
        self._scorer, self.screen = scorer, self

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def examine(self, texts, _):
        from aes_dynloss.essays.screening.kinds import advisory

        kinds = {"odd": "gibberish", "short": "too_short"}
        return [tuple(advisory(kinds[word], 0.5, 9) for word in text.split() if word in kinds) for text in texts]


def counted(scorer, *calls, **limits) -> dict[str, float]:
    """All samples after some requests, one after the other, by name and labels."""
    from prometheus_client.parser import text_string_to_metric_families

    async def main():
        app = create_app(Served(scorer, **limits).service)
        async with app.router.lifespan_context(app):
            guarded = Guarded(app, app.state.traffic, LOOPBACK, app.state.metrics.request)
            for words in calls:
                await call(guarded, *words)
            return await call(guarded, "GET", "/metrics")

    answer = asyncio.run(main())
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert SECRET not in answer.body.decode()
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert all(family.documentation for family in families)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


@counting
def test_what_was_asked(scorer):
    kind = {"content-type": "text/csv"}
    found = counted(
        Advised(scorer),
        ("POST", "/score", essays("odd short", "short", WORDS, essay_id=SECRET)),
        ("POST", "/score", essays(f"{SECRET} {WORDS}")),
        ("POST", "/score", b"{"),
        ("POST", "/score-table", b"prompt_id,text\nletter,odd\nnotice,car\nnotice,\n", kind),
        ("GET", f"/{SECRET}"),
        ("GET", "/health", b"", {"host": SECRET}),
    )
    expected = {
        "requests_total /score 200": 2,
        "requests_total /score 415": 1,
        "requests_total /score-table 200": 1,
        "requests_total (unknown path) 404": 1,
        "requests_total /health 400": 1,
        "request_seconds_count /score": 3,
        "essays_total": 7,
        "withheld_total": 2,
        "advisories_total gibberish": 2,
        "advisories_total too_short": 2,
        "advisories_total off_topic": 0,
        "batch_essays_count": 3,
        "batch_essays_sum": 7,
        "batch_essays_bucket 2.0": 1,
        "batch_essays_bucket 4.0": 3,
        "queue_essays score": 0,
        "queue_essays table": 0,
        "queue_essays explain": 0,
    }
    assert {name: found.get(f"aes_dynloss_{name}") for name in expected} == expected


@counting
def test_essays_of_a_failed_batch_are_not_among_the_scored(scorer):
    class Failing(Advised):
        def score(self, texts, prompt_ids, **more):
            if SECRET in texts[0]:
                raise ValueError(texts)
            return self._scorer.score(texts, prompt_ids, **more)

    found = counted(Failing(scorer), ("POST", "/score", essays(SECRET)), ("POST", "/score", essays(WORDS)))
    assert found["aes_dynloss_essays_total"] == 1
    assert found["aes_dynloss_batch_essays_sum"] == 2
    assert found["aes_dynloss_requests_total /score 500"] == 1


@counting
def test_two_applications_count_apart(scorer):
    assert counted(scorer, ("POST", "/score", essays(WORDS)))["aes_dynloss_essays_total"] == 1
    assert counted(scorer)["aes_dynloss_essays_total"] == 0


def test_without_the_extra(scorer, monkeypatch):
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "prometheus_client" else plain(name, *more)
    )
    answer = Served(scorer).ask("GET", "/metrics")
    assert answer.status == 501
    assert answer.detail == "This server counts nothing: install prometheus-client, pip install 'aes-dynloss[metrics]'."
    assert Served(scorer).post(essays(WORDS)).status == 200
