"""``aes-dynloss features``: a row an essay, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pandas as pd
from command_line import command
from facts import facts

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


PROMPT = "Do computers help us? Write to your editor."
OVERLAP = feature_names(["overlap"])


def config(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_prompts_own_words_are_those_of_a_configuration(tmp_path):
    run, out = essays(tmp_path / "essays.csv"), tmp_path / "out.csv"
    own = f"p: {{low: 1, high: 6, text: '{PROMPT}'}}"
    prompts = config(tmp_path / "prompts.yaml", own.replace("text", "prompt"))
    for text in (
        f"data:\n  source: none.csv\n  prompts:\n    {own}\nmodel: {{encoder: none}}",
        f"prompts:\n  {own}",
        f"prompts: {prompts}",
    ):
        outcome = command("features", run, "--config", config(tmp_path / "run.yaml", text), "-o", out, "--force")
        assert outcome.code == 0, outcome.err
        assert "--config" not in outcome.err
        written = pd.read_csv(out)
        expected = linguistic_features(TEXTS, [PROMPT] * 3)
        np.testing.assert_allclose(written.iloc[:, 2:].to_numpy(float), expected)
        # Two of five words; two of computers, help, write, editor.
        assert written.loc[0, OVERLAP].tolist() == [40.0, 50.0, 0.0]


def test_overlap_without_the_prompt_s_words_is_noted_once(tmp_path):
    path = tmp_path / "essays.csv"
    path.write_text("prompt_id,text\n" + "p,One.\nq,Two.\nq,Three.\n" * 800)
    known = config(tmp_path / "c.yaml", "prompts: {q: {low: 1, high: 6, text: Two or three}, p: {low: 0, high: 1}}")
    for arguments, expected in (
        ([], ["2400 essays", "prompt p, q", "--config"]),
        (["--config", known], ["800 essays", "prompt p:", "--config"]),
    ):
        outcome = command("features", path, "-o", tmp_path / "out.csv", "--force", *arguments)
        assert outcome.code == 0
        assert outcome.err.count("Overlap") == 1
        assert re.search(facts(*expected), outcome.err), outcome.err
        assert not pd.read_csv(tmp_path / "out.csv").query("prompt_id == 'p'")[OVERLAP].to_numpy().any()
    assert "Overlap" not in command("features", path, "--groups", "counts").err
    path.write_text("text\nOne.\n")
    assert "in 1 essays: the prompt's own words" in command("features", path).err


def test_configurations_that_are_refused(tmp_path):
    for text, expected in (
        ("prompts: {p: {low: 1, high: 6}}", ["run.yaml", "no prompt has a text", "data.prompts.ID.text"]),
        ("source: essays.csv", ["run.yaml", "no prompt has a text"]),
        ("data: [1]", ["run.yaml", "data should be a mapping"]),
        ("prompts: {p: {low: 1, hihg: 6}}", ["run.yaml", "hihg"]),
        ("prompts: none.yaml", ["none.yaml"]),
    ):
        path = config(tmp_path / "run.yaml", text)
        outcome = command("features", essays(tmp_path / "essays.csv"), "--config", path, "-o", tmp_path / "out.csv")
        assert outcome.code == 2, text
        assert all(fact in outcome.error for fact in expected), outcome.error
        assert "Traceback" not in outcome.err
        assert not (tmp_path / "out.csv").exists()


def test_what_is_refused(tmp_path):
    table = essays(tmp_path / "essays.csv")
    out = tmp_path / "out.csv"
    out.write_text("mine")
    for arguments, expected in (
        (["--groups", "counts,magic"], ["--groups", "magic", "diversity"]),
        (["--groups", ","], ["--groups", "none"]),
        (["-o", out], [str(out), "--force"]),
        (["-o", tmp_path / "out.xml"], ["out.xml", ".parquet"]),
        (["--text-column", "essay"], ["essay", "--text-column"]),
    ):
        outcome = command("features", table, *arguments)
        assert outcome.code == 2, arguments
        assert all(fact in outcome.err for fact in expected), outcome.err
        assert "Traceback" not in outcome.err
    assert out.read_text() == "mine"


def test_the_list_names_all(tmp_path):
    outcome = command("features", "--list")
    assert outcome.code == 0
    assert all(feature.name in outcome.out for feature in FEATURES)
