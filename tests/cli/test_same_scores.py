"""One essay and one model: the class, `aes-dynloss score` and the service say the same of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from advised_scorer import PROMPTS, write_advised
from command_line import command
from hostile_essays import HOSTILE
from small_run import RANGES, small_essays, write_rows
from small_screen import made_up

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from aes_dynloss import EssayScorer
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.messages import EssayToScore
from aes_dynloss.serving.service import EssayService

COUNT = 200
QUICK = ["evaluation.resamples=100", "evaluation.floors=false", "evaluation.page=false", "evaluation.explained=0"]
CLASSICAL = {
    "strings": ["model.kind=strings", "model.linguistic=[counts]"],
    "boosting": ["model.kind=boosting", "model.linguistic=[counts]"],
}


def finetune(essays, folder, *words: str) -> None:
    ranges = [f"--range={prompt}=0:6" for prompt in RANGES]
    done = command("finetune", essays, "--preset", "none", *ranges, *QUICK, *words, "-o", folder)
    assert done.code == 0, done.err


def rows_of(prompts: list[str], text) -> list[dict[str, str]]:
    """So many essays, hostile ones among them, one of them twice."""
    rows = []
    for number in range(COUNT):
        prompt = prompts[number % 2]
        own = HOSTILE[number // 3] if number % 3 == 1 and number // 3 < len(HOSTILE) else text(prompt, number)
        rows.append({"essay_id": f"e{number}", "prompt_id": prompt, "text": own})
    rows[-1]["text"] = rows[0]["text"]
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same")
    write_advised(folder, "ordinal")
    scored = small_essays()
    for row in scored:
        row |= {"overall": row["score"], "style": min(row["score"] + 1, 4)}
    essays = write_rows(folder / "scored.jsonl", scored)
    for name, words in CLASSICAL.items():
        finetune(essays, folder / name, "--score-column", "score", *words)
    finetune(essays, folder / "traits", "--score-column", "overall", "--score-column", "style", *CLASSICAL["strings"])
    assert command("ensemble", *(folder / name for name in CLASSICAL), "-o", folder / "ensemble").code == 0
    return folder


def asked(model: str) -> list[dict[str, str]]:
    if model == "ordinal":
        generator = np.random.default_rng(3)
        return rows_of(list(PROMPTS), lambda prompt, number: made_up(prompt, generator, 60 + number % 90))
    plain = {prompt: [row["text"] for row in small_essays(60) if row["prompt_id"] == prompt] for prompt in RANGES}
    return rows_of(list(RANGES), lambda prompt, number: plain[prompt][number % 60] + f" It is number {number}.")


def same(one: object, other: object) -> bool:
    """Equal, but for what rounding does where essays are padded beside others."""
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, abs=1e-5)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def without_duplicates(row: dict[str, object]) -> dict[str, object]:
    """A row without the one advisory that only a whole input shows."""
    kept = [place for place, kind in enumerate(row["advisories"]) if kind != "duplicate"]
    return row | {name: [row[name][place] for place in kept] for name in ("advisories", "reasons")}


# Under the second each hostile essay is held back for fewer reasons, so that each of them counts.
POLICIES = {"default": {}, "own": {"gibberish": "advise", "off_topic": "off", "too_short": "withhold"}}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("model", ["ordinal", "strings", "boosting", "ensemble", "traits"])
def test_class_command_and_service(place, model, policy, tmp_path):
    essays = asked(model)
    path = write_rows(tmp_path / "essays.jsonl", essays)
    words = [f"--policy={kind}={action}" for kind, action in policy.items()]
    done = command("score", place / model, path, *words, "-o", tmp_path / "scores.jsonl")
    assert done.code == 0, done.err
    of_command = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]

    scorer = EssayScorer.from_pretrained(place / model, cpu=True)
    scores = scorer.score(pd.DataFrame(essays), policy=policy)
    frame = scores.to_frame()
    assert list(frame) == list(of_command[0])
    of_class = [dict(zip(scores.columns, values, strict=True)) for values in zip(*scores.columns.values(), strict=True)]
    service = EssayService(scorer.model, model, 0.9, Limits(), Policy(**policy))
    of_service = service.rows(service.checked([EssayToScore(**essay) for essay in essays]))

    assert len(of_command) == len(of_class) == len(of_service) == COUNT
    for from_command, from_class, from_service in zip(of_command, of_class, of_service, strict=True):
        assert from_class == from_command
        assert from_service.keys() == from_command.keys()
        expected = without_duplicates(from_command)
        assert all(same(from_service[name], expected[name]) for name in expected), (from_service, expected)
    kinds = {kind for row in of_command for kind in row["advisories"]}
    assert {"empty", "duplicate", "prompt_injection", "hidden_characters", "other_language"} <= kinds
    assert 10 < sum(row["withheld"] for row in of_command) < COUNT
