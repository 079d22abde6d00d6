"""Damaged bodies of requests: an answer or one clear refusal; of JSON as Python's own reader judges it."""

from __future__ import annotations

import json
import logging
import os
import random

from damage import damaged_bytes, damaged_values
from served import JSON
from served_app import SECRET, WORDS, Served

from aes_dynloss.serving.tables import READ_TYPES

DAMAGED = 10_000 if os.environ.get("AES_DYNLOSS_LONG") == "1" else 400


def is_good(body: bytes) -> bool:
    """Whether a body asks for scores as it should, judged by Python's own reader of JSON."""
    try:
        value = json.loads(body.decode())
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or list(value) != ["essays"] or not isinstance(value["essays"], list):
        return False
    return bool(value["essays"]) and all(_is_good_essay(essay) for essay in value["essays"])


def _is_good_essay(essay: object) -> bool:
    if not isinstance(essay, dict) or not set(essay) <= {"essay_id", "prompt_id", "text"}:
        return False
    id_fits = essay.get("essay_id") is None or isinstance(essay["essay_id"], str)
    return id_fits and essay.get("prompt_id") in ("letter", "notice") and isinstance(essay.get("text"), str)


def _damaged(number: int) -> bytes:
    chance = random.Random(f"served {number}")
    body = {"essays": [{"essay_id": "7", "prompt_id": "letter", "text": f"{WORDS} {SECRET}"} for _ in range(2)]}
    kind = chance.choice(["bytes", "bytes", "values", "noise"])
    if kind == "noise":
        return chance.randbytes(chance.randrange(200))
    if kind == "values":
        return json.dumps(damaged_values(body, chance)).encode()
    return damaged_bytes(json.dumps(body, ensure_ascii=chance.random() < 0.5).encode(), chance)


def test_damaged_bodies(scorer, caplog):
    bodies = [_damaged(number) for number in range(DAMAGED)]
    served = Served(scorer, max_characters=10**6)
    with caplog.at_level(logging.DEBUG):
        answers = [
            answer
            for start in range(0, DAMAGED, 100)
            for answer in served.together(*(("POST", "/score", body, JSON) for body in bodies[start : start + 100]))
        ]
    statuses = [answer.status for answer in answers]
    for body, answer in zip(bodies, answers, strict=True):
        assert (answer.status == 200) == is_good(body), body[:2000]
        assert answer.status in {200, 400, 413, 422}
        if answer.status != 200:
            assert 10 < len(answer.detail) < 300
            assert "Traceback" not in answer.detail
    assert min(statuses.count(400), statuses.count(422)) > DAMAGED / 10
    assert SECRET not in caplog.text


def _damaged_table(number: int) -> tuple[str, bytes]:
    """A table of a kind with a few bytes changed, left out or doubled."""
    import io

    import pandas as pd

    chance = random.Random(f"table {number}")
    rows = pd.DataFrame({"prompt_id": ["letter", "notice"] * 3, "text": [f"{WORDS} {SECRET}"] * 6, "n": range(6)})
    kind = chance.choice(list(READ_TYPES))
    writers = {
        ".csv": lambda stream: rows.to_csv(stream, index=False),
        ".tsv": lambda stream: rows.to_csv(stream, index=False, sep="\t"),
        ".jsonl": lambda stream: rows.to_json(stream, orient="records", lines=True),
        ".parquet": lambda stream: rows.to_parquet(stream, index=False),
        ".xlsx": lambda stream: rows.to_excel(stream, index=False),
    }
    stream = io.BytesIO()
    writers[READ_TYPES[kind]](stream)
    return kind, damaged_bytes(stream.getvalue(), chance)


def test_damaged_tables(scorer, caplog):
    asked = [_damaged_table(number) for number in range(DAMAGED // 4)]
    served = Served(scorer, max_tables=200)
    with caplog.at_level(logging.DEBUG):
        answers = [
            answer
            for start in range(0, len(asked), 20)
            for answer in served.together(
                *(("POST", "/score-table", body, {"content-type": kind}) for kind, body in asked[start : start + 20])
            )
        ]
    statuses = [answer.status for answer in answers]
    for answer in answers:
        assert answer.status in {200, 413, 422}, answer.body
        if answer.status != 200:
            assert 10 < len(answer.detail) <= 300
    assert min(statuses.count(200), statuses.count(422)) > len(asked) / 10
    assert SECRET not in caplog.text
