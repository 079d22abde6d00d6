"""Meta-Weight-Net's teacher beside the paper's algorithm, and its hypergradient beside differences of whole runs."""

from __future__ import annotations

import pytest
import torch
from taught_runs import RULES, TaughtRun, error_of, micro_batches, taught_run
from taught_students import CLASSES, FEATURES, TOKENS, Answers
from torch import Tensor, nn
from torch.func import functional_call

from aes_dynloss.teaching.hypergradient.exact import Exact
from aes_dynloss.teaching.hypergradient.protocol import Measure
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.student import buffers_of, put_buffers
from aes_dynloss.teaching.teachers.mwn import MetaWeightTeacher
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import unroll
from aes_dynloss.teaching.unrolling.update_rules import Rates, Sgd

WIDTH, RATE, TEACHER_RATE = 6, 0.5, 0.3
FORMS = {"scores": {"mse": 1.0}, "distribution": {"cross_entropy": 1.0}}
CLOSE = {"rtol": 0, "atol": 1e-10}


class Small(Answers):
    """Two layers, and a buffer that every forward pass in training changes, as batch norm's statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = nn.Linear(FEATURES * TOKENS, 6)
        self.head = nn.Linear(6, 1 + CLASSES)
        self.register_buffer("passes", torch.zeros(()))
        self.reset(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        return self.head(torch.tanh(self.lower(x.flatten(1))))


def start_of(loss: MetaWeightLoss) -> Tensor:
    return loss.start(torch.Generator().manual_seed(0)).double()


def weighted_run(form: str, rule: str, steps: int, micro: int = 8) -> TaughtRun:
    """A run under the loss, with one theta throughout, as in a window."""
    loss = MetaWeightLoss(FORMS[form], width=WIDTH)
    run = taught_run(student=Small(), rule=rule, steps=steps, micro=micro)
    measure = Measure(Objective(run.live, loss.plain, measuring=True), run.measure.plan)
    phi = start_of(loss).expand(steps, -1).clone()
    return TaughtRun(Objective(run.live, loss), run.rule, run.start, run.plans, phi, measure)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", RULES)
def test_the_hypergradient(rule, form, window):
    """Over one step and over three, where later weights depend on what earlier steps did."""
    run = weighted_run(form, rule, window)
    found = run.estimate(Exact()).coefficients
    assert error_of(found, run.reference().coefficients) < 1e-8
    # A first step of Adam's is all but the gradient's sign: its hypergradient is near 0.
    assert float((found - run.numeric()).norm()) < 2e-6 * float(found.norm()) + 1e-10
    micro = weighted_run(form, rule, window, micro=3).estimate(Exact()).coefficients
    assert error_of(micro, found) < 1e-9


class Bench:
    """A student, its weighting network and batches, each used once."""

    def __init__(self, form: str = "scores", **how) -> None:
        self.live = LiveStudent(Small())
        self.loss = MetaWeightLoss(FORMS[form], width=WIDTH)
        self.teacher = MetaWeightTeacher(start_of(self.loss), **{"learning_rate": TEACHER_RATE, **how})

    def train_batch(self, number):
        return micro_batches(list(range(8 * number, 8 * number + 8)), 8)

    def meta_batch(self, number):
        return micro_batches(list(range(900 + 7 * number, 907 + 7 * number)), 8)

    def step(self, number):
        """As a run takes it: the student walks, the teacher learns, the student is put where the second run ended."""
        objective = Objective(self.live, self.loss)
        one = torch.ones((), dtype=torch.float64)
        rule = Sgd(Rates(RATE * one, 0 * one))
        buffers = buffers_of(self.live.module)
        start, plans = rule.start(self.live.weights()), [self.train_batch(number)]
        first = unroll(objective, rule, start, plans, lambda: self.teacher.phi)
        measure = Measure(Objective(self.live, self.loss.plain, measuring=True), self.meta_batch(number))
        fresh = Measure(Objective(self.live, self.loss.plain, measuring=True), self.meta_batch(number + 50))
        done = self.teacher.step(objective, rule, first, buffers, measure, Exact(), fresh)
        self.live.put(done.end.weights)
        put_buffers(self.live.module, done.buffers)
        return done


class Paper:
    """Algorithm 1 of the paper, by a network of torch's own layers and optimisers of torch's own."""

    def __init__(self, bench: Bench, form: str, optimizer) -> None:
        self.student, self.form = Small(), form
        self.network = nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1), nn.Sigmoid()).double()
        slope, bias, last, constant = start_of(bench.loss).split([WIDTH, WIDTH, WIDTH, 1])
        with torch.no_grad():
            for layer, weight, shift in ((0, slope[:, None], bias), (2, last[None], constant)):
                self.network[layer].weight.copy_(weight)
                self.network[layer].bias.copy_(shift)
        self.optimizer = optimizer(self.network.parameters())

    def losses(self, plan, weights) -> tuple[Tensor, Tensor]:
        """Of each example, and in units of its group's variance."""
        (batch,) = plan.batches
        elements = self.student.elements(
            functional_call(self.student, weights, (batch.inputs["x"],)), batch.targets, batch.groups
        )
        if self.form == "distribution":
            costs = nn.functional.nll_loss(elements.log_probs, elements.classes, reduction="none")
            return costs, costs
        costs = (elements.scores - elements.targets) ** 2
        return costs, costs / elements.spread**2

    def step(self, train, meta) -> None:
        weights = dict(self.student.named_parameters())
        costs, read = self.losses(train, weights)
        weighted = (self.network(read.detach()[:, None])[:, 0] * costs).mean()
        slopes = torch.autograd.grad(weighted, list(weights.values()), create_graph=True)
        trial = {name: w - RATE * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
        self.optimizer.zero_grad()
        grads = torch.autograd.grad(self.losses(meta, trial)[0].mean(), list(self.network.parameters()))
        for parameter, slope in zip(self.network.parameters(), grads, strict=True):
            parameter.grad = slope
        self.optimizer.step()
        costs, read = self.losses(train, weights)
        with torch.no_grad():
            w = self.network(read[:, None])[:, 0]
        slopes = torch.autograd.grad((w * costs).mean(), list(weights.values()))
        with torch.no_grad():
            for parameter, slope in zip(weights.values(), slopes, strict=True):
                parameter.copy_(parameter - RATE * slope)

    @property
    def theta(self) -> Tensor:
        first, _, last, _ = self.network
        parts = [first.weight[:, 0], first.bias, last.weight[0], last.bias]
        return torch.cat([part.detach() for part in parts])


OPTIMIZERS = {
    "sgd": ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=TEACHER_RATE)),
    "adam": ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, lr=TEACHER_RATE)),
    "decayed": (
        {"optimizer": "adam", "weight_decay": 0.1},
        lambda p: torch.optim.Adam(p, lr=TEACHER_RATE, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_four_steps_of_the_papers_algorithm(name, form):
    how, optimizer = OPTIMIZERS[name]
    bench = Bench(form, **how)
    paper = Paper(bench, form, optimizer)
    for number in range(4):
        before = bench.teacher.phi
        done = bench.step(number)
        paper.step(bench.train_batch(number), bench.meta_batch(number))
        torch.testing.assert_close(bench.teacher.phi, paper.theta, **CLOSE)
        weights = bench.live.flat([parameter.detach() for parameter in paper.student.parameters()])
        torch.testing.assert_close(bench.live.weights(), weights, **CLOSE)
        torch.testing.assert_close(done.rewrite, bench.teacher.phi - before, **CLOSE)
        assert float(done.rewrite.abs().max()) > 1e-6


def test_what_a_step_reports():
    """Measures after both runs, on the batch of the gradient and on another; the second run alone moves buffers."""
    bench, other = Bench(), Bench()
    done = bench.step(0)
    meta, fresh = (Measure(Objective(other.live, other.loss.plain, measuring=True), p) for p in (
        other.meta_batch(0), other.meta_batch(50)))  # fmt: skip
    objective = Objective(other.live, other.loss)
    slope = objective.gradient(other.train_batch(0), other.teacher.phi).weights
    first = other.live.weights() - RATE * slope
    assert float(done.before) == pytest.approx(float(meta.gradient(first)[0]), abs=1e-12)
    assert float(done.after) == pytest.approx(float(meta.gradient(done.end.weights)[0]), abs=1e-12)
    expected = [float(fresh.gradient(weights)[0]) for weights in (first, done.end.weights)]
    assert [float(part) for part in done.fresh] == pytest.approx(expected, abs=1e-12)
    assert float(done.before) != float(done.after)
    assert float(done.hypergradient_norm) > 0
    assert float(bench.live.module.passes) == 1
    assert not bench.teacher.phi.requires_grad
    assert torch.equal(bench.teacher.coefficients(StudentState(0.4)), bench.teacher.phi)


def test_earlier_coefficients_are_not_changed():
    """A run's steps remember theirs; the optimiser moves in place."""
    bench = Bench()
    first = bench.teacher.phi
    kept = first.clone()
    bench.step(0)
    second = bench.teacher.phi
    held = second.clone()
    bench.step(1)
    assert torch.equal(first, kept)
    assert torch.equal(second, held)


def test_its_state_comes_back(tmp_path):
    straight, stopped, resumed = Bench(), Bench(), Bench()
    straight.step(0)
    stopped.step(0)
    torch.save(stopped.teacher.state_dict(), tmp_path / "teacher.pt")
    weights = stopped.live.weights()
    stopped.step(1)
    resumed.teacher.load_state_dict(torch.load(tmp_path / "teacher.pt", weights_only=True))
    resumed.live.put(weights)
    for number in (1, 2):
        straight.step(number)
        resumed.step(number)
    assert torch.equal(resumed.teacher.phi, straight.teacher.phi)
    assert torch.equal(resumed.live.weights(), straight.live.weights())
