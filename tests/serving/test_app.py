"""The application without a socket: what it answers, and what it never says."""

from __future__ import annotations

import logging

import pytest
from served import essays
from served_app import SECRET, WORDS, Served

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import explain_essays
from aes_dynloss.essays.scoring.score import score_essays
from aes_dynloss.essays.screening.kinds import Policy, advisory
from aes_dynloss.serving.app import create_app
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.messages import ExplainResponse, Health, ScoreResponse
from aes_dynloss.serving.service import POLICY, EssayService, column_rows


class Failing:
    """A scorer that fails on essays with a certain word, and quotes them."""

    def __init__(self, scorer) -> None:
        self._scorer = scorer

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def score(self, texts, prompt_ids, **more):
        for text in texts:
            if SECRET in text:
                raise ValueError(text)
        return self._scorer.score(texts, prompt_ids, **more)


def test_scores_are_those_of_scoring_offline(served, scorer):
    sent = [UnscoredEssay(f"é {n}", ("letter", "notice")[n % 2], f"{WORDS} {'car ' * n}") for n in range(9)]
    keys = ("essay_id", "prompt_id", "text")
    body = {"essays": [{key: getattr(essay, key) for key in keys} for essay in sent]}
    (window,) = score_essays(scorer, sent, policy=Policy(duplicate="off"))
    answer = served.post(body)
    assert answer.status == 200
    assert answer.json["scores"] == column_rows(window.columns)
    assert len({row["raw"] for row in answer.json["scores"]}) == 9
    typed = ScoreResponse.model_validate(answer.json)
    assert not any(row.model_extra for row in typed.scores)
    assert [row.essay_id for row in typed.scores] == [essay.essay_id for essay in sent]


def test_requests_at_the_same_time_get_their_own_scores(served):
    bodies = [essays(f"{WORDS} {'otter ' * n}", prompt="notice", essay_id=str(n)) for n in range(40)]
    alone = [served.post(body).json["scores"][0] for body in bodies]
    together = served.together(*(("POST", "/score", body) for body in bodies))
    for one, answer in zip(alone, together, strict=True):
        (row,) = answer.json["scores"]
        assert row["essay_id"] == one["essay_id"]
        assert row["raw"] == pytest.approx(one["raw"], abs=1e-5)


def test_an_essay_without_id_gets_its_number(served):
    rows = served.post(essays(WORDS, WORDS + " otter", essay_id=None)).json["scores"]
    assert [row["essay_id"] for row in rows] == ["1", "2"]


def test_another_clients_essay_is_no_duplicate(served, scorer):
    answers = served.together(*[("POST", "/score", essays(WORDS, WORDS))] * 5)
    rows = [row for answer in answers for row in answer.json["scores"]]
    assert len(rows) == 10
    assert all("duplicate" not in row["advisories"] for row in rows)
    asked_for = EssayService(scorer, "model", 0.9, Limits(), Policy(duplicate="withhold"))
    found = asked_for.rows([UnscoredEssay("1", "letter", WORDS)] * 2)
    assert all("duplicate" not in row["advisories"] for row in found)


class Screened:
    """A scorer whose screen finds each essay with two words of its own fault."""

    texts = "essays"

    def __init__(self, scorer) -> None:
        self._scorer = scorer
        self.screen = self

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def examine(self, texts, prompt_ids):
        kinds = {"odd": "gibberish", "short": "too_short"}
        return [tuple(advisory(kinds[word], 0.5, 9) for word in text.split() if word in kinds) for text in texts]


def test_advisories_and_a_withheld_score(scorer):
    screened = Served(Screened(scorer))
    answer = screened.post(essays("odd short words", "short words", "words"))
    odd, short, plain = answer.json["scores"]
    ScoreResponse.model_validate(answer.json)
    assert (odd["withheld"], odd["score"], odd["raw"]) == (True, None, None)
    assert odd["advisories"] == ["gibberish", "too_short"]
    assert [reason.split()[0] for reason in odd["reasons"]] == ["50%", "It"]
    assert (short["withheld"], short["advisories"]) == (False, ["too_short"])
    assert short["score"] in range(1, 7)
    assert (plain["withheld"], plain["advisories"], plain["reasons"]) == (False, [], [])


def test_columns_come_by_their_names_whatever_they_are():
    columns = {"essay_id": ["1"], "new": [{"a": float("nan")}], "raw": [float("inf")], "withheld": [True]}
    assert column_rows(columns) == [{"essay_id": "1", "new": {"a": None}, "raw": None, "withheld": True}]


def test_no_forward_call_is_larger_than_a_batch(scorer, monkeypatch):
    sizes = []
    plain = type(scorer).score
    monkeypatch.setattr(type(scorer), "score", lambda *a, **k: sizes.append(len(a[1])) or plain(*a, **k))
    small = Served(scorer, batch_size=3)
    small.together(*[("POST", "/score", essays(*[WORDS] * size)) for size in (7, 2, 1, 1)])
    assert sum(sizes) == 11
    assert max(sizes) == 3


def test_health(served):
    answer = served.ask("GET", "/health")
    health = Health.model_validate(answer.json)
    assert answer.status == 200
    assert [(one.prompt_id, one.low, one.high, one.step) for one in health.prompts] == [
        ("letter", 1, 6, 1),
        ("notice", 0, 2, 0.5),
    ]
    assert (health.status, health.model, health.waiting, health.max_essays) == ("ok", "model", 0, 256)


class TestFaults:
    def test_meet_the_culprit_alone_and_are_told_without_its_words(self, scorer, caplog):
        failing = Served(Failing(scorer))
        bodies = [essays(WORDS), essays(SECRET), essays(WORDS + " otter"), essays(WORDS, f"a {SECRET} b")]
        with caplog.at_level(logging.DEBUG):
            answers = failing.together(*(("POST", "/score", body) for body in bodies))
        assert [answer.status for answer in answers] == [200, 500, 200, 500]
        assert answers[1].detail == "The server failed to score these essays."
        assert SECRET not in caplog.text
        assert "ValueError in" in caplog.text

    def test_of_the_application_itself(self, served, monkeypatch, caplog):
        def broken(self):
            raise RuntimeError(SECRET)

        monkeypatch.setattr(EssayService, "known_prompts", broken)
        with caplog.at_level(logging.DEBUG):
            answer = served.ask("GET", "/health")
        assert (answer.status, answer.detail) == (500, "The server failed to answer.")
        assert "RuntimeError in" in caplog.text
        assert SECRET not in caplog.text
        assert "Traceback" not in caplog.text


def test_logs_hold_no_word_of_a_client(served, caplog):
    with caplog.at_level(logging.DEBUG):
        served.post(essays(f"{WORDS} {SECRET}", essay_id=SECRET))
        served.post(essays("a", prompt=SECRET))
        served.post(essays("a", **{SECRET: SECRET}))
        served.post(f'{{"{SECRET}'.encode())
        served.ask("GET", f"/{SECRET}")
        served.ask(SECRET.upper(), "/score")
        served.ask("GET", "/health", b"", {"host": SECRET, "user-agent": SECRET})
    assert SECRET not in caplog.text.lower()
    assert "POST /score 200" in caplog.text
    assert "GET (unknown path) 404" in caplog.text
    assert "(unknown method) /score 405" in caplog.text


def test_no_telemetry_whatever_the_environment_says(scorer, monkeypatch):
    pytest.importorskip("fastapi.telemetry", reason="this FastAPI has none")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    app = create_app(EssayService(scorer, "model", 0.9, Limits()))
    found = app._telemetry
    assert not any(found[name] for name in ("auto_configure", "tracing", "metrics", "logs", "operation_spans"))


def test_headers_of_every_response(served):
    for answer in (
        served.ask("GET", "/health"),
        served.ask("GET", "/nothing"),
        served.post(b"{"),
        served.ask("GET", "/"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_the_page_holds_all_it_needs(served):
    answer = served.ask("GET", "/")
    html, policy = answer.body.decode(), answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("text/html")
    assert "'unsafe-inline'" not in policy
    for sign in (
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http://",
        "https://",
        " style=",
        " onclick=",
    ):
        assert sign not in html
    for name in ("prompt", "text"):
        assert f'<label for="{name}">' in html


class TestFeatures:
    """Numbers beside the text, which a model may need."""

    @pytest.fixture
    def asked(self, scorer, monkeypatch):
        monkeypatch.setattr(type(scorer), "own_features", ("age",))
        return lambda features: Served(scorer).post({"essays": [{"text": WORDS, "prompt_id": "letter"} | features]})

    def test_health_names_them(self, asked, scorer):
        assert Served(scorer).ask("GET", "/health").json["features"] == ["age"]
        assert asked({"features": {"age": 12, "year": 1e300}}).status == 200

    @pytest.mark.parametrize(
        ("features", "words"),
        [
            ({}, "lacks a number for 'age'"),
            ({"features": {"year": 3}}, "lacks a number for 'age'"),
            ({"features": {"age": float("nan")}}, "features.age must be a number from -1e+30 to 1e+30"),
            ({"features": {"age": 1e31}}, "features.age must be a number from -1e+30 to 1e+30"),
            ({"features": {"age": "12"}}, "features.age must be a number"),
            ({"features": {"age": True}}, "features.age must be a number"),
            ({"features": {"age": None}}, "features.age must be a number"),
            ({"features": [12]}, "features must be an object"),
        ],
    )
    def test_refused(self, asked, features, words):
        answer = asked(features)
        assert answer.status == 422
        assert words in answer.detail


class TestExplanations:
    TEXT = "The bridge is old. The council should mend it! We walk to school by the river."

    def explained(self, served, *texts, prompt="notice"):
        return served.ask("POST", "/explain", essays(*texts, prompt=prompt))

    def test_they_are_those_of_the_command(self, served, scorer):
        answer = self.explained(served, self.TEXT, WORDS)
        assert answer.status == 200
        given = [UnscoredEssay(str(number), "notice", text) for number, text in enumerate((self.TEXT, WORDS))]
        expected = [one.to_dict() for one in explain_essays(scorer, given, policy=POLICY, nearest=False)]
        for row, one in zip(answer.json["explanations"], expected, strict=True):
            (found,), (score,) = row["scores"], one["scores"]
            assert found["contributions"] == pytest.approx(score["contributions"], abs=1e-5)
            assert row["sentences"] == one["sentences"]
        assert len(answer.json["explanations"][0]["sentences"]) == 3
        ExplainResponse.model_validate(answer.json)

    def test_a_withheld_score_is_not_told(self, scorer):
        row = self.explained(Served(Screened(scorer)), "An odd one. Yes.").json["explanations"][0]
        assert row["withheld"]
        assert row["scores"] == []
        assert len(row["sentences"]) == 2

    def test_no_training_essay_is_named(self, served):
        row = self.explained(served, self.TEXT).json["explanations"][0]
        assert row["scores"][0]["neighbours"] == []

    def test_limits_are_those_of_scores(self, scorer):
        service = Served(scorer, max_essays=1, max_characters=200)
        assert self.explained(service, "a", "b").status == 413
        assert self.explained(service, "a" * 201).status == 413
        assert self.explained(service, "a", prompt="unknown").status == 422
        assert service.ask("GET", "/explain", None).status == 405

    def test_scores_come_in_between(self, served):
        bodies = essays(*[self.TEXT] * 4, prompt="notice"), essays(WORDS, prompt="notice")
        explained, scored = served.together(("POST", "/explain", bodies[0]), ("POST", "/score", bodies[1]))
        assert (explained.status, scored.status) == (200, 200)
        assert len(explained.json["explanations"]) == 4

    def test_a_scorer_that_fails(self, scorer, caplog):
        service = Served(Failing(scorer))
        assert self.explained(service, SECRET).status == 500
        assert SECRET not in caplog.text
