"""All READMEs of the repository, and a test's parametrisation over them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = [
    ROOT / "README.md",
    *sorted((ROOT / "aes_dynloss").rglob("README.md")),
    *sorted((ROOT / "recipes").rglob("README.md")),
]
each_readme = pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
