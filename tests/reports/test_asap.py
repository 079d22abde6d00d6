"""Known figures on ASAP-AES, where the data set is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.essays.floors import measure_floors
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.score_range import ScoreRange

FOLDER = Path(os.environ.get("AES_DYNLOSS_ASAP", Path(__file__).parents[3] / "shared" / "data" / "asap"))
pytestmark = pytest.mark.skipif(
    not (FOLDER / "asap_aes.parquet").exists(), reason="ASAP-AES is not at hand: set AES_DYNLOSS_ASAP to its folder"
)
HUMAN_HUMAN = [0.721, 0.814, 0.769, 0.851, 0.753, 0.776, 0.721, 0.629]


@pytest.fixture(scope="module")
def essays():
    columns = ["essay_id", "essay_set", "essay", "domain1_score", "rater1_domain1", "rater2_domain1"]
    return pd.read_parquet(FOLDER / "asap_aes.parquet", columns=columns).rename(columns={"essay_set": "prompt_id"})


def test_human_human_kappa(essays):
    raters = essays.rename(columns={"rater1_domain1": "score", "rater2_domain1": "reference"})
    report = build_report(raters, resamples=0)
    assert [round(entry["qwk"], 3) for entry in report["prompts"].values()] == HUMAN_HUMAN
    assert round(report["mean"]["qwk"], 3) == 0.754


def test_kappa_pooled_over_prompts_rewards_knowing_the_prompt(essays):
    score = essays["domain1_score"]
    means = essays.groupby("prompt_id")["domain1_score"].transform("mean")
    assert float(quadratic_weighted_kappa(score, np.floor(means + 0.5))) == pytest.approx(0.966, abs=0.001)


def test_length_floors(essays):
    """Mean over prompts and folds: .646 and .694 by this test's regression; .651 and .694 were measured elsewhere."""
    ranges = {
        prompt: ScoreRange(entry["low"], entry["high"])
        for prompt, entry in json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8")).items()
    }
    table = essays.rename(columns={"essay": "text", "domain1_score": "reference"}).set_index("essay_id")
    table["prompt_id"] = table["prompt_id"].astype(str)
    means = []
    for fold in range(5):
        parts = [
            table.loc[[int(line) for line in (FOLDER / f"folds/fold_{fold}/{part}_ids.txt").read_text().split()]]
            for part in ("train", "dev", "test")
        ]
        found = measure_floors(*parts, ranges, names=("mean_score", "length", "length_rescaled"))
        means.append([floor["mean"] for floor in found.values()])
    mean_score, length, rescaled = np.mean(means, axis=0)
    assert mean_score == pytest.approx(0, abs=1e-9)
    assert length == pytest.approx(0.651, abs=0.01)
    assert rescaled == pytest.approx(0.694, abs=0.005)
