"""Damaged model folders given to `score`: the same scores as ever or one clear message, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import command, judge
from damage import CASES, cases, damage_place, damaged_bytes, damaged_values
from tiny_encoder import write_tiny_encoder
from tiny_scorer import sign, tiny_scorer, values_of

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.measures.calibration import RescalingLine

pytestmark = pytest.mark.slow

# Sizes from which an encoder is built before its weights are looked at: none that fills the memory is tried here.
SIZES = {"hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "intermediate_size", "hidden"}
SIZES |= {"type_vocab_size", "num_attention_heads"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    scorer = tiny_scorer(write_tiny_encoder(folder / "tiny"), pooling="attention", hidden=4, head="ordinal")
    scorer.postprocessing = Postprocessing("rescale", {"letter": RescalingLine(1.2, 0.3)})
    scorer.save_pretrained(folder / "model")
    return folder / "model"


def test_model_folders(model, tmp_path):
    essays = tmp_path / "essays.csv"
    essays.write_text("essay_id,prompt_id,text\n1,letter,The otter.\n2,notice,A bridge and the river.\n")
    sound = command("score", model, essays)
    ends: Counter[int] = Counter()
    for number, chance in cases("model folders"):
        folder = Path(shutil.copytree(model, tmp_path / str(number) / "model"))
        for _ in range(chance.choice([1, 1, 2])):
            path = chance.choice(sorted(folder.rglob("*")))
            if chance.random() < 0.2 or not path.is_file():
                damage_place(path, chance)
            else:
                path.write_bytes(damaged_bytes(path.read_bytes(), chance))
        outcome = command("score", folder, essays)
        ends[judge(outcome)] += 1
        # README.md may say what it likes; nothing else may change without notice.
        assert outcome.out == ("" if outcome.code == 2 else sound.out)
    assert ends.total() == CASES["model folders"]
    assert min(ends[0], ends[2]) > 20


def test_signed_model_folders(model, tmp_path):
    """Damage with digests that fit, as only a faulty program would write it."""
    ends: Counter[int] = Counter()
    for number, chance in cases("signed model folders"):
        folder = Path(shutil.copytree(model, tmp_path / str(number)))
        values = values_of(folder)
        kind = chance.random()
        if kind < 0.6:
            edited = damaged_values({key: value for key, value in values.items() if key != "sha256"}, chance)
            values = {**({} if is_huge(edited) else edited), "sha256": values["sha256"]}
        else:
            names = ["tokenizer.json", "tokenizer_config.json", "model.safetensors", "head.safetensors"]
            path = folder / chance.choice(names)
            if kind < 0.8 and path.suffix == ".json":
                path.write_text(json.dumps(damaged_values(json.loads(path.read_text()), chance)))
            else:
                path.write_bytes(damaged_bytes(path.read_bytes(), chance))
        sign(folder, values)
        try:
            EncoderScorer.from_pretrained(folder)
            ends[0] += 1
        except CheckpointError:
            ends[2] += 1
    assert ends.total() == CASES["signed model folders"]
    assert min(ends[0], ends[2]) > 10


def test_encoders(tmp_path):
    """A damaged encoder to start from: its files are in nobody's list of digests."""
    sound = write_tiny_encoder(tmp_path / "sound")
    rows = [f"{row},letter,{'the otter ' * (row % 3 + 1)}and {row},{row % 3}" for row in range(20)]
    (tmp_path / "essays.csv").write_text("\n".join(["essay_id,prompt_id,text,score", *rows]))
    configuration = {
        "data": {"source": str(tmp_path / "essays.csv"), "prompts": {"letter": {"low": 0, "high": 2}}},
        "training": {"epochs": 1, "device": "cpu", "precision": "float32"},
        "evaluation": {"resamples": 100, "floors": False},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(configuration))
    ends: Counter[int] = Counter()
    for number, chance in cases("encoders"):
        encoder = Path(shutil.copytree(sound, tmp_path / str(number) / "encoder"))
        path = chance.choice(sorted(encoder.iterdir()))
        if chance.random() < 0.1:
            damage_place(path, chance)
        elif chance.random() < 0.6 and path.suffix == ".json":
            edited = damaged_values(json.loads(path.read_text()), chance)
            path.write_text(json.dumps({} if is_huge(edited) else edited))
        else:
            path.write_bytes(damaged_bytes(path.read_bytes(), chance))
        output = encoder.parent / "run"
        outcome = command("finetune", tmp_path / "run.yaml", f"model.encoder={encoder}", "-o", output)
        ends[judge(outcome)] += 1
        assert (output / "report.json").exists() == (outcome.code == 0)
    assert ends.total() == CASES["encoders"]
    assert min(ends[0], ends[2]) > 5


def is_huge(values: Any) -> bool:
    """Whether a size in the values is so great that a computer would be busy with it."""
    if isinstance(values, dict):
        own = [value for key, value in values.items() if key in SIZES and isinstance(value, int | float)]
        return any(abs(value) > 10_000 for value in own) or any(map(is_huge, values.values()))
    return isinstance(values, list) and any(map(is_huge, values))
