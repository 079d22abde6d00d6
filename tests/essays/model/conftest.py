"""A model's folder, a features cache's folder, and what computes the cache's features."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator
from tiny_scorer import RULES, tiny_scorer

from aes_dynloss.essays.model import activations
from aes_dynloss.essays.model.scorer import EncoderScorer


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture
def cache_folder(tmp_path: Path) -> Path:
    """Of the features cache; neither it nor its parent is there yet."""
    return tmp_path / "deep" / "cache"


@pytest.fixture
def several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few tokens at once that essays come in several passes, not in their order."""
    monkeypatch.setattr(activations, "_TOKENS_AT_ONCE", 40)


@pytest.fixture(scope="module")
def rescaling_scorer(encoder: Path) -> EncoderScorer:
    scorer = tiny_scorer(encoder, pooling="attention", max_tokens=64, hidden=4)
    scorer.postprocessing = RULES["rescale"]
    return scorer


@pytest.fixture(scope="module")
def written(rescaling_scorer: EncoderScorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder to read."""
    folder = tmp_path_factory.mktemp("run") / "model"
    rescaling_scorer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    return Path(shutil.copytree(written, tmp_path / "model"))
