"""The public names, pinned; importing them, and asking for help, must stay cheap."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aes_dynloss

PUBLIC = [
    "AesDynlossError",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "DataConfig",
    "DataError",
    "Elements",
    "EssayEnsemble",
    "EssayScoreRegressor",
    "EssayScorer",
    "FinetuneConfig",
    "LossConfig",
    "Paired",
    "PolicyConfig",
    "RewritingConfig",
    "RewritingTeacher",
    "RunContext",
    "ScoreRange",
    "ShapeError",
    "StudentState",
    "TrainingConfig",
    "TrainingError",
    "bootstrap_draws",
    "build_report",
    "finetune",
    "fit",
    "fit_rescaling",
    "predict",
    "quadratic_weighted_kappa",
    "read_essays",
    "read_predictions",
    "register_feature",
    "register_loss",
    "register_schedule",
    "register_teacher",
    "train_student",
]
HEAVY = {"torch", "transformers", "datasets", "accelerate", "pandas", "sklearn", "scipy"}
ROOT = Path(aes_dynloss.__file__).parents[1]


def test_pinned() -> None:
    """A change here is a change for everyone who uses the package: think twice, then change both."""
    assert aes_dynloss.__all__ == PUBLIC
    assert dir(aes_dynloss) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    thing = getattr(aes_dynloss, name)
    assert thing.__name__ == name
    assert thing.__doc__
    assert getattr(importlib.import_module(thing.__module__), name) is thing


def test_checkers_of_types_see_the_same_names() -> None:
    tree = ast.parse(Path(aes_dynloss.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(seen) == PUBLIC
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(aes_dynloss, name)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'aes_dynloss' has no attribute 'grade'"):
        _ = aes_dynloss.grade
    assert not hasattr(aes_dynloss, "grade")
    with pytest.raises(ImportError, match="cannot import name 'grade'"):
        exec("from aes_dynloss import grade")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after some code, which may write to standard output."""
    script = f"import json, sys\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_loads_nothing() -> None:
    assert not loaded_by("import aes_dynloss; dir(aes_dynloss)") & {*HEAVY, "numpy", "pydantic", "yaml", "click"}
    assert not loaded_by("from aes_dynloss import ConfigError") & {*HEAVY, "numpy", "pydantic"}


def test_importing_the_scorer_loads_no_torch() -> None:
    """A model with an encoder loads it when it is opened; until then an import costs less than torch's own."""
    assert not loaded_by("from aes_dynloss import EssayScorer") & {"torch", "transformers", "accelerate", "sklearn"}


@pytest.mark.parametrize("arguments", [["--help"], ["finetune", "--help"], ["score", "--help"], ["quickstart", "-h"]])
def test_help_loads_no_torch(arguments: list[str]) -> None:
    loaded = loaded_by(f"from aes_dynloss.cli.main import run\nassert run({arguments!r}) == 0")
    assert "click" in loaded
    assert not loaded & HEAVY


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from aes_dynloss import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == PUBLIC
