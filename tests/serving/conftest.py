"""A tiny model and a service around it."""

from __future__ import annotations

import pytest
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

for _name in ("fastapi", "uvicorn"):
    pytest.importorskip(_name, reason="the extra `serve` is not installed")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A model's folder."""
    folder = tmp_path_factory.mktemp("served")
    tiny_scorer(write_tiny_encoder(folder / "encoder")).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def scorer(model):
    from aes_dynloss.essays.ensembles.ensemble import open_scorer

    return open_scorer(model)


@pytest.fixture(scope="session")
def served(scorer):
    """The application around it, without a socket."""
    from served_app import Served

    return Served(scorer)
