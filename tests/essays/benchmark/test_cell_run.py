"""A cell's folder is complete or absent, whatever stops its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from small_grid import small_grid, write_small_grid

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.benchmark import cells as cell_run
from aes_dynloss.essays.benchmark.cells import EssayCell, grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.training.grid import run_cell

pytestmark = pytest.mark.slow

ROOT = Path("grid")
STAGES = {"all": {}, "target": {"after": "all", "set": {"training.learning_rate": 1e-5}}}


def cells_of(**changes: object) -> list[EssayCell]:
    grid = validate(BenchmarkConfig, small_grid(folds=[0], **changes), "grid.yaml")
    return grid_cells(grid, ["phones", "river"], ROOT)


@pytest.fixture
def cell(tmp_path, monkeypatch) -> EssayCell:
    monkeypatch.chdir(tmp_path)
    write_small_grid(tmp_path)
    return cells_of()[0]


def files(cell: EssayCell) -> set[str]:
    return {path.name for path in (ROOT / "cells" / cell.name).iterdir()}


def test_a_cell_that_is_done(cell):
    assert not cell.is_complete
    assert run_cell(cell)
    assert cell.is_complete
    assert files(cell) >= {"config.yaml", "manifest.json", "predictions_dev.csv", "predictions_test.csv", "report.json"}
    assert "model" not in files(cell)
    assert not (ROOT / "work" / cell.name).exists()
    cost = json.loads((ROOT / "cells" / cell.name / "cell.json").read_text())
    assert cost["seconds"] > 0
    assert cost["device"].startswith("CPU, ")
    assert cost["resumed"] is False


def test_it_is_not_done_twice(cell, monkeypatch):
    run_cell(cell)
    monkeypatch.setattr(cell_run, "run_finetuning", lambda *_, **__: pytest.fail("run again"))
    assert run_cell(cell)


def test_a_model_that_is_wanted_stays(cell):
    (kept, _) = cells_of(keep_models=True)
    run_cell(kept)
    assert "model" in files(kept)


def test_what_was_stopped_goes_on(cell, monkeypatch):
    whole = cell_run.run_finetuning

    def stopped(*arguments, **options):
        whole(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(cell_run, "run_finetuning", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell)
    assert not (ROOT / "cells").exists()
    asked = []
    monkeypatch.setattr(
        cell_run, "run_finetuning", lambda *a, resume, **k: (asked.append(resume), whole(*a, resume=resume, **k))
    )
    assert run_cell(cell)
    assert asked == [True]
    assert json.loads((ROOT / "cells" / cell.name / "cell.json").read_text())["resumed"] is True


def test_stopped_when_its_model_was_removed_it_is_done(cell, monkeypatch):
    remove = shutil.rmtree

    def stopped(path, **options):
        remove(path, **options)
        if Path(path) == ROOT / "work" / cell.name / "model":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cell_run.shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell)
    cell.check()
    assert run_cell(cell)
    assert cell.is_complete


def test_another_process_has_it(cell):
    (ROOT / "locks").mkdir(parents=True)
    with FileLock(ROOT / "locks" / "mse__fold_0__seed_0.lock"):
        assert not run_cell(cell)
    assert run_cell(cell)


def test_a_run_that_fails_is_named(cell):
    Path("essays.jsonl").unlink()
    with pytest.raises(DataError, match=r"^mse/fold_0/seed_0: .*essays\.jsonl"):
        run_cell(cell)


def test_another_configuration_is_refused(cell):
    run_cell(cell)
    cell.check()
    changed = cells_of(arms={"mse": {"set": {"training.epochs": 3}}, "mae": {}})
    with pytest.raises(ConfigError, match=r"training.epochs was 1, now 3"):
        changed[0].check()


def test_another_configuration_of_a_begun_run_is_refused(cell):
    run_cell(cell)
    (ROOT / "work" / cell.name).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(ROOT / "cells" / cell.name, ROOT / "work" / cell.name)
    with pytest.raises(ConfigError, match=r"training.epochs was 1, now 3"):
        cells_of(arms={"mse": {"set": {"training.epochs": 3}}})[0].check()


def test_a_model_that_is_gone_is_missed(cell):
    run_cell(cell)
    with pytest.raises(ConfigError, match="without keeping its model"):
        cells_of(keep_models=True)[0].check()


def test_something_else_in_its_place_is_refused(cell):
    (ROOT / "cells" / cell.name).mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no run of this grid"):
        cell.check()
    shutil.rmtree(ROOT)
    cell.check()


def test_a_run_without_its_cost_is_refused(cell):
    run_cell(cell)
    (ROOT / "cells" / cell.name / "cell.json").unlink()
    with pytest.raises(ConfigError, match="not all of one"):
        cell.check()


def test_a_run_whose_start_was_removed_is_refused(cell):
    cells = cells_of(arms=STAGES)
    for each in cells:
        run_cell(each)
    shutil.rmtree(ROOT / "cells" / cells[0].name)
    with pytest.raises(ConfigError, match=r"target/fold_0/seed_0 started from all/fold_0/seed_0, which is not there"):
        cells[1].check()


def moved_cells():
    """The cells of the grid of two stages in another folder, which is sound."""
    ROOT.rename("moved")
    grid = validate(BenchmarkConfig, small_grid(folds=[0], arms=STAGES), "grid.yaml")
    moved = grid_cells(grid, ["phones", "river"], Path("moved"))
    for each in moved:
        each.check()
    return moved


def test_a_begun_run_of_a_moved_grid_goes_on(cell, monkeypatch):
    first, second = cells_of(arms=STAGES)
    run_cell(first)
    whole = cell_run.run_finetuning

    def stopped(*arguments, **options):
        whole(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cell_run, "run_finetuning", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_cell(second)
    moved = moved_cells()
    assert run_cell(moved[1])


def test_a_grid_may_be_moved(cell):
    """Stages find each other in the folder that is given now."""
    for each in cells_of(arms=STAGES):
        run_cell(each)
    moved = moved_cells()
    assert all(each.is_complete for each in moved)
