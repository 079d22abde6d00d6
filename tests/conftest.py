"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings
from rsmtool_process import rsmtool_calls

# A shared or slow machine is no fault of the code: no test is judged by the clock.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
# Nor do commands take fewer threads, and say so, because it is busy. Torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))


_last: list[object] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Accelerate keeps the precision of a process's first run: no file of tests finds that of an earlier one."""
    begins = _last != [item.path]
    _last[:] = [item.path]
    state = sys.modules.get("accelerate.state")
    if begins and state is not None and state.AcceleratorState._shared_state.get("_mixed_precision", "no") != "no":
        state.AcceleratorState._reset_state()
        sys.modules["accelerate"].Accelerator(mixed_precision="no")  # for scorers that are still open


@pytest.fixture
def own_parts(monkeypatch, tmp_path_factory):
    """Parts from outside and plugins that a test brings are forgotten after it."""
    from plugins import all_parts

    from aes_dynloss import parts

    monkeypatch.setattr(parts, "_loaded", set())
    monkeypatch.setenv(parts.PLUGINS, "")
    for one in all_parts():
        monkeypatch.setattr(one, "_registered", {})
    before = set(sys.modules)
    yield
    registered = {source.__module__ for one in all_parts() for _, source in one._registered.values()}
    place = str(tmp_path_factory.getbasetemp())
    for module in set(sys.modules) - before:
        if module in registered or str(getattr(sys.modules[module], "__file__", None)).startswith(place):
            del sys.modules[module]


@pytest.fixture(scope="session")
def rsmtool_python():
    """The interpreter of an environment that has RSMTool, which needs numpy < 2; without it, the test is skipped."""
    python = os.environ.get("AES_DYNLOSS_RSMTOOL")
    if not python:
        pytest.skip("AES_DYNLOSS_RSMTOOL does not name the Python of an environment with RSMTool")
    return python


@pytest.fixture(scope="session")
def rsmtool(rsmtool_python):
    """RSMTool's functions, called by their names."""
    with rsmtool_calls(rsmtool_python) as calls:
        yield calls


@pytest.fixture(scope="module")
def one_thread():
    """Torch computes on one thread, so that sums are always in the same order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
