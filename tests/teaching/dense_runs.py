"""Short runs of a student whose examples have several elements."""

from __future__ import annotations

from dataclasses import replace

from dense_losses import DENSE_LOSSES, coefficients_of, dense_plan
from dense_student import DenseStudent
from taught_runs import RULES, TaughtRun

from aes_dynloss.teaching.hypergradient.protocol import Measure
from aes_dynloss.teaching.losses.loss_spec import fixed_objective
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective


def dense_run(
    name: str, *, student: DenseStudent | None = None, rule: str = "momentum", micro: int = 8, steps: int = 3
) -> TaughtRun:
    """A run; the measure is the cross-entropy on other rows, and what stands beside it."""
    live = LiveStudent(student or DenseStudent())
    plans = [
        replace(dense_plan(list(range(8 * number, 8 * number + 8)), micro), factor=1.0 - 0.2 * number)
        for number in range(steps)
    ]
    measure = Measure(
        Objective(live, fixed_objective("cross_entropy"), measuring=True), dense_plan(list(range(500, 508)), 8)
    )
    built = RULES[rule](live)
    start = built.start(live.weights())
    return TaughtRun(Objective(live, DENSE_LOSSES[name]), built, start, plans, coefficients_of(name, steps), measure)
