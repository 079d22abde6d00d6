"""The translation recipe loads nothing that is for essays, nor of the recipes of pictures."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from recipe_line import TRANSLATION, VISION

pytestmark = pytest.mark.slow

FOR_ESSAYS = ("aes_dynloss.essays", "transformers", "datasets")
OF_PICTURES = {path.stem for path in VISION.glob("*.py")}
LOADED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import translation_grid
print(json.dumps(sorted(sys.modules)))
"""


def test_it_loads_nothing_for_essays_or_pictures() -> None:
    command = [sys.executable, "-c", LOADED, str(TRANSLATION)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout.splitlines()[-1])
    assert {"aes_dynloss.training.loop", "translator", "decoding"} <= set(modules)
    assert [name for name in modules if name.startswith(FOR_ESSAYS)] == []
    assert OF_PICTURES.isdisjoint(modules)
