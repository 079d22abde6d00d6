"""READMEs hold the figures of the results files on what hypergradients cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
RESULTS = sorted((RECIPES / "benchmarks/results").glob("hypergradient_*.json"))
# What is measured on pictures stands beside their recipes.
READMES = {"hypergradient_resnet8_10": RECIPES / "vision/README.md"}


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RECIPES / "benchmarks"))
    import hypergradient_cost

    return hypergradient_cost


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_rows_are_those_of_the_results(path: Path, cost: Any) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    found = [cost.Found(**row) for row in values["rows"]]
    lines = cost.table(found, values["copy_mib"]).splitlines()
    readme = READMES.get(path.stem, RECIPES / "benchmarks/README.md").read_text(encoding="utf-8")
    assert [line for line in lines if line not in readme] == []
    assert len(lines) > 3


def test_there_are_results() -> None:
    assert READMES.keys() <= {path.stem for path in RESULTS}
