"""The student: what it shows of a batch, whatever the padding, and its second derivatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aes_dynloss.teaching.losses.components import cross_entropy
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable

VOCABULARY, LENGTH = 12, 6
SOURCE = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0], [9, 10, 2, 0]])
TARGET = torch.tensor([[4, 5, 2, 0, 0, 0], [3, 8, 9, 10, 2, 0], [7, 2, 0, 0, 0, 0]])
SMALL = {"width": 8, "heads": 2, "layers": 1, "feed_forward": 8, "dropout": 0.0, "bands": 2, "near": 2}


def student(modules: Any, **values: Any) -> Any:
    torch.manual_seed(0)
    return modules.translator.Translator(modules.translator.TranslatorConfig(**SMALL | values), TARGET, VOCABULARY)


def plain_log_probs(made: Any) -> Tensor:
    """(B, T, V) without any of the student's shortcuts."""
    before = torch.cat([torch.ones(len(TARGET), 1, dtype=torch.int64), TARGET[:, :-1]], dim=1)
    states = made.decode(before, made.encode(SOURCE), SOURCE)
    return (states @ made.embedding.weight.T).log_softmax(2)


def test_what_it_shows(modules: Any) -> None:
    made = student(modules)
    shown = made(SOURCE, TARGET).view(3, LENGTH, 4)
    log_probs, real = plain_log_probs(made), TARGET != 0
    assert torch.allclose(shown[..., 0][real], log_probs.gather(2, TARGET[..., None])[..., 0][real], atol=1e-5)
    assert torch.allclose(shown[..., 1][real], log_probs.gather(2, made.near[TARGET]).mean(2)[real], atol=1e-5)
    assert torch.allclose(shown[..., 2][real], log_probs.mean(2)[real], atol=1e-5)
    assert torch.equal(shown[..., 3][real].bool(), (log_probs.argmax(2) == TARGET)[real])
    assert not shown[~real].any()


def test_the_loss_is_torch_s(modules: Any) -> None:
    """A batch's loss over sentences of mean length is the mean over its tokens."""
    made = student(modules)
    elements = made.elements(made(SOURCE, TARGET), TARGET, torch.zeros(3, dtype=torch.int64))
    real = TARGET != 0
    expected = functional.cross_entropy(plain_log_probs(made)[real], TARGET[real])
    found = elements.by_example(cross_entropy(elements)).mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    assert torch.allclose(elements.weights, real / real.sum(1).double().mean().float())  # PAD counts nothing
    wrong = 1.0 - made(SOURCE, TARGET).view(3, LENGTH, 4)[..., 3]
    assert torch.allclose(elements.errors(), (wrong * real).sum(1) / real.sum(1))
    assert len(elements) == 3 * LENGTH


def test_neither_neighbours_nor_padding_change_what_it_shows(modules: Any) -> None:
    made = student(modules)
    together = made(SOURCE, TARGET)
    for row, (source, target) in enumerate(zip(SOURCE, TARGET, strict=True)):
        alone = made(source[source != 0][None], target[target != 0][None])
        assert torch.allclose(alone[0], together[row], atol=1e-5)


def test_it_reads_no_token_before_it_is_due(modules: Any) -> None:
    made = student(modules)
    changed = TARGET.clone()
    changed[1, 3] = 4
    first, second = (made(SOURCE, target).view(3, LENGTH, 4) for target in (TARGET, changed))
    assert torch.equal(first[1, :3], second[1, :3])
    assert not torch.allclose(first[1, 4], second[1, 4])


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_second_derivatives_are_those_of_differences(modules: Any, dropout: float) -> None:
    made = student(modules, dropout=dropout).double()
    weights = [weight for layer in made.parameter_stack() for _, weight in layer]
    assert len(weights) == len(list(made.parameters()))
    random = torch.Generator().manual_seed(1)
    direction = [torch.randn(weight.shape, dtype=torch.float64, generator=random) for weight in weights]

    def gradient(create: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(3)
        elements = made.elements(made(SOURCE, TARGET), TARGET, torch.zeros(3, dtype=torch.int64))
        loss = elements.by_example(cross_entropy(elements)).mean()
        return torch.autograd.grad(loss, weights, create_graph=create)

    with twice_differentiable():
        product = torch.autograd.grad(gradient(True), weights, direction)
    size, sides = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight.add_(sign * size * step)
        sides.append(gradient(False))
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight.sub_(sign * size * step)
    for exact, above, below in zip(product, *sides, strict=True):
        assert torch.allclose(exact, (above - below) / (2 * size), rtol=1e-5, atol=1e-7)


def test_its_default_size_is_about_five_million(modules: Any) -> None:
    config = modules.translator.TranslatorConfig()
    made = modules.translator.Translator(config, TARGET, 6000)
    assert sum(weight.numel() for weight in made.parameters()) == pytest.approx(5.2e6, rel=0.02)


def test_measures_of_tokens(modules: Any) -> None:
    made = student(modules)
    log_probs, real = plain_log_probs(made), TARGET != 0
    found = modules.translator.token_measures(made(SOURCE, TARGET).detach(), TARGET)
    right = (log_probs.argmax(2) == TARGET)[real].double().mean()
    assert found["accuracy"] == pytest.approx(float(right))
    gold = log_probs.gather(2, TARGET[..., None])[..., 0][real]
    assert found["log_likelihood"] == pytest.approx(float(gold.detach().mean()), abs=1e-5)


def test_a_width_that_heads_do_not_divide(modules: Any) -> None:
    with pytest.raises(ValueError, match="width 8 is no even multiple of heads 3"):
        modules.translator.TranslatorConfig(**SMALL | {"heads": 3})
