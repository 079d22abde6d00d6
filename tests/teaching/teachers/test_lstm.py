from __future__ import annotations

import math

import pytest
import torch

from aes_dynloss.teaching.teachers.dln import (
    CoordinateFeedForward,
    CoordinateLstm,
    OddTeacher,
    build_coordinate_teacher,
    gradient_response,
    preprocessed,
)

BORDER = math.exp(-10)
KINDS = ("lstm", "odd_lstm", "memoryless_lstm", "feed_forward")


def drawn_gradient(size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator) * 10.0 ** torch.randint(-7, 2, (size,), generator=generator)


def weights_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_sizes():
    assert weights_of(CoordinateLstm()) == 84_236
    assert weights_of(CoordinateLstm(remembers=False)) == 84_236
    assert weights_of(CoordinateFeedForward()) == 84_457
    assert [(cell.input_size, cell.hidden_size) for cell in CoordinateLstm().cells] == [
        (2, 64), (64, 64), (64, 64), (64, 1),
    ]  # fmt: skip


def test_preprocessing_number_by_number():
    """Large gradients by their logarithm and sign, small ones on a line."""
    gradient = torch.tensor([3.0, -0.02, 5e-5, -4e-5, 1e-7, 0.0, -1e-12], dtype=torch.float64)
    expected = []
    for g in gradient.tolist():
        if abs(g) >= math.exp(-10):
            expected.append([math.log(abs(g) + 1e-8) / 10, math.copysign(1, g)])
        else:
            expected.append([-1.0, math.exp(10) * g])
    found = preprocessed(gradient)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    assert found[5].tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_both_branches_meet(sign):
    near = sign * BORDER * torch.tensor([1 - 1e-9, 1 + 1e-9], dtype=torch.float64)
    below, above = preprocessed(near)
    torch.testing.assert_close(below, above, rtol=0, atol=1e-4)
    torch.testing.assert_close(above, torch.tensor([-1.0, sign], dtype=torch.float64), rtol=0, atol=1e-4)
    sizes = sign * torch.logspace(-12, 3, 400, dtype=torch.float64)
    assert bool(preprocessed(sizes).abs().le(1.0 + 1e-3).all())


def test_gradients_of_zero_and_of_any_size_give_numbers():
    wild = torch.tensor([0.0, -0.0, 1e-38, 1e30, -1e-44])
    assert bool(preprocessed(wild).isfinite().all())
    network = CoordinateLstm()
    answer, _ = network(wild, network.fresh(5))
    answer.sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())


def test_an_lstm_as_torch_has_it():
    """Its cells stacked are torch's own LSTM, one layer over the other."""
    network = build_coordinate_teacher("lstm", 3).double()
    gradients = [drawn_gradient(seed=seed).double() for seed in range(3)]
    memory, answers = network.fresh(6), []
    for gradient in gradients:
        answer, memory = network(gradient, memory)
        answers.append(answer)
    signal = torch.stack([preprocessed(gradient) for gradient in gradients])
    for cell in network.cells:
        layer = torch.nn.LSTM(cell.input_size, cell.hidden_size).double()
        layer.load_state_dict({f"{name}_l0": tensor for name, tensor in cell.state_dict().items()})
        signal, _ = layer(signal)
    torch.testing.assert_close(torch.stack(answers), signal.squeeze(2), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_coordinate_for_itself(kind):
    """A coordinate's answer depends on its own gradients alone, and all share the weights."""
    network = build_coordinate_teacher(kind, 0)
    gradient, order = drawn_gradient(), torch.tensor([3, 1, 0, 5, 2, 4])
    answer, memory = network(gradient, network.fresh(6))
    moved, _ = network(gradient[order], network.fresh(6))
    torch.testing.assert_close(moved, answer[order])
    alone, _ = network(gradient[2:3], network.fresh(1))
    torch.testing.assert_close(alone, answer[2:3])
    assert answer.shape == (6,)
    assert bool((answer.abs() < 1).all())
    if kind == "lstm":
        assert [tuple(hidden.shape) for hidden, _ in memory] == [(6, 64), (6, 64), (6, 64), (6, 1)]


@pytest.mark.parametrize(
    ("kind", "remembers"), [("lstm", True), ("odd_lstm", True), ("memoryless_lstm", False), ("feed_forward", False)]
)
def test_who_remembers(kind, remembers):
    network = build_coordinate_teacher(kind, 0)
    memory = network.fresh(6)
    first, memory = network(drawn_gradient(), memory)
    _, memory = network(drawn_gradient(seed=1), memory)
    again, _ = network(drawn_gradient(), memory)
    assert torch.equal(first, again) is not remembers


def test_the_odd_part():
    """Opposite gradients give opposite answers, after any memory of them; none gives none."""
    network, plain = build_coordinate_teacher("odd_lstm", 3).double(), build_coordinate_teacher("lstm", 3).double()
    memory, mirrored = network.fresh(6), network.fresh(6)
    of_plus, of_minus = plain.fresh(6), plain.fresh(6)
    for seed in range(3):
        gradient = drawn_gradient(seed=seed).double()
        answer, memory = network(gradient, memory)
        opposite, mirrored = network(-gradient, mirrored)
        torch.testing.assert_close(answer, -opposite, rtol=0, atol=1e-15)
        plus, of_plus = plain(gradient, of_plus)
        minus, of_minus = plain(-gradient, of_minus)
        torch.testing.assert_close(answer.abs(), (plus - minus).abs() / 2)
    for state in (network.fresh(6), memory):
        still, _ = network(torch.zeros(6, dtype=torch.float64), state)
        assert not still.any()


@pytest.mark.parametrize("seed", range(20))
def test_the_odd_part_answers_downhill(seed):
    """Untrained, after gradients of the other sign, and after teaching that asked it to answer uphill."""
    network = build_coordinate_teacher("odd_lstm", seed).double()
    gradient = torch.logspace(-8, 2, 41, dtype=torch.float64)
    gradient = torch.cat([-gradient, gradient])
    memory = network.fresh(len(gradient))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for sign in (1, -1, -1, 1, -1, 1):
        answer, memory = network(sign * gradient, memory)
        assert bool((answer * sign * gradient > 0).all())
        optimizer.zero_grad()
        (answer * sign * gradient.sign()).sum().backward()
        optimizer.step()
        memory = [(hidden.detach(), inner.detach()) for hidden, inner in memory]


@pytest.mark.parametrize(("kind", "least", "most"), [("lstm", 0.0, 0.1), ("odd_lstm", 0.9, 10.0)])
def test_how_much_an_untrained_answer_depends_on_the_gradient(kind, least, most):
    """As a part of its size: the published teacher is nearly blind."""
    network = build_coordinate_teacher(kind, 0)
    sizes = torch.logspace(-4, 1, 20)
    answer = network(torch.cat([sizes, -sizes]), network.fresh(40))[0].detach()
    assert least <= float(answer.std() / answer.abs().mean()) <= most


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_of_an_untrained_teacher(kind):
    for seed in range(4):
        span, mean = gradient_response(build_coordinate_teacher(kind, seed).double())
        assert 0 < span < 1
        assert span < 0.05 * mean if kind in ("lstm", "memoryless_lstm") else span > 0.5 * mean


def test_the_probe_sees_signs_sizes_and_nothing():
    """On each of the three, teachers that answer nothing else still have a range."""

    class Answers(CoordinateFeedForward):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, gradient, memory):
            return self.answer(gradient), memory

    for answer in (torch.sign, torch.abs, lambda g: (g == 0).float(), lambda g: (g.abs() < 1e-7).float()):
        assert gradient_response(Answers(answer))[0] >= 1
    assert gradient_response(Answers(torch.ones_like)) == (0, 1)


def test_the_kinds():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    built = {kind: build_coordinate_teacher(kind, 7) for kind in KINDS}
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(built["feed_forward"], CoordinateFeedForward)
    assert isinstance(built["lstm"], CoordinateLstm)
    assert isinstance(built["odd_lstm"], OddTeacher)
    again, other = build_coordinate_teacher("lstm", 7), build_coordinate_teacher("lstm", 8)
    for one, two, three in zip(built["lstm"].parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
