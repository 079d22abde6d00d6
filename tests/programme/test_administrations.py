"""Files of scores as a monitor reads them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from drifting_scores import RANGES, TRAIT_RANGES, TRAITS, trait_administration, write_run, write_traits

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.model.model_folder import CONFIG, ENSEMBLE_FORMAT, MEMBERS, VERSION
from aes_dynloss.programme.administrations import (
    CROSS_FITTED_SPREAD,
    Read,
    model_ranges,
    read_scores,
    score_column,
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


def test_what_dev_alone_is_scored_on_has_its_range(tmp_path):
    run = write_run(tmp_path / "run", traits=True)
    dev = pd.read_csv(run / "predictions_test.csv")
    dev[dev["trait"] != "style"].to_csv(run / "predictions_test.csv", index=False)
    dev.assign(essay_id="dev " + dev["essay_id"]).to_csv(run / "predictions_dev.csv", index=False)
    found = training_scores(training_files(run), Read(ColumnNames(), TRAIT_RANGES))
    assert found.ranges == TRAIT_RANGES
    assert {*found.human["prompt_id"]} == {*TRAIT_RANGES}


def test_ranges_are_the_models(tmp_path):
    run = write_run(tmp_path / "run")
    assert model_ranges(run, {})[0] == RANGES
    ensemble = tmp_path / "ensemble"
    (ensemble / MEMBERS).mkdir(parents=True)
    (ensemble / CONFIG).write_text(json.dumps({"format": ENSEMBLE_FORMAT, "version": VERSION}), encoding="utf-8")
    (run / "model").rename(ensemble / MEMBERS / "0")
    assert model_ranges(ensemble, {})[0] == RANGES
    member = ensemble / MEMBERS / "0" / CONFIG
    values = json.loads(member.read_text(encoding="utf-8"))
    values["prompts"][0]["prompt"]["trait"] = "style"
    member.write_text(json.dumps(values), encoding="utf-8")
    assert model_ranges(member.parent, {})[0] == RANGES, "the trait is in the id"


def test_a_given_range_of_a_prompt_is_one_of_all_its_traits(tmp_path):
    run, span = write_run(tmp_path / "run", traits=True), ScoreRange(0, 9)
    assert model_ranges(run, {})[0] == TRAIT_RANGES
    own = {scale: span for scale, span in TRAIT_RANGES.items() if scale.startswith("b")}
    assert model_ranges(run, {"a": span})[0] == {**own, "a": span}
    assert model_ranges(run, {"a/style": span})[0] == {**TRAIT_RANGES, "a/style": span}


@pytest.mark.parametrize("long", [False, True])
def test_scores_of_several_traits_are_columns_of_essays(tmp_path, long):
    path = write_traits(tmp_path, "now.csv", 1, long=long)
    read = Read(ColumnNames(traits=(("style", "st"),)), TRAIT_RANGES, ["group"], ["spelling"])
    found, expected = read_scores(path, read, tmp_path / "human_now.csv"), trait_administration("now", 1, human=True)
    assert found.traits == expected.traits == [*TRAITS]
    assert found.ranges == expected.ranges
    columns = [*map(score_column, TRAITS), "essay_id", "prompt_id", "words", "group", "advisories"]
    pd.testing.assert_frame_equal(found.table[columns], expected.table[columns], check_dtype=False)
    assert found.table.loc[found.table["prompt_id"] == "b", "score/style"].isna().all()
    assert not {"score", "raw", "reference", "trait"} & {*found.table.columns}
    human = expected.human[expected.human["essay_id"].isin(found.human["essay_id"])]
    keys = ["prompt_id", "essay_id"]
    both = [one.set_index(keys)["reference"].sort_index() for one in (found.human, human)]
    pd.testing.assert_series_equal(*both)
    assert len(found.human) == len(human) == 375


def test_withheld_scores_of_traits_and_a_run_of_them(tmp_path):
    run = write_run(tmp_path / "run", traits=True)
    found = training_scores(training_files(run), Read(ColumnNames(), TRAIT_RANGES))
    assert (found.traits, len(found.table), len(found.human)) == ([*TRAITS], 300, 750)
    rows = pd.read_csv(write_traits(tmp_path, "now.csv", 1, long=True))
    rows.loc[[0, 4], ["raw", "score", "withheld"]] = [None, None, True]
    rows.to_csv(tmp_path / "now.csv", index=False)
    table = read_scores(tmp_path / "now.csv", Read(ColumnNames(), TRAIT_RANGES)).table
    assert table.index[table["withheld"]].size == len(set(rows.loc[[0, 4], "essay_id"])) == 2
    assert [int(table[score_column(trait)].isna().sum()) for trait in TRAITS] == [1, 1, 150]


@pytest.mark.parametrize("long", [False, True])
def test_traits_are_no_groups_of_writers(tmp_path, long):
    path = write_traits(tmp_path, "now.csv", 1, long=long)
    with pytest.raises(ConfigError, match="Column 'trait' holds ids, traits, scores or text, and no groups"):
        read_scores(path, Read(ColumnNames(), TRAIT_RANGES, ["trait"]))


@pytest.mark.parametrize("column", ["certainty", "text"])
def test_what_differs_by_trait_is_none_of_the_essay(tmp_path, column):
    rows = pd.read_csv(write_traits(tmp_path, "now.csv", 1, long=True))
    rows.assign(**{column: np.linspace(0, 1, len(rows))}).to_csv(tmp_path / "now.csv", index=False)
    features = [column] if column == "certainty" else []
    with pytest.raises(DataError, match=f"essay 'a0' of prompt 'a' has several values of '{column}', one by trait"):
        read_scores(tmp_path / "now.csv", Read(ColumnNames(), TRAIT_RANGES, features=features))
