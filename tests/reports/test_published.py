from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored_runs import RANGES, essay_table, grid

from aes_dynloss.errors import DataError
from aes_dynloss.reports import published
from aes_dynloss.reports.arms import ScoredRun
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.human_scores import HumanScores
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.published import (
    PublishedTooLargeError,
    is_published,
    published_name,
    read_published,
    write_published,
)
from aes_dynloss.reports.read_runs import read_arms
from aes_dynloss.tables.score_range import ScoreRange

RUNS = grid("mse")
HUMAN = HumanScores(pd.concat([essay_table(f"fold_{fold}") for fold in (0, 1, 2)]), RANGES, "human.csv")


@pytest.fixture
def path(tmp_path):
    write_published(tmp_path / "g.mse.parquet", "mse", RUNS, seeded=True)
    return tmp_path / "g.mse.parquet"


def rewritten(path, change):
    """The file with its rows changed, in its own types where they still fit."""
    table = pq.read_table(path).to_pandas()
    pq.write_table(pa.Table.from_pandas(change(table), preserve_index=False), path)
    return path


def test_what_is_in_a_file(path):
    table = pq.read_table(path)
    assert table.schema.names == ["essay_id", "prompt_id", "fold", "arm", "seed", "raw", "score"]
    assert table.schema.metadata is None
    assert (table.schema.field("raw").type, table.schema.field("score").type) == (pa.float32(), pa.float32())
    rows = table.to_pandas()
    assert set(rows["arm"]) == {"mse"}
    assert rows.groupby(["fold", "seed"]).size().to_dict() == {(f, s): 80 for f in (0, 1) for s in (1, 2)}


def test_runs_come_back_with_their_human_scores(path):
    runs = {(run.stratum, run.seed): run for run in read_published(path, HUMAN)}
    assert runs.keys() == {(run.stratum, run.seed) for run in RUNS}
    for run in RUNS:
        found = runs[run.stratum, run.seed]
        keys = ["prompt_id", "essay_id"]
        tables = [one.test.table.sort_values(keys, ignore_index=True) for one in (found, run)]
        assert (tables[0][[*keys, "reference", "score"]] == tables[1][[*keys, "reference", "score"]]).all(axis=None)
        np.testing.assert_allclose(tables[0]["raw"], tables[1]["raw"], rtol=1e-6)
        assert (found.dev, found.test.ranges, found.test.inferred, found.test.notes) == (None, RANGES, frozenset(), ())


def test_figures_and_intervals_are_those_of_the_runs(path):
    arms = {"runs": RUNS, "file": read_published(path, HUMAN)}
    found = compare_arms(arms, "runs", resamples=50).arms
    assert found["file"].mean.qwk == found["runs"].mean.qwk
    assert found["file"].mean.qwk_interval == found["runs"].mean.qwk_interval
    assert found["file"].mean.qwk_by_seed == found["runs"].mean.qwk_by_seed
    assert found["file"].mean.qwk_rescaled is None


def test_without_seeds_there_is_one_row_an_essay(tmp_path):
    runs = [replace(run, seed="mean of 2") for run in RUNS if run.seed == "1"]
    write_published(tmp_path / "a.parquet", "a", runs, seeded=False)
    assert pq.read_table(tmp_path / "a.parquet")["seed"].null_count == 160
    assert [(run.stratum, run.seed) for run in read_published(tmp_path / "a.parquet", HUMAN)] == [
        ("fold_0", ""),
        ("fold_1", ""),
    ]
    with pytest.raises(DataError, match=r"Fold 0 of a\.parquet has more than one row for essay '\S+' of prompt '10', "):
        write_published(tmp_path / "a.parquet", "a", RUNS, seeded=False)


def test_scores_of_broken_steps_survive_float32(tmp_path):
    tenths = {"1": ScoreRange(0, 100, 0.1)}
    essays = pd.DataFrame({"essay_id": ["a", "b"], "prompt_id": "1", "reference": [60.1, 7.3]})
    run = ScoredRun("fold_3", "", check_predictions(essays.assign(raw=[60.12, 7.26]), ranges=tenths), None)
    write_published(tmp_path / "a.parquet", "a", [run], seeded=False)
    (found,) = read_published(tmp_path / "a.parquet", HumanScores(essays, tenths, "human.csv"))
    assert found.stratum == "fold_3"
    assert found.test.table["score"].tolist() == [60.1, 7.3]


def test_ranges_that_nobody_gave_are_inferred_once(path):
    runs = read_published(path, replace(HUMAN, ranges={"2": RANGES["2"]}))
    assert all(run.test.inferred == {"10"} and run.test.ranges["2"] == RANGES["2"] for run in runs)
    assert len({run.test.ranges["10"] for run in runs}) == 1
    assert {len(run.test.notes) for run in runs} == {1}
    assert "(10: 0 to 12)" in runs[0].test.notes[0]


def test_a_large_file_is_not_written(tmp_path, path, monkeypatch):
    monkeypatch.setattr(published, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(PublishedTooLargeError, match=r"b\.parquet is not written: the predictions of mse take [\d,]+"):
        write_published(tmp_path / "b.parquet", "mse", RUNS, seeded=True)
    assert {one.name for one in tmp_path.iterdir()} == {"g.mse.parquet"}
    monkeypatch.setattr(published, "MOST_BYTES", path.stat().st_size)
    write_published(tmp_path / "b.parquet", "mse", RUNS, seeded=True)


def test_human_scores_are_needed_of_every_essay(path):
    with pytest.raises(DataError, match=r"g\.mse\.parquet holds published predictions, without human scores\."):
        read_arms([path])
    few = replace(HUMAN, table=HUMAN.table[HUMAN.table["essay_id"] != "t-fold_1-2-7"])
    with pytest.raises(
        DataError,
        match=r"human\.csv has no human score for essay 't-fold_1-2-7' of prompt '2' of g\.mse\.parquet \(1 in",
    ):
        read_arms([path], few)
    assert list(read_arms([path], HUMAN)) == ["g.mse.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.assign(arm=["a", *["b"] * 319]), r"g\.mse\.parquet holds the arms a, b; expected one"),
        (lambda table: table.assign(fold=[1.5, *[1] * 319]), r"Row 1 .*fold is 1\.5, expected a whole number"),
        (lambda table: table.assign(fold=[None, *[1] * 319]), r"Row 1 .*fold is nan, expected a whole number"),
        (lambda table: table.assign(seed=[1, 0.5, *[1] * 318]), r"Row 2 .*seed is 0\.5, expected a whole number"),
        (lambda table: table.assign(raw=[None, *[1] * 319]), r"Row 1 .*raw is blank"),
        (lambda table: table.assign(score=[1, 99, *[1] * 318]), r"Row 2 .*score 99 is no score point"),
        (lambda table: pd.concat([table, table.head(1)]), r"has more than one row for essay"),
    ],
)
def test_damaged_rows_are_refused(path, change, message):
    with pytest.raises(DataError, match=message):
        read_published(rewritten(path, change), HUMAN)


def test_other_files_are_no_published_predictions(tmp_path, path):
    assert is_published(path)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and so on")
    RUNS[0].test.table.to_parquet(tmp_path / "plain.parquet")
    RUNS[0].test.table.to_csv(tmp_path / "plain.csv")
    names = ("broken.parquet", "plain.parquet", "plain.csv", "none.parquet")
    assert not [name for name in names if is_published(tmp_path / name)]
    assert not is_published(tmp_path)


def test_a_plain_table_without_human_scores_gets_them_too(tmp_path):
    run = RUNS[0]
    run.test.table.drop(columns="reference").to_csv(tmp_path / "plain.csv", index=False)
    arms = read_arms([tmp_path / "plain.csv"], HUMAN)
    (found,) = arms["plain.csv"]
    pd.testing.assert_frame_equal(found.test.table, run.test.table)
    run.test.table.assign(reference=1.0).to_csv(tmp_path / "own.csv", index=False)
    assert set(read_arms([tmp_path / "own.csv"], HUMAN)["own.csv"][0].test.table["reference"]) == {1.0}


def test_names_of_files():
    assert published_name("g", "l2t_dln, mean of 3 seeds") == "g.l2t_dln_mean_of_3_seeds.parquet"
    assert published_name("g", "../é/b") == "g..._b.parquet"
