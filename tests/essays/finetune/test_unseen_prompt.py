"""Runs that leave a prompt out: it is scored, and neither its human scores nor its texts had a part in the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import command
from safetensors.torch import load_file
from small_run import (
    EVERYTHING,
    RANGES,
    check_scores,
    read_rows,
    records,
    report_of,
    small_essays,
    tune,
    write_rows,
)
from tiny_scorer import CONFIGS, values_of
from transformers import AutoModel, AutoTokenizer

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.finetune import products as run_products
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scorer import EncoderScorer

pytestmark = pytest.mark.slow

TARGET = "river"
UNSEEN = (f"data.split.target_prompt={TARGET}", "model.prompts=shared")
TEACHER_DEV = "data.split.teacher_dev_fraction=0.3"
# A third prompt, with a range of its own, so that dev and train hold several.
TRUMPET = {"low": 10, "high": 60, "step": 10}
LEAKS = {
    "learning": ["model.link=sigmoid"],
    "frozen, all layers": ["model.frozen_layers=all", "model.pooled_layers=all", "loss.standardise=true"],
    "rescaled": ["model.postprocessing=rescale", "loss.terms={stde: 0.3, mse: rest}", "model.frozen_layers=1"],
    "cut points": ["model.postprocessing=cut_points", "model.hidden=4", "training.averaging=0.8"],
    "L2T-DLF": [TEACHER_DEV, "teacher={kind: dlf, episodes: 1}", "loss.terms={mse: 0.7, stde: 0.3}"],
    "L2T-DLN": [TEACHER_DEV, "teacher={kind: dln, window: 2}"],
}


def essays() -> list[dict[str, Any]]:
    """Three prompts, the middle one of which is left out."""
    rows = small_essays()
    phones, river = ([row for row in rows if row["prompt_id"] == prompt] for prompt in RANGES)
    trumpet = [
        row | {"essay_id": f"t{row['essay_id']}", "prompt_id": "trumpet", "text": row["text"][::-1]} for row in phones
    ]
    for place, row in enumerate(trumpet):
        row["score"] = 10 * (1 + place % 6)
    return [*phones, *river, *trumpet]


def source(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    ranges = RANGES | {"trumpet": TRUMPET}
    return [f"data.source={write_rows(path, rows)}", f"data.prompts={json.dumps(ranges)}"]


def without_reference(folder: Path, part: str) -> list[dict[str, str]]:
    return [
        {name: cell for name, cell in row.items() if name != "reference"}
        for row in read_rows(folder / f"predictions_{part}.csv")
    ]


class TestTheLeakGuard:
    @pytest.mark.parametrize("name", LEAKS)
    def test_its_human_scores_move_nothing_but_the_figures(self, run_yaml: Path, tmp_path: Path, name: str) -> None:
        """All made the opposite, and wider apart: a mean, spread, split, choice or border that saw them would move."""
        rows = essays()
        other = [
            row | {"score": (row["score"] < 2) * 4 if row["prompt_id"] == TARGET else row["score"]} for row in rows
        ]
        for run, written in (("one", rows), ("other", other)):
            words = source(tmp_path / f"{run}.jsonl", written)
            outcome = tune(run_yaml, tmp_path / run, *UNSEEN, *words, *LEAKS[name])
            assert outcome.code == 0, outcome.err
        one, moved = tmp_path / "one", tmp_path / "other"
        for product in ("metrics.jsonl", "predictions_dev.csv", "model/model.safetensors", "model/config.json"):
            assert (one / product).read_bytes() == (moved / product).read_bytes(), product
        assert without_reference(one, "test") == without_reference(moved, "test")
        assert len({row["raw"] for row in read_rows(one / "predictions_test.csv")}) > 10
        figures = [report_of(run)["prompts"][TARGET] for run in (one, moved)]
        assert figures[0]["mean_raw"] == figures[1]["mean_raw"]
        assert figures[0]["mean_reference"] != figures[1]["mean_reference"]
        assert figures[0]["qwk"] != figures[1]["qwk"]

    @pytest.mark.parametrize("freeze", [[], ["model.frozen_layers=all"]], ids=["learning", "frozen"])
    def test_its_texts_move_nothing_of_the_model(self, run_yaml: Path, tmp_path: Path, freeze: list[str]) -> None:
        """Vectors and lengths are standardised by train: a test essay is scored the same in any company."""
        rows = essays()
        kept = next(row for row in rows if row["prompt_id"] == TARGET)
        other = [
            row | {"text": "otter " * 70} if row["prompt_id"] == TARGET and row is not kept else row for row in rows
        ]
        for run, written in (("one", rows), ("other", other)):
            words = source(tmp_path / f"{run}.jsonl", written)
            assert tune(run_yaml, tmp_path / run, *UNSEEN, *words, *freeze).code == 0
        one, moved = tmp_path / "one", tmp_path / "other"
        before, after = (
            load_file(run / "model" / "model.safetensors") | load_file(run / "model" / "head.safetensors")
            for run in (one, moved)
        )
        assert {"head.answer.weight", "embeddings.LayerNorm.weight"} <= before.keys()
        for name, weight in before.items():  # an essay in a batch of other lengths differs by rounding
            torch.testing.assert_close(after[name], weight, atol=2e-6, rtol=2e-5, msg=name)
        assert values_of(one / "model")["prompts"] == values_of(moved / "model")["prompts"]
        tables = [{row["essay_id"]: row for row in read_rows(run / "predictions_test.csv")} for run in (one, moved)]
        raws = [float(table[kept["essay_id"]]["raw"]) for table in tables]
        assert raws[0] == pytest.approx(raws[1], abs=5e-5)
        assert len({row["raw"] for row in tables[1].values()}) == 2

    def test_inferred_ranges_are_refused(self, run_yaml: Path, tmp_path: Path) -> None:
        outcome = tune(run_yaml, tmp_path / "run", *UNSEEN, "data.prompts=null")
        assert (outcome.code, outcome.out) == (2, "")
        assert "target_prompt needs the score ranges in prompts" in outcome.error


@pytest.fixture(scope="module")
def run(run_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    words = source(folder / "essays.jsonl", essays())
    outcome = tune(run_yaml, folder / "run", *UNSEEN, *words, TEACHER_DEV, "model.postprocessing=rescale")
    assert outcome.code == 0, outcome.err
    assert f"Prompt {TARGET} has no dev essays to fit rescale on; its scores are plainly rounded." in outcome.err
    return folder / "run"


class TestARun:
    def test_it_is_test_and_nothing_else(self, run: Path) -> None:
        assert {path.name for path in run.iterdir()} == EVERYTHING
        test, dev = (read_rows(run / f"predictions_{part}.csv") for part in ("test", "dev"))
        assert [row["essay_id"] for row in test] == [
            row["essay_id"] for row in small_essays() if row["prompt_id"] == TARGET
        ]
        assert {row["prompt_id"] for row in dev} == {"phones", "trumpet"}
        measured = [record["dev"] for record in records(run) if "dev" in record]
        assert {key for dev in measured for key in dev if key.startswith("qwk_")} == {"qwk_phones", "qwk_trumpet"}

    def test_the_manifest_counts_it(self, run: Path) -> None:
        manifest = json.loads((run / "manifest.json").read_text())
        assert manifest["split"]["essays"] == {"train": 34, "dev": 12, "test": 30, "teacher_dev": 14}
        assert read_mapping(run / "config.yaml")["data"]["split"]["target_prompt"] == TARGET

    def test_the_report_says_what_it_lacks(self, run: Path) -> None:
        report = report_of(run)
        assert list(report["prompts"]) == [TARGET]
        entry = report["prompts"][TARGET]
        assert (entry["n"], entry["qwk_rescaled"], entry["qwk_cut_points"]) == (30, None, None)
        assert f"Prompt {TARGET} has no dev essays: its qwk_rescaled and qwk_cut_points are null." in report["notes"]

    def test_its_scores_are_rounded_and_those_of_the_others_rescaled(self, run: Path) -> None:
        scorer = EncoderScorer.from_pretrained(run / "model")
        assert set(scorer.postprocessing.fitted) == {"phones", "trumpet"}
        rows = read_rows(run / "predictions_test.csv")
        assert [float(row["score"]) for row in rows] == [
            min(4.0, max(0.0, float(int(float(row["raw"]) + 0.5)))) for row in rows
        ]

    def test_the_stored_model_scores_all_prompts(self, run: Path, tmp_path: Path) -> None:
        path = write_rows(tmp_path / "essays.csv", essays())
        check_scores(run, path, "test")
        check_scores(run, path, "dev")
        assert command("score", run / "model", path, "--output", tmp_path / "all.csv").code == 0
        rows = read_rows(tmp_path / "all.csv")
        assert len(rows) == 90
        assert {row["prompt_id"] for row in rows if "unseen_prompt" in row["advisories"]} == {TARGET}
        assert sum("unseen_prompt" in row["advisories"] for row in rows) == 30

    def test_what_taught_it(self, run: Path) -> None:
        scorer = EncoderScorer.from_pretrained(run / "model")
        assert scorer.sources == ["phones", "trumpet"]
        scorer.screening = None  # then nothing tells
        assert scorer.sources == ["phones", TARGET, "trumpet"]

    def test_one_answer_on_each_prompts_range(self, run: Path) -> None:
        """The head is not told the prompt: what it says of a text, from 0 to 1, is put on the prompt's range."""
        scorer = EncoderScorer.from_pretrained(run / "model")
        texts = [row["text"] for row in small_essays()[:8]]
        units = []
        for prompt, (low, high) in {"phones": (1, 6), TARGET: (0, 4), "trumpet": (10, 60)}.items():
            units.append((scorer.score(texts, [prompt] * 8).raw - low) / (high - low))
        assert units[0] == pytest.approx(units[1], abs=1e-6)
        assert units[0] == pytest.approx(units[2], abs=1e-6)
        assert units[0].std() > 1e-3


class TestFloors:
    def test_none_can_be_fitted_and_the_report_says_so(self, run_yaml: Path, tmp_path: Path) -> None:
        assert tune(run_yaml, tmp_path / "run", *UNSEEN, "evaluation.floors=true", "training.epochs=1").code == 0
        report = report_of(tmp_path / "run")
        assert report["floors"] == {}
        assert [note for note in report["notes"] if "floors" in note] == [
            "There are no floors: they are fitted to train essays on the prompt that they score, and none is used."
        ]

    def test_none_were_asked_for(self, run_yaml: Path, tmp_path: Path) -> None:
        assert tune(run_yaml, tmp_path / "run", *UNSEEN, "training.epochs=1").code == 0
        assert not [note for note in report_of(tmp_path / "run")["notes"] if "floors" in note]


class TestRefusals:
    @pytest.mark.parametrize("prompts", ["own_head", "embedding"])
    def test_a_head_that_learns_from_every_prompts_own_essays(
        self, run_yaml: Path, tmp_path: Path, prompts: str
    ) -> None:
        words = [f"data.split.target_prompt={TARGET}", f"model.prompts={prompts}"]
        outcome = tune(run_yaml, tmp_path / "run", *words)
        assert (outcome.code, outcome.out) == (2, "")
        expected = (
            f"data.split.target_prompt leaves prompt river without training essays, but model.prompts is {prompts}, "
            "which learns from every prompt's own. Set model.prompts to shared (with model.head regression)"
        )
        assert expected in outcome.error
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("head", ["softmax", "ordinal"])
    def test_a_head_over_score_points(self, head: str) -> None:
        with pytest.raises(ConfigError, match="prompts: shared needs head regression, since prompts differ"):
            validate(ModelConfig, {"prompts": "shared", "head": head}, "here")

    def test_a_prompt_without_train_essays_by_another_split(self, run_yaml: Path, tmp_path: Path) -> None:
        """The same set of essays, named by a column: what is wrong with it is said, and a shared head takes it."""
        rows = [row | {"part": "test"} for row in small_essays()]
        for place, row in enumerate(rows[:30]):
            row["part"] = "dev" if place % 5 == 0 else "train"
        words = [f"data.source={write_rows(tmp_path / 'essays.csv', rows)}", "data.split.column=part"]
        outcome = tune(run_yaml, tmp_path / "run", *words)
        assert outcome.code == 2
        assert "Prompt river: its training essays hold no essay" in outcome.error
        assert "learn one head for all prompts with model.prompts: shared" in outcome.error
        assert tune(run_yaml, tmp_path / "run", *words, "model.prompts=shared", "--force").code == 0

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["data.keep_prompts=[phones]"], "target_prompt is river, but the data hold the prompts phones. Name one"),
            (["data.keep_prompts=[river]"], "but the data hold the prompts river. Name one of several, or widen"),
            (["data.split.target_dev_ids=none.txt"], "none.txt cannot be read"),
            (["data.split.column=part"], "name one way to split, found column and target_prompt"),
        ],
    )
    def test_words(self, run_yaml: Path, tmp_path: Path, words: list[str], message: str) -> None:
        outcome = tune(run_yaml, tmp_path / "run", *UNSEEN, *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.error
        assert not (tmp_path / "run" / "metrics.jsonl").exists()

    def test_an_encoder_that_cannot_recompute_its_activations(self, run_yaml: Path, tmp_path: Path) -> None:
        encoder = read_mapping(run_yaml)["model"]["encoder"]
        config = CONFIGS["mpnet"]()
        config.vocab_size = 200
        AutoModel.from_config(config).save_pretrained(tmp_path / "mpnet")
        AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "mpnet")
        words = [f"model.encoder={tmp_path / 'mpnet'}", "model.gradient_checkpointing=true"]
        outcome = tune(run_yaml, tmp_path / "run", *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert "an encoder of the kind mpnet cannot recompute its activations. Set it to false" in outcome.error


class TestResume:
    def test_with_the_list_that_it_began_with(self, run_yaml: Path, tmp_path: Path, monkeypatch: Any) -> None:
        ids = [row["essay_id"] for row in small_essays() if row["prompt_id"] != TARGET]
        path = tmp_path / "dev_ids.txt"
        path.write_text("\n".join(ids[::5]))
        words = [*UNSEEN, f"data.split.target_dev_ids={path}"]

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(run_products, "write_predictions", stop)
            assert tune(run_yaml, tmp_path / "run", *words).code == 130
        path.write_text("\n".join(ids[1::5]))
        assert "--resume: the split differ" in tune(run_yaml, tmp_path / "run", *words, "--resume").error
        path.write_text("\n".join(ids[::5]))
        other = tune(run_yaml, tmp_path / "run", "data.split.target_prompt=phones", "model.prompts=shared", "--resume")
        assert "data.split.target_prompt was 'river', now 'phones'" in other.error
        assert tune(run_yaml, tmp_path / "run", *words, "--resume").code == 0
        assert [row["essay_id"] for row in read_rows(tmp_path / "run" / "predictions_dev.csv")] == ids[::5]
        assert tune(run_yaml, tmp_path / "whole", *words).code == 0
        for name in ("predictions_test.csv", "report.json", "model/config.json"):
            assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_saved_configuration_is_valid(run_yaml: Path) -> None:
    values = read_mapping(run_yaml)
    values["data"]["split"] = {"target_prompt": TARGET}
    values["model"]["prompts"] = "shared"
    config = validate(FinetuneConfig, values, "here")
    assert validate(FinetuneConfig, config.model_dump(mode="json"), "again") == config
