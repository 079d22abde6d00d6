"""Whole runs of fine-tuning with a tiny encoder: what they leave behind fits together."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from command_line import command
from small_run import (
    ALWAYS,
    EVERYTHING,
    RANGE_OPTIONS,
    check_scores,
    read_rows,
    records,
    report_of,
    small_essays,
    tune,
    write_rows,
)

from aes_dynloss.configfile import apply_overrides, read_mapping, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.features.linguistic import feature_names, linguistic_features
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.run import run_finetuning
from aes_dynloss.essays.floors import FLOORS
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.reports.table import figure_words


def check_report(folder: Path) -> None:
    """`evaluate` finds the figures of report.json in the predictions."""
    outcome = command(
        "evaluate", folder / "predictions_test.csv", "--dev", folder / "predictions_dev.csv", "--json", *RANGE_OPTIONS
    )
    found, written = json.loads(outcome.out), report_of(folder)
    for prompt, entry in written["prompts"].items():
        without_intervals = {key: value for key, value in entry.items() if not key.endswith("interval")}
        assert {key: found["prompts"][prompt][key] for key in without_intervals} == without_intervals
    figures = {"qwk", "qwk_fisher", "qwk_rescaled", "qwk_cut_points", "pearson"}
    assert {key: found["mean"][key] for key in figures} == {key: written["mean"][key] for key in figures}


MORRIS = "loss.terms={stde: {schedule: morris, a: 0.5}, mse: rest}"
RISING = "{schedule: linear, start: 0, end: 1}"
VARIANTS = {
    "regression": [],
    "one prompt": ["data.keep_prompts=[river]", "loss.terms={mae: 1.0}"],
    "sigmoid": ["model.link=sigmoid", f"loss.terms={{binary_cross_entropy: {RISING}, mse: rest}}"],
    "softmax": ["model.head=softmax", "loss.terms={cross_entropy: 0.7, one_minus_qwk: 0.3}", "model.hidden=8"],
    "ordinal": ["model.head=ordinal", "loss.terms={cross_entropy: {schedule: cosine, start: 1, end: 0}, stde: rest}"],
    "frozen": ["model.frozen_layers=all", "loss.terms={huber: 1.0}"],
    "frozen, attention": ["model.frozen_layers=all", "model.pooling=attention", "loss.terms={ranking: 0.5, mse: rest}"],
    "fewer layers": ["model.keep_layers=1", "model.pooled_layers=all"],
    "lora": ["model.lora={rank: 2}", "training.averaging=0.8", "training.layer_decay=0.5", "training.evaluations=2"],
    "lora, one layer frozen": ["model.lora={dropout: 0.1, targets: [dense]}", "model.frozen_layers=1"],
    "one layer frozen": ["model.frozen_layers=1", "model.pooling=cls", MORRIS],
    "rescaled": ["model.postprocessing=rescale", "model.prompts=embedding", "loss.terms={all_pairs_error: 1.0}"],
    "cut points": ["model.postprocessing=cut_points", "model.encoder_dropout=0", "model.dropout=0.1"],
    "capped": ["model.max_tokens=40", "model.window=16", "model.log_length=false"],
    "averaged": ["training.averaging=0.8", "training.evaluations=2", "training.patience=1", MORRIS],
    "accumulated": [
        "training.micro_batch_size=3",
        "model.gradient_checkpointing=true",
        "loss.terms={stde: 0.3, mse: 1}",
    ],
    "decay": ["training.layer_decay=0.5", "training.decay=cosine", "training.clip_norm=null", "loss.standardise=true"],
}


@pytest.mark.usefixtures("exact_states")
@pytest.mark.parametrize("name", VARIANTS)
def test_products_fit_together(run_yaml, tmp_path, name):
    folder = tmp_path / "run"
    outcome = tune(run_yaml, folder, *VARIANTS[name])
    assert outcome.code == 0, outcome.err
    assert {path.name for path in folder.iterdir()} == EVERYTHING
    assert {path.name for path in (folder / "model").iterdir()} >= {"config.json", "model.safetensors", "README.md"}
    kept = name == "one prompt"
    rows = [row for row in small_essays() if not kept or row["prompt_id"] == "river"]
    check_scores(folder, write_rows(tmp_path / "essays.csv", rows), "test")
    check_scores(folder, tmp_path / "essays.csv", "dev")
    check_report(folder)
    if name == "capped":
        assert any(int(row["dropped_tokens"]) > 0 for row in read_rows(folder / "predictions_test.csv"))
    if name in {"rescaled", "cut points"}:
        mean = report_of(folder)["mean"]
        assert mean["qwk"] == mean[{"rescaled": "qwk_rescaled", "cut points": "qwk_cut_points"}[name]]


def test_predictions_hold_the_split(run_yaml, tmp_path):
    outcome = tune(run_yaml, tmp_path / "run")
    assert outcome.err.count("of the 20 dev essays to fit rescale on") == 2  # once for each prompt
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    given = {row["essay_id"]: row for row in small_essays()}
    ids: dict[str, list[str]] = {}
    for split in ("dev", "test"):
        rows = read_rows(tmp_path / "run" / f"predictions_{split}.csv")
        assert list(rows[0]) == ["essay_id", "prompt_id", "reference", "raw", "score", "words"]
        for row in rows:
            assert float(row["words"]) == len(given[row["essay_id"]]["text"].split())
            assert float(row["reference"]) == given[row["essay_id"]]["score"]
            assert row["prompt_id"] == given[row["essay_id"]]["prompt_id"]
        ids[split] = [row["essay_id"] for row in rows]
        assert len(rows) == manifest["split"]["essays"][split]
    assert not set(ids["dev"]) & set(ids["test"])


def test_it_learns_and_gives_each_essay_its_own_score(run_yaml, tmp_path):
    """Scores that a word tells: a permutation of essays, prompts or score points anywhere would spoil them."""
    draw = random.Random(0)
    rows = []
    for number in range(160):
        score = draw.randrange(5)
        prompt = draw.choice(["phones", "river"])
        words = ["otter"] * score + ["lesson"] * (4 - score) + ["the"] * draw.randrange(20)
        draw.shuffle(words)
        other = score if prompt == "river" else 5 - score
        rows.append({"essay_id": f"{number:04}", "prompt_id": prompt, "text": " ".join(words), "score": other})
    essays = write_rows(tmp_path / "essays.csv", rows)
    words = [f"data.source={essays}", "training.epochs=12", "model.frozen_layers=all", "training.averaging=0.9"]
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert outcome.code == 0
    assert all(entry["qwk"] > 0.9 for entry in report_of(tmp_path / "run")["prompts"].values())
    losses = [record["loss"] for record in records(tmp_path / "run") if "loss" in record]
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    check_scores(tmp_path / "run", write_rows(tmp_path / "moved.jsonl", rows[::-1]), "test")


def test_metrics_record_the_schedule(run_yaml, tmp_path):
    tune(run_yaml, tmp_path / "run", MORRIS, "training.evaluations=2")
    steps = [record for record in records(tmp_path / "run") if "loss" in record]
    measured = [record for record in records(tmp_path / "run") if "dev" in record]
    assert [record["step"] for record in steps] == list(range(1, 11))
    assert [record["step"] for record in measured] == [3, 5, 8, 10]
    for record in steps:
        weights, terms = record["coefficients"], record["terms"]
        assert list(weights) == ["stde", "mse"] == list(terms)
        assert sum(weights.values()) == pytest.approx(1)
        assert record["loss"] == pytest.approx(sum(weights[name] * terms[name] for name in weights), rel=1e-5)
    assert steps[0]["coefficients"]["stde"] == pytest.approx(0.5)
    assert steps[-1]["coefficients"]["stde"] < 0.3
    best = max(record["dev"]["qwk"] for record in measured)
    dev = {row["essay_id"]: row for row in read_rows(tmp_path / "run" / "predictions_dev.csv")}
    assert command("evaluate", write_rows(tmp_path / "dev.csv", list(dev.values())), *RANGE_OPTIONS, "--json").code == 0
    found = json.loads(command("evaluate", tmp_path / "dev.csv", *RANGE_OPTIONS, "--json").out)
    assert found["mean"]["qwk"] == pytest.approx(best, abs=1e-12)


def test_the_best_weights_are_kept_and_patience_ends(run_yaml, tmp_path):
    words = ["training.epochs=9", "training.patience=2", "training.head_learning_rate=1.0"]
    tune(run_yaml, tmp_path / "run", *words)
    kappas = [record["dev"]["qwk"] for record in records(tmp_path / "run") if "dev" in record]
    best = kappas.index(max(kappas))
    assert len(kappas) == min(9, best + 3)
    assert len(kappas) < 9


def test_without_test_essays(run_yaml, tmp_path):
    fractions = "data.split={fractions: {train: 0.7, dev: 0.3, test: 0}}"
    assert tune(run_yaml, tmp_path / "run", fractions, "evaluation.floors=true").code == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == ALWAYS
    report = report_of(tmp_path / "run")
    assert report["floors"] == {}
    assert "There is no test split: these figures are those of dev" in report["notes"][-1]
    check_scores(tmp_path / "run", run_yaml.with_name("essays.jsonl"), "dev")


def test_floors_stand_in_the_report(run_yaml, tmp_path):
    tune(run_yaml, tmp_path / "run", "evaluation.floors=true", "training.epochs=1")
    assert list(report_of(tmp_path / "run")["floors"]) == list(FLOORS)


def test_second_scores_are_measured(run_yaml, tmp_path):
    rows = [row | {"again": row["score"] if place % 3 else None} for place, row in enumerate(small_essays())]
    words = [f"data.source={write_rows(tmp_path / 'essays.csv', rows)}", "data.columns.second_score=again"]
    assert tune(run_yaml, tmp_path / "run", *words).code == 0
    entry = report_of(tmp_path / "run")["prompts"]["river"]["human_human"]
    assert entry["qwk"] == 1
    assert 0 < entry["n"] < report_of(tmp_path / "run")["prompts"]["river"]["n"]
    check_report(tmp_path / "run")


def test_groups_of_writers_are_measured(run_yaml, tmp_path):
    rows = [row | {"l1": ["en", "xy", None][place % 3]} for place, row in enumerate(small_essays(90))]
    words = [f"data.source={write_rows(tmp_path / 'essays.csv', rows)}", "data.subgroups=[l1]", "training.epochs=1"]
    most = "data.split={fractions: {train: 0.3, dev: 0.1, test: 0.6}}"
    assert tune(run_yaml, tmp_path / "run", *words, most).code == 0
    groups = report_of(tmp_path / "run")["prompts"]["river"]["fairness"]["columns"]["l1"]["groups"]
    assert set(groups) == {"en", "xy", "No info"}
    assert sum(group["n"] for group in groups.values()) == report_of(tmp_path / "run")["prompts"]["river"]["n"]


def test_groups_of_writers_are_kept_and_small_ones_not_told(run_yaml, tmp_path):
    rows = [row | {"l1": ["en", "xy", None][place % 3]} for place, row in enumerate(small_essays())]
    words = [f"data.source={write_rows(tmp_path / 'essays.csv', rows)}", "data.subgroups=[l1]"]
    assert tune(run_yaml, tmp_path / "run", *words).code == 0
    predictions = read_rows(tmp_path / "run" / "predictions_test.csv")
    given = {row["essay_id"]: row["l1"] or "" for row in rows}
    assert [row["l1"] for row in predictions] == [given[row["essay_id"]] for row in predictions]
    report = report_of(tmp_path / "run")
    assert report["prompts"]["river"]["fairness"]["columns"]["l1"]["groups"] == {}
    told = "Prompt river: Column l1: fewer than 10 essays in No info, en, xy; no figure of them is told"
    assert any(note.startswith(told) for note in report["notes"])
    refused = tune(run_yaml, tmp_path / "other", words[0], "data.subgroups=[l2]")
    assert refused.code == 2
    assert "no column 'l2'; did you mean 'l1'?" in refused.error


def test_the_page_shows_report_and_training(run_yaml, tmp_path):
    assert tune(run_yaml, tmp_path / "run", "evaluation.page=true").code == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for words in ("Learning curves", "Losses over the training", "Encoder", "Seed"):
        assert words in page
    assert "Weights of the component losses" not in page  # they are constant
    for entry in report_of(tmp_path / "run")["prompts"].values():
        assert f"{entry['qwk']:.3f}" in page.replace("\N{MINUS SIGN}", "-")
    (tmp_path / "run" / "report.html").unlink()
    refused = tune(run_yaml, tmp_path / "run", "evaluation.page=true", "--resume")
    assert refused.code == 2
    assert "lacks report.html" in refused.error


def test_the_csv_holds_the_report_s_numbers(run_yaml, tmp_path):
    tune(run_yaml, tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "report.csv")
    for prompt, entry in report_of(tmp_path / "run")["prompts"].items():
        (row,) = [row for row in rows if (row["prompt"], row["table"], row["measure"]) == (prompt, "agreement", "qwk")]
        assert float(row["value"]) == entry["qwk"]


def test_manifest(run_yaml, tmp_path):
    words = ["training.seed=5", "data.split.seed=3", "data.split.teacher_dev_fraction=0.25"]
    tune(run_yaml, tmp_path / "run", *words)
    text = (tmp_path / "run" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["seeds"] == {"training": 5, "split": 3}
    assert manifest["data"]["essays"] == 60 == sum(manifest["split"]["essays"].values())
    assert manifest["split"]["essays"]["teacher_dev"] == 9
    assert {"python", "torch", "transformers", "aes-dynloss"} <= manifest["versions"].keys()
    assert (manifest["machine"]["processes"], manifest["machine"]["threads"]) == (1, torch.get_num_threads())
    assert manifest["precision"] == "float32"
    assert str(tmp_path) not in text
    assert str(run_yaml.parent) not in text
    tune(run_yaml, tmp_path / "other", *words, "data.split.seed=4")
    other = json.loads((tmp_path / "other" / "manifest.json").read_text())
    assert other["data"] == manifest["data"]
    assert other["split"]["sha256"] != manifest["split"]["sha256"]


def test_the_resolved_configuration_repeats_the_run(run_yaml, tmp_path):
    tune(run_yaml, tmp_path / "run", "training.epochs=1", MORRIS)
    tune(tmp_path / "run" / "config.yaml", tmp_path / "again")
    for name in ("config.yaml", "metrics.jsonl", "predictions_test.csv", "model/config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    tune(tmp_path / "run" / "config.yaml", tmp_path / "seed", "training.seed=1")
    assert (tmp_path / "seed" / "metrics.jsonl").read_bytes() != (tmp_path / "run" / "metrics.jsonl").read_bytes()


def test_model_card_and_model_in_python(run_yaml, tmp_path):
    values = read_mapping(run_yaml) | {"loss": yaml.safe_load("terms: {stde: {schedule: morris}, mse: rest}")}
    report = run_finetuning(validate(FinetuneConfig, values, "here"), tmp_path / "run")
    assert report == report_of(tmp_path / "run")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    river = report["prompts"]["river"]
    assert f"| river | 0-4 | {river['n']} | {figure_words(river['qwk'])} |" in card
    assert "stde: Morris(" in card
    assert "mse: rest" in card
    scorer = EncoderScorer.from_pretrained(tmp_path / "run" / "model")
    row = read_rows(tmp_path / "run" / "predictions_test.csv")[0]
    text = next(essay["text"] for essay in small_essays() if essay["essay_id"] == row["essay_id"])
    assert scorer.score([text], [row["prompt_id"]]).raw == pytest.approx([float(row["raw"])], abs=1e-5)


class TestAnAcceleratorThatIsGiven:
    """It brings devices, processes, precision and trackers; the seed is the configuration's."""

    def test_the_seed_is_the_configurations(self, run_yaml, tmp_path):
        values = apply_overrides(read_mapping(run_yaml), ["training.epochs=1", "model.hidden=4"])
        config = validate(FinetuneConfig, values, "here")
        run_finetuning(config, tmp_path / "plain")
        set_seed(99)
        run_finetuning(config, tmp_path / "given", accelerator=Accelerator(cpu=True))
        for name in ("metrics.jsonl", "predictions_test.csv"):
            assert (tmp_path / "given" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()

    def test_trackers_that_it_does_not_have(self, run_yaml, tmp_path):
        values = apply_overrides(read_mapping(run_yaml), ["training.trackers=[tensorboard]"])
        with pytest.raises(ConfigError, match=r"^training\.trackers: tensorboard is not among .*: none\. Start it"):
            run_finetuning(
                validate(FinetuneConfig, values, "here"), tmp_path / "run", accelerator=Accelerator(cpu=True)
            )
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("prompts", ["own_head", "shared"])
def test_features_are_compared_with_the_training_essays(run_yaml, tmp_path, prompts):
    essays = small_essays()
    for place, essay in enumerate(essays):
        number = place % 30
        essay["text"] = essay["text"][: 60 if essay["prompt_id"] == "phones" else 200]
        essay["split"] = "train" if number < 20 else "dev" if number < 25 else "test"
        if essay["split"] == "test":  # ever further from the training essays
            essay["text"] += " and" * (number - 25) * 8
    words = [f"data.source={write_rows(tmp_path / 'essays.jsonl', essays)}", "data.split.column=split"]
    words += ["model.linguistic=[counts, overlap]", f"model.prompts={prompts}", "evaluation.page=true"]
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert outcome.code == 0, outcome.error
    assert "Features: 9; largest correlations" in outcome.out
    assert "Features and human scores" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    features = report_of(tmp_path / "run")["features"]
    whose = "all training essays" if prompts == "shared" else "the training essays of the same prompt"
    assert (features["most_sd"], features["compared_with"]) == (4, whose)
    assert {one["group"] for one in features["by_name"].values()} == {"counts", "overlap"}

    texts = {essay["essay_id"]: essay["text"] for essay in essays}
    test = read_rows(tmp_path / "run" / "predictions_test.csv")
    model = EncoderScorer.from_pretrained(tmp_path / "run" / "model").model
    rows = read_rows(tmp_path / "run" / "features.csv")
    assert len(rows) == 18
    clamped = set()
    for number, prompt in enumerate(("phones", "river")):
        judged = [texts[row["essay_id"]] for row in test if row["prompt_id"] == prompt]
        values = linguistic_features(judged, [None] * len(judged), ["counts"])
        for place, name in enumerate(feature_names(["counts"])[:-2]):
            column = values[:, place]
            (row,) = [row for row in rows if (row["feature"], row["prompt_id"]) == (name, prompt)]
            assert int(row["n"]) == len(judged)
            assert float(row["mean"]) == pytest.approx(column.mean(), rel=1e-6)
            z = (column - float(model.linguistic_mean[number, place])) / float(model.linguistic_sd[number, place])
            assert float(row["clamped"]) == pytest.approx((abs(z) > 4).mean())
            clamped.add(float(row["clamped"]))
    assert prompts == "shared" or len(clamped) > 2
    # Without the prompts' own words overlap is 0 in every training essay.
    assert {row["clamped"] for row in rows if row["group"] == "overlap"} == {""}


def test_without_features_there_is_no_such_part(run_yaml, tmp_path):
    tune(
        run_yaml, tmp_path / "run", "model.linguistic=[counts]", "data.split.fractions={train: 0.7, dev: 0.3, test: 0}"
    )
    dev = report_of(tmp_path / "run")["features"]["by_name"]["log_words"]["prompts"]
    assert sum(one["n"] for one in dev.values()) == len(read_rows(tmp_path / "run" / "predictions_dev.csv"))
    tune(run_yaml, tmp_path / "run", "--force")
    assert "features" not in report_of(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == EVERYTHING


def test_features_of_a_warm_start_are_compared_with_the_earlier_run(run_yaml, tmp_path):
    words = ["model.linguistic=[counts]", "training.epochs=1"]
    tune(run_yaml, tmp_path / "first", *words)
    outcome = tune(run_yaml, tmp_path / "second", *words, f"model.start_from={tmp_path / 'first'}")
    assert outcome.code == 0, outcome.error
    compared_with = report_of(tmp_path / "second")["features"]["compared_with"]
    assert compared_with.endswith("of the same prompt, those of the earlier run where that knew the prompt")
