"""Grids of the translation recipe: from the first run to the table, resumed run by run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recipe_line import TRANSLATION, recipe

from aes_dynloss.configfile import dump_yaml, read_mapping, validate
from aes_dynloss.errors import ConfigError

SMALL = [
    "data.vocabulary=300", "data.teacher_dev=12", "model={width: 8, heads: 2, layers: 1, feed_forward: 8, near: 3}",
    "training={epochs: 1, batch_size: 12, device: cpu, precision: float32}", "beams=1",
]  # fmt: skip
TAUGHT = "teacher={kind: dlf, measure: cross_entropy, episodes: 1, steps: 1, keep: last}"
ARMS = {"warm": {}, "plain": {"start": "warm"}, "taught": {"start": "warm", "sets": [TAUGHT]}}
GRID = {"recipe": "multi30k.yaml", "seeds": 2, "control": "plain", "arms": ARMS}


def run_grid(path: Path, folder: Path) -> Any:
    return recipe("translation_grid.py", path, "-o", folder, folder=TRANSLATION)


@pytest.mark.slow
def test_a_grid_from_start_to_table(tmp_path: Path, source: Path, modules: Any) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(dump_yaml({**GRID, "sets": [f"data.source={source}", *SMALL]}), encoding="utf-8")
    outcome = run_grid(path, tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    figures = read_mapping(tmp_path / "runs" / "results.json")
    assert list(figures["arms"]) == list(ARMS)
    assert str(tmp_path) not in json.dumps({**figures, "grid": {}})
    assert figures["sacrebleu"].startswith("nrefs:1|")
    taught = figures["arms"]["taught"]
    assert [len(taught[name]) for name in ("test", "dev", "taught", "seconds", "teaching")] == [2] * 5
    assert [len(one["measure"]) for one in taught["teaching"]] == [1, 1]
    assert figures["arms"]["plain"]["teaching"] == [None, None]
    # One run is lost: it alone is done again.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("report.json")}
    assert len(kept) == 6
    lost = tmp_path / "runs" / "taught" / "seed_1" / "report.json"
    lost.unlink()
    again = run_grid(path, tmp_path / "runs")
    assert (again.code, again.out.splitlines()[0]) == (0, outcome.out.splitlines()[0])
    assert [path for path, time in kept.items() if path.stat().st_mtime_ns != time] == [lost]


def report(bleu: float) -> dict[str, float]:
    return {"bleu": bleu, "bleu_greedy": bleu - 1.0}


def test_the_table(modules: Any) -> None:
    """What others start from has no difference: it is trained for fewer epochs."""
    arms = {
        "warm": {"start": None, "test": [report(20.0), report(22.0)], "seconds": [None, None]},
        "plain": {"start": "warm", "test": [report(30.0), report(32.0)], "seconds": [60.0, None]},
        "taught": {"start": "warm", "test": [report(31.0), report(32.0)], "seconds": [None, None]},
    }
    assert modules.translation_results.table({"grid": {"control": "plain"}, "arms": arms}).splitlines() == [
        "| loss | BLEU, mean (SD) | beside plain (95 %) | greedy | minutes |",
        "|---|---:|---:|---:|---:|",
        "| warm | 21.00 (1.41) |  | 20.00 |  |",
        "| plain | 31.00 (1.41) |  | 30.00 | 1 |",
        "| taught | 31.50 (0.71) | +0.50 (-5.85 to +6.85) | 30.50 |  |",
    ]


def test_the_table_of_what_was_taught(modules: Any) -> None:
    taught = [{"gold": [1.0, gold], "near": [0.0, 0.5], "any": [0.1, 0.1], "bias": [0.0, -1.0]} for gold in (1.5, 2.5)]
    arms = {"plain": {"taught": [None, None]}, "taught": {"taught": taught}}
    assert modules.translation_results.taught_table({"arms": arms}).splitlines()[2:] == [
        "| taught | 0 | 1.00 (0.00) | 0.00 (0.00) | 0.10 (0.00) | 0.00 (0.00) |",
        "| taught | 1 | 2.00 (0.71) | 0.50 (0.00) | 0.10 (0.00) | -1.00 (0.00) |",
    ]


@pytest.mark.parametrize("path", sorted((TRANSLATION / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_arm_of_every_grid_is_a_configuration(path: Path, modules: Any) -> None:
    own = modules.translation_grid
    grid = validate(own.GridConfig, read_mapping(path), path.name)
    cells = own.cells_of(grid, Path("/runs"))
    assert len(cells) == len(grid.arms) * grid.seeds
    for cell in cells:
        start = grid.arms[cell.arm].start
        seed = cell.config.training.seed
        assert cell.config.data.seed == seed
        assert cell.config.start == (None if start is None else f"/runs/{start}/seed_{seed}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control": "none"}, "control: expected one of warm, plain, taught, found none"),
        ({"arms": {"plain": {"start": "warm"}, "warm": {}}}, r"arms.plain.start: expected an arm before it \(none\)"),
    ],
)
def test_grids_that_cannot_be(modules: Any, changes: dict[str, Any], message: str) -> None:
    own = modules.translation_grid
    with pytest.raises(ConfigError, match=message):
        own.cells_of(validate(own.GridConfig, {**GRID, **changes}, "grid.yaml"), Path("/runs"))
