"""Greedy decoding and beam search, against each other, against all there is, and against the student's own account."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from aes_dynloss.training.prediction import evaluating

VOCABULARY, MOST = 6, 4
END = 2
SOURCE = torch.tensor([[3, 4, 2], [5, 2, 0], [4, 4, 2], [3, 2, 0]])


@pytest.fixture(params=range(4))
def translator(modules: Any, request: pytest.FixtureRequest) -> Any:
    """One whose embedding is so large that it is sure of what it says, and not of all places alike."""
    torch.manual_seed(request.param)
    config = modules.translator.TranslatorConfig(width=8, heads=2, layers=1, feed_forward=8, bands=1, near=1)
    made = modules.translator.Translator(config, torch.tensor([[3, 4, 5, 2]]), VOCABULARY)
    with torch.no_grad():
        made.embedding.weight.mul_(2.0)
    return made.eval()


def scores_of(translator: Any, source: Tensor, tokens: Tensor) -> Tensor:
    """Mean log-probability of translations, as the student shows it in training, (B,)."""
    shown = translator(source, tokens).view(len(source), -1, 4)[:, : tokens.shape[1], 0]
    return shown.sum(1) / (tokens != 0).sum(1)


def test_one_beam_is_greedy(modules: Any, translator: Any) -> None:
    with evaluating(translator):
        first = modules.decoding.greedy(translator, SOURCE, MOST)
        second = modules.decoding.beam_search(translator, SOURCE, MOST, beams=1)
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.scores, second.scores)


@pytest.mark.parametrize("beams", [2, 3, 5])
def test_more_beams_never_score_lower(modules: Any, translator: Any, beams: int) -> None:
    with evaluating(translator):
        first = modules.decoding.greedy(translator, SOURCE, MOST)
        second = modules.decoding.beam_search(translator, SOURCE, MOST, beams=beams)
    assert bool((second.scores >= first.scores).all())


# Probabilities of tokens 2 to 5 by those before them; else all are alike.
FOLLOWING = {
    (): [0.0, 0.4, 0.35, 0.25],
    (3,): [0.25, 0.3, 0.25, 0.2],
    (3, 3): [1.0, 0.0, 0.0, 0.0],
    (4,): [0.0, 0.0, 0.5, 0.5],
}


class ByTable:
    """Stands for a student."""

    def encode(self, source: Tensor) -> Tensor:
        return torch.zeros(*source.shape, 1)

    def decode(self, before: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        rows = [[0.0, 0.0, *FOLLOWING.get(tuple(row[1:]), [0.25] * 4)] for row in before.tolist()]
        return torch.tensor(rows).log()[:, None]

    def logits(self, states: Tensor) -> Tensor:
        return states


def test_a_greedy_translation_that_falls_out_of_the_beam_is_kept(modules: Any) -> None:
    """Both beams follow token 4, of which the rest is poor."""
    translator = ByTable()
    first = modules.decoding.greedy(translator, SOURCE[:1], MOST)
    second = modules.decoding.beam_search(translator, SOURCE[:1], MOST, beams=2)
    assert first.tokens.tolist() == [[3, 3, 2]]
    assert second.tokens[0, :3].tolist() == [3, 3, 2]
    assert torch.equal(first.scores, second.scores)


def test_scores_are_those_of_training(modules: Any, translator: Any) -> None:
    with evaluating(translator):
        for found in (
            modules.decoding.greedy(translator, SOURCE, MOST),
            modules.decoding.beam_search(translator, SOURCE, MOST, beams=3),
        ):
            assert torch.allclose(found.scores, scores_of(translator, SOURCE, found.tokens), atol=1e-5)


def test_enough_beams_find_the_best_there_is(modules: Any, translator: Any) -> None:
    """Of all translations of at most so many tokens, which end or are cut."""
    letters, everything = range(END, VOCABULARY), []
    for length in range(1, MOST + 1):
        for tokens in product(letters, repeat=length):
            ended = tokens[-1] == END
            if END not in tokens[:-1] and (ended or length == MOST):
                everything.append([*tokens, *[0] * (MOST - length)])
    candidates = torch.tensor(everything)
    with evaluating(translator):
        found = modules.decoding.beam_search(translator, SOURCE, MOST, beams=len(candidates))
        for row, source in enumerate(SOURCE):
            scores = scores_of(translator, source[None].expand(len(candidates), -1), candidates)
            assert float(found.scores[row]) == pytest.approx(float(scores.max()), abs=1e-5)


def test_what_follows_an_end_is_nothing_and_neither_pad_nor_begin_is_said(modules: Any, translator: Any) -> None:
    with evaluating(translator):
        for beams in (1, 3):
            for row in modules.decoding.beam_search(translator, SOURCE, MOST, beams=beams).tokens.tolist():
                said = row[: row.index(END)] if END in row else [token for token in row if token]
                assert all(token > END for token in said)
                assert not any(row[len(said) + 1 :])


def test_a_table_is_translated_in_its_order(modules: Any, translator: Any) -> None:
    pairs = modules.pair_data.Pairs(SOURCE, torch.tensor([[3, 4, 5, 2]] * 4), ["a"] * 4)
    for beams in (None, 2):
        whole = modules.decoding.translations(translator, pairs, beams=beams, size=4)
        single = modules.decoding.translations(translator, pairs, beams=beams, size=1)
        without = [[token for token in row if token] for row in whole]
        assert without == [[token for token in row if token] for row in single]
    assert translator.training is False
