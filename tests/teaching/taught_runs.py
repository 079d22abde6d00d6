"""Short runs of small students, and their hypergradients by the slow ways that cannot be wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from taught_students import SmallConvNet, SmallTransformer, examples
from torch import Tensor

from aes_dynloss.teaching.hypergradient.exact import UnrolledGraph
from aes_dynloss.teaching.hypergradient.protocol import Estimator, Hypergradient, Measure
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.student import random_state
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.memory import Memory
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import Processes, StepPlan
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.teaching.unrolling.update_rules import AdamW, Point, Rates, Sgd, UpdateRule

LOSSES = {"elements": ("mse", "cross_entropy"), "batch": ("mse", "stde", "ranking")}
STEPS = 3
BITING = 0.05
# Where clipped gradients are as small as AdamW's eps, its path bends too fast for finite differences.
SMOOTH = 1e-3


def rates_of(live: LiveStudent, *, rate: float, decay: float, clip: float | None) -> Rates:
    """Rates that differ between weights, and decay on matrices alone."""
    ones = [torch.ones_like(parameter) for parameter in live.parameters]
    rate_of = live.flat([rate * (1 + number % 3) * one for number, one in enumerate(ones)])
    return Rates(rate_of, live.flat([decay * (one.ndim > 1) * one for one in ones]), clip)


RULES: dict[str, Callable[[LiveStudent], UpdateRule]] = {
    "sgd": lambda live: Sgd(rates_of(live, rate=0.2, decay=0.0, clip=None)),
    "momentum": lambda live: Sgd(rates_of(live, rate=0.1, decay=0.1, clip=None), momentum=0.9),
    "clipped": lambda live: Sgd(rates_of(live, rate=0.5, decay=0.1, clip=BITING), momentum=0.8),
    "adamw": lambda live: AdamW(rates_of(live, rate=0.02, decay=0.1, clip=None), betas=(0.8, 0.9)),
    "clipped adamw": lambda live: AdamW(
        rates_of(live, rate=0.02, decay=0.1, clip=BITING), betas=(0.8, 0.9), eps=SMOOTH
    ),
}


def micro_batches(rows: list[int], size: int, **how: Any) -> StepPlan:
    """A plan for these rows in micro-batches of a size."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return StepPlan(tuple(examples(part, **how) for part in parts), len(rows))


@dataclass(frozen=True)
class TaughtRun:
    """Everything that a run reads, and ways through it; the student is left as it was."""

    objective: Objective
    rule: UpdateRule
    start: Point
    plans: Sequence[StepPlan]
    phi: Tensor
    measure: Measure

    @property
    def live(self) -> LiveStudent:
        return self.objective.live

    def walk(self, phi: Tensor | None = None, plans: Sequence[StepPlan] | None = None, **memory: Any) -> Trajectory:
        """Forwards, leaving the student changed."""
        answers = iter(self.phi if phi is None else phi)
        return unroll(
            self.objective,
            self.rule,
            self.start,
            self.plans if plans is None else plans,
            lambda: next(answers),
            memory=Memory(**memory),
        )

    def points(self) -> list[Point]:
        """The points before each step, the optimiser's slots included."""
        points = [self.start]
        with self.live.undisturbed():
            for step in self.walk().steps[:-1]:
                self.live.put(points[-1].weights)
                slope = self.objective.gradient(step.plan, step.coefficients).weights
                points.append(self.rule.advance(points[-1], slope, step.plan.factor))
        return points

    def estimate(self, estimator: Estimator, **memory: Any) -> Hypergradient:
        """There and back."""
        with self.live.undisturbed():
            return estimator(self.objective, self.rule, self.walk(**memory), self.measure)

    def reference(self) -> Hypergradient:
        """By one graph over all steps."""
        return self.estimate(UnrolledGraph())

    def measured(self, phi: Tensor, plans: Sequence[StepPlan] | None = None) -> Tensor:
        """The dev measure at the run's end."""
        with self.live.undisturbed():
            return self.measure.gradient(self.walk(phi, plans).end.weights)[0]

    def numeric(self, size: float = 1e-5) -> Tensor:
        """Central differences of the whole run in every coefficient, (T, K)."""
        found = torch.zeros_like(self.phi)
        for place in range(found.numel()):
            shift = torch.zeros_like(self.phi)
            shift.view(-1)[place] = size
            found.view(-1)[place] = (self.measured(self.phi + shift) - self.measured(self.phi - shift)) / (2 * size)
        return found


def taught_run(
    *,
    student: Any = None,
    loss: str = "elements",
    rule: str = "momentum",
    micro: int = 8,
    size: int = 8,
    steps: int = STEPS,
    processes: Processes | None = None,
) -> TaughtRun:
    """A run; its random states are fixed, so that it is the same function of its coefficients every time."""
    student = student or SmallTransformer()
    images = isinstance(student, SmallConvNet)
    live = LiveStudent(student)
    mixture = Mixture(LOSSES[loss])
    objective = Objective(live, mixture, processes)
    plans = []
    for number in range(steps):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            plan = micro_batches(list(range(size * number, size * (number + 1))), micro, images=images)
            plans.append(replace(plan, factor=1.0 - 0.2 * number, random=random_state(live.device)))
    generator = torch.Generator().manual_seed(5)
    phi = 0.5 + torch.rand(steps, len(LOSSES[loss]), generator=generator, dtype=torch.float64)
    measure = Measure(
        Objective(live, PlainError(), processes, measuring=True),
        micro_batches(list(range(500, 508)), 8, images=images),
    )
    built = RULES[rule](live)
    return TaughtRun(objective, built, built.start(live.weights()), plans, phi, measure)


class PlainError:
    """A measure without coefficients."""

    over_batch = False

    def __call__(self, coefficients: Tensor, elements: Any) -> Tensor:
        return (elements.scores - elements.targets).square() + elements.log_probs[:, 0].square()

    def terms(self, elements: Any) -> dict[str, Tensor]:
        return {"error": self(torch.zeros(0), elements)}

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        return {}


def error_of(found: Tensor, right: Tensor) -> float:
    """Relative error by Euclidean norm."""
    return float((found - right).norm() / right.norm())
