"""What a few scored essays of a prompt never seen are worth: the recipe's figures, and its table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small_run import tune
from three_prompts import TARGET, essays, write_config

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.reports.prompts import read_report

sys.path.append(str(Path(__file__).parents[2] / "recipes/essays"))
import few_scores

PROMPTS = ["phones", "river", "trumpet"]


def test_a_curve_by_prompt(tmp_path, monkeypatch):
    monkeypatch.setattr(few_scores, "COUNTS", (2, 30))
    monkeypatch.setattr(few_scores, "DRAWS", 3)
    measured = []
    plain = few_scores.quadratic_weighted_kappa
    monkeypatch.setattr(
        few_scores, "quadratic_weighted_kappa", lambda human, score: measured.append(len(human)) or plain(human, score)
    )
    data = read_mapping(write_config(tmp_path, essays(), "with_target_essays"))["data"]
    found = few_scores.curve(read_essays(DataConfig(**data)))
    assert list(found) == [
        "2 scored essays drawn by chance: QWK",
        "2 scored essays spread over the order: QWK",
        "30 scored essays drawn by chance: QWK",
        "30 scored essays spread over the order: QWK",
        "with the true mean and sd: QWK",
    ]
    assert all(list(own) == PROMPTS for own in found.values())
    assert measured == [*[43] * 6, *[15] * 6, 45] * 3  # the scored ones are not among them
    head, _, first, *_ = few_scores.table(found).splitlines()
    assert head == "| prompt | mean | phones | river | trumpet |"
    assert first.split(" | ")[1] == f"{np.mean(list(next(iter(found.values())).values())):.3f}"


def test_figures_of_a_grid_are_those_of_its_runs(tmp_path):
    with pytest.raises(DataError, match=r"has no run of strict\. Run the grid asap_with_target_essays\.yaml"):
        few_scores.of_runs(tmp_path / "grid")
    for arm in few_scores.ARMS:
        folder = tmp_path / arm
        folder.mkdir()
        run = tmp_path / "grid/cells" / arm / "target_river/seed_0"
        assert tune(write_config(folder, essays(), arm), run, TARGET).code == 0
    found = few_scores.of_runs(tmp_path / "grid")
    river = read_report(run / "report.json").prompts["river"]
    assert found["with_target_essays: QWK"] == {"river": river.qwk}
    assert found["with_target_essays: coverage of 90 % intervals"] == {"river": river.prediction_interval.measured}


def test_a_folder_without_the_grid(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["few_scores.py", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        few_scores.main()
    assert ended.value.code == 2
    assert "has no run of strict" in capsys.readouterr().err
