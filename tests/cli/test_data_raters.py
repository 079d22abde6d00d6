"""``aes-dynloss data raters``: from a table with a column of raters to what to do about them."""

from __future__ import annotations

import csv
import json

import pytest
from command_line import command, output_without
from planted_raters import planted_table

from aes_dynloss.essays.samples import PROMPTS

COLUMNS = ["--rater-column", "rater", "--trusted", "gold", "--prompts", PROMPTS]


@pytest.fixture
def essays(tmp_path):
    path = tmp_path / "essays.csv"
    planted_table(reversed_rater="R2", lowest_rater="R3").to_csv(path, index=False)
    return path


def test_words(essays):
    outcome = command("data", "raters", essays, *COLUMNS)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0] == "essays.csv: 180 labels by 4 raters, 50 trusted essays"
    heading = "rater n mean SD ratio severity 95 % CI consistency 95 % CI lowest highest remarks"
    assert " ".join(lines[2].split()) == heading
    rows = {line.split()[0]: line for line in lines[3:8]}
    assert list(rows) == ["R1", "R2", "R3", "R4", "all"]
    assert rows["R2"].endswith("  reversed")
    assert "100.0 %" in rows["R3"]
    assert rows["R3"].endswith("lowest label")
    assert "weights by rater (loss.by: [rater]) are likely to pay." in outcome.out
    assert "Trusted essays: 50, enough" in outcome.out
    assert "warnings" not in outcome.out


def test_a_configuration_a_file_of_ids_and_the_split(essays, tmp_path):
    table = planted_table()
    ids = tmp_path / "trusted.txt"
    ids.write_text("\n".join(table.loc[table["gold"] == 1, "essay_id"]))
    run = tmp_path / "run.yaml"
    run.write_text(
        f"seed: 1\ndata:\n  source: {essays}\n  prompts: {PROMPTS}\n  columns: {{rater: rater}}\n  trusted: {ids}\n"
    )
    assert "180 labels by 4 raters, 50 trusted essays" in command("data", "raters", "--config", run).out
    table.assign(part=["train", "train", "train", "dev", "test"] * 46).to_csv(essays, index=False)
    outcome = command("data", "raters", "--config", run, "--split-column", "part", "--json")
    report = json.loads(outcome.out)
    assert report["labels"] + sum(report["trusted"]["prompts"].values()) == 138
    assert report["pays"] is False


def test_figures(essays, tmp_path):
    path = tmp_path / "raters.csv"
    outcome = command("data", "raters", essays, *COLUMNS, "--json", "-o", path)
    report = json.loads(outcome.out)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rater"] for row in rows] == ["R1", "R2", "R3", "R4"]
    for row, one in zip(rows, report["effects"]["raters"], strict=True):
        assert float(row["severity"]) == one["severity"]["value"]
        assert float(row["consistency_low"]) == one["consistency"]["low"]
        assert row["remarks"] == ", ".join(one["remarks"])


def test_warnings(essays):
    table = planted_table()
    ranks = table["score"].groupby(table["prompt_id"]).rank(pct=True, method="first")
    table.assign(rater=ranks.gt(0.5).map({True: "late", False: "early"})).to_csv(essays, index=False)
    outcome = command("data", "raters", essays, *COLUMNS)
    assert outcome.code == 0
    warnings = outcome.out.split("warnings:\n")[1]
    assert "Essays were not assigned to raters by chance" in warnings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Nothing says who gave the scores. Name the column of raters or sources: --rater-column"),
        (["--rater-column", "ratr"], "no column 'ratr'; did you mean 'rater'?"),
        (["--rater-column", "rater", "--trusted", "golf"], "no column 'golf'; did you mean 'gold'?"),
        (["--rater-column", "rater", "--trusted", "none.txt"], "none.txt cannot be read"),
        (["--rater-column", "score"], "two of the columns have one name"),
        (["--rater-column", "gold", "--keep-prompt", "none"], "no essay of prompt 'none'"),
        (["--rater-column", "rater", "-o", "raters.xml"], "raters.xml: expected a suffix out of .csv"),
        (["--rater-column", "rater", "-o", __file__], "expected a suffix"),
    ],
)
def test_what_is_refused(essays, arguments, words):
    outcome = command("data", "raters", essays, *arguments)
    assert outcome.code == 2
    assert words in outcome.error
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_a_file_that_exists_is_kept(essays, tmp_path):
    path = tmp_path / "raters.csv"
    path.write_text("mine")
    outcome = command("data", "raters", essays, *COLUMNS, "-o", path)
    assert (outcome.code, path.read_text()) == (2, "mine")
    assert "exists. --force overwrites it" in outcome.error
    assert command("data", "raters", essays, *COLUMNS, "-o", path, "--force").code == 0
    assert path.read_text().startswith("rater,n,")


def test_it_needs_no_torch(essays):
    arguments = [str(argument) for argument in ["data", "raters", essays, *COLUMNS]]
    code = f"from aes_dynloss.cli.main import run\nrun({arguments!r})"
    assert "180 labels" in output_without(code, {"torch", "transformers", "accelerate"})


def test_help_does_not_wait_for_heavy_imports():
    code = "from aes_dynloss.cli.data import data\ndata(['raters', '--help'], standalone_mode=False)"
    assert "--trusted" in output_without(code, {"torch", "datasets", "pyarrow", "numpy", "pydantic", "yaml"})
