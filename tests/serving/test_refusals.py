"""What the application refuses, and with which words."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from served import JSON, essays
from served_app import WORDS, Served

from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.messages import ScoreRequest

REFUSED = [
    (b"", 400, "The body is not valid JSON: EOF while parsing a value at line 1 column 0."),
    (b'{"essays": [', 400, "The body is not valid JSON: EOF while parsing a list at line 1 column 12."),
    (b"\xff\xfe{", 400, "The body is not valid JSON: expected value at line 1 column 1."),
    (b'{"essays": [{"text": "\\ud800", "prompt_id": "letter"}]}', 400, "The body is not valid JSON: "),
    (b'{"essays": [{"text": "\xed\xa0\x80", "prompt_id": "letter"}]}', 400, "The body is not valid JSON: "),
    (b'{"essays": [{"text": "\xc3", "prompt_id": "letter"}]}', 400, "The body is not valid JSON: "),
    (b'{"a":' * 5000, 400, "The body is not valid JSON: recursion limit exceeded"),
    ([1], 422, "The body must be an object in curly brackets."),
    ({}, 422, "essays is missing."),
    ({"essays": {}}, 422, "essays must be a list in square brackets."),
    ({"essays": []}, 422, "essays must hold one essay or more."),
    ({"essays": ["a"]}, 422, "essays[0] must be an object in curly brackets."),
    ({"essays": [{"prompt_id": "letter"}]}, 422, "essays[0].text is missing."),
    ({"essays": [{"text": None}]}, 422, "essays[0].text must be text in quotes."),
    ({"essays": [{"text": 3}, {"text": 4}]}, 422, "essays[0].text must be text in quotes."),
    (essays("a", essay_id=7), 422, "essays[0].essay_id must be text in quotes."),
    (essays("a", x=1), 422, "essays[0].x is no key that is known here."),
    (essays("a", prompt=None), 422, "essays[0].prompt_id is missing; the model knows letter, notice."),
    (
        essays("a", prompt="poem"),
        422,
        "essays[0].prompt_id 'poem' is not known to the model, which knows letter, notice.",
    ),
]


class TestRefusals:
    @pytest.mark.parametrize(("body", "status", "words"), REFUSED)
    def test_words(self, served, body, status, words):
        answer = served.post(body)
        assert answer.status == status
        assert answer.detail.startswith(words)
        assert answer.detail.count(". ") == 0
        assert len(answer.detail) < 200

    def test_names_of_any_length(self, served):
        assert len(served.post(essays("a", prompt="p" * 100_000)).detail) < 200
        assert len(served.post(essays("a", **{"k" * 100_000: 1})).detail) < 200

    @pytest.mark.parametrize(
        "body",
        [
            b'{"essays": [%s]}' % b",".join([b"1"] * 20_000),
            b'{"essays": [{%s}]}' % b",".join(b'"%d": 1' % number for number in range(20_000)),
            b"{%s}" % b",".join(b'"%d": 1' % number for number in range(20_000)),
        ],
    )
    def test_validation_ends_at_the_first_few_faults(self, body):
        with pytest.raises(ValidationError) as caught:
            ScoreRequest.model_validate_json(body)
        assert caught.value.error_count() <= 2

    def test_a_body_is_validated_beside_the_event_loop(self, served, monkeypatch):
        threads = []

        def validate(body):
            threads.append(threading.current_thread())
            return ScoreRequest.model_validate(json.loads(body))

        monkeypatch.setattr("aes_dynloss.serving.routes.ScoreRequest", SimpleNamespace(model_validate_json=validate))
        assert served.post(essays("a")).status == 200
        assert threads
        assert threading.current_thread() not in threads

    @pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data", "application/xml; a=application/json"])
    def test_a_body_that_is_not_said_to_be_json(self, served, kind):
        answer = served.post(json.dumps(essays("a")).encode(), {} if kind is None else {"content-type": kind})
        assert answer.status == 415
        assert "Content-Type: application/json" in answer.detail
        assert answer.headers["connection"] == "close"

    def test_json_with_a_charset(self, served):
        assert (
            served.post(json.dumps(essays("a")).encode(), {"content-type": "Application/JSON; charset=utf-8"}).status
            == 200
        )

    def test_addresses_and_methods(self, served):
        assert served.ask("GET", "/nothing").status == 404
        assert "POST /score" in served.ask("GET", "/nothing").detail
        for method, path in (("POST", "/score/"), ("GET", "/health/"), ("GET", "/score/")):
            answer = served.ask(method, path)
            assert (answer.status, answer.detail) == (404, served.ask("GET", "/nothing").detail)
        assert served.ask("HEAD", "/score").status == 405
        answer = served.ask("GET", "/score")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert answer.detail == "This address takes POST only."
        assert served.ask("OPTIONS", "/score").status == 405

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            *[(host, 200) for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:9", "[::1]:8000", "[::1]")],
            *[
                (host, 400)
                for host in ("evil.example", "localhost.evil.example:8000", "", "[::1]x", "127.0.0.1.", "::1")
            ],
            *[
                (host, 400)
                for host in (
                    "localhost:x",
                    "localhost:80 evil.example",
                    "[::1]:8o",
                    "localhost:80:80",
                )
            ],
        ],
    )
    def test_a_host_by_another_name(self, served, host, status):
        answer = served.ask("GET", "/health", b"", {"host": host})
        assert answer.status == status
        if status == 400:
            assert "--allowed-host" in answer.detail


class TestLimits:
    def test_essays_and_characters(self, scorer):
        small = Served(scorer, max_essays=2, max_characters=10)
        assert small.post(essays("a", "b")).status == 200
        assert small.post(essays("a" * 10)).status == 200
        many, long = small.post(essays("a", "b", "c")), small.post(essays("a" * 11))
        assert (many.status, many.detail) == (413, "The request holds 3 essays; 2 at most are taken.")
        assert (long.status, long.detail) == (413, "essays[0].text has 11 characters; 10 at most are taken.")

    def test_a_body_whose_length_is_told_is_not_read(self, scorer):
        small = Served(scorer, max_body=100)
        exact = json.dumps(essays("a")).encode().ljust(100)
        assert small.post(exact).status == 200
        answer = small.ask("POST", "/score", [b"{", b""], {**JSON, "content-length": "101"})
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert answer.detail == "The body is larger than 100 bytes, the most that is taken."
        assert small.ask("POST", "/score", [b"{", b""], {**JSON, "content-length": "9" * 500}).status == 413

    def test_a_body_whose_length_is_not_told_is_cut(self, scorer):
        small = Served(scorer, max_body=100)
        whole = json.dumps(essays("a")).encode().ljust(100)
        assert small.ask("POST", "/score", [whole[:50], whole[50:]], JSON).status == 200
        assert small.ask("POST", "/score", [whole[:50], whole[50:], b" "], JSON).status == 413

    def test_a_slow_body(self, scorer):
        slow = Served(scorer, client_seconds=0.2)
        answer = slow.ask("POST", "/score", [b"{", b"}"], JSON, [0, 5, 5])
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert answer.detail == "The body did not arrive within 0.2 seconds."

    def test_that_fit_together(self):
        with pytest.raises(ValueError, match="max_queue is 10, below max_essays, 20"):
            Limits(max_queue=10, max_essays=20)

    def test_a_full_queue(self, scorer):
        small = Served(scorer, max_essays=8, max_queue=8)
        answers = small.together(*[("POST", "/score", essays(*[WORDS] * 8))] * 5)
        refused = [answer for answer in answers if answer.status == 503]
        assert {answer.status for answer in answers} == {200, 503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert "try again in" in refused[0].detail
