"""The script on distances, short and with a tiny model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from small_screen import TOPICS, WORDINGS, made_up_essays, small_screen
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.encoder_folder import Screening
from aes_dynloss.essays.model.ood_distance import OodDistance
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.tables.score_range import ScoreRange

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes/benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import unlike_training

    return unlike_training


def test_shares_of_a_tiny_model(script, tmp_path, monkeypatch):
    names = {"bridge": "1", "phones": "2"}
    shares = (0.1, 0.2, 0.3, 0.2, 0.15, 0.05)
    scales = [PromptScale(Prompt(p, ScoreRange(1, 6), WORDINGS.get(p)), 0.5, 0.2, shares, 3.0, 0.8) for p in TOPICS]
    monkeypatch.setattr("tiny_scorer.TWO_PROMPTS", scales)
    scorer = tiny_scorer(write_tiny_encoder(tmp_path / "encoder"))
    # To the first prompt all essays are near, to the second all are far.
    near, far = torch.randn(60, 16), torch.randn(60, 16)
    scorer.screening = Screening(small_screen(), OodDistance([near, far], [5.0, 1e-4]))
    scorer.save_pretrained(tmp_path / "run/model")
    texts, prompts = made_up_essays(6, seed=3)
    rows = {
        "essay_id": range(12),
        "essay_set": [names[prompt] for prompt in prompts],
        "essay": texts,
        "rater1_domain1": 3,
        "rater2_domain1": 3,
        "domain1_score": 6,
    }
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "asap.tsv", sep="\t", index=False, encoding="cp1252", lineterminator="\r\n")
    table[["essay_id"]].to_csv(tmp_path / "run/predictions_test.csv", index=False)
    found = script.measure(tmp_path / "run", str(tmp_path / "asap.tsv"), {"1": "bridge", "2": "phones"})["prompts"]
    assert found["bridge"] | {"real_withheld": 0, "others_withheld": 0} == {
        "real": 6, "real_flagged": 0, "real_withheld": 0, "others": 6, "others_flagged": 0, "others_withheld": 0,
    }  # fmt: skip
    assert found["bridge"]["others_withheld"] > 0.5
    assert (found["phones"]["real_flagged"], found["phones"]["real_withheld"]) == (1, 1)
