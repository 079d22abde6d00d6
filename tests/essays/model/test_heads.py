"""Heads: what they answer before training, distributions over a prompt's own points, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.scoring_model import ABSENT, ScoreHead
from aes_dynloss.tables.score_range import ScoreRange

WIDTH = 6
SHARES = ((0.2, 0.5, 0.3), (0.1, 0.0, 0.4, 0.2, 0.0, 0.2, 0.1), (0.5, 0.5))
SCALES = [
    PromptScale(Prompt(str(number), ScoreRange(0, len(shares) - 1)), 0.5, 0.2, shares, 3.0, 1.0)
    for number, shares in enumerate(SHARES)
]
MOST = max(len(shares) for shares in SHARES)
PROMPT = torch.tensor([1, 0, 2, 1, 1, 0])
DISTRIBUTIONS = ("softmax", "ordinal")


def build(
    kind: str,
    *,
    own: bool = True,
    prompts: str | None = None,
    hidden: int | None = None,
    stirred: float = 0.0,
    dropout: float = 0.0,
) -> ScoreHead:
    torch.manual_seed(0)
    prompts = prompts or ("own_head" if own else "embedding")
    config = ModelConfig(head=kind, prompts=prompts, hidden=hidden, dropout=dropout)
    head = ScoreHead(config, WIDTH, SCALES)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * stirred)
    return head


def features(rows: int = len(PROMPT), seed: int = 3) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def smoothed(shares: tuple[float, ...]) -> np.ndarray:
    """As if half an essay more of a hundred had every point."""
    rare = np.array(shares) + 0.005
    return rare / rare.sum()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("hidden", [None, 4])
class TestFirstAnswer:
    def test_regression_is_the_mean(self, own: bool, hidden: int | None) -> None:
        answers = build("regression", own=own, hidden=hidden)(features(), PROMPT)
        assert answers.shape == (len(PROMPT), 1)
        assert not answers.any()

    def test_softmax_is_the_training_distribution(self, own: bool, hidden: int | None) -> None:
        probs = build("softmax", own=own, hidden=hidden)(features(), PROMPT).exp()
        for row, prompt in zip(probs, PROMPT, strict=True):
            shares = SHARES[prompt]
            np.testing.assert_allclose(row[: len(shares)].detach(), smoothed(shares), rtol=1e-5)

    def test_ordinal_is_the_training_distribution(self, own: bool, hidden: int | None) -> None:
        probs = build("ordinal", own=own, hidden=hidden)(features(), PROMPT).exp()
        for row, prompt in zip(probs, PROMPT, strict=True):
            shares = SHARES[prompt]
            np.testing.assert_allclose(row[: len(shares)].detach(), smoothed(shares), atol=1e-4)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("own", [True, False])
def test_distributions_over_exactly_the_points_of_each_prompt(kind: str, own: bool) -> None:
    log_probs = build(kind, own=own, hidden=4, stirred=0.7)(features(), PROMPT)
    assert log_probs.shape == (len(PROMPT), MOST)
    for row, prompt in zip(log_probs, PROMPT, strict=True):
        count = len(SHARES[prompt])
        assert (row[:count].exp() > 0).all()
        assert row[:count].exp().sum().item() == pytest.approx(1, abs=1e-5)
        assert not row[count:].exp().any()
        assert (row[count:] == ABSENT).all()


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_absent_points_have_no_gradient(kind: str) -> None:
    head = build(kind, stirred=1.0)
    inputs = features().requires_grad_()
    log_probs = head(inputs, PROMPT)
    counts = torch.tensor([len(shares) for shares in SHARES])
    absent = torch.arange(MOST) >= counts[PROMPT][:, None]
    (log_probs.exp() * absent).sum().backward()
    for gradient in (inputs.grad, *(parameter.grad for parameter in head.parameters())):
        assert gradient is None or not gradient.any()


@given(
    st.lists(st.floats(-6, 6), min_size=MOST - 1, max_size=MOST - 1),
    st.lists(st.floats(-8, 8), min_size=2, max_size=6, unique=True),
)
def test_ordinal_equals_differences_of_sigmoids_and_rises_with_its_latent(
    raw_steps: list[float], latents: list[float]
) -> None:
    head = build("ordinal").double()
    latent = torch.tensor(sorted(latents), dtype=torch.float64)
    prompt = torch.ones(len(latents), dtype=torch.int64)
    with torch.no_grad():
        head.border_steps[1] = torch.tensor(raw_steps[1:], dtype=torch.float64)
        head.first_border[1] = raw_steps[0]
        head.answer.weight[1] = torch.eye(WIDTH, dtype=torch.float64)[0]
        probs = head(latent[:, None] * torch.eye(WIDTH, dtype=torch.float64)[:1], prompt).exp().numpy()
    steps = np.log1p(np.exp(np.array(raw_steps[1:])))
    borders = raw_steps[0] + np.concatenate([[0], np.cumsum(steps)])
    reached = 1 / (1 + np.exp(-(latent.numpy()[:, None] - borders)))  # P(score > point k)
    edges = np.concatenate([np.ones((len(latents), 1)), reached, np.zeros((len(latents), 1))], axis=1)
    np.testing.assert_allclose(probs, -np.diff(edges, axis=1), atol=1e-12)
    above = 1 - np.cumsum(probs, axis=1)[:, :-1]
    assert (np.diff(above, axis=0) >= -1e-12).all()
    assert (np.diff(probs @ np.arange(MOST)) > 0).all() or np.diff(latent).min() < 1e-9


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_extreme_answers_stay_finite(kind: str) -> None:
    head = build(kind)
    with torch.no_grad():
        head.answer.weight.normal_(std=20)
    inputs = (features() * 10).requires_grad_()
    log_probs = head(inputs, PROMPT)
    assert log_probs.isfinite().all()
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(len(PROMPT)), atol=1e-4, rtol=0)
    log_probs[:, 0].sum().backward()
    assert inputs.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "prompts", "hidden"),
    [
        *((kind, "own_head", None) for kind in ("regression", *DISTRIBUTIONS)),
        *((kind, "embedding", 4) for kind in ("regression", *DISTRIBUTIONS)),
        ("regression", "shared", 4),
    ],
)
def test_gradients_of_first_and_second_order(kind: str, prompts: str, hidden: int | None) -> None:
    head = build(kind, prompts=prompts, hidden=hidden, stirred=0.5).double()
    inputs = features().double().requires_grad_()
    names, values = zip(*head.named_parameters(), strict=True)
    points = [list(range(len(SHARES[prompt]))) for prompt in PROMPT]

    def answers(states: Tensor, *weights: Tensor) -> Tensor:
        found = torch.func.functional_call(head, dict(zip(names, weights, strict=True)), (states, PROMPT))
        if kind == "regression":
            return found
        return torch.cat([row[valid] for row, valid in zip(found, points, strict=True)])

    weights = [value.detach().clone().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(answers, [inputs, *weights], fast_mode=True)
    assert torch.autograd.gradgradcheck(answers, [inputs, *weights], fast_mode=True)


@pytest.mark.parametrize("kind", ["regression", *DISTRIBUTIONS])
class TestHeadsOfPrompts:
    def test_own_heads_are_independent(self, kind: str) -> None:
        head = build(kind, own=True, stirred=0.7)
        answers = head(features(), PROMPT)
        answers[PROMPT == 1].exp().square().sum().backward()
        width = MOST if kind == "softmax" else 1
        rows = head.answer.weight.grad.abs().sum(1).view(len(SHARES), width)
        assert rows[1].any()
        assert not rows[[0, 2]].any()

    def test_one_head_tells_prompts_apart_by_their_embedding(self, kind: str) -> None:
        head = build(kind, own=False, stirred=0.7)
        assert len(head.answer.weight) == (MOST if kind == "softmax" else 1)
        same = features(1).expand(3, -1)
        answers = head(same, torch.tensor([0, 1, 2]))
        assert not torch.allclose(answers[0], answers[1])
        with torch.no_grad():
            head.embedding.weight[1] = head.embedding.weight[0]
        if kind == "regression":  # else the points' shares still differ
            answers = head(same, torch.tensor([0, 1, 2]))
            torch.testing.assert_close(answers[0], answers[1])
            assert not torch.allclose(answers[0], answers[2])

    def test_order_of_essays_does_not_matter(self, kind: str) -> None:
        head = build(kind, stirred=0.7)
        order = torch.tensor([3, 5, 0, 1, 4, 2])
        torch.testing.assert_close(head(features()[order], PROMPT[order]), head(features(), PROMPT)[order])


@pytest.mark.parametrize("hidden", [None, 4])
class TestOneHeadForAllPrompts:
    """`shared`: it is not told the prompt, so that it can answer for one that it never saw."""

    def test_it_first_answers_the_mean(self, hidden: int | None) -> None:
        answers = build("regression", prompts="shared", hidden=hidden)(features(), PROMPT)
        assert answers.shape == (len(PROMPT), 1)
        assert not answers.any()

    def test_it_does_not_look_at_the_prompt(self, hidden: int | None) -> None:
        head = build("regression", prompts="shared", hidden=hidden, stirred=0.7)
        answers = head(features(), PROMPT)
        assert answers.std() > 0.1
        for other in (PROMPT.flip(0), torch.full_like(PROMPT, 2)):
            torch.testing.assert_close(head(features(), other), answers, rtol=0, atol=0)
        assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"answer"} | (
            {"body"} if hidden else set()
        )
        assert head.answer.weight.shape == (1, hidden or WIDTH)

    def test_it_is_the_own_head_of_a_single_prompt(self, hidden: int | None) -> None:
        own, shared = (
            ScoreHead(ModelConfig(prompts=prompts, hidden=hidden), WIDTH, SCALES[:1])
            for prompts in ("own_head", "shared")
        )
        with torch.no_grad():
            for parameter in own.parameters():
                parameter.normal_()
        shared.load_state_dict(own.state_dict())
        prompt = torch.zeros(4, dtype=torch.int64)
        torch.testing.assert_close(shared(features(4), prompt), own(features(4), prompt), rtol=0, atol=0)

    def test_it_learns_from_the_essays_of_every_prompt(self, hidden: int | None) -> None:
        head = build("regression", prompts="shared", hidden=hidden, stirred=0.7)
        answers = head(features(), PROMPT)[:, 0]
        for row in range(len(PROMPT)):
            (gradient,) = torch.autograd.grad(answers[row], [head.answer.weight], retain_graph=True)
            assert gradient.all()


def test_hidden_layer_and_dropout() -> None:
    head = build("regression", hidden=4, stirred=0.7, dropout=0.5)
    assert [layer.out_features for layer in head.modules() if isinstance(layer, nn.Linear)] == [4, len(SHARES)]
    head.train()
    assert not torch.equal(head(features(), PROMPT), head(features(), PROMPT))
    head.eval()
    torch.testing.assert_close(head(features(), PROMPT), head(features(), PROMPT), rtol=0, atol=0)
    hidden = nn.functional.gelu(features() @ head.body[1].weight.T + head.body[1].bias)
    expected = (hidden @ head.answer.weight.T + head.answer.bias)[torch.arange(len(PROMPT)), PROMPT]
    torch.testing.assert_close(head(features(), PROMPT)[:, 0], expected)


def test_answers_of_bf16_features_are_float32() -> None:
    head = build("softmax", stirred=0.7)
    head.body.bfloat16()
    head.answer.bfloat16()
    assert head(features().bfloat16(), PROMPT).dtype == torch.float32
