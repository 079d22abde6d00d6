"""The benchmark of reports runs, short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"
RESULTS = FOLDER / "results/reporting_speed.json"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import reporting_speed

    return reporting_speed


def test_it_measures_both_rows(tmp_path: Path, benchmark: Any) -> None:
    output = tmp_path / "found.json"
    words = ["--page-essays", "200", "--essays", "300", "--runs", "1", "--output", str(output)]
    command = [sys.executable, str(FOLDER / "reporting_speed.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))
    assert done.stdout == benchmark.speed_table(found) + "\n"
    assert [(row["row"], row["essays"]) for row in found["rows"]] == [("page", 200), ("measures", 300)]
    assert all(0 < cpu <= 60 for row in found["rows"] for cpu in (*row["seconds"], *row["cpu_seconds"]))
    assert 100_000 < found["rows"][0]["page_bytes"] < benchmark.LARGEST_PAGE


def test_the_readme_names_the_machines_load() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert f"load {found['machine']['load']:.1f}" in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [row["essays"] for row in found["rows"]] == [100_000, 1_000_000]
