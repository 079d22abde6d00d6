"""The rows of ``hypergradient_cost.py``: a student with random weights, and each way to a hypergradient of its run."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module

import torch
from hypergradient_students import CLASSES, BertStudent, Shape, random_batch, residual_student
from torch import Tensor, nn

from aes_dynloss.teaching.hypergradient.estimators import HypergradientConfig
from aes_dynloss.teaching.hypergradient.protocol import Measure
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss, FixedMixture, Mixture
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import Processes, StepPlan
from aes_dynloss.teaching.unrolling.unroll import unroll
from aes_dynloss.teaching.unrolling.update_rules import Rates, Sgd, UpdateRule

RATE, DECAY, MOMENTUM = 0.01, 1e-4, 0.9
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """What a row runs on; ``graph_mib`` is the size of a step's graph, where that is known."""

    shape: Shape
    steps: int
    device: str
    precision: str
    attention: str
    graph_mib: float = 1.0


class Precise(Processes):
    """One process, forward passes in a given precision."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self._device, self._precision = device, precision

    def autocast(self) -> AbstractContextManager[object]:
        """The precision."""
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)


class Bench:
    """A fresh student with T steps to take; the same numbers every time.

    Args:
        setting: What it runs on.
        loss: The student's loss; None for a mixture of two, or for pictures the bilinear log loss.
        phi: Its coefficients, (K,).
        rule: Its optimiser; None for one with momentum.
    """

    def __init__(
        self,
        setting: Setting,
        loss: DynamicLoss | None = None,
        phi: Tensor | None = None,
        rule: UpdateRule | None = None,
    ) -> None:
        torch.manual_seed(0)
        shape, self.steps, self.graph_mib = setting.shape, setting.steps, setting.graph_mib
        self.device = torch.device(setting.device)
        pictures = shape.kind == "residual"
        self.student: Student = residual_student(shape) if pictures else BertStudent(shape, setting.attention)
        self.student.as_module().to(self.device)
        processes = Precise(self.device, setting.precision)
        bilinear = BilinearLogLoss(CLASSES)
        self.loss: DynamicLoss = loss or (bilinear if pictures else Mixture(("mse", "mae")))
        self.live = LiveStudent(self.student)
        self.objective = Objective(self.live, self.loss, processes)
        self.plans = [self._plan(shape) for _ in range(self.steps)]
        self.dev_error = FixedMixture(Mixture(("expected_error" if pictures else "mse",)), torch.ones(1))
        self.measure = Measure(Objective(self.live, self.dev_error, processes, measuring=True), self._plan(shape))
        self.rule = rule or Sgd(Rates(self._number(RATE), self._number(DECAY)), MOMENTUM)
        self.start = self.rule.start(self.live.weights())
        usual = bilinear.neutral() if pictures else torch.tensor([0.7, 0.3])
        self.phi = (usual if phi is None else phi).to(self.device)
        self.teacher = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, len(self.phi)), nn.Softplus())
        self.teacher.to(self.device)

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, device=self.device)

    def _plan(self, shape: Shape) -> StepPlan:
        return StepPlan((random_batch(shape).to(self.device),), shape.batch)

    def value(self, module: Callable[..., Tensor], plan: StepPlan, phi: Tensor | None) -> Tensor:
        """The loss of a step, or the dev measure where phi is None, of a module in the libraries' hands."""
        batch = plan.batches[0]
        with self.objective.processes.autocast():
            outputs = module(**batch.inputs)
        elements = self.student.elements(outputs, batch.targets, batch.groups)
        return (self.dev_error(self.phi, elements) if phi is None else self.loss(phi, elements)).mean()

    def graph_size(self) -> float:
        """MiB of the graph of a step that can be differentiated once more."""
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.objective.product(self.plans[0], self.phi, weights=self.start.weights)
        return sum(sizes.values()) / MIB


def plain(bench: Bench, policy: Callable[[Tensor], Tensor] | None = None) -> None:
    """Training steps, their coefficients fixed or from a teacher that learns nothing."""
    point, state = bench.start, torch.zeros(2, device=bench.device)
    for plan in bench.plans:
        with torch.no_grad():
            phi = bench.phi if policy is None else policy(state)
        gradient = bench.objective.gradient(plan, phi)
        point = bench.rule.advance(point, gradient.weights, plan.factor)
        bench.live.put(point.weights)
        if policy is not None:
            state = torch.stack([gradient.value, gradient.error])


def torch_optim(bench: Bench) -> None:
    """What torch alone takes for the same steps, as a measure of what plain steps cost here."""
    module = bench.student.as_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for plan in bench.plans:
        optimizer.zero_grad()
        torch.autograd.backward(bench.value(module, plan, bench.phi))
        optimizer.step()


def by_config(config: HypergradientConfig, *, last: float = 0.0, graphs: float = 0.0) -> Callable[[Bench], Tensor]:
    """A row that unrolls and walks back: the last steps alone, or with graphs kept of them, both as parts of T."""

    def run(bench: Bench) -> Tensor:
        changes: dict[str, object] = {}
        if last:
            changes = {"estimator": "truncated", "last": max(1, int(last * bench.steps))}
        if graphs:
            changes = {"graph_budget": 1 + math.ceil(graphs * bench.steps * bench.graph_mib)}
        given = HypergradientConfig.model_validate({**config.model_dump(), **changes})
        memory = given.memory(needs_gradient=bench.rule.needs_gradient)
        with bench.live.undisturbed():
            trajectory = unroll(bench.objective, bench.rule, bench.start, bench.plans, lambda: bench.phi, memory=memory)
            return given.build()(bench.objective, bench.rule, trajectory, bench.measure).coefficients

    return run


def by_torchopt(bench: Bench) -> Tensor:
    """One graph by torchopt."""
    torchopt = import_module("torchopt")
    module = bench.student.as_module()
    optimizer = torchopt.MetaSGD(module, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    phis = [bench.phi.clone().requires_grad_() for _ in bench.plans]
    with twice_differentiable():
        for plan, phi in zip(bench.plans, phis, strict=True):
            optimizer.step(bench.value(module, plan, phi))
        bench.live.measure_mode()
        return torch.stack(torch.autograd.grad(bench.value(module, bench.measure.plan, None), phis))


def by_higher(bench: Bench) -> Tensor:
    """One graph by higher."""
    higher = import_module("higher")
    module = bench.student.as_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    phis = [bench.phi.clone().requires_grad_() for _ in bench.plans]
    with twice_differentiable(), higher.innerloop_ctx(module, optimizer) as (functional, stepper):
        for plan, phi in zip(bench.plans, phis, strict=True):
            stepper.step(bench.value(functional, plan, phi))
        functional.eval()
        return torch.stack(torch.autograd.grad(bench.value(functional, bench.measure.plan, None), phis))


@dataclass(frozen=True)
class Row:
    """What is measured.

    Args:
        run: Takes the steps; answers the hypergradient, (T, K), where there is one.
        cost: The goal for its time on a CPU, in plain steps a step.
        copies: The goal for its memory: 3.2 plain and so many copies of the weights, of T.
        graphs: Graphs that it keeps, as a part of T; where they do not fit into half of free memory it is left out.
        library: The library that it needs.
        few: Whether a few steps show its peak.
    """

    run: Callable[[Bench], Tensor | None]
    cost: float | None = None
    copies: Callable[[int], float] | None = None
    graphs: float = 0.0
    library: str | None = None
    few: bool = False


@dataclass(frozen=True)
class Suite:
    """What a benchmark measures.

    Args:
        program: Its file, which answers a row's peak memory when it is started with ``--child``.
        bench: Answers a fresh student.
        rows: By name; ``plain`` among them.
    """

    program: str
    bench: Callable[[Setting], Bench]
    rows: dict[str, Row]


def _config(**settings: object) -> HypergradientConfig:
    return HypergradientConfig.model_validate(settings)


ROWS = {
    "plain": Row(plain, few=True),
    "torch.optim": Row(torch_optim, few=True),
    "frozen teacher": Row(lambda bench: plain(bench, bench.teacher), cost=1.05, few=True),
    "exact": Row(by_config(_config()), cost=4.4, copies=float),
    "exact with half the graphs": Row(by_config(_config(), graphs=0.5), cost=3.9, graphs=0.5),
    "exact with snapshots": Row(by_config(_config(snapshots=True)), copies=lambda steps: 3 * math.sqrt(steps)),
    "truncated to T/4": Row(by_config(_config(), last=0.25)),
    "central": Row(by_config(_config(estimator="central")), cost=3.3),
    "one_sided": Row(by_config(_config(estimator="one_sided")), cost=2.2),
    "one_step": Row(by_config(_config(estimator="one_step")), cost=2.9),
    "unrolled_graph": Row(by_config(_config(estimator="unrolled_graph")), graphs=1.0),
    "torchopt": Row(by_torchopt, graphs=1.0, library="torchopt"),
    "higher": Row(by_higher, graphs=1.0, library="higher"),
}
