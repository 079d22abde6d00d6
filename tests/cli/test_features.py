"""``aes-dynloss features``: a row an essay, and what is refused."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pandas as pd
from command_line import command

from aes_dynloss.essays.features.linguistic import FEATURES, GROUPS, feature_names, linguistic_features

TEXTS = ["Computers help us, I think.", "", "They dont."]


def essays(path):
    path.write_text("essay_id,prompt_id,text\n" + "".join(f'e{i},p,"{text}"\n' for i, text in enumerate(TEXTS)))
    return path


def test_a_row_an_essay_and_a_column_a_feature(tmp_path):
    table = essays(tmp_path / "essays.csv")
    outcome = command("features", table, "-o", tmp_path / "features.parquet")
    assert outcome.code == 0, outcome.err
    written = pd.read_parquet(tmp_path / "features.parquet")
    assert list(written) == ["essay_id", "prompt_id", *feature_names(GROUPS)]
    assert written["essay_id"].tolist() == ["e0", "e1", "e2"]
    np.testing.assert_allclose(written.iloc[:, 2:].to_numpy(float), linguistic_features(TEXTS, [None] * 3))
    assert f"Essays: 3, features: {len(FEATURES)}" in outcome.err


def test_groups_on_standard_output(tmp_path):
    outcome = command("features", essays(tmp_path / "essays.csv"), "--groups", "spelling, counts")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert list(rows[0]) == ["essay_id", "prompt_id", *feature_names(["counts", "spelling"])]
    assert float(rows[2]["unknown_words"]) == 50.0


def test_many_essays_pass_in_windows(tmp_path):
    path = tmp_path / "essays.jsonl"
    path.write_text("".join(json.dumps({"text": "word " * (i % 7)}) + "\n" for i in range(1001)))
    outcome = command("features", path, "--groups", "counts", "-o", tmp_path / "out.csv")
    assert outcome.code == 0
    np.testing.assert_allclose(
        pd.read_csv(tmp_path / "out.csv")["log_words"], np.log1p(np.arange(1001) % 7), atol=1e-12
    )


def test_what_is_refused(tmp_path):
    table = essays(tmp_path / "essays.csv")
    out = tmp_path / "out.csv"
    out.write_text("mine")
    for arguments, facts in (
        (["--groups", "counts,magic"], ["--groups", "magic", "diversity"]),
        (["--groups", ","], ["--groups", "none"]),
        (["-o", out], [str(out), "--force"]),
        (["-o", tmp_path / "out.xml"], ["out.xml", ".parquet"]),
        (["--text-column", "essay"], ["essay", "--text-column"]),
    ):
        outcome = command("features", table, *arguments)
        assert outcome.code == 2, arguments
        assert all(fact in outcome.err for fact in facts), outcome.err
        assert "Traceback" not in outcome.err
    assert out.read_text() == "mine"


def test_the_list_names_all(tmp_path):
    outcome = command("features", "--list")
    assert outcome.code == 0
    assert all(feature.name in outcome.out for feature in FEATURES)
