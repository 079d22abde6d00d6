"""Runs of kind transfer: what leaks from a new prompt, what they leave behind, what their figures are of, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import command
from small_run import check_scores, read_rows, report_of, tune
from three_prompts import ALL_RANGES, TARGET, essays, write_config

from aes_dynloss.essays.ensembles.ensemble import needs_torch
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.measures.intervals import fit_pooled_intervals
from aes_dynloss.tables.score_range import ScoreRange

FORMS = ("with_target_essays", "strict")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A finished run of each form, which leaves a prompt out."""
    folders = {}
    for form in FORMS:
        folder = tmp_path_factory.mktemp(form)
        outcome = tune(write_config(folder, essays(), form), folder / "run", TARGET)
        assert outcome.code == 0, outcome.err
        folders[form] = folder / "run"
    return folders


def table(path: Path) -> dict[str, dict[str, str]]:
    return {row["essay_id"]: row for row in read_rows(path)}


@pytest.mark.parametrize("form", FORMS)
def test_runs_fit_together(runs, form):
    """The folder's model gives the scores of the unseen prompt, without torch; the card says what taught it."""
    folder = runs[form]
    check_scores(folder, folder.parent / "essays.jsonl", "test")
    assert not needs_torch(folder / "model")
    scorer = ClassicalScorer.from_pretrained(folder / "model")
    assert (scorer.sources, set(scorer.models)) == (["phones", "trumpet"], set(ALL_RANGES))
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert f"Form: {form}" in card
    assert "Prompts that taught it: phones, trumpet." in card
    assert any("fitted without the essay's prompt" in note for note in report_of(folder)["notes"])
    assert report_of(folder)["prompts"]["river"]["qwk"] > 0.3


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_learned_of_the_new_prompt_but_its_numbers(runs, form, tmp_path):
    """Other scores change no prediction; in the strict form other essays of it do not either."""
    rows = [row | {"score": 4 - row["score"]} if row["prompt_id"] == "river" else row for row in essays()]
    if form == "strict":
        rows = [row for place, row in enumerate(rows) if row["prompt_id"] != "river" or place % 2]
    assert tune(write_config(tmp_path, rows, form), tmp_path / "run", TARGET).code == 0
    before, after = (table(folder / "predictions_test.csv") for folder in (runs[form], tmp_path / "run"))
    for essay, row in after.items():
        assert float(row["raw"]) == pytest.approx(float(before[essay]["raw"]))
    assert any(row["reference"] != before[essay]["reference"] for essay, row in after.items())


@pytest.mark.parametrize("name", ["oof", "dev"])
@pytest.mark.parametrize("form", FORMS)
def test_a_source_prompts_own_scores_have_no_part_in_its_predictions(runs, form, name, tmp_path):
    rows = [row | {"score": 7 - row["score"]} if row["prompt_id"] == "phones" else row for row in essays()]
    words = [TARGET, f"data.split.target_dev_ids={tmp_path / 'dev.txt'}"]
    dev = "\n".join(table(runs[form] / "predictions_dev.csv"))
    (tmp_path / "dev.txt").write_text(dev + "\n", encoding="utf-8")
    assert tune(write_config(tmp_path, rows, form), tmp_path / "run", *words).code == 0
    before, after = (read_rows(folder / f"predictions_{name}.csv") for folder in (runs[form], tmp_path / "run"))
    for one, other in zip(before, after, strict=True):
        same = float(one["raw"]) == pytest.approx(float(other["raw"]))
        assert same == (one["prompt_id"] == "phones")


@pytest.mark.parametrize("form", FORMS)
def test_intervals_are_of_all_prompts_left_out(runs, form):
    """They are as wide on each prompt, the new one too, as a share of its range; the report measures their coverage."""
    scorer = ClassicalScorer.from_pretrained(runs[form] / "model")
    widths = {
        prompt: scorer.intervals.prompts[prompt].half_width(0.8) / (span["high"] - span["low"])
        for prompt, span in ALL_RANGES.items()
    }
    assert widths["phones"] == pytest.approx(widths["river"])
    assert widths["trumpet"] == pytest.approx(widths["river"])
    rows = read_rows(runs[form] / "predictions_oof.csv")
    raw, reference = ([float(row[column]) for row in rows] for column in ("raw", "reference"))
    ranges = {prompt: ScoreRange(**span) for prompt, span in ALL_RANGES.items()}
    expected = fit_pooled_intervals(ranges, [row["prompt_id"] for row in rows], raw, reference)
    assert scorer.intervals.prompts["river"].errors == pytest.approx(expected.prompts["river"].errors)
    assert 0.5 < report_of(runs[form])["prompts"]["river"]["prediction_interval"]["measured"] <= 1


def test_a_source_prompt_is_scored_on_the_level_of_its_own_scores(runs):
    scorer = ClassicalScorer.from_pretrained(runs["with_target_essays"] / "model")
    human = {row["essay_id"]: row["score"] for row in essays()}
    train = [
        row for row in read_rows(runs["with_target_essays"] / "predictions_oof.csv") if row["prompt_id"] == "trumpet"
    ]
    texts = {row["essay_id"]: row["text"] for row in essays()}
    raw = scorer.score([texts[row["essay_id"]] for row in train], ["trumpet"] * len(train)).raw
    own = np.array([human[row["essay_id"]] for row in train])
    assert raw.mean() == pytest.approx(own.mean(), abs=2)
    assert raw.std() == pytest.approx(own.std(), rel=0.15)


def test_without_a_prompt_left_out_test_is_of_prompts_left_out_in_turn(tmp_path):
    """Its essays' own scores have no part in their predictions, though there are train essays of their prompt."""
    config = write_config(tmp_path, essays(), "with_target_essays")
    assert tune(config, tmp_path / "run", "evaluation.floors=true").code == 0
    assert any("There are no floors" in note for note in report_of(tmp_path / "run")["notes"])
    scorer = ClassicalScorer.from_pretrained(tmp_path / "run" / "model")
    assert scorer.sources == list(ALL_RANGES)
    rows = read_rows(tmp_path / "run" / "predictions_test.csv")
    texts = {row["essay_id"]: row["text"] for row in essays()}
    own = scorer.score([texts[row["essay_id"]] for row in rows], [row["prompt_id"] for row in rows]).raw
    assert not np.isclose(own, [float(row["raw"]) for row in rows]).any()


def test_a_damaged_folder_is_refused(runs, tmp_path):
    shutil.copytree(runs["strict"] / "model", tmp_path / "model")
    path = tmp_path / "model" / "transfer.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    outcome = command("score", tmp_path / "model", runs["strict"].parent / "essays.jsonl", "-o", "-")
    assert outcome.code == 2
    assert "transfer.safetensors" in outcome.err


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([row for row in essays() if row["prompt_id"] != "trumpet"], [TARGET], "2 prompts at least"),
        ([row for row in essays() if row["prompt_id"] != "river"] + essays()[45:65], [TARGET], "river: 20 essays"),
        ([row for row in essays() if row["prompt_id"] != "phones"] + essays()[:11], [TARGET], "at least 10"),
        (essays(), [TARGET, "model.postprocessing=rescale"], "sets the level of each prompt's scores itself"),
        (essays(), ["data.split.cross_fit=3"], "leave data.split.cross_fit out"),
        (essays(), ["model.kind=boosting"], "form belongs to kind transfer"),
        (essays(), ["model.linguistic=false"], "needs linguistic features"),
        ([row | {"weight": 1 + place % 2} for place, row in enumerate(essays())],
         [TARGET, "data.columns.weight=weight"], "count alike"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, rows, words, message):
    outcome = tune(write_config(tmp_path, rows, "with_target_essays"), tmp_path / "run", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run" / "report.json").exists()


def test_calibrating_it_is_refused(runs):
    outcome = command("calibrate", runs["strict"], "--postprocessing", "rescale")
    assert outcome.code == 2
    assert "kind transfer" in outcome.err
