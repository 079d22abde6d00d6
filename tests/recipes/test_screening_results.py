"""The figures of advisories in the READMEs are those of the results file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes/benchmarks"
RESULTS = FOLDER / "results/screening.json"


@pytest.fixture
def screening(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import screening

    return screening


def test_tables_stand_in_the_readmes(screening):
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert screening.table(found) in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert screening.table(found, ["all prompts"]) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_results_hold_no_path_of_a_machine():
    text = RESULTS.read_text(encoding="utf-8")
    assert not any(word in text for word in ("/home/", "/tmp/", "/work/", "/root/"))
