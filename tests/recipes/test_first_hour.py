"""The recipe of the first hour: its draws, its three commands, its table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import small_essays

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "recipes/essays"))
import first_hour

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small set in the layout of Feedback-ELL, and draws of 60 and 20 essays."""
    monkeypatch.chdir(tmp_path)
    own = small_essays(50)
    texts = [f"{number} {one['text']}" for number, one in enumerate(own)]
    table = pd.DataFrame({"essay_id": [f"e{number}" for number in range(len(own))], "text": texts})
    table["grammar"] = np.clip([one["score"] / 2 + 1 for one in own], 1, 5)
    (tmp_path / "data").mkdir()
    table.to_parquet(first_hour.SOURCE)
    for name, value in {"ESSAYS": 60, "NEW": 20, "DRAWS": range(1)}.items():
        monkeypatch.setattr(first_hour, name, value)
    monkeypatch.setattr(first_hour, "RESULTS", tmp_path / "first_hour.json")
    return tmp_path


def test_draws_hold_other_essays_and_no_new_one_is_scored_yet(place):
    tables = ("essays", "new", "human")
    refs = []
    for draw in range(2):
        first_hour.write_draw(pd.read_parquet(first_hour.SOURCE), draw, place / str(draw))
        refs.append({name: set(pd.read_csv(place / str(draw) / f"{name}.csv")["ref"]) for name in tables})
    for own in refs:
        assert (len(own["essays"]), len(own["new"])) == (60, 20)
        assert own["new"] == own["human"]
        assert not own["new"] & own["essays"]
    assert refs[0]["essays"] != refs[1]["essays"]
    assert list(pd.read_csv(place / "0/new.csv")) == ["ref", "answer"]


def test_from_a_table_to_the_results(place):
    with pytest.raises(DataError, match="Run it first"):
        first_hour.collect()
    first_hour.main(["run", "fast"])
    draw = first_hour.RUNS / "fast" / "draw_0"
    found, report = read_mapping(draw / first_hour.FOUND), read_mapping(draw / "run/report.json")
    assert found["qwk"] == report["mean"]["qwk"]
    assert found["floor"] == max(floor["mean"] for floor in report["floors"].values())

    (draw / first_hour.FOUND).unlink()  # stopped after the last command: the run is complete, the rest is done again
    first_hour.main(["run", "fast"])
    assert read_mapping(draw / first_hour.FOUND)["qwk_of_new"] == found["qwk_of_new"]

    first_hour.main(["collect"])
    rows = [line.split("|")[1:-1] for line in first_hour.table(read_mapping(first_hour.RESULTS)).splitlines()]
    assert len({len(row) for row in rows}) == 1
    assert rows[2][0].strip() == "`fast`"
    assert float(rows[2][3]) == pytest.approx(found["qwk"], abs=6e-4)
    assert rows[3][4].strip() == ""  # balanced was not run


def test_a_command_that_fails(place, capfd):
    with pytest.raises(DataError, match=r"finetune none\.csv -o run failed"):
        first_hour.timed(place, "finetune", "none.csv", "-o", "run")
    assert "none.csv" in capfd.readouterr().err


def test_without_its_essays(place, capsys):
    with pytest.raises(SystemExit) as ended:
        first_hour.main(["run", "--source", "none.parquet"])
    assert ended.value.code == 2
    assert "none.parquet is not there" in capsys.readouterr().err
