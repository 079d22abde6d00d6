from __future__ import annotations

import os
from dataclasses import FrozenInstanceError
from itertools import product
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.reports import published_systems
from aes_dynloss.reports.published_systems import (
    ASAP_CROSS_PROMPT_SYSTEMS,
    ASAP_SYSTEMS,
    COMMON_FOLDS,
    OWN_PROTOCOL,
    PROMPT_LEFT_OUT,
    SYSTEMS,
    essay_digest,
    published_rows,
)

ASAP = Path(os.environ.get("AES_DYNLOSS_ASAP", Path(__file__).parents[3] / "shared" / "data" / "asap"))
ESSAYS = {"fold_0": {("1", "a"), ("2", "b")}, "fold_1": {("1", "c")}}


def protocols(essays):
    systems = (*ASAP_SYSTEMS, *ASAP_CROSS_PROMPT_SYSTEMS)
    return {row["system"]: row["protocol"] for row in published_rows(systems, essays)}


def test_figures():
    assert {one.system: one.qwk for one in ASAP_SYSTEMS} == {
        "EASE (SVR)": 0.699,
        "EASE (BLRR)": 0.705,
        "LSTM": 0.746,
        "Morris, dynamic loss": 0.752,
        "CNN + LSTM, ensemble": 0.761,
        "R2BERT": 0.794,
        "NPCR": 0.817,
    }
    assert [one.system for one in ASAP_SYSTEMS if one.protocol != COMMON_FOLDS] == ["Morris, dynamic loss"]
    assert {one.system: one.qwk for one in ASAP_CROSS_PROMPT_SYSTEMS} == {
        "PAES": 0.657,
        "CTS": 0.670,
        "PMAES": 0.687,
        "KAES": 0.695,
    }
    assert {one.protocol for one in ASAP_CROSS_PROMPT_SYSTEMS} == {PROMPT_LEFT_OUT}
    with pytest.raises(FrozenInstanceError):
        ASAP_SYSTEMS[0].qwk = 1.0


def test_every_grid_that_asks_for_them_finds_those_of_its_protocol():
    protocol, data = (BenchmarkConfig.model_fields[name].annotation for name in ("protocol", "published"))
    sets = [one for kind in get_args(data) for one in get_args(kind)]
    assert set(SYSTEMS) == set(product(sets, get_args(protocol)))
    assert {one.protocol for one in SYSTEMS["asap", "leave_one_prompt_out"]} == {PROMPT_LEFT_OUT}


def test_rows_hold_what_is_known():
    rows = published_rows(ASAP_SYSTEMS, ESSAYS)
    assert rows[2] == {
        "system": "LSTM",
        "qwk": 0.746,
        "source": "Taghipour and Ng (2016), A Neural Approach to Automated Essay Scoring, EMNLP",
        "protocol": OWN_PROTOCOL,
    }
    assert published_rows((), ESSAYS) == []


def test_only_the_whole_of_the_common_folds_is_the_published_protocol(monkeypatch):
    monkeypatch.setattr(published_systems, "_FOLD_DIGESTS", frozenset(map(essay_digest, ESSAYS.values())))
    found = protocols(ESSAYS)
    of_others = {one.system for one in ASAP_CROSS_PROMPT_SYSTEMS} | {"Morris, dynamic loss"}
    assert {found.pop(system) for system in of_others} == {OWN_PROTOCOL}
    assert set(found.values()) == {COMMON_FOLDS}
    assert set(protocols({"other names": ESSAYS["fold_0"], "": ESSAYS["fold_1"]}).values()) > {COMMON_FOLDS}
    one_fold = {"fold_0": ESSAYS["fold_0"]}
    less = {**ESSAYS, "fold_0": {("1", "a")}}
    other = {**ESSAYS, "fold_1": {("1", "d")}}
    more = {**ESSAYS, "fold_2": {("1", "d")}}
    for essays in (one_fold, less, other, more):
        assert set(protocols(essays).values()) == {OWN_PROTOCOL}


def test_a_digest_hangs_on_the_set_of_essays():
    essays = [("1", "a"), ("2", "b"), ("1", "c")]
    assert essay_digest(essays) == essay_digest(essays[::-1]) == essay_digest(essays * 2)
    others = [essays[:2], [("2", "a"), ("2", "b"), ("1", "c")], [("1", "a"), ("2", "b"), ("1", "d")]]
    assert essay_digest(essays) not in {essay_digest(other) for other in others}


@pytest.mark.skipif(not (ASAP / "folds").exists(), reason="ASAP-AES is not at hand: set AES_DYNLOSS_ASAP to its folder")
def test_the_common_folds_are_known_by_their_essays():
    table = pd.read_parquet(ASAP / "asap_aes.parquet", columns=["essay_id", "essay_set"]).astype(str)
    prompt_of = dict(table.itertuples(index=False))
    folds = {}
    for fold in range(5):
        ids = (ASAP / "folds" / f"fold_{fold}" / "test_ids.txt").read_text(encoding="utf-8").split()
        folds[f"fold_{fold}"] = {(prompt_of[essay], essay) for essay in ids}
    assert list(protocols(folds).values()).count(COMMON_FOLDS) == 6
    assert set(protocols({name: folds[name] for name in list(folds)[:4]}).values()) == {OWN_PROTOCOL}
    targets = {f"target_{prompt}": table[table["essay_set"] == prompt] for prompt in set(prompt_of.values())}
    essays = {name: {(row.essay_set, row.essay_id) for row in part.itertuples()} for name, part in targets.items()}
    found = protocols(essays)
    assert {found.pop(one.system) for one in ASAP_CROSS_PROMPT_SYSTEMS} == {PROMPT_LEFT_OUT}
    assert set(found.values()) == {OWN_PROTOCOL}
    seven = {name: part for name, part in essays.items() if name != "target_8"}
    assert set(protocols(seven).values()) == {OWN_PROTOCOL}
