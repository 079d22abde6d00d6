from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_runs import settings
from toy_student import ToyStudent

from aes_dynloss.errors import ConfigError
from aes_dynloss.training.optimization import WeightAverage, build_optimizer, build_scheduler, learning_rate_factor


def by_name(student, optimizer):
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }


def test_rates_by_depth_and_no_decay_on_vectors():
    student = ToyStudent()
    config = settings(learning_rate=0.1, head_learning_rate=0.5, layer_decay=0.5, weight_decay=0.01)
    assert by_name(student, build_optimizer(student, config)) == {
        "head.weight": (0.5, 0.01),
        "head.bias": (0.5, 0.0),
        "upper.weight": (0.1, 0.01),
        "upper.bias": (0.1, 0.0),
        "lower.weight": (0.05, 0.01),
        "lower.bias": (0.05, 0.0),
    }


def test_every_parameter_stands_in_one_group():
    student = ToyStudent()
    groups = build_optimizer(student, settings()).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(student.parameters()))


@pytest.mark.parametrize(
    ("changed", "number"), [({}, 4), ({"layer_decay": 0.5}, 6), ({"weight_decay": 0.0}, 2), ({"optimizer": "sgd"}, 4)]
)
def test_one_kernel_for_all_that_learn_alike(changed, number):
    """Each group, and without fusion each weight, would take calls of its own in every step."""
    optimizer = build_optimizer(ToyStudent(), settings(**changed))
    alike = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert len(optimizer.param_groups) == len(alike) == number
    assert all(group["fused"] for group in optimizer.param_groups)


def test_one_step_is_adamw_as_torch_has_it():
    """Loshchilov and Hutter's step by hand: decay beside, not through, the adaptive rate."""
    student = ToyStudent()
    optimizer = build_optimizer(student, settings(head_learning_rate=0.1, weight_decay=0.5))
    before = student.head.weight.detach().clone()
    gradient = torch.linspace(-1, 1, before.numel(), dtype=torch.float64).reshape(before.shape)
    student.head.weight.grad = gradient.clone()
    optimizer.step()
    expected = before * (1 - 0.1 * 0.5) - 0.1 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(student.head.weight.detach(), expected)


class TwoLayers(ToyStudent):
    """A student whose layers are not shown apart."""

    def parameter_stack(self):
        lower, upper, head = super().parameter_stack()
        return [lower + upper, head]


def test_layer_decay_without_layers():
    with pytest.raises(ConfigError, match=r"training.layer_decay is below 1, but the student shows no layers"):
        build_optimizer(TwoLayers(), settings(layer_decay=0.9))
    build_optimizer(TwoLayers(), settings(layer_decay=1.0))


decays = st.sampled_from(["linear", "cosine", "constant"])
warmups = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 300), warmups, decays)
def test_the_rate_is_never_0_and_has_one_peak(total, warmup, decay):
    config = settings(warmup=warmup, decay=decay)
    factors = [learning_rate_factor(step, total, config) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    # The peak is where the warm-up ends.
    assert abs(peak - warmup * total) <= 1


def test_factors_by_hand():
    linear = [learning_rate_factor(step, 10, settings(warmup=0.2, decay="linear")) for step in range(10)]
    assert linear == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    constant = [learning_rate_factor(step, 4, settings(warmup=0.0, decay="constant")) for step in range(4)]
    assert constant == [1.0] * 4
    cosine = [learning_rate_factor(step, 4, settings(warmup=0.0, decay="cosine")) for step in range(4)]
    half = 0.5**0.5
    assert cosine == pytest.approx([1.0, 0.5 + half / 2, 0.5, 0.5 - half / 2])


def test_the_scheduler_steps_through_the_factors_and_stays_at_the_last():
    student = ToyStudent()
    config = settings(learning_rate=0.1, head_learning_rate=0.5, warmup=0.3, decay="cosine")
    optimizer = build_optimizer(student, config)
    scheduler = build_scheduler(optimizer, 6, config)
    for step in range(8):
        factor = learning_rate_factor(min(step, 5), 6, config)
        assert by_name(student, optimizer)["head.weight"][0] == pytest.approx(0.5 * factor)
        assert by_name(student, optimizer)["lower.weight"][0] == pytest.approx(0.1 * factor)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_average_is_that_of_a_plain_loop(decay):
    generator = torch.Generator().manual_seed(0)
    live = torch.nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
    average = WeightAverage([live], decay)
    expected = live.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            live.copy_(torch.randn(4, generator=generator, dtype=torch.float64))
        average.update()
        now = min(decay, (1 + step) / (10 + step))
        expected = now * expected + (1 - now) * live.detach()
        torch.testing.assert_close(average.weights[0], expected, rtol=1e-12, atol=1e-12)
    assert average.steps == 29


def test_the_average_stands_in_and_steps_back_even_after_an_error():
    student = ToyStudent()
    learning = list(student.parameters())
    average = WeightAverage(learning, 0.9)
    start = copy.deepcopy(student.state_dict())
    with torch.no_grad():
        for parameter in learning:
            parameter.add_(1.0)
    live = copy.deepcopy(student.state_dict())

    def interrupted():
        with average.in_place():
            assert torch.equal(student.head.weight, start["head.weight"])
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, live[name])
    assert torch.equal(average.weights[0], start["lower.weight"])


def test_a_learning_weight_that_is_not_shown_is_refused():
    class Forgetful(ToyStudent):
        def parameter_stack(self):
            return super().parameter_stack()[1:]

    with pytest.raises(ConfigError, match=r"parameter_stack\(\) leaves out \d+ weights that want to learn, such as "):
        build_optimizer(Forgetful(), settings())
