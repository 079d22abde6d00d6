"""The folds of ASAP-SAS: each answer is test once, and a fold's dev is the test part of the next."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.splits import ids_in

sys.path.append(str(Path(__file__).parents[2] / "recipes/essays"))
import short_answers

GRID = Path(__file__).parents[2] / "recipes/essays/grids/asap_sas.yaml"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the prompts' words."""
    monkeypatch.chdir(tmp_path)
    short_answers.SOURCE.mkdir(parents=True)
    for prompt in short_answers.HIGHEST:
        (short_answers.SOURCE / f"prompt_{prompt}.txt").write_bytes(b"List \xe9 steps.\n")
    return tmp_path


def test_each_answer_is_test_once_and_dev_is_the_next_folds_test(place):
    short_answers.make(short_answers.SOURCE)
    folders = [short_answers.MADE / f"folds/fold_{fold}" for fold in range(5)]
    parts = [{name: set(ids_in(folder / f"{name}_ids.txt")) for name in ("train", "dev", "test")} for folder in folders]
    every = {str(one) for one in pd.read_csv(short_answers.FOLDS)["essay_id"]}
    assert len(every) == 17_026
    assert sorted(one for fold in parts for one in fold["test"]) == sorted(every)
    for fold, own in enumerate(parts):
        assert own["dev"] == parts[(fold + 1) % 5]["test"]
        assert own["train"] == every - own["dev"] - own["test"]
        assert len(own["train"]) == pytest.approx(0.6 * len(every), abs=2)


def test_prompts_have_their_words_and_the_grids_score_points(place):
    short_answers.make(short_answers.SOURCE)
    made = validate(DataConfig, {"source": "answers.csv", "prompts": str(short_answers.MADE / "prompts.yaml")}, "data")
    grid = validate(DataConfig, read_mapping(GRID)["finetune"]["data"], "data")
    assert all(entry.text == "List \N{REPLACEMENT CHARACTER} steps.\n" for entry in made.prompts.values())
    assert {name: entry.range() for name, entry in made.prompts.items()} == {
        name: entry.range() for name, entry in grid.prompts.items()
    }


def test_words_that_are_not_there_are_named(place):
    (short_answers.SOURCE / "prompt_7.txt").unlink()
    with pytest.raises(short_answers.DataError, match=r"prompt_7\.txt is not there"):
        short_answers.make(short_answers.SOURCE)
