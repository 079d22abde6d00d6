from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recipe_line import TRANSLATION
from small_pairs import write_pairs

from aes_dynloss.teaching.losses.component_table import COMPONENTS

MODULES = (
    "decoding",
    "pair_data",
    "token_classes",
    "translation",
    "translation_grid",
    "translation_results",
    "translator",
)


@pytest.fixture(scope="module", autouse=True)
def modules(one_thread: None) -> Iterator[Any]:
    """The recipe's modules by name; the loss that they register is forgotten afterwards, and they with it."""
    for extra in ("tokenizers", "sacrebleu"):
        pytest.importorskip(extra)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TRANSLATION))
        patch.setattr(COMPONENTS, "_registered", dict(COMPONENTS._registered))
        yield SimpleNamespace(**{name: __import__(name) for name in MODULES})
    for name in [name for name, module in sys.modules.items() if _is_of_the_recipe(module)]:
        del sys.modules[name]


def _is_of_the_recipe(module: Any) -> bool:
    return str(getattr(module, "__file__", None)).startswith(f"{TRANSLATION}/")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))
