"""Runs that test every essay: data.split.cross_fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from command_line import command
from facts import facts
from small_run import RANGES, read_rows, small_essays, write_small_run

from aes_dynloss.configfile import apply_overrides, read_mapping, validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import SplitConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import cross_fit_splits
from aes_dynloss.essays.finetune import cross_fit, products
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.run import run_finetuning
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.measures.intervals import fit_intervals

PARTS = 3


def configured(folder: Path, **changed: Any) -> FinetuneConfig:
    """A scorer without an encoder on the small essays."""
    values = {
        "data": {"source": str(folder / "essays.jsonl"), "prompts": RANGES, "split": {"cross_fit": PARTS}},
        "model": {"kind": "strings", "postprocessing": "rescale"},
        "evaluation": {"resamples": 100, "page": False},
    }
    return validate(FinetuneConfig, values | changed, "test")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cross_fitted")
    write_small_run(folder)
    run_finetuning(configured(folder), folder / "run")
    return folder


def test_each_essay_is_scored_by_a_scorer_of_the_others(done):
    found = pd.read_csv(done / "run/predictions_test.csv").set_index("essay_id")
    table = read_essays(configured(done).data)
    assert found.index.tolist() != []
    assert sorted(found.index) == sorted(table.essay_ids)
    folds, _ = cross_fit_splits(table, SplitConfig(cross_fit=PARTS), with_dev=False)
    assert sorted(essay for fold in folds for essay in fold.test.essay_ids) == sorted(table.essay_ids)
    for fold in folds:
        assert not set(fold.test.essay_ids) & set(fold.train.essay_ids)
    column = dict.fromkeys(table.essay_ids, "train") | dict.fromkeys(folds[1].test.essay_ids, "test")
    rows = [row | {"part": column[row["essay_id"]]} for row in small_essays()]
    dev = [row | {"essay_id": f"{row['essay_id']} again", "part": "dev"} for row in rows if row["part"] == "train"][:40]
    (done / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *dev]), encoding="utf-8")
    data = {"source": str(done / "one.jsonl"), "prompts": RANGES, "split": {"column": "part"}}
    run_finetuning(configured(done, data=data), done / "one", force=True)
    alone = pd.read_csv(done / "one/predictions_test.csv").set_index("essay_id")
    same = found.loc[alone.index]
    np.testing.assert_allclose(same["raw"], alone["raw"])
    assert same["score"].tolist() == alone["score"].tolist()


def test_the_model_is_of_all_essays_and_calibrated_by_the_out_of_fold_ones(done):
    found = pd.read_csv(done / "run/predictions_test.csv")
    scorer = ClassicalScorer.from_pretrained(done / "run/model")
    prompts = found["prompt_id"].tolist()
    assert scorer.intervals == fit_intervals(prompts, found["raw"].to_numpy(), found["reference"].to_numpy())
    report = read_mapping(done / "run/report.json")
    assert report["mean"]["n"] if "n" in report["mean"] else sum(one["n"] for one in report["prompts"].values()) == 60
    assert any("out-of-fold scores: each of 3 scorers" in note for note in report["notes"])
    assert set(report["floors"]) >= {"tfidf_ridge", "words_and_ngrams_rescaled"}
    assert not (done / "run/folds").exists()
    assert not (done / "run/predictions_dev.csv").exists()
    assert len(read_rows(done / "run/predictions_oof.csv")) == 60


def test_parts_that_are_done_are_not_done_again(done, tmp_path):
    shutil.copy(done / "essays.jsonl", tmp_path)
    config, scored, calls = configured(tmp_path), cross_fit._scored, []

    def stopped(*given: Any, **named: Any) -> pd.DataFrame:
        calls.append(given)
        if len(calls) == PARTS:
            raise KeyboardInterrupt
        return scored(*given, **named)

    with mock.patch.object(cross_fit, "_scored", stopped), pytest.raises(KeyboardInterrupt):
        run_finetuning(config, tmp_path / "run")
    with mock.patch.object(cross_fit, "_scored", side_effect=scored) as again:
        run_finetuning(config, tmp_path / "run", resume=True)
    assert again.call_count == 1
    for name in ("predictions_test.csv", "report.csv"):
        assert (tmp_path / "run" / name).read_text("utf-8") == (done / "run" / name).read_text("utf-8")


def test_a_run_that_is_killed_while_it_reports_keeps_what_it_goes_on_from(done, tmp_path):
    """And one that is killed while it removes that is tidied when it is taken up again."""
    shutil.copy(done / "essays.jsonl", tmp_path)
    config, folds = configured(tmp_path), tmp_path / "run/folds"
    with (
        mock.patch.object(products, "write_run_report", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        run_finetuning(config, tmp_path / "run")
    assert folds.is_dir()
    with mock.patch.object(cross_fit, "_scored") as again:
        run_finetuning(config, tmp_path / "run", resume=True)
    assert again.call_count == 0
    assert not folds.exists()
    folds.mkdir()
    run_finetuning(config, tmp_path / "run", resume=True)
    assert not folds.exists()


def test_a_trained_run_that_was_stopped_goes_on_exactly(tmp_path):
    """Dropout and first weights of the scorers that are left do not hang on those that were done before."""
    sets = ["data.split.cross_fit=2", "training.epochs=1", "model.dropout=0.3", "model.hidden=4"]
    written = write_small_run(tmp_path)
    config = validate(FinetuneConfig, apply_overrides(read_mapping(written), sets), "test")
    run_finetuning(config, tmp_path / "whole")
    scored, calls = cross_fit._scored, []

    def stopped(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scored(*given, **named)

    with mock.patch.object(cross_fit, "_scored", stopped), pytest.raises(KeyboardInterrupt):
        run_finetuning(config, tmp_path / "run")
    run_finetuning(config, tmp_path / "run", resume=True)
    for name in ("predictions_test.csv", "model/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_trained_encoder_has_dev_essays_of_its_own(tmp_path):
    config = write_small_run(tmp_path)
    outcome = command(
        "finetune", config, "data.split.cross_fit=2", "training.epochs=1", "model.postprocessing=rescale",
        "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len(read_rows(tmp_path / "run/predictions_test.csv")) == 60
    assert len(read_rows(tmp_path / "run/predictions_dev.csv")) == 12
    assert (tmp_path / "run/model/config.json").exists()


def test_a_frozen_encoder_reads_each_essay_once(tmp_path):
    config = write_small_run(tmp_path)
    outcome = command(
        "finetune", config, "data.split.cross_fit=2", "training.epochs=1", "model.frozen_layers=all",
        "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    told = [line for line in outcome.err.splitlines() if "Encoded essays" in line]
    assert [", 0 to compute" in line for line in told] == [False, True, True]
    assert not (tmp_path / "run/folds").exists()
    assert read_mapping(tmp_path / "run/config.yaml")["model"]["features_cache"] is None


def test_groups_stay_together(tmp_path):
    write_small_run(tmp_path)
    rows = [
        row | {"writer": None if number % 10 == 0 else f"w{number % 7}"} for number, row in enumerate(small_essays())
    ]
    (tmp_path / "essays.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    split = {"cross_fit": PARTS, "group": "writer"}
    config = configured(tmp_path, data={"source": str(tmp_path / "essays.jsonl"), "prompts": RANGES, "split": split})
    table = read_essays(config.data)
    folds, whole = cross_fit_splits(table, config.data.split, with_dev=True)
    assert len(whole.train) + len(whole.dev) == 60
    for fold in folds:
        parts = [set(filter(None, part.groups)) for part in (fold.train, fold.dev, fold.test)]
        assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts))
        assert 10 <= len(fold.test) <= 30
    few = table.select([row for row, group in enumerate(table.groups) if group in {"w1", "w2"}])
    with pytest.raises(DataError, match=facts("cross_fit 20", "groups (writer)", "Lower it")):
        cross_fit_splits(few, SplitConfig(cross_fit=20, group="writer"), with_dev=False)
