"""Scoring in fewer bits: near float32, of each essay for itself, and without a trace on the scorer it came from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoder import WORDS, write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.scoring.precision import equal_scores, in_precision
from aes_dynloss.tables.score_range import ScoreRange

Essays = tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> EncoderScorer:
    return tiny_scorer(write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


@pytest.fixture(scope="module")
def essays() -> Essays:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(0, 60))) for _ in range(40)]
    return texts, ["letter", "notice"] * 20


def test_scores_are_near_those_of_float32(scorer: EncoderScorer, essays: Essays) -> None:
    full = scorer.score(*essays)
    reduced = in_precision(scorer, "bf16")
    answer = reduced.score(*essays)
    off = np.abs(answer.raw - full.raw)
    assert 0 < off.max() < 0.02 * np.ptp(full.raw)
    unscored = [UnscoredEssay("", None, text) for text in essays[0]]
    assert equal_scores(scorer, reduced, unscored, essays[1]) == int((answer.score == full.score).sum())
    # The scorer it came from is what it was, and they share their weights.
    np.testing.assert_array_equal(scorer.score(*essays).raw, full.raw)
    assert reduced.model is scorer.model
    np.testing.assert_array_equal(in_precision(reduced, "float32").score(*essays).raw, full.raw)


def test_equal_scores_are_counted_essay_by_essay() -> None:
    def answers(*points: int) -> Any:
        prompts = {"p": Prompt("p", ScoreRange(1, 6))}
        return SimpleNamespace(prompts=prompts, score=lambda *_, **__: SimpleNamespace(score=np.array(points)))

    assert equal_scores(answers(1, 2, 3), answers(3, 2, 3), [UnscoredEssay("", None, "")] * 3, ["p"] * 3) == 2


def test_only_the_encoder_computes_in_fewer_bits(scorer: EncoderScorer, essays: Essays) -> None:
    kinds: dict[str, set[torch.dtype]] = {"encoder": set(), "head": set()}
    layer = next(one for one in scorer.model.encoder.modules() if isinstance(one, torch.nn.Linear))
    hooks = [
        layer.register_forward_hook(lambda _, __, out: kinds["encoder"].add(out.dtype)),
        scorer.model.head.answer.register_forward_hook(lambda _, __, out: kinds["head"].add(out.dtype)),
    ]
    in_precision(scorer, "bf16").score(*essays)
    for hook in hooks:
        hook.remove()
    assert kinds == {"encoder": {torch.bfloat16}, "head": {torch.float32}}


def test_an_essay_hangs_on_no_other(scorer: EncoderScorer, essays: Essays) -> None:
    reduced = in_precision(scorer, "bf16")
    together = reduced.score(*essays).raw
    alone = [reduced.score([text], [prompt]).raw[0] for text, prompt in zip(*essays, strict=True)]
    # Sums in another order may round a number to its neighbour in bf16.
    assert np.abs(together - alone).max() < 0.01 * np.ptp(together)


def test_all_members_of_an_ensemble(scorer: EncoderScorer, essays: Essays, tmp_path: Path) -> None:
    for name in ("a", "b"):
        scorer.save_pretrained(tmp_path / name)
    ensemble = EssayEnsemble.from_members([tmp_path / "a", tmp_path / "b"])
    expected = in_precision(scorer, "bf16").score(*essays).raw
    np.testing.assert_allclose(in_precision(ensemble, "bf16").score(*essays).raw, expected, atol=1e-6)
    np.testing.assert_allclose(ensemble.score(*essays).raw, scorer.score(*essays).raw, atol=1e-6)


def test_other_scorers_are_refused() -> None:
    with pytest.raises(ConfigError, match="a member of it, has no encoder to compute in bf16"):
        in_precision(SimpleNamespace(), "bf16")
