"""A detector under a teacher that is killed without warning goes on as if it never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import killed_detection_run
import pytest
from folder_content import content

pytestmark = pytest.mark.slow

DATED = {"report.json", "manifest.json"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, which this system does not have")
def test_killed_without_warning(tmp_path: Path) -> None:
    for extra in ("torchvision", "pycocotools"):
        pytest.importorskip(extra)
    words = [sys.executable, killed_detection_run.__file__, str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0 9 9 9 0"] * len(killed_detection_run.MOMENTS), done.stderr
    for kind in killed_detection_run.MOMENTS:
        found, expected = (content(tmp_path / kind / name) for name in ("killed", "straight"))
        assert found.keys() == expected.keys(), kind
        assert {"student.safetensors", "teacher/teacher.safetensors", "metrics.jsonl"} <= found.keys()
        assert [name for name in expected if found[name] != expected[name] and name not in DATED] == [], kind
        reports = [json.loads(files["report.json"]) for files in (found, expected)]
        assert reports[0] | {"seconds": 0} == reports[1] | {"seconds": 0}
