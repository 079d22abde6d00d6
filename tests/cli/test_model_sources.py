"""A zip, and a name on the hub, wherever a command takes a model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import command
from small_run import write_rows
from stub_hub import Repository, stub_hub
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

ROWS = [
    {"essay_id": "7", "prompt_id": "letter", "text": "The otter is big. I see the bridge!"},
    {"essay_id": "8", "prompt_id": "notice", "text": "A bridge is not a school."},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    scorer = tiny_scorer(write_tiny_encoder(folder / "encoder"), linguistic=["counts"])
    scorer.save_pretrained(folder / "run" / "model")
    shutil.make_archive(str(folder / "scorer"), "zip", folder, "run")
    write_rows(folder / "essays.csv", ROWS)
    return folder


@pytest.fixture(autouse=True)
def room(tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "room"))


def test_a_zip_scores_as_the_run_does(place):
    scored = [command("score", place / name, place / "essays.csv") for name in ("run", "scorer.zip")]
    assert scored[0].code == 0, scored[0].err
    assert (scored[1].code, scored[1].out) == (0, scored[0].out)


def test_a_zip_is_explained_resumed_and_tested(place, tmp_path):
    words = ["explain", place / "scorer.zip", place / "essays.csv", "-o", tmp_path / "out"]
    assert command(*words).code == 0
    assert "is complete" in command(*words, "--resume").err
    assert command("robustness", place / "scorer.zip", place / "essays.csv", "--kinds", "typos").code == 0


def test_a_zip_that_is_none(place, tmp_path):
    """tests/cli/test_serve.py asks the server for one."""
    (tmp_path / "x.zip").write_text("words")
    outcome = command("score", tmp_path / "x.zip", place / "essays.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "x.zip cannot be unpacked: it is no zip file. Fetch it again." in outcome.error


def test_a_name_on_the_hub(place, tmp_path):
    """In a process of its own, which reads HF_ENDPOINT."""
    expected = command("score", place / "run", place / "essays.csv").out
    folder = place / "run" / "model"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with stub_hub() as hub:
        hub.repositories["ana/scorer"] = Repository()
        hub.repositories["ana/scorer"].commit({}, "main")
        hub.repositories["ana/scorer"].commit(files, "v1")
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        words = [sys.executable, "-m", "aes_dynloss", "score", "ana/scorer@v1", place / "essays.csv"]
        ended = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == expected


def test_a_name_that_is_nowhere(place, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    outcome = command("score", "ana/scorer", place / "essays.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith("There is no model folder ana/scorer here, and none comes from the hub, ")
    assert "HF_HUB_OFFLINE is set" in outcome.error
