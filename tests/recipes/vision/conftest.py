from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small_masks
from recipe_line import VISION
from small_boxes import MODULES, small_rows, write_rows


@pytest.fixture(scope="module")
def recipes_in_reach(one_thread: None) -> Iterator[None]:
    """The recipes' modules can be imported; one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(VISION))
        yield


@pytest.fixture
def recipe(recipes_in_reach: None) -> Any:
    """The detection recipe's modules by name."""
    for extra in ("torchvision", "pycocotools"):
        pytest.importorskip(extra)
    return SimpleNamespace(**{name: __import__(name) for name in MODULES})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "small.parquet", small_rows())


@pytest.fixture
def mask_source(tmp_path: Path) -> Path:
    return small_masks.written(tmp_path / "painted.parquet", small_masks.rows())
