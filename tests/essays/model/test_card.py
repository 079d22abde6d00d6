"""Model cards as the hub reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from accelerate import Accelerator
from tiny_scorer import tiny_scorer

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.finetune.calibrate import calibrate_run
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.run import run_finetuning
from aes_dynloss.essays.model.card import CardFacts, EssayModelCard, MeasuredOn
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.table import figure_words
from aes_dynloss.tables.score_range import ScoreRange

STATED = {"licence": "cc-by-nc-4.0", "languages": ["en", "de"]}
KINDS: dict[str, dict[str, Any]] = {
    "encoder": {"frozen_layers": "all", "solver": "ridge", "pooled_layers": 2},
    "strings": {"kind": "strings", "strings": True, "solver": "ridge", "linguistic": True},
    "boosting": {"kind": "boosting", "linguistic": True},
}


def loaded(path: Path) -> huggingface_hub.ModelCard:
    """A card as the hub's own package reads it, all of its metadata understood."""
    return huggingface_hub.ModelCard.load(path / "README.md")


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, run_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = read_mapping(run_yaml)
    model = KINDS[request.param] | ({"encoder": values["model"]["encoder"]} if request.param == "encoder" else {})
    config = {key: value for key, value in values.items() if key not in {"loss", "training", "model"}}
    config |= {"model": model, "card": STATED, "evaluation": {"resamples": 100, "floors": True, "page": False}}
    folder = tmp_path_factory.mktemp("card") / "run"
    run_finetuning(validate(FinetuneConfig, config, "here"), folder)
    return folder


def test_what_a_run_tells(run: Path) -> None:
    card, manifest = loaded(run / "model"), read_mapping(run / "manifest.json")
    data, report = card.data, read_mapping(run / "report.json")
    assert isinstance(data, huggingface_hub.ModelCardData)
    assert (data.license, data.language) == ("cc-by-nc-4.0", ["en", "de"])
    assert (data.library_name, data.tags) == ("aes-dynloss", ["automated-essay-scoring"])
    assert data.base_model is None  # the encoder lies in a folder
    assert data["data_sha256"]["data"] == manifest["data"]["sha256"]
    assert data["data_sha256"]["test"] == manifest["split"]["sha256"]["test"]
    assert data["training_essays"] == manifest["split"]["essays"]["train"]
    assert data["versions"]["aes-dynloss"] == manifest["versions"]["aes-dynloss"]
    assert str(data["date"]) == manifest["started"][:10]
    for wanted in (
        "## Intended use",
        "## Limits",
        "## Figures",
        "Do not use it as the only rater",
        "linguistic features and n-grams",
    ):
        assert wanted in card.text
    assert str(run) not in card.content
    results = {(one.dataset_config, one.metric_type): one for one in data.eval_results}
    for prompt, entry in report["prompts"].items():
        found = results[prompt, "quadratic_weighted_kappa"]
        assert found.metric_value == pytest.approx(entry["qwk"], abs=1e-4)
        interval = " to ".join(map(figure_words, entry["qwk_interval"]))
        assert found.metric_name == f"Quadratic weighted kappa, 95 % CI {interval}"
        assert f"| {figure_words(entry['qwk'])} | {interval} |" in card.text
    assert results[None, "quadratic_weighted_kappa"].metric_value == pytest.approx(report["mean"]["qwk"], abs=1e-4)
    assert ("AutoModel" in card.text) == ("encoder" in read_mapping(run / "model" / "config.json"))


def test_another_calibration_is_another_card(run: Path) -> None:
    before = loaded(run / "model")
    made = calibrate_run(run, "rescale")
    after = loaded(run / "model")
    assert "From raw to score: rescale" in after.text
    assert after.data.license == before.data.license
    found = next(one for one in after.data.eval_results if one.dataset_config is None)
    assert found.metric_value == pytest.approx(made.after.mean.qwk, abs=1e-4)


def test_an_ensembles_card_has_what_its_members_say(encoder: Path, tmp_path: Path, accelerator: Accelerator) -> None:
    own = {"licence": "mit", "data_sha256": {"data": "ab"}}
    facts = [
        CardFacts(**own, languages=["en"], base_models=["a/b"]),
        CardFacts(**own, languages=["en", "de"], base_models=["c/d"]),
    ]
    for number, fact in enumerate(facts):
        text = EssayModelCard("Essay scorer", {"letter": ScoreRange(1, 6)}, facts=fact).text()
        tiny_scorer(encoder).save_pretrained(tmp_path / str(number), card=text)
    both = EssayEnsemble.from_members([tmp_path / "0", tmp_path / "1"], accelerator=accelerator)
    both.save_pretrained(tmp_path / "both")
    data = loaded(tmp_path / "both").data
    assert (data.license, data.language, data.base_model) == ("mit", ["en", "de"], ["a/b", "c/d"])
    assert data["data_sha256"] == {"data": "ab"}
    (tmp_path / "1" / "README.md").write_text("---\nlicense: [\n---\n# Mine")
    both.save_pretrained(tmp_path / "both")
    data = loaded(tmp_path / "both").data
    assert (data.license, data.language, data.get("data_sha256")) == ("unknown", ["en"], None)


def test_a_model_alone_has_a_card_too(written: Path) -> None:
    card = loaded(written)
    assert (card.data.license, card.data.library_name, card.data.eval_results) == ("unknown", "aes-dynloss", None)
    assert "not stated" in card.text


def test_notes_on_essays_and_columns_stay_in_the_report(run: Path) -> None:
    """They are the run's own; calibrate writes the card anew from the report that has them."""
    report = read_mapping(run / "report.json")
    report["notes"] += ["3 of 9 test essays, such as ID-4711, are not known to be held out.", "Column L1 is torn."]
    (run / "report.json").write_text(json.dumps(report))
    made = calibrate_run(run, "rescale")
    assert any("ID-4711" in note for note in made.after.notes)
    text = loaded(run / "model").text
    assert not [note for note in made.after.notes if note in text]
    assert "The figures are agreement with human scores of essays that were not trained on." in text


@pytest.mark.parametrize(
    ("measured_on", "started", "wanted"),
    [("test", False, 2), ("dev", True, 3), ("out_of_fold", False, 2)],
)
def test_a_card_says_on_which_essays_its_figures_are(
    run: Path, measured_on: MeasuredOn, started: bool, wanted: int
) -> None:
    facts, report = CardFacts(started=started), read_report(run / "report.json")
    card = EssayModelCard("Essay scorer", {}, facts=facts, report=report, measured_on=measured_on)
    figures = card.text().split("## Figures")[1].split("## ")[0]
    assert len([line for line in figures.splitlines() if line.startswith("- ")]) == wanted
    words = {"test": "not trained on", "dev": "no test split", "out_of_fold": "out-of-fold"}
    assert words[measured_on] in figures
    assert ("earlier model" in figures) == started


@pytest.mark.parametrize("name", ["a|b", "a\nb", "---", "<script>", "'; \"", "ü: - #"])
def test_hostile_names_of_prompts(name: str) -> None:
    text = EssayModelCard("Essay scorer", {name: ScoreRange(1, 6)}, facts=CardFacts(versions={name: "1"})).text()
    assert huggingface_hub.ModelCard(text).data["versions"] == {name: "1"}


@pytest.mark.parametrize("card", [{"licence": "My Own"}, {"languages": ["English"]}, {"licence": ""}])
def test_what_the_hub_would_not_understand_is_refused(run_yaml: Path, card: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="card"):
        validate(FinetuneConfig, read_mapping(run_yaml) | {"card": card}, "here")
