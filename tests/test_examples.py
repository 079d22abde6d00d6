"""The ``>>>`` examples of the package's docstrings, and which names must have one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import aes_dynloss
from aes_dynloss.teaching.losses.component_table import COMPONENTS

ROOT = Path(aes_dynloss.__file__).parent
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = [example for name in MODULES for example in FINDER.find(importlib.import_module(name)) if example.examples]
MEASURES = [path.stem for path in sorted((ROOT / "measures").glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example, own_parts):
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_loss_has_an_example(name):
    assert ">>> " in COMPONENTS[name].function.__doc__


@pytest.mark.parametrize("module", MEASURES)
def test_every_measure_has_an_example(module):
    home = importlib.import_module(f"aes_dynloss.measures.{module}")
    functions = [one for one in vars(home).values() if inspect.isfunction(one) and one.__module__ == home.__name__]
    public = [one for one in functions if not one.__name__.startswith("_")]
    assert [one.__name__ for one in public if ">>> " not in (one.__doc__ or "")] == []


@pytest.mark.parametrize("name", aes_dynloss.__all__)
def test_every_exported_name_has_an_example(name):
    assert doctest.DocTestParser().get_examples(getattr(aes_dynloss, name).__doc__ or "")
