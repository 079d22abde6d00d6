"""The benchmark of perturbations runs, on short texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS

SCRIPT = Path(__file__).parents[2] / "recipes/benchmarks/perturbation_time.py"


def test_it_measures_each_kind_on_each_unit():
    command = [sys.executable, str(SCRIPT), "--repeats", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["kind", "unit", "seconds", "ratio"]
    assert {row.split()[0] for row in rows} == set(PERTURBATIONS)
    assert len(rows) == 6 * len(PERTURBATIONS)
