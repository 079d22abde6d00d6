"""What drives scores over a table of essays, and in the report of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from accelerate import Accelerator
from essay_files import write_rows
from small_run import small_essays, tune

from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.ensembles.ensemble import open_scorer
from aes_dynloss.essays.explaining.drivers import score_drivers, thirds
from aes_dynloss.essays.explaining.sentences import sentence_spans
from aes_dynloss.reports.drivers import PARTS
from aes_dynloss.reports.prompts import read_report

# The score goes by the number of commas, which are all in the last sentence.
SENTENCES = ["We walk to school by the river every day.", "The bridge is old and nobody mends it at all."]


def commas():
    rows = []
    for number, row in enumerate(small_essays(40)):
        score = 1 + number % 4
        end = "So we" + ", yes" * score + " wait here" + " now" * (6 - score) + "."
        text = " ".join([*SENTENCES, end])
        rows.append(row | {"score": score, "text": text, "school": "ab"[number // 4 % 2]})
    return rows


@pytest.fixture(scope="module")
def run(run_yaml, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drivers")
    source = write_rows(folder / "essays.jsonl", commas())
    words = [
        f"data.source={source}",
        "data.subgroups=[school]",
        "model={kind: strings, linguistic: [punctuation], strings: true}",
    ]
    outcome = tune(run_yaml, folder / "run", *words, "evaluation.page=true")
    assert outcome.code == 0, outcome.err
    return folder / "run"


def test_thirds_are_the_whole_text_and_none_is_empty():
    for text in (
        "We see it. They walk home. You sit down.",
        "One. " * 9,
        f"Short. Tiny. {'long ' * 60}end.",
        f"{'long ' * 60}end. Short. Tiny.",
    ):
        spans = sentence_spans(text)
        parts = thirds(text, spans)
        assert "".join(part.of(text) for part in parts) == text
        assert len(parts) == len(PARTS)
        assert all(part.of(text).strip() for part in parts)
        assert {part.start for part in parts} <= {span.start for span in spans}


def test_what_decides_is_found(run):
    """The commas at the end, which punctuation counts."""
    drivers = read_report(run / "report.json").drivers
    assert set(drivers.prompts) == {"phones", "river"}
    for prompt in drivers.prompts.values():
        found = prompt.overall
        sizes = {name: part.size for name, part in found.parts.items()}
        assert found.n >= 3
        assert sizes["end"] > 2 * max(sizes["beginning"], sizes["middle"])
        assert set(found.features) == {"length", "punctuation", "n-grams"}
        assert found.features["length"].size < found.features["punctuation"].size


def test_effects_are_means_over_the_essays(run):
    """By hand, of all essays of a prompt."""
    scorer = open_scorer(run / "model", Accelerator(cpu=True))
    table = read_essays(
        DataConfig(
            source=str(run.parent / "essays.jsonl"),
            subgroups=["school"],
            prompts={"phones": {"low": 1, "high": 6}, "river": {"low": 0, "high": 4}},
        )
    )
    drivers = score_drivers(scorer, table, ["school"], most=1000)
    prompt = drivers.prompts["phones"]
    rows = [row for row in commas() if row["prompt_id"] == "phones"]
    whole = scorer.score([row["text"] for row in rows], ["phones"] * len(rows)).raw
    empty = scorer.score([""], ["phones"]).raw[0]
    assert prompt.overall.n == 40
    assert sum(part.mean for part in prompt.overall.parts.values()) == pytest.approx(np.mean(whole - empty), abs=2e-3)
    groups = prompt.subgroups["school"]
    assert {name: one.n for name, one in groups.items()} == {"a": 20, "b": 20}
    for part in PARTS:
        assert np.mean([one.parts[part].mean for one in groups.values()]) == pytest.approx(
            prompt.overall.parts[part].mean, abs=1e-3
        )


def test_few_essays_of_a_group_and_short_ones_say_nothing(run):
    scorer = open_scorer(run / "model", Accelerator(cpu=True))
    rows = [
        row | {"school": "ab"[number > 31], "text": row["text"] if number else "One sentence."}
        for number, row in enumerate(commas()[:40])
    ]
    source = write_rows(run.parent / "other.jsonl", rows)
    table = read_essays(DataConfig(source=str(source), subgroups=["school"], prompts={"phones": {"low": 1, "high": 6}}))
    prompt = score_drivers(scorer, table, ["school"], most=1000).prompts["phones"]
    assert (prompt.overall.n, list(prompt.subgroups["school"])) == (39, ["a"])
    short = write_rows(run.parent / "short.jsonl", [row | {"text": "One. Two."} for row in rows])
    table = read_essays(DataConfig(source=str(short), prompts={"phones": {"low": 1, "high": 6}}))
    assert score_drivers(scorer, table) is None


def test_the_section_the_rows_and_none_where_none_are_wanted(run, run_yaml, tmp_path):
    page = (run / "report.html").read_text()
    assert "What scores go by" in page
    rows = (run / "report.csv").read_text().splitlines()
    found = [row for row in rows if ",drivers," in row]
    assert any("beginning" in row for row in found)
    assert any("punctuation" in row for row in found)
    values = json.loads((run / "report.json").read_text())["drivers"]
    assert (values["most"], values["seed"]) == (20, 0)
    words = ["model={kind: strings, linguistic: [punctuation]}", "evaluation.explained=0"]
    assert tune(run_yaml, tmp_path / "none", *words).code == 0
    assert "drivers" not in json.loads((tmp_path / "none/report.json").read_text())
