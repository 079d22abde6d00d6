"""The package with parts of one's own, and the READMEs that say how to write one: they do what they say."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import torch
from plugins import write_info
from readmes import ROOT

from aes_dynloss import Elements, FinetuneConfig
from aes_dynloss.cli.parts import part_rows
from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.features.linguistic import linguistic_features
from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.policies import SCHEDULES, StudentState
from aes_dynloss.teaching.teachers.config import TEACHERS

pytestmark = pytest.mark.usefixtures("own_parts")

RECIPE = ROOT / "recipes/essays/own_parts"
PROJECT = tomllib.loads((RECIPE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    write_info(tmp_path, PROJECT["entry-points"], PROJECT["name"], PROJECT["version"])
    monkeypatch.syspath_prepend(RECIPE)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_grid_is_valid_with_all_its_arms(installed):
    grid = validate(BenchmarkConfig, read_mapping(RECIPE / "grid.yaml"), "grid.yaml")
    cells = grid_cells(grid, ["3", "4"], Path("grid"))
    assert {cell.arm for cell in cells} >= {"own_loss", "own_schedule", "own_teacher", "own_feature"}


def test_the_results_are_of_this_grid(installed):
    made_by = json.loads((RECIPE / "results.json").read_text(encoding="utf-8"))["config"]
    found, expected = (
        validate(BenchmarkConfig, values, "grid").model_dump(mode="json", by_alias=True)
        for values in (made_by, read_mapping(RECIPE / "grid.yaml"))
    )
    assert found == expected


def test_every_entry_point_is_a_part(installed):
    for group, named in PROJECT["entry-points"].items():
        origins = {row.name: row.origin for row in part_rows(group.removeprefix("aes_dynloss."))}
        assert {name: origins[name] for name in named} == dict.fromkeys(named, "essay-parts 0.1.0")


def test_its_parts_compute_what_they_say(installed):
    far = torch.tensor([0.0, 0.1, 1.0, 40.0], dtype=torch.float64)
    zero, half = torch.zeros(4, dtype=torch.float64), torch.full((4,), 0.5, dtype=torch.float64)
    elements = Elements(far, zero, torch.zeros(4, dtype=torch.int64), centre=half, spread=half)
    found = COMPONENTS["log_cosh"].function(elements)
    torch.testing.assert_close(found[:3], torch.log(torch.cosh(5 * far[:3])))
    assert float(found[3]) == pytest.approx(200 - 0.693147, abs=1e-5)
    ramp = SCHEDULES["ramp"].model_validate({"schedule": "ramp", "until": 0.5, "height": 2.0})
    assert [ramp(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.0, 1.0, 2.0, 2.0]
    teacher = TEACHERS["exponentiated"].model_validate({"kind": "exponentiated", "rate": 0.1})
    weights = teacher.build(torch.tensor([1.0, 0.5])).rewritten(torch.tensor([3e6, -4e6]))
    assert weights.tolist() == pytest.approx([0.9418, 0.5416], abs=1e-4)
    assert linguistic_features(["I think it may rain. It rains."], [None], ["hedges"]).tolist() == [[200 / 7]]


def test_the_readmes_code_runs():
    blocks = [
        block
        for readme in ("teaching/README.md", "essays/features/README.md")
        for block in PYTHON.findall((ROOT / "aes_dynloss" / readme).read_text(encoding="utf-8"))
    ]
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {"__name__": "my_parts"})
    values = {
        "data": {"source": "made-up-essays"},
        "model": {"linguistic": ["all", "hedges"]},
        "loss": {"terms": {"log_cosh": {"schedule": "ramp", "until": 0.3}, "mse": "rest"}},
    }
    assert validate(FinetuneConfig, values, "README").loss.terms["log_cosh"](progress=0.15) == pytest.approx(0.5)
    numbers = {"terms": {"log_cosh": 1.0, "mse": 0.5}}
    for teacher in ({"kind": "fading"}, {"kind": "multiplied", "window": 5}):
        config = validate(FinetuneConfig, values | {"loss": numbers, "teacher": teacher}, "README")
        policy = config.teacher.build(torch.tensor([1.0, 0.5]))
        assert policy.coefficients(StudentState(progress=0.0)).tolist() == [1.0, 0.5]
