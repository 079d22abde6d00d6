"""Measure what one teacher step of L2T-DLN costs: time, and peak memory, beside two graphs that span both unrolls.

    python recipes/benchmarks/teacher_step_cost.py --shape small --rounds 5 --output costs.json

A teacher step is N steps of the student under a loss network and a dev pass, the LSTM's answer, and the same once more
under the new loss network, with the LSTM's gradient. Rows are timed in turn between plain steps under the same loss
network, round by round; "x two_graphs" is the median over rounds of the ratio within a round, and a row's cost is in
plain steps per step of the student that stays. "off" is the distance from two_graphs of d e2 / d theta, of G = d e1 /
d phi and of d e2 / d phi', each as a part of it. On a shared machine processor time is what to read.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import median

import torch
from hypergradient_cost import Found, common_options, distance, left_out, measure_memory, run_program, time_round
from hypergradient_rows import RATE, Bench, Row, Setting, Suite, plain
from hypergradient_students import SHAPES, TINY
from result_table import result_table
from torch import Tensor
from torch.func import functional_call

from aes_dynloss.teaching.hypergradient.estimators import HypergradientConfig
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient, Measure
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.student import buffers_of, random_state, set_random_state
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.teaching.unrolling.update_rules import Rates, Sgd, UpdateRule

logger = logging.getLogger("teacher_step_cost")

STEP_SIZE = LEARNING_RATE = 1e-3
REFERENCE = "two_graphs"
# Goals as parts of two_graphs.
TIME_GOALS = {"exact": 1.5, "one_sided": 0.8}
MEMORY_GOALS = {"exact": 1 / 7}
ANSWERS = ("off theta", "off G", "off phi'")
COLUMNS = (
    *("row", "x two_graphs", "by CPU time", "goal", "plain steps", "by CPU time"),
    *("peak MiB", "of two_graphs", "goal", *ANSWERS),
)


def bench_of(setting: Setting) -> Bench:
    """A fresh student under a loss network of the published size, with plain SGD; every step has dropout of its own."""
    loss = LossNetwork("scores")
    phi = loss.start(torch.Generator().manual_seed(0), silent=False)
    bench = Bench(setting, loss, phi, Sgd(Rates(torch.tensor(RATE), torch.tensor(0.0))))
    for number, plan in enumerate(bench.plans):
        torch.manual_seed(number)
        bench.plans[number] = replace(plan, random=random_state(bench.device))
    return bench


def _unrolled(bench: Bench, phi: Tensor) -> Tensor:
    """The dev measure after N steps under phi, with one graph over all of them."""
    module = bench.student.as_module()
    weights = {name: weight.detach().requires_grad_() for name, weight in module.named_parameters()}

    def student(**inputs: Tensor) -> Tensor:
        answer: Tensor = functional_call(module, weights, (), inputs)
        return answer

    module.train()
    for plan in bench.plans:
        if plan.random is not None:
            set_random_state(plan.random, bench.device)
        with twice_differentiable():
            value = bench.value(student, plan, phi)
            slopes = torch.autograd.grad(value, [*weights.values()], create_graph=True)
        weights = {name: weight - RATE * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)}
    module.eval()
    return bench.value(student, bench.measure.plan, None)


def two_graphs(bench: Bench) -> Tensor:
    """The plain form: autograd through each unroll as a whole."""
    network = build_coordinate_teacher("lstm", 0).to(bench.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    phi = bench.phi.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_unrolled(bench, phi), phi)
    change, _ = network(gradient, network.fresh(len(phi)))
    following = phi.detach() - STEP_SIZE * change
    to_phi, *to_theta = torch.autograd.grad(_unrolled(bench, following), [following, *network.parameters()])
    for parameter, found in zip(network.parameters(), to_theta, strict=True):
        parameter.grad = found
    optimizer.step()
    return torch.cat([*(found.reshape(-1) for found in to_theta), gradient, to_phi])


def by_teacher(name: str) -> Callable[[Bench], Tensor]:
    """A row of ours, by the estimator's name."""
    config = HypergradientConfig.model_validate({"estimator": name})
    estimator = config.build()

    def run(bench: Bench) -> Tensor:
        seen: list[Tensor] = []

        def noted(objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure) -> Hypergradient:
            found = estimator(objective, rule, trajectory, measure)
            seen.append(found.coefficients.sum(0))
            return found

        network = build_coordinate_teacher("lstm", 0).to(bench.device)
        teacher = LossNetworkTeacher(bench.phi, network, step_size=STEP_SIZE, learning_rate=LEARNING_RATE)
        memory = config.memory(needs_gradient=bench.rule.needs_gradient)
        buffers = buffers_of(bench.live.module)
        first = unroll(bench.objective, bench.rule, bench.start, bench.plans, lambda: teacher.phi, memory=memory)
        teacher.step(bench.objective, bench.rule, first, buffers, bench.measure, noted)
        to_theta = [parameter.grad.reshape(-1) for parameter in network.parameters() if parameter.grad is not None]
        return torch.cat([*to_theta, *seen])

    return run


ROWS = {
    "plain": Row(plain, few=True),
    REFERENCE: Row(two_graphs, graphs=1.0),
    **{name: Row(by_teacher(name)) for name in ("exact", "one_sided", "central", "one_step")},
}
SUITE = Suite(__file__, bench_of, ROWS)


def _ratio(costs: list[float], reference: list[float]) -> float | None:
    """Median over rounds of the ratio within a round."""
    return median(one / other for one, other in zip(costs, reference, strict=True)) if costs and reference else None


def table(found: dict[str, Found], off: dict[str, list[float]]) -> str:
    """The figures as a table, with the goals."""
    lines = []
    reference = found[REFERENCE]
    for name, entry in found.items():
        figures = [
            (_ratio(entry.costs, reference.costs), ".2f"),
            (_ratio(entry.cpu_costs, reference.cpu_costs), ".2f"),
            (TIME_GOALS.get(name), ".2f"),
            (median(entry.costs) if entry.costs else None, ".2f"),
            (median(entry.cpu_costs) if entry.cpu_costs else None, ".2f"),
            (entry.mib, ".0f"),
            (entry.mib / reference.mib if entry.mib and reference.mib else None, ".3f"),
            (MEMORY_GOALS.get(name), ".3f"),
            *((part, ".0e") for part in off.get(name, [None] * len(ANSWERS))),
        ]
        cells = ["" if figure is None else format(figure, form) for figure, form in figures]
        lines.append([name, *cells, *([entry.failed] if entry.failed else [])])
    return result_table(COLUMNS, lines)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All rows."""
    setting = Setting(SHAPES[options.shape], options.steps, options.device, options.precision, options.attention)
    bench = bench_of(setting)
    setting = replace(setting, graph_mib=bench.graph_size())
    phi = len(bench.phi)
    logger.info("%.2f M weights, a step's graph %.0f MiB", len(bench.start.weights) / 1e6, setting.graph_mib)
    del bench
    found = {name: Found(setting.steps, name, failed=left_out(row, setting)) for name, row in ROWS.items()}
    for row in ROWS.values():  # what is imported or set up at first use does not count
        row.run(bench_of(replace(setting, shape=TINY, steps=4)))
    off: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        answers = time_round(setting, found, SUITE)
        for name in answers if REFERENCE in answers else ():
            parts = [torch.split(each, [len(each) - 2 * phi, phi, phi]) for each in (answers[name], answers[REFERENCE])]
            off[name] = [distance(one, other) for one, other in zip(*parts, strict=True)]
    if options.memory:
        measure_memory(setting, found, SUITE)
    sys.stdout.write(table(found, off) + "\n")
    rows = [{**asdict(entry), "off": off.get(name)} for name, entry in found.items()]
    return {"graph_mib": setting.graph_mib, "rows": rows}


def main() -> None:
    """Run from the command line."""
    parser = common_options(__doc__)
    parser.add_argument("--steps", type=int, default=15, help="N, the student's steps in an unroll")
    run_program(parser.parse_args(), SUITE, measure)


if __name__ == "__main__":
    main()
