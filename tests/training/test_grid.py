"""The engine of grids: each run is made once, whoever is killed, whoever helps, and never with other settings."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grid_of_files
import pytest
from filelock import FileLock
from grid_of_files import STEPS, FileConfig, file_cells

from aes_dynloss.errors import ConfigError, TrainingError
from aes_dynloss.training import grid, hardware
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.grid import grid_precision, run_cell, run_in_turn


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(grid, "_PAUSE_SECONDS", 0.02)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def start(root: Path, pause: float, processes: int = 1) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, grid_of_files.__file__, str(root), str(pause), str(processes)])


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == grid.__name__]


def test_all_runs_are_made_once_and_those_that_others_need_before(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cells = file_cells(tmp_path, count=1)
    for _ in range(2):
        run_in_turn(cells)
    assert [len(cell.steps) for cell in cells] == [STEPS, STEPS]
    assert lines(caplog) == [
        "Runs: 2, of which 0 are done already.",
        "Beginning a.",
        "Run 1 of 2 is done: a.",
        "Beginning after/a.",
        "Run 2 of 2 is done: after/a.",
        "Runs: 2, of which 2 are done already.",
    ]


@pytest.mark.slow
def test_what_a_killed_process_began_goes_on(tmp_path):
    cells = file_cells(tmp_path)
    process = start(tmp_path, pause=0.3)
    wait_for(lambda: bool(cells[0].steps))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not any(cell.is_complete for cell in cells)
    begun = cells[0].steps
    run_in_turn(cells)
    assert [len(cell.steps) for cell in cells] == [STEPS] * 4
    assert cells[0].steps[: len(begun)] == begun == [str(process.pid)] * len(begun)


@pytest.mark.slow
def test_two_processes_share_a_grid(tmp_path):
    processes = [start(tmp_path, pause=0.1, processes=2) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    cells = file_cells(tmp_path)
    assert [len(cell.steps) for cell in cells] == [STEPS] * 4
    assert all(len(set(cell.steps)) == 1 for cell in cells)
    assert {cell.steps[0] for cell in cells} == {str(process.pid) for process in processes}


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_taken_over_by_one_that_waits(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cells = file_cells(tmp_path)
    process = start(tmp_path, pause=60.0)
    wait_for((cells[0].work / "steps.txt").exists)

    def kill_when_waited_for() -> None:
        wait_for(lambda: "Waiting for other processes: a, after/a." in lines(caplog))
        time.sleep(0.1)
        process.kill()
        process.wait()

    killer = threading.Thread(target=kill_when_waited_for)
    killer.start()
    run_in_turn(cells)
    killer.join()
    assert [len(cell.steps) for cell in cells] == [STEPS] * 4
    assert [line for line in lines(caplog) if not line.startswith("Run ")] == [
        "Runs: 4, of which 0 are done already.",
        "Beginning b.",
        "Beginning c.",
        "Waiting for other processes: a, after/a.",
        "Resuming a.",
        "Beginning after/a.",
    ]


@pytest.mark.parametrize("lock", ["locks/after__a.lock", "after/a/.lock"])
def test_a_cell_is_left_to_the_process_that_holds_it(tmp_path, lock):
    """A process of the grid, or a run in that folder that was started without it."""
    *_, cell = cells = file_cells(tmp_path)
    run_in_turn(cells[:-1])
    (tmp_path / lock).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(tmp_path / lock):
        assert not run_cell(cell)
    assert not cell.steps
    assert run_cell(cell)
    assert cell.is_complete


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused(tmp_path, complete):
    before = file_cells(tmp_path)[0]
    run_cell(before)
    if not complete:
        (before.folder / before.LAST_FILE).unlink()
    before.check()
    after = file_cells(tmp_path, training={"device": "cpu", "epochs": 7, "batch_size": 5})[0]
    with pytest.raises(ConfigError, match=r"a was made with other settings: training\.batch_size was 16, now 5; "):
        after.check()
    if not complete:
        with pytest.raises(ConfigError, match=r"^a: .*training\.epochs was \d+, now 7"):
            run_cell(after)


def test_a_start_that_is_no_cell_is_a_setting_and_one_that_is_may_be_moved(tmp_path):
    cells = file_cells(tmp_path / "grid", start="elsewhere/model")
    run_in_turn(cells)
    (tmp_path / "grid").rename(tmp_path / "moved")
    for cell in file_cells(tmp_path / "moved", start="elsewhere/model"):
        cell.check()
    moved = file_cells(tmp_path / "moved", start="other/model")
    moved[-1].check()
    with pytest.raises(ConfigError, match="start was 'elsewhere/model', now 'other/model'"):
        moved[0].check()


def test_a_begun_run_of_a_moved_grid_knows_where_its_start_lies_now(tmp_path):
    run_in_turn(file_cells(tmp_path / "grid"))
    (tmp_path / "grid/after/a/done.json").unlink()
    (tmp_path / "grid").rename(tmp_path / "moved")
    *_, cell = file_cells(tmp_path / "moved")
    run_cell(cell)
    assert f"start: {tmp_path / 'moved' / 'a'}" in (cell.folder / "config.yaml").read_text()


def test_a_run_whose_start_is_gone_is_refused(tmp_path):
    cells = file_cells(tmp_path)
    run_in_turn(cells)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"after/a started from a, which is not there any more"):
        cells[-1].check()


def test_a_damaged_configuration_is_named(tmp_path):
    cell = file_cells(tmp_path)[0]
    run_cell(cell)
    (cell.folder / "config.yaml").write_text("- no mapping")
    with pytest.raises(ConfigError, match=r"a/config\.yaml: expected a mapping"):
        cell.check()


def test_what_a_run_raises_names_it(tmp_path):
    with pytest.raises(TrainingError, match=r"^a: the loss ran away$"):
        run_in_turn(file_cells(tmp_path, fails=True))


def test_a_folder_that_cannot_be_written_is_the_user_s_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"The output folder .*file/grid cannot be used"):
        run_in_turn(file_cells(tmp_path / "file" / "grid"))


def test_one_process_has_one_device_and_precision(tmp_path):
    cells = file_cells(tmp_path)
    other = grid_of_files.FileCell(
        tmp_path, Path("other"), FileConfig.model_validate({"training": {"device": "cpu", "precision": "bf16"}}), {}
    )
    with pytest.raises(ConfigError, match=r"training\.precision is auto and bf16 in one grid"):
        run_in_turn([*cells, other])


class TestPrecision:
    """What ``auto`` is in the first run, it is in all others of the grid, wherever they are run."""

    @pytest.fixture(autouse=True)
    def _with_bf16(self, monkeypatch):
        self.on(monkeypatch, has_bf16=True)

    @staticmethod
    def on(monkeypatch, *, has_bf16):
        monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: has_bf16)

    AUTO = TrainingConfig(device="cpu")

    def test_the_first_run_decides(self, tmp_path, monkeypatch):
        self.on(monkeypatch, has_bf16=False)
        assert grid_precision(tmp_path, self.AUTO) == "float32"
        assert json.loads((tmp_path / "precision.json").read_text()) == {"precision": "float32"}
        self.on(monkeypatch, has_bf16=True)
        assert grid_precision(tmp_path, self.AUTO) == "float32"
        assert grid_precision(tmp_path / "other", self.AUTO) == "bf16"

    def test_a_machine_that_cannot(self, tmp_path, monkeypatch):
        assert grid_precision(tmp_path, self.AUTO) == "bf16"
        self.on(monkeypatch, has_bf16=False)
        with pytest.raises(ConfigError, match=r"This run, or its grid, began in bf16, and this processor has no"):
            grid_precision(tmp_path, self.AUTO)
        assert grid_precision(tmp_path, self.AUTO, force=True) == "bf16"

    @pytest.mark.parametrize("manifest", [{"machine": {"precision": "no"}}, {"precision": "float32"}], ids=str)
    def test_a_grid_of_before_there_was_the_file(self, tmp_path, manifest):
        (tmp_path / "cells" / "mse").mkdir(parents=True)
        (tmp_path / "cells" / "mse" / "manifest.json").write_text(json.dumps(manifest))
        assert grid_precision(tmp_path, self.AUTO) == "float32"

    def test_a_precision_that_is_asked_for(self, tmp_path):
        assert grid_precision(tmp_path, TrainingConfig(device="cpu", precision="float32")) == "float32"
        assert not (tmp_path / "precision.json").exists()

    @pytest.mark.parametrize("content", ["{}", '{"precision": "fp8"}', '{"precision": [1]}'])
    def test_a_file_that_names_none(self, tmp_path, content):
        (tmp_path / "precision.json").write_text(content)
        with pytest.raises(ConfigError, match=r"precision\.json: expected a precision, float32 or bf16, found"):
            grid_precision(tmp_path, self.AUTO)


def test_several_processes_of_one_run_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="started as 2 processes of one run"):
        run_in_turn(file_cells(tmp_path))
    assert not list(tmp_path.iterdir())
