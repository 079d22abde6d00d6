"""``score --range``: a model of kind transfer scores a prompt that it was not trained on."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import command
from small_run import read_rows, tune
from three_prompts import ALL_RANGES, essays, write_config

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.tables.score_range import ScoreRange

NEW = ("--prompt", "river", "--range", "0:4")
OPEN = [f"--policy={kind}=off" for kind in ("too_short", "gibberish", "off_topic", "copied_prompt", "repetition")]
RIVER = [row for row in essays() if row["prompt_id"] == "river"]


def write_csv(path: Path, rows: list[dict[str, object]], *columns: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Runs that have learned from two prompts."""
    folders = {}
    for form in ("with_target_essays", "strict"):
        folder = tmp_path_factory.mktemp(form)
        rows = [row for row in essays() if row["prompt_id"] != "river"]
        outcome = tune(write_config(folder, rows, form), folder / "run", "data.keep_prompts=[phones, trumpet]")
        assert outcome.code == 0, outcome.err
        folders[form] = folder / "run"
    return folders


@pytest.fixture
def new_essays(tmp_path) -> Path:
    return write_csv(tmp_path / "new.csv", RIVER, "essay_id", "text")


def raw_of(path: Path) -> np.ndarray:
    return np.array([float(row["raw"]) for row in read_rows(path)])


@pytest.mark.parametrize("form", ["with_target_essays", "strict"])
def test_it_scores_and_says_so(models, new_essays, tmp_path, form):
    outcome = command("score", models[form], new_essays, *NEW, *OPEN, "-o", tmp_path / "scores.csv")
    assert outcome.code == 0, outcome.err
    rows = read_rows(tmp_path / "scores.csv")
    assert {row["prompt_id"] for row in rows} == {"river"}
    assert all("unseen_prompt" in row["advisories"] for row in rows)
    assert all(0 <= float(row["low"]) <= float(row["score"]) <= float(row["high"]) <= 4 for row in rows)
    human = [row["score"] for row in RIVER]
    assert np.corrcoef(raw_of(tmp_path / "scores.csv"), human)[0, 1] > 0.4


def test_the_adapted_model_scores_them_one_by_one(models, new_essays, tmp_path):
    words = [*NEW, *OPEN, "-o", tmp_path / "scores.csv", "--adapted", tmp_path / "adapted"]
    assert command("score", models["with_target_essays"], new_essays, *words).code == 0
    one = write_csv(tmp_path / "one.csv", RIVER[7:8], "essay_id", "text")
    words = ["--prompt", "river", *OPEN, "-o", tmp_path / "alone.csv"]
    assert command("score", tmp_path / "adapted", one, *words).code == 0
    before, after = read_rows(tmp_path / "scores.csv")[7], read_rows(tmp_path / "alone.csv")[0]
    assert float(after.pop("raw")) == pytest.approx(float(before.pop("raw")))
    assert after == before
    assert ClassicalScorer.from_pretrained(tmp_path / "adapted").sources == ["phones", "trumpet"]


def test_a_model_is_not_replaced_unasked(models, new_essays, tmp_path):
    kept = Path(shutil.copytree(models["strict"] / "model", tmp_path / "kept"))
    before = (kept / "config.json").read_bytes()
    words = [models["with_target_essays"], new_essays, *NEW, "-o", tmp_path / "scores.csv", "--adapted", kept]
    outcome = command("score", *words)
    assert (outcome.code, (kept / "config.json").read_bytes()) == (2, before)
    assert "kept is there already. Choose another --adapted, or replace it by --force." in outcome.error
    assert not (tmp_path / "scores.csv").exists()
    assert command("score", *words, "--force").code == 0
    assert list(ClassicalScorer.from_pretrained(kept).prompts) == ["phones", "trumpet", "river"]


def test_an_ensemble_says_too_that_a_prompt_was_never_seen(models, new_essays, tmp_path):
    words = [models["with_target_essays"], new_essays, *NEW, "-o", tmp_path / "scores.csv"]
    assert command("score", *words, "--adapted", tmp_path / "adapted").code == 0
    shutil.copytree(tmp_path / "adapted", tmp_path / "other")
    both = EssayEnsemble.from_members([tmp_path / "adapted", tmp_path / "other"])
    assert both.sources == ["phones", "trumpet"]
    both.save_pretrained(tmp_path / "both")
    words = ["--prompt", "river", *OPEN, "-o", tmp_path / "both.csv"]
    assert command("score", tmp_path / "both", new_essays, *words).code == 0
    assert all("unseen_prompt" in row["advisories"] for row in read_rows(tmp_path / "both.csv"))


def test_a_few_scores_set_its_level(models, new_essays, tmp_path):
    """All of the first essays' scores are made 4: the level rises."""
    labels = write_csv(tmp_path / "labels.csv", [row | {"score": 4} for row in RIVER[:10]], "essay_id", "text", "score")
    words = [models["with_target_essays"], new_essays, *NEW, *OPEN, "-o"]
    assert command("score", *words, tmp_path / "without.csv").code == 0
    outcome = command("score", *words, tmp_path / "with.csv", "--target-labels", labels)
    assert outcome.code == 0, outcome.err
    without, with_labels = raw_of(tmp_path / "without.csv"), raw_of(tmp_path / "with.csv")
    assert with_labels.mean() > without.mean() + 0.3
    assert np.corrcoef(without, with_labels)[0, 1] > 0.98


def test_which_essays_to_mark_first(models, new_essays, tmp_path):
    """They stand in a table of blank scores, all along the predicted order, and filled in it is read as it is."""
    words = [models["with_target_essays"], new_essays, *NEW, *OPEN, "-o"]
    outcome = command("score", *words, tmp_path / "scores.csv", "--mark-first", 9, tmp_path / "to_mark.csv")
    assert outcome.code == 0, outcome.err
    rows = read_rows(tmp_path / "to_mark.csv")
    assert [list(rows[0]), {row["score"] for row in rows}] == [["essay_id", "text", "score"], {""}]
    order = np.argsort(np.argsort(raw_of(tmp_path / "scores.csv"), kind="stable"))
    places = [row["essay_id"] for row in read_rows(tmp_path / "scores.csv")]
    assert sorted(order[places.index(row["essay_id"])] // 5 for row in rows) == list(range(9))
    human = {row["essay_id"]: row["score"] for row in RIVER}
    marked = [row | {"score": human[row["essay_id"]]} for row in rows]
    labels = write_csv(tmp_path / "marked.csv", marked, "essay_id", "text", "score")
    outcome = command("score", *words, tmp_path / "with.csv", "--target-labels", labels)
    assert outcome.code == 0, outcome.err
    assert not (raw_of(tmp_path / "with.csv") == raw_of(tmp_path / "scores.csv")).any()


def test_blank_essays_have_no_part_in_what_the_others_are_scored(models, new_essays, tmp_path):
    blanks = [{"essay_id": f"blank{number}", "text": " \n" * (number % 2)} for number in range(9)]
    words = [*NEW, *OPEN, "-o"]
    model, more = models["with_target_essays"], write_csv(tmp_path / "more.csv", RIVER + blanks, "essay_id", "text")
    assert command("score", model, new_essays, *words, tmp_path / "without.csv").code == 0
    outcome = command("score", model, more, *words, tmp_path / "with.csv", "--mark-first", 45, tmp_path / "mark.csv")
    assert outcome.code == 0, outcome.err
    assert "Adapted to 45 essays" in outcome.err
    without, among = read_rows(tmp_path / "without.csv"), read_rows(tmp_path / "with.csv")
    assert among[:45] == without
    assert {(row["withheld"], row["raw"]) for row in among[45:]} == {("true", "")}
    assert {row["essay_id"] for row in read_rows(tmp_path / "mark.csv")} == {row["essay_id"] for row in RIVER}
    refused = command("score", model, more, *words, tmp_path / "s.csv", "--mark-first", 46, tmp_path / "other.csv")
    assert (refused.code, "--mark-first 46: there are 45 essays" in refused.error) == (2, True)
    few = write_csv(tmp_path / "few.csv", RIVER[:29] + blanks, "essay_id", "text")
    refused = command("score", model, few, *words, tmp_path / "s.csv")
    assert (refused.code, "Prompt river: 29 essays" in refused.error) == (2, True)


def test_a_strict_model_that_learned_with_wordings_takes_what_it_lacks_for_average(new_essays, tmp_path):
    """Without its wording a new prompt's essays would seem to share fewer words with it than any that was learned."""
    rows = [row for row in essays() if row["prompt_id"] != "river"]
    asked = {"phones": "Should pupils have their phones in school?", "trumpet": "Write about music in your school."}
    prompts = {prompt: ALL_RANGES[prompt] | {"text": text} for prompt, text in asked.items()}
    words = ["model.linguistic=[counts, overlap]", f"data.prompts={json.dumps(prompts)}"]
    assert tune(write_config(tmp_path, rows, "strict"), tmp_path / "run", *words).code == 0
    outcome = command("score", tmp_path / "run", new_essays, *NEW, *OPEN, "-o", tmp_path / "scores.csv")
    assert outcome.code == 0, outcome.err
    scorer, texts = ClassicalScorer.from_pretrained(tmp_path / "run"), [row["text"] for row in RIVER]
    river, transfer, own = Prompt("river", ScoreRange(0, 4)), scorer.transfers[""], np.zeros((len(RIVER), 0))
    numbers = scorer.adapted(river, [], own[:0]).numbers(texts, "river", own)
    assert not numbers[:, -3:].any()
    assert (transfer.scale.mean[-3:-1] > 0).all()
    numbers[:, -3:] = transfer.scale.mean[-3:]
    expected = transfer.strict(river.range).of_numbers(numbers)
    np.testing.assert_allclose(raw_of(tmp_path / "scores.csv"), expected, atol=1e-6)
    told = replace(river, text="Explain what the village council plans to do with the bridge.")
    with_wording = scorer.adapted(told, [], own[:0]).raw_scores(texts, ["river"] * len(texts), own)
    assert np.abs(with_wording - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("form", "count", "name", "message"),
    [
        ("strict", 9, "to_mark.csv", "form strict has no use"),
        ("with_target_essays", 46, "to_mark.csv", "there are 45 essays"),
        ("with_target_essays", 9, "to_mark.txt", "expected a suffix out of"),
        ("with_target_essays", 9, "new.csv", "is there already"),
    ],
)
def test_essays_to_mark_that_cannot_be_named(models, new_essays, tmp_path, form, count, name, message):
    before = new_essays.read_bytes()
    words = ["-o", tmp_path / "scores.csv", "--mark-first", count, tmp_path / name]
    outcome = command("score", models[form], new_essays, *NEW, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert new_essays.read_bytes() == before
    assert not (tmp_path / "scores.csv").exists()


def test_a_stopped_run_goes_on_with_the_same_essays_alone(models, new_essays, tmp_path):
    words = [models["with_target_essays"], new_essays, *NEW, "-o", tmp_path / "scores.csv"]
    assert command("score", *words).code == 0
    before = (tmp_path / "scores.csv").read_bytes()
    assert command("score", *words, "--resume").code == 0
    assert (tmp_path / "scores.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("form", "rows", "words", "message"),
    [
        ("with_target_essays", RIVER[:29], NEW, "29 essays"),
        ("with_target_essays", RIVER, ("--prompt", "phones", "--range", "1:6"), "knows prompt 'phones' already"),
        ("with_target_essays", RIVER, ("--range", "0:4"), "Name it with --prompt"),
        ("with_target_essays", RIVER, ("--prompt", "river", "--range", "lake=0:4"), "lake=0:4"),
        ("with_target_essays", RIVER, ("--prompt", "river", "--range", "4"), "4"),
        ("with_target_essays", RIVER, ("--prompt", "river"), "not trained on prompt 'river'"),
        ("with_target_essays", RIVER, ("--prompt", "river", "--target-labels", __file__), "goes with --range"),
        ("with_target_essays", RIVER, ("--prompt", "river", "--adapted", "kept"), "goes with --range"),
        ("with_target_essays", RIVER, ("--prompt", "river", "--mark-first", "9", "kept.csv"), "goes with --range"),
        ("with_target_essays", essays(), ("--range", "river=0:4"), "essays on phones, trumpet"),
    ],
)
def test_what_makes_no_sense_is_refused(models, tmp_path, form, rows, words, message):
    columns = ["essay_id", "text", *(["prompt_id"] if len(rows) > len(RIVER) else [])]
    path = write_csv(tmp_path / "new.csv", rows, *columns)
    outcome = command("score", models[form], path, *words, "-o", tmp_path / "scores.csv")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "scores.csv").exists()


def test_labels_are_of_no_use_to_a_strict_model(models, new_essays, tmp_path):
    labels = write_csv(tmp_path / "labels.csv", RIVER[:10], "essay_id", "text", "score")
    outcome = command("score", models["strict"], new_essays, *NEW, "--target-labels", labels)
    assert outcome.code == 2
    assert "form strict" in outcome.err


def test_one_essay_is_enough_for_a_strict_model(models, tmp_path):
    one = write_csv(tmp_path / "one.csv", RIVER[:1], "essay_id", "text")
    outcome = command("score", models["strict"], one, *NEW, *OPEN, "-o", tmp_path / "scores.csv")
    assert outcome.code == 0, outcome.err
    assert len(read_rows(tmp_path / "scores.csv")) == 1


def test_another_kind_of_model_cannot_be_adapted(new_essays, tmp_path):
    rows = [row for row in essays() if row["prompt_id"] != "river"]
    config = write_config(tmp_path, rows, "strict")
    words = ["data.keep_prompts=[phones, trumpet]", "model.kind=boosting", "model.form=null"]
    assert tune(config, tmp_path / "run", *words).code == 0
    outcome = command("score", tmp_path / "run", new_essays, *NEW)
    assert outcome.code == 2
    assert "kind boosting" in outcome.err


def test_a_table_with_a_column_of_prompts(models, tmp_path):
    path = write_csv(tmp_path / "new.csv", RIVER, "essay_id", "prompt_id", "text", "score")
    words = ["--range", "river=0:4", "--target-labels", path, "-o", tmp_path / "scores.csv"]
    outcome = command("score", models["with_target_essays"], path, *words, *OPEN)
    assert outcome.code == 0, outcome.err
    human = np.array([row["score"] for row in RIVER])
    assert raw_of(tmp_path / "scores.csv").mean() == pytest.approx(human.mean(), abs=0.3)


def test_a_list_that_was_filled_in_is_not_blanked(models, new_essays, tmp_path):
    model, marked = models["with_target_essays"], tmp_path / "marked.csv"
    words = ("score", model, new_essays, *NEW, "-o", tmp_path / "scores.csv", "--mark-first", 9, marked)
    assert command(*words).code == 0
    rows = [row | {"score": 2} for row in read_rows(marked)]
    write_csv(marked, rows, *rows[0])
    filled = marked.read_bytes()
    refused = command(*words, "--target-labels", marked, "--force")
    assert refused.code == 2
    assert "--mark-first names" in refused.error
    (tmp_path / "scores.csv").unlink()
    assert command(*words, "--resume").code == 0
    assert marked.read_bytes() == filled
