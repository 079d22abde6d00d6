"""What tests of essays' models begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import write_small_run
from tiny_encoder import write_tiny_encoder

from aes_dynloss.essays.model import activations


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder's folder, to read; copy it to change it."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def run_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose run takes a second."""
    return write_small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def exact_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token states are kept in float32: a random encoder's hardly differ between essays, so that rounding weighs."""
    monkeypatch.setattr(activations, "stored_states", lambda states: states.numpy())
