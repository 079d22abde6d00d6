"""Runs of the detector under a teacher that are killed without warning; started by test_detection_killed.py.

Each attempt is a fork, so that torch is imported only once. Standard output: how each ended, 9 for a
kill, one line a teacher.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure
from small_boxes import FOLDER, SHORT, configured, small_rows, write_rows

DATA = {"vary": {"mirror": True, "turn": True, "scale": 0.2, "shift": 0.1}}
TRAINING = SHORT | {"epochs": 3, "evaluations": 2, "optimizer": "adamw", "learning_rate": 0.01, "device": "cpu"}
TEACHERS = {
    "dlf": {"kind": "dlf", "episodes": 3, "steps": 4, "measure": "expected_error"},
    "dln": {"kind": "dln", "window": 2, "dev_batch": 2, "measure": "cross_entropy"},
}
# A run is killed once a log has so many lines: between episodes, after a checkpoint, and as what it leaves is written.
MOMENTS = {
    "dlf": [("teaching.jsonl", 2), ("metrics.jsonl", 9), ("teacher/teacher.json", 1)],
    "dln": [("metrics.jsonl", 6), ("metrics.jsonl", 9), ("teacher/teacher.json", 1)],
}


def train(source: Path, folder: Path, kind: str) -> None:
    """The run, or what is left of it."""
    import detection
    import vision_run

    recipe = SimpleNamespace(detection=detection)
    config = configured(recipe, source, data=DATA, training=TRAINING, teacher=TEACHERS[kind])
    vision_run.run(detection.build, config, folder, resume=True)


def attempt(source: Path, folder: Path, kind: str, moment: tuple[str, int] | None) -> int:
    """Run until a moment, or to the end; the signal that ended it, else 0."""
    child = os.fork()
    if child == 0:
        train(source, folder, kind)
        os._exit(0)
    status, ended = 0, 0
    while not ended and (moment is None or lines_of(folder / moment[0]) < moment[1]):
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def lines_of(path: Path) -> int:
    """How many there are by now."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def prepare() -> None:
    """Leave out the drawing, which takes longer than the runs do, and import what they would each import."""
    import detection

    from aes_dynloss.training import run

    detection.Detection.draw = lambda *_: Figure()
    run.write_loss_plots = lambda *_, **__: None
    for name in ("matplotlib.backends.backend_agg", "pycocotools.cocoeval", "sklearn.cluster", "torchvision.ops"):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    prepare()
    torch.set_num_threads(1)
    base = Path(sys.argv[1])
    small = write_rows(base / "small.parquet", small_rows())
    for kind, moments in MOMENTS.items():
        ends = [attempt(small, base / kind / "straight", kind, None)]
        ends += [attempt(small, base / kind / "killed", kind, moment) for moment in [*moments, None]]
        sys.stdout.write(" ".join(map(str, ends)) + "\n")
