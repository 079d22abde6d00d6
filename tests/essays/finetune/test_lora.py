"""Runs that train low-rank adapters: what they leave, how they go on, and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from facts import facts
from safetensors.numpy import load_file
from small_run import read_rows, tune

from aes_dynloss.essays.finetune import products as run_products
from aes_dynloss.training import run_state

pytestmark = pytest.mark.slow

LORA = "model.lora={rank: 2, dropout: 0.1}"
KEPT = ("metrics.jsonl", "predictions_test.csv", "model/model.safetensors", "model/config.json")


class Stopped(Exception):
    """Stands for whatever ends a run."""


def test_adapted_layers_move_and_no_other(run_yaml: Path, tmp_path: Path) -> None:
    assert tune(run_yaml, tmp_path / "run", LORA).code == 0
    found = load_file(tmp_path / "run" / "model" / "model.safetensors")
    before = load_file(run_yaml.parent / "encoder" / "model.safetensors")
    moved = {name for name, value in before.items() if (found[name] != value).any()}
    ends = ("query.weight", "value.weight")
    assert moved == {name for name in before if name.endswith(ends)}
    assert len(moved) == 4
    assert len({row["raw"] for row in read_rows(tmp_path / "run" / "predictions_test.csv")}) > 5


def test_card_and_report_tell_what_is_left_and_what_learned(run_yaml: Path, tmp_path: Path) -> None:
    assert tune(run_yaml, tmp_path / "run", LORA, "model.keep_layers=1", "evaluation.page=true").code == 0
    words = "encoder, layers kept: 1, trained by adapters of rank 2 (LoRA)"
    assert f"- Encoder: {words}; head" in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert words in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_killed_run_goes_on_from_a_checkpoint_of_adapters(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [LORA, "training.averaging=0.8"]
    assert tune(run_yaml, tmp_path / "whole", *words).code == 0
    write = run_state.write_checkpoint

    def write_and_stop(*arguments: object) -> None:
        write(*arguments)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(run_state, "write_checkpoint", write_and_stop)
        with pytest.raises(Stopped):
            tune(run_yaml, tmp_path / "run", *words)
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    for state in (checkpoint["student"], checkpoint["best"]["weights"]):
        of_encoder = [name for name in state if name.startswith("encoder.")]
        assert len(of_encoder) == 2 * 2 * 2
        assert all("lora_" in name for name in of_encoder)
    assert tune(run_yaml, tmp_path / "run", *words, "--resume").code == 0
    for name in KEPT:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_trained_run_that_lacks_its_products_goes_on(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_products, "write_predictions", stop)
        assert tune(run_yaml, tmp_path / "run", LORA).code == 130
    other = tune(run_yaml, tmp_path / "run", "model.lora={rank: 3}", "--resume")
    assert other.code == 2
    assert "model.lora" in other.error
    assert tune(run_yaml, tmp_path / "run", LORA, "--resume").code == 0
    assert tune(run_yaml, tmp_path / "whole", LORA).code == 0
    for name in KEPT:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_plain_run_starts_from_an_adapted_one_and_the_other_way_round(run_yaml: Path, tmp_path: Path) -> None:
    assert tune(run_yaml, tmp_path / "adapted", LORA).code == 0
    still = ["training.learning_rate=1e-30", "training.head_learning_rate=1e-30", "training.weight_decay=0"]
    raws = {}
    for name, start, words in (("plain", "adapted", []), ("again", "plain", [LORA])):
        outcome = tune(run_yaml, tmp_path / name, *still, *words, f"model.start_from={tmp_path / start}")
        assert outcome.code == 0, outcome.err
        raws[name] = [float(row["raw"]) for row in read_rows(tmp_path / name / "predictions_test.csv")]
    first = [float(row["raw"]) for row in read_rows(tmp_path / "adapted" / "predictions_test.csv")]
    assert raws["plain"] == pytest.approx(first, abs=2e-4)  # merged weights are rounded to float32
    assert raws["again"] == pytest.approx(raws["plain"], abs=2e-6)


def test_without_peft_a_run_ends_with_one_message(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    outcome = tune(run_yaml, tmp_path / "run", LORA)
    assert (outcome.code, outcome.out) == (2, "")
    assert re.search(facts("model.lora", 'pip install "aes-dynloss[lora]"'), outcome.error)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_unknown_target_ends_a_run_with_one_message(run_yaml: Path, tmp_path: Path) -> None:
    outcome = tune(run_yaml, tmp_path / "run", "model.lora={targets: [q_proj]}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "model.lora.targets names q_proj" in outcome.error
    assert "dense, key, query, value" in outcome.error
