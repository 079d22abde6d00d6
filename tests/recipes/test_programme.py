"""The made-up programme: what is planted in it, and a small one from its first plan to its dossier."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parents[2] / "recipes/programme"))
import made_up
import three_years

from aes_dynloss.tables.audit_log import AuditLog, verify_log

pytestmark = pytest.mark.slow
FLAGS = [
    *(f"2026, prompt phones: score region {region}" for region in ("north", "south")),
    *("2026, prompt river: length in words", "2026, prompt river: length in words region south"),
    *("Ann: severe", "Emil: lenient", "audit log: line 7 was changed"),
]


@pytest.fixture(scope="module")
def programme():
    random = np.random.default_rng(1)
    return made_up.Programme(made_up.made_up_essays(random), random)


def read(path):
    return pd.read_csv(path, dtype={"essay_id": str, "prompt_id": str})


def test_what_is_planted_is_in_the_essays_of_the_last_year_alone(programme, tmp_path):
    programme.write_essays(tmp_path)
    parts = {part: read(tmp_path / part / "essays.csv") for part in made_up.YEARS}
    ids = pd.concat([*parts.values(), read(tmp_path / "train.csv")])["essay_id"]
    assert ids.is_unique
    gaps, words = {}, {}
    for year, essays in parts.items():
        assert "score" not in essays
        own = programme.essays.loc[pd.MultiIndex.from_frame(essays[made_up.KEYS])]
        means = own.groupby(["prompt_id", essays["region"].to_numpy()])["score"].mean()
        gaps[year] = {prompt: means[prompt, "north"] - means[prompt, "south"] for prompt in programme.spans}
        words[year] = own.groupby("prompt_id")["words"].mean()
    for year in made_up.YEARS:
        last = year == "2026"
        assert (gaps[year]["phones"] > 1) == last
        assert abs(gaps[year]["river"]) < 0.7
        assert (words[year]["river"] < 130) == last
        assert words[year]["phones"] > 130


def test_readers_differ_by_their_severity(programme):
    means = {reader: programme.readings(programme.essays, reader).mean() for reader in made_up.READERS}
    assert sorted(means, key=means.__getitem__) == list(made_up.READERS)
    for prompt, (low, high) in programme.spans.items():
        readings = programme.readings(programme.essays.loc[[prompt]], "Emil")
        assert set(readings) <= set(range(low, high + 1))


def test_tampering_changes_one_line(tmp_path):
    log = tmp_path / "audit.jsonl"
    AuditLog(log).append([{"event": "score", "scores": {"raw": 2.5, "score": score}} for score in (1, 3, 2, 3)])
    line = made_up.tamper(log)
    assert verify_log(log).faults == [f"line {line} was changed"]


@pytest.mark.parametrize(
    ("found", "fine"),
    [
        (FLAGS, True),
        *((FLAGS[:place] + FLAGS[place + 1 :], place == 3) for place in range(len(FLAGS))),
        *(([*FLAGS, more], False) for more in ("Ben: severe", "2025, prompt river: length in words", "audit log: x")),
    ],
)
def test_the_verdict_needs_all_that_was_planted_and_nothing_else(found, fine, capsys):
    assert three_years.all_found(three_years.planted(["phones", "river"], 7), found) == fine
    said = capsys.readouterr().out
    assert ("NOT FOUND" in said or "not planted: nothing" not in said) == (not fine)


def test_a_small_programme_finds_what_is_planted(tmp_path, capfd):
    folder = tmp_path / "programme"
    code = three_years.main(["--essays", "made-up", "-o", str(folder)])
    said = capfd.readouterr().out
    assert code == 0, said
    assert said.count("Found: ") == 4
    for name in ("dossier/dossier.html", "dossier/dossier.docx", "2026/monitor/monitor.html", "readers/report.html"):
        assert (folder / name).stat().st_size > 10_000
    for year in made_up.YEARS:
        plan = json.loads((folder / year / "plan/plan.json").read_text(encoding="utf-8"))
        assert (len(plan["markers"]), plan["blind_share"]) == (5, 0.3)
    assert three_years.main(["--essays", "made-up", "-o", str(folder)]) == 2


def test_without_asap_it_is_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert three_years.main(["-o", "programme"]) == 0
    assert "Skipped: " in capsys.readouterr().out
    assert not Path("programme").exists()
