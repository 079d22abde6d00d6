"""A vision recipe loads nothing that is for essays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_boxes
import small_masks

pytestmark = pytest.mark.slow

VISION = Path(__file__).parents[3] / "recipes/vision"
FOR_ESSAYS = ("aes_dynloss.essays", "transformers", "datasets")
RUN = """
import json, runpy, sys
path, sys.argv = sys.argv[1], sys.argv[1:]
sys.path.insert(0, path.rpartition("/")[0])
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(sys.modules)]))
"""
TAUGHT = ["teacher.kind=dlf", "teacher.measure=expected_error", "teacher.episodes=1", "teacher.steps=1"]


def _painted(folder: Path) -> list[str]:
    source = small_masks.written(folder / "painted.parquet", small_masks.rows())
    sizes = ["data.size=[24, 32]", "data.classes=[sea, roof, tree]", "data.void=3"]
    return ["camvid.yaml", f"data.source={source}", *sizes, "data.teacher_dev_fraction=0.25", "data.pixels=16"]


def _boxed(folder: Path) -> list[str]:
    source = small_boxes.write_rows(folder / "boxes.parquet", small_boxes.small_rows())
    return ["bccd.yaml", f"data.source={source}", "data.size=[48, 64]", "data.teacher_dev_fraction=0.25"]


# Each script with a configuration and words that make its run short; a script that needs data writes them first.
SHORT: dict[str, Callable[[Path], list[str]]] = {
    "classification.py": lambda _: ["digits.yaml", "data.most=40", "model.width=2"],
    "segmentation.py": _painted,
    "detection.py": _boxed,
}


@pytest.mark.parametrize("script", SHORT)
def test_a_taught_run_loads_nothing_for_essays(tmp_path: Path, script: str) -> None:
    if script == "detection.py":
        pytest.importorskip("pycocotools")
    config, *words = SHORT[script](tmp_path)
    words += [
        *TAUGHT,
        "training.epochs=1",
        "training.device=cpu",
        "training.precision=float32",
        "--output-dir",
        str(tmp_path / "run"),
    ]
    command = [sys.executable, "-c", RUN, str(VISION / script), str(VISION / config), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    assert (tmp_path / "run" / "teacher" / "teacher.safetensors").is_file()
    assert {"aes_dynloss.training.loop", "vision_run"} <= set(modules)
    assert [name for name in modules if name.startswith(FOR_ESSAYS)] == []
