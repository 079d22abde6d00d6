"""monitor killed at random moments: what is there is of one monitor, and one more run has every administration once.

AES_DYNLOSS_KILLS says how often it is killed; a release is tried with 50.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from drifting_scores import write_run, write_scores
from forked import finish, start, stop_when

from aes_dynloss.tables.provenance import PROVENANCE, verify

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AES_DYNLOSS_KILLS", "3"))
YEARS = ["first.csv", "second.csv", "third.csv"]


def told(folder: Path) -> dict[str, list[str]]:
    """The administrations that each product tells of, each as often as it does."""
    found = {}
    if (folder / "monitor.json").exists():
        values = json.loads((folder / "monitor.json").read_text(encoding="utf-8"))
        found["json"] = [one["name"] for one in values["administrations"]]
    if (folder / "monitor.csv").exists():
        rows = pd.read_csv(folder / "monitor.csv")
        assert not rows.duplicated(["administration", "prompt", "kind", "name", "measure"]).any()
        found["csv"] = list(rows["administration"].unique())
    if (folder / "monitor.html").exists():
        page = (folder / "monitor.html").read_text(encoding="utf-8")
        assert page.endswith("</html>")
        found["html"] = [name for name in YEARS if name in page]
    return found


def test_killed_at_random_moments(tmp_path):
    write_run(tmp_path / "run", essays=60)
    for seed, name in enumerate(YEARS):
        write_scores(tmp_path, name, seed, essays=60)
    folder, generator = tmp_path / "monitor", random.Random(0)

    def begin(years: list[str]):
        return start("monitor", "run", *years, "-o", "monitor", "--force", folder=tmp_path)

    began = time.monotonic()
    assert finish(begin(YEARS)) == 0, (tmp_path / "err").read_text()
    usual = time.monotonic() - began
    killed, torn = 0, 0
    while killed < KILLS:
        years = YEARS[: 1 + killed % 3]
        process = begin(years)
        if killed % 2:
            # While it puts its products in their places.
            stop_when(process, lambda: any(folder.glob(".report.*/monitor.json")), generator.uniform(0, 0.01))
        else:
            process.join(generator.uniform(0, usual))
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGKILL)
        code = finish(process)
        assert code in {0, -signal.SIGKILL}, (tmp_path / "err").read_text()
        killed += code != 0
        found = told(folder)
        assert len({tuple(names) for names in found.values()}) <= 1, found
        assert len(found) == 3 or "json" not in found, "monitor.json says that the others are whole"
        torn += len(found) < 3
        if (folder / PROVENANCE).exists():
            assert verify(folder).found == []
        if killed % 5 == 0:
            assert finish(begin(years)) == 0, (tmp_path / "err").read_text()
            assert told(folder) == dict.fromkeys(("json", "csv", "html"), years)
            assert verify(folder).found == []
    assert finish(begin(YEARS)) == 0
    assert told(folder) == dict.fromkeys(("json", "csv", "html"), YEARS)
    assert not list(folder.glob(".report.*"))
    assert torn or KILLS < 10, "some kills hit the moment of writing"
