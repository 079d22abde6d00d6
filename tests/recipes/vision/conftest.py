from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_boxes import FOLDER, MODULES, small_rows, write_rows


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The detection recipe's modules by name; one thread, so that sums are always in the same order."""
    for extra in ("torchvision", "pycocotools"):
        pytest.importorskip(extra)
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SimpleNamespace(**{name: __import__(name) for name in MODULES})
    torch.set_num_threads(threads)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "small.parquet", small_rows())
