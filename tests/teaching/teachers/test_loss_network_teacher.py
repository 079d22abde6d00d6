"""L2T-DLN's teacher step beside a plain one: two runs of the student inside autograd, one graph each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from taught_runs import PlainError, micro_batches
from taught_students import CLASSES, FEATURES, TOKENS, Answers
from torch import Tensor, nn
from torch.func import functional_call

from aes_dynloss.teaching.hypergradient.exact import Exact
from aes_dynloss.teaching.hypergradient.protocol import Measure
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.student import buffers_of, put_buffers
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.memory import Memory
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.teaching.unrolling.update_rules import Rates, Sgd

RATE, STEP_SIZE, TEACHER_RATE, WINDOW = 0.3, 0.05, 0.01, 3


class Counting(Answers):
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


@dataclass
class Bench:
    """A student, its loss network and their teacher, and some windows of steps."""

    live: LiveStudent
    loss: LossNetwork
    teacher: LossNetworkTeacher
    measure: Measure

    @staticmethod
    def built(kind: str = "lstm", form: Any = "scores", span: int | None = None) -> Bench:
        live = LiveStudent(Counting())
        loss = LossNetwork(form, width=4, hidden=2, plain=0.5)
        phi = loss.start(torch.Generator().manual_seed(0), silent=False).double()
        network = build_coordinate_teacher(kind, 1).double()
        teacher = LossNetworkTeacher(phi, network, step_size=STEP_SIZE, learning_rate=TEACHER_RATE, memory_span=span)
        objective = Objective(live, PlainError(), measuring=True)
        return Bench(live, loss, teacher, Measure(objective, micro_batches(list(range(90, 97)), 8)))

    def window(self, number: int) -> list[Any]:
        first = 5 * WINDOW * number
        return [micro_batches(list(range(start, start + 5)), 8) for start in range(first, first + 5 * WINDOW, 5)]

    def step(self, number: int) -> Any:
        """A window as a run takes it: the student walks, then the teacher learns; both go on from the second run."""
        objective = Objective(self.live, self.loss)
        one = torch.ones((), dtype=torch.float64)
        rule = Sgd(Rates(RATE * one, 0 * one))
        buffers = buffers_of(self.live.module)
        first = unroll(objective, rule, rule.start(self.live.weights()), self.window(number), lambda: self.teacher.phi)
        done = self.teacher.step(objective, rule, first, buffers, self.measure, Exact())
        self.live.put(done.end.weights)
        put_buffers(self.live.module, done.buffers)
        return done

    def plain_step(self, number: int, weights: list[Tensor], memory: Any, phi: Tensor, optimizer: Any) -> Any:
        """The same by two graphs; theta's gradient through phi' alone."""
        phi = phi.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(before := self._run(number, weights, phi)[0], phi)
        change, memory = self.teacher.network(gradient, memory)
        following = phi.detach() - STEP_SIZE * change
        after, end = self._run(number, weights, following)
        optimizer.zero_grad()
        after.backward()
        optimizer.step()
        numbers = torch.stack([before, after, gradient.norm()]).detach()
        memory = [(hidden.detach(), inner.detach()) for hidden, inner in memory]
        return [weight.detach() for weight in end], memory, following.detach(), numbers

    def _run(self, number: int, weights: list[Tensor], phi: Tensor) -> tuple[Tensor, list[Tensor]]:
        weights = [weight.detach().requires_grad_() for weight in weights]
        for plan in self.window(number):
            value = self.loss(phi, self._elements(weights, plan.batches[0])).mean()
            slopes = torch.autograd.grad(value, weights, create_graph=True)
            weights = [weight - RATE * slope for weight, slope in zip(weights, slopes, strict=True)]
        measured = self._elements(weights, self.measure.plan.batches[0])
        return PlainError()(phi, measured).mean(), weights

    def _elements(self, weights: list[Tensor], batch: Any) -> Any:
        named = dict(zip(self.live.names, weights, strict=True))
        outputs = functional_call(self.live.module, named, (batch.inputs["x"],))
        return self.live.student.elements(outputs, batch.targets, batch.groups)


@pytest.mark.parametrize("form", ["scores", "distribution"])
@pytest.mark.parametrize("kind", ["lstm", "odd_lstm", "memoryless_lstm", "feed_forward"])
def test_three_steps_by_two_graphs(kind, form):
    """Weights, loss network, teacher, memory and numbers after each of three teacher steps."""
    bench, other = Bench.built(kind, form), Bench.built(kind, form)
    close = {"rtol": 0, "atol": 1e-10}
    weights = [parameter.detach() for parameter in other.live.parameters]
    memory, phi = other.teacher.memory, other.teacher.phi
    optimizer = torch.optim.Adam(other.teacher.network.parameters(), lr=TEACHER_RATE)
    for number in range(3):
        done = bench.step(number)
        weights, memory, phi, numbers = other.plain_step(number, weights, memory, phi, optimizer)
        torch.testing.assert_close(bench.live.weights(), other.live.flat(weights), **close)
        torch.testing.assert_close(bench.teacher.phi, phi, **close)
        found = torch.stack([done.before, done.after, done.hypergradient_norm])
        torch.testing.assert_close(found, numbers, **close)
        pairs = zip(bench.teacher.network.parameters(), other.teacher.network.parameters(), strict=True)
        for one, two in pairs:
            torch.testing.assert_close(one, two, **close)
        for one, two in zip(bench.teacher.memory, memory, strict=True):
            torch.testing.assert_close(one, two, **close)


def test_the_teacher_moves_what_it_says():
    """A step changes phi by at most the step size, all of the teacher's weights, and the measure of the student."""
    bench = Bench.built()
    phi, theta = bench.teacher.phi, [p.detach().clone() for p in bench.teacher.network.parameters()]
    done = bench.step(0)
    change = (bench.teacher.phi - phi).abs()
    assert 0 < float(change.max()) < STEP_SIZE
    bench.step(1)  # in the first, there is no memory that weights on it could act on
    assert all(not torch.equal(now, then) for now, then in zip(bench.teacher.network.parameters(), theta, strict=True))
    assert float(done.before) != float(done.after)
    assert not bench.teacher.phi.requires_grad
    assert all(not tensor.requires_grad for pair in bench.teacher.memory for tensor in pair)
    assert torch.equal(bench.teacher.coefficients(StudentState(0.4)), bench.teacher.phi)


def test_the_student_is_left_as_it_was_and_buffers_are_answered():
    """The second run starts from the buffers before the first; walking back and measuring count for nothing."""
    bench = Bench.built()
    objective, rule = Objective(bench.live, bench.loss), Sgd(Rates(torch.tensor(RATE), torch.tensor(0.0)))
    bench.live.module.passes.fill_(7.0)
    buffers = buffers_of(bench.live.module)
    first = unroll(objective, rule, rule.start(bench.live.weights()), bench.window(0), lambda: bench.teacher.phi)
    before, state, mode = bench.live.weights(), torch.get_rng_state(), bench.live.module.training
    done = bench.teacher.step(objective, rule, first, buffers, bench.measure, Exact())
    assert torch.equal(bench.live.weights(), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert bench.live.module.training is mode
    assert float(bench.live.module.passes) == 10
    passes = [name for name, _ in bench.live.module.named_buffers()].index("passes")
    assert float(done.buffers[passes]) == 7 + WINDOW


def test_a_window_of_one_step():
    bench = Bench.built()
    objective, rule = Objective(bench.live, bench.loss), Sgd(Rates(torch.tensor(RATE), torch.tensor(0.0)))
    first = unroll(objective, rule, rule.start(bench.live.weights()), bench.window(0)[:1], lambda: bench.teacher.phi)
    assert isinstance(first, Trajectory)
    done = bench.teacher.step(objective, rule, first, buffers_of(bench.live.module), bench.measure, Exact())
    assert done.end.step == 1
    assert float(done.hypergradient_norm) > 0
    assert not any(part.requires_grad for pair in bench.teacher.memory for part in pair)  # cut from its graph


@pytest.mark.parametrize("kind", ["lstm", "odd_lstm", "feed_forward"])
def test_its_state_comes_back(kind, tmp_path):
    """Taken after one step, written and read, it goes on as if there had been no stop."""
    straight, stopped, resumed = Bench.built(kind), Bench.built(kind), Bench.built(kind)
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
    for one, two in zip(resumed.teacher.network.parameters(), straight.teacher.network.parameters(), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(resumed.teacher.memory, straight.teacher.memory, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


def test_memory_begins_anew_after_its_span():
    """A span of one step is the teacher without memory; one of two remembers a single step; a saved one goes on."""
    spans = {span: Bench.built(span=span) for span in (None, 1, 2)}
    without = Bench.built("memoryless_lstm")
    after = {name: [] for name in (*spans, "without")}
    for number in range(3):
        for name, bench in {**spans, "without": without}.items():
            bench.step(number)
            after[name].append(bench.teacher.phi)
    for one, two in zip(after[1], after["without"], strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-14)
    assert torch.equal(after[2][1], after[None][1])
    assert not torch.equal(after[2][2], after[None][2])
    assert not torch.equal(after[2][1], after[1][1])
    resumed = Bench.built(span=2)
    resumed.teacher.load_state_dict(spans[2].teacher.state_dict())
    resumed.live.put(spans[2].live.weights())
    put_buffers(resumed.live.module, buffers_of(spans[2].live.module))
    for bench in (resumed, spans[2]):
        bench.step(3)
    assert torch.equal(resumed.teacher.phi, spans[2].teacher.phi)


def test_the_first_run_is_used_up():
    """Only its first point and its plans are needed for the second; the rest would lie about while that walks back."""
    bench = Bench.built()
    objective, one = Objective(bench.live, bench.loss), torch.ones((), dtype=torch.float64)
    rule = Sgd(Rates(RATE * one, 0 * one))
    start, buffers = rule.start(bench.live.weights()), buffers_of(bench.live.module)
    first = unroll(objective, rule, start, bench.window(0), lambda: bench.teacher.phi, memory=Memory(gradients=True))
    bench.teacher.step(objective, rule, first, buffers, bench.measure, Exact())
    assert [step.kept is None for step in first.steps] == [False, True, True]
    assert all(step.gradient is None and step.product is None for step in first.steps)
    assert torch.equal(first.start.weights, start.weights)
