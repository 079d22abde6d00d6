"""Files of scores as a monitor reads them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from drifting_scores import RANGES, write_run

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.model.model_folder import CONFIG, ENSEMBLE_FORMAT, MEMBERS, VERSION
from aes_dynloss.programme.administrations import (
    CROSS_FITTED_SPREAD,
    Read,
    model_ranges,
    read_scores,
    training_files,
    training_scores,
)
from aes_dynloss.programme.sheets import DESIGN_WEIGHT
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

READ = Read(ColumnNames(), RANGES)


def table():
    return pd.DataFrame(
        {
            "essay_id": ["1", "2", "3"],
            "prompt_id": "a",
            "raw": [2.2, None, 4.0],
            "score": [2, None, 4],
            "withheld": [False, True, False],
            "advisories": ["too_long; duplicate", "empty", None],
            "ood_distance": [0.5, None, 0.7],
            "text": ["One two three.", "", "Four five."],
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_withheld_essays_advisories_lengths_and_distances_are_read(tmp_path, suffix):
    path, own = tmp_path / f"scores.{suffix}", table()
    if suffix == "csv":
        own.to_csv(path, index=False)
    else:
        own.assign(advisories=[["too_long", "duplicate"], ["empty"], []]).to_parquet(path)
    found = read_scores(path, READ)
    rows = found.table.set_index("essay_id").loc[["1", "2", "3"]]
    assert rows["score"].tolist()[::2] == [2, 4]
    assert np.isnan(rows["score"].iloc[1])
    assert rows["withheld"].tolist() == [False, True, False]
    assert rows["advisories"].tolist() == [{"too_long", "duplicate"}, {"empty"}, set()]
    assert rows["words"].tolist() == [3, 0, 2]
    assert found.features == ["ood_distance"]
    assert "text" not in rows
    assert found.human is None


def test_human_scores_of_a_sample_keep_their_weights(tmp_path):
    table().to_csv(tmp_path / "scores.csv", index=False)
    sample = pd.DataFrame({"essay_id": ["3"], "prompt_id": "a", "reference": 5, DESIGN_WEIGHT: 2.5})
    sample.to_csv(tmp_path / "human.csv", index=False)
    human = read_scores(tmp_path / "scores.csv", READ, tmp_path / "human.csv").human
    assert human[["essay_id", "reference", "score", DESIGN_WEIGHT]].to_numpy().tolist() == [["3", 5, 4, 2.5]]
    sample.assign(**{DESIGN_WEIGHT: 0.2}).to_csv(tmp_path / "human.csv", index=False)
    with pytest.raises(DataError, match="A design weight is"):
        read_scores(tmp_path / "scores.csv", READ, tmp_path / "human.csv")


def test_test_and_dev_of_a_run_are_read_together(tmp_path):
    run = write_run(tmp_path / "run", essays=20)
    test = pd.read_csv(run / "predictions_test.csv")
    test.assign(essay_id=[f"dev {n}" for n in test["essay_id"]]).to_csv(run / "predictions_dev.csv", index=False)
    for model in (run, run / "model"):
        found = training_scores(training_files(model), READ)
        assert found.name == "training: predictions_test.csv and predictions_dev.csv"
        assert len(found.table) == len(found.human) == 80
        assert found.spread == 1
    (run / "manifest.json").write_text('{"split": {"parts": 5}}', encoding="utf-8")
    assert training_scores(training_files(run), READ).spread == CROSS_FITTED_SPREAD


def test_ranges_are_the_models(tmp_path):
    run = write_run(tmp_path / "run")
    assert model_ranges(run)[0] == RANGES
    ensemble = tmp_path / "ensemble"
    (ensemble / MEMBERS).mkdir(parents=True)
    (ensemble / CONFIG).write_text(json.dumps({"format": ENSEMBLE_FORMAT, "version": VERSION}), encoding="utf-8")
    (run / "model").rename(ensemble / MEMBERS / "0")
    assert model_ranges(ensemble)[0] == RANGES
    member = ensemble / MEMBERS / "0" / CONFIG
    values = json.loads(member.read_text(encoding="utf-8"))
    values["prompts"][0]["prompt"]["trait"] = "style"
    member.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ConfigError, match="scores several traits"):
        model_ranges(member.parent)


def test_scores_of_several_traits_are_refused(tmp_path):
    pd.DataFrame({"essay_id": ["1"], "prompt_id": "a", "style": 2, "style_raw": 2.1}).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(ConfigError, match="scores of several traits"):
        read_scores(tmp_path / "t.csv", Read(ColumnNames(), {"a": ScoreRange(1, 6)}))
