from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_runs import assert_same_weights, settings, toy_fit
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import unroll
from aes_dynloss.training.accelerator import AccelerateProcesses, build_accelerator
from aes_dynloss.training.batching import steps_left, total_steps
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.optimization import build_optimizer, build_rule, build_scheduler, read_point, write_point
from aes_dynloss.training.problem import measure_plan, step_plan
from aes_dynloss.training.run_folder import CHECKPOINT
from aes_dynloss.training.run_state import read_checkpoint

SGD = {"optimizer": "sgd", "learning_rate": 0.1, "head_learning_rate": 0.3}
CONFIGS = {
    "adamw": {"clip_norm": None, "weight_decay": 0.1},
    "adamw, clipped": {"clip_norm": 0.3},
    "adamw, layers": {"layer_decay": 0.5, "weight_decay": 0.2},
    "sgd": SGD | {"clip_norm": None, "weight_decay": 0.1},
    "sgd, clipped": SGD | {"clip_norm": 0.3},
    "momentum": SGD | {"momentum": 0.9, "clip_norm": None, "weight_decay": 0.1},
    "momentum, clipped, layers": SGD | {"momentum": 0.5, "clip_norm": 0.3, "layer_decay": 0.3, "weight_decay": 0.1},
    "one rate": {"learning_rate": 0.02, "head_learning_rate": 0.02, "weight_decay": 0},
}
STEPS = 6


class Walk:
    """A student, torch's optimiser and scheduler for it, and the rule that stands for them."""

    def __init__(self, name):
        self.config = settings(**CONFIGS[name])
        self.live = LiveStudent(ToyStudent())
        self.optimizer = build_optimizer(self.live.student, self.config)
        self.scheduler = build_scheduler(self.optimizer, STEPS, self.config)
        self.rule = build_rule(self.live, self.config)

    def step(self, gradient, without=None):
        """As ``fit`` steps, a weight without a gradient left out; answers the step's factor on the peak rate."""
        factor = self.scheduler.get_last_lr()[-1] / self.scheduler.base_lrs[-1]
        for parameter, view in zip(self.live.parameters, self.live.views(gradient), strict=True):
            parameter.grad = None if parameter is without else view.clone()
        torch.nn.utils.clip_grad_norm_(self.live.parameters, self.config.clip_norm or math.inf)
        self.optimizer.step()
        self.scheduler.step()
        return factor

    def read(self):
        return read_point(self.live, self.optimizer, self.config)


def drawn_gradient(live, seed):
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(live.weights().shape, generator=generator, dtype=torch.float64)


def same_points(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found.weights, expected.weights, rtol=0, atol=tolerance)
    assert len(found.slots) == len(expected.slots)
    for one, other in zip(found.slots, expected.slots, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_rule_takes_torchs_steps(name):
    walk = Walk(name)
    point = walk.rule.start(walk.live.weights())
    same_points(walk.read(), point, 0.0)
    for number in range(STEPS):
        gradient = drawn_gradient(walk.live, number)
        factor = walk.step(gradient)
        point = walk.rule.advance(point, gradient, factor)
        same_points(walk.read(), point)
        assert point.step == number + 1
        if walk.config.optimizer == "adamw":
            assert walk.read().step == number + 1
    assert not torch.allclose(point.weights, LiveStudent(ToyStudent()).weights())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_point_that_is_written_goes_on_as_where_it_was_read(name):
    """From a student that has taken as many other steps: weights and moments are all that there is."""
    walk, other = Walk(name), Walk(name)
    for number in range(3):
        walk.step(drawn_gradient(walk.live, number))
        other.step(drawn_gradient(other.live, 50 + number))
    write_point(other.live, other.optimizer, other.config, walk.read())
    same_points(other.read(), walk.read(), 0.0)
    for number in range(3, STEPS):
        walk.step(drawn_gradient(walk.live, number))
        other.step(drawn_gradient(other.live, number))
    same_points(other.read(), walk.read(), 0.0)


@pytest.mark.parametrize("place", [0, -1])
def test_a_weight_without_a_gradient_does_not_set_the_step_count(place):
    """Torch keeps no state for it; the next step of the others is torch's all the same."""
    walk = Walk("adamw")
    idle = walk.live.parameters[place]

    def gradient(seed):
        whole = drawn_gradient(walk.live, seed)
        walk.live.views(whole)[place].zero_()
        return whole

    def step(seed):
        for parameter, view in zip(walk.live.parameters, walk.live.views(gradient(seed)), strict=True):
            parameter.grad = None if parameter is idle else view.clone()
        walk.optimizer.step()

    for number in range(3):
        step(number)
    point = walk.read()
    assert idle not in walk.optimizer.state
    assert point.step == 3
    factor = walk.scheduler.get_last_lr()[-1] / walk.scheduler.base_lrs[-1]
    step(3)
    expected = walk.rule.advance(point, gradient(3), factor)
    for parameter, view in zip(walk.live.parameters, walk.live.views(expected.weights), strict=True):
        if parameter is not idle:
            torch.testing.assert_close(parameter.detach(), view, rtol=0, atol=1e-12)


def test_a_point_that_was_read_stays_as_it_is():
    """The student goes on; what was remembered of it does not."""
    walk = Walk("momentum")
    walk.step(drawn_gradient(walk.live, 0))
    point = walk.read()
    weights, slot = point.weights.clone(), point.slots[0].clone()
    walk.step(drawn_gradient(walk.live, 1))
    assert torch.equal(point.weights, weights)
    assert torch.equal(point.slots[0], slot)


def test_numbers_that_are_equal_are_one():
    assert Walk("one rate").rule._rates.rate.shape == ()
    assert Walk("one rate").rule._rates.decay.shape == ()
    layers = Walk("adamw, layers").rule._rates
    assert sorted(set(layers.rate.tolist())) == pytest.approx([0.005, 0.01, 0.02])
    assert set(layers.decay.tolist()) == {0.0, 0.2}
    assert layers.rate.dtype == torch.float64


TERMS = {"mse": 0.7, "cross_entropy": 0.2, "stde": 0.1}
RUNS = {
    **CONFIGS,
    "accumulated": {"micro_batch_size": 2, "length_window": 2},
    "schedule": {"warmup": 0.4, "decay": "cosine"},
    "seed": {"seed": 7, "decay": "constant"},
}


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", RUNS)
def test_unroll_takes_the_steps_of_fit(tmp_path, name, dropout):
    """The same start, order, rates and random states: the same weights, moments, losses and generators."""
    config = settings(**RUNS[name])
    outcome = toy_fit(tmp_path, student=ToyStudent(dropout=dropout), terms=TERMS, **RUNS[name])
    saved = read_checkpoint(tmp_path / CHECKPOINT)

    live, train = LiveStudent(ToyStudent(dropout=dropout)), ToyExamples(37)
    accelerator = build_accelerator(config)  # which seeds the generators
    objective = Objective(live, Mixture(list(TERMS)), AccelerateProcesses(accelerator))
    rule, total = build_rule(live, config), total_steps(train, config)
    steps = enumerate(steps_left(train, config, taken=0))
    plans = [step_plan(accelerator, train, step, number, total, config, over_batch=True) for number, step in steps]
    phi, losses = torch.tensor(list(TERMS.values())), []
    trajectory = unroll(
        objective, rule, rule.start(live.weights()), plans, lambda: phi,
        on_step=lambda _, gradient: losses.append(float(gradient.value)),
    )  # fmt: skip

    assert len(trajectory) == 21
    weights = {name: parameter.detach() for name, parameter in live.module.named_parameters()}
    assert_same_weights(weights, {name: saved["student"][name] for name in weights}, 1e-10)
    assert losses == pytest.approx(outcome.losses, abs=1e-10)
    assert torch.equal(torch.get_rng_state(), saved["random"][0][0])
    slots = {"adamw": ["exp_avg", "exp_avg_sq"], "sgd": ["momentum_buffer"] * bool(config.momentum)}[config.optimizer]
    assert len(trajectory.end.slots) == len(slots)
    order = [id(p) for group in build_optimizer(live.student, config).param_groups for p in group["params"]]
    for slot, tensor in zip(slots, trajectory.end.slots, strict=True):
        for parameter, view in zip(live.parameters, live.views(tensor), strict=True):
            state = saved["optimizer"]["state"][order.index(id(parameter))]
            torch.testing.assert_close(view, state[slot], rtol=0, atol=1e-10)


def test_a_plan_reads_what_it_should(accelerator):
    """Rows in micro-batches, the whole count, the factor of its step."""
    examples, config = ToyExamples(9), settings(micro_batch_size=2, warmup=0.5, epochs=1)
    step = next(steps_left(examples, config, taken=0))
    plan = step_plan(accelerator, examples, step, 0, 4, config, over_batch=False)
    assert sorted(plan.index.tolist()) == sorted(step.rows.tolist())
    assert [len(batch) for batch in plan.batches] == [2, 2, 1]
    assert plan.count == 5
    assert plan.factor == pytest.approx(1 / 3)
    assert plan.random is None
    whole = measure_plan(accelerator, examples, torch.arange(9).numpy(), settings(), over_batch=False)
    assert (len(whole.batches), whole.count, whole.factor) == (1, 9, 1.0)


class OnAnyDevice(list):
    """Rows as a batch."""

    def to(self, device):
        return self


@pytest.mark.parametrize(
    ("device", "over_batch", "asked", "packs"),
    [
        ("cpu", False, {}, [2, 2, 2, 2, 1]),
        ("cpu", True, {}, [8, 1]),
        ("cuda", False, {}, [8, 1]),
        ("cpu", False, {"micro_batch_tokens": 16384}, [8, 1]),
        ("cpu", False, {"micro_batch_tokens": None}, [9]),
    ],
)
def test_what_goes_forwards_at_once(device, over_batch, asked, packs):
    """On a CPU less, unless a loss of the whole batch would go forwards twice; or as the configuration says."""
    examples = SimpleNamespace(lengths=np.full(9, 2048), sequences=np.ones(9, dtype=np.int64), batch=OnAnyDevice)
    there = SimpleNamespace(process_index=0, num_processes=1, device=SimpleNamespace(type=device))
    plan = measure_plan(there, examples, np.arange(9), TrainingConfig(**asked), over_batch=over_batch)
    assert [len(rows) for rows in plan.batches] == packs
