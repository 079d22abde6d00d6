"""Measure what a hypergradient costs: time in plain training steps a step, and peak memory, of every estimator.

    python recipes/benchmarks/hypergradient_cost.py --shape small --steps 10,40 --output costs.json

A row's cost is the time of its T steps (forwards, dev pass, backwards) over T plain steps, which are timed just before
and after it; medians over rounds. On a CPU the processor time stands beside the clock's, for machines that are shared.
Memory is the peak above an interpreter that has imported everything, in a process of its own for every row.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import torch
from hypergradient_rows import MIB, ROWS, Bench, Row, Setting, Suite, plain
from hypergradient_students import SHAPES, TINY, TINY_IMAGES, Shape
from result_table import result_table
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))
from peak_memory import resident

logger = logging.getLogger("hypergradient_cost")

# Plain steps that are timed on either side of a row.
PLAIN_STEPS = 5
SUITE = Suite(__file__, Bench, ROWS)
COLUMNS = ("T", "row", "cost", "by CPU time", "goal", "peak MiB", "x plain", "goal MiB", "off exact")


@dataclass
class Found:
    """What was measured of a row.

    Args:
        steps: T.
        row: Its name.
        costs: Time a step by the clock, in plain steps, of every round.
        cpu_costs: The same by processor time.
        mib: Peak memory.
        off: Distance of its hypergradient from the exact one, as a part of it.
        failed: Why there is no figure.
    """

    steps: int
    row: str
    costs: list[float] = field(default_factory=list)
    cpu_costs: list[float] = field(default_factory=list)
    mib: float | None = None
    off: float | None = None
    failed: str = ""


def timed(run: Callable[[Bench], Tensor | None], bench: Bench) -> tuple[Tensor, Tensor | None]:
    """Seconds a step by the clock and by the processor, and what the run answers."""
    gc.collect()
    torch.manual_seed(1)
    begun = _clocks(bench.device)
    answer = run(bench)
    return (_clocks(bench.device) - begun) / bench.steps, answer


def _clocks(device: torch.device) -> Tensor:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)


def time_round(setting: Setting, found: dict[str, Found], suite: Suite) -> dict[str, Tensor]:
    """Time every row once, between plain steps; what the rows answered."""
    answers: dict[str, Tensor] = {}
    few = replace(setting, steps=min(PLAIN_STEPS, setting.steps))
    before, _ = timed(plain, suite.bench(few))
    for name, entry in found.items():
        if entry.failed:
            continue
        try:
            seconds, answer = timed(suite.rows[name].run, suite.bench(setting))
        except Exception as error:  # a library that fails on this torch must not end the table
            entry.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]
            continue
        after, _ = timed(plain, suite.bench(few))
        clock, cpu = (2 * seconds / (before + after)).tolist()
        entry.costs.append(clock)
        entry.cpu_costs.append(cpu)
        before = after
        if answer is not None:
            answers[name] = answer
        logger.info("T = %d, %s: %.2f by the clock, %.2f by CPU time", setting.steps, name, clock, cpu)
    return answers


def distance(answer: Tensor, reference: Tensor) -> float:
    """How far an answer lies from the reference, as a part of it."""
    return float((answer - reference).norm() / reference.norm())


def peak_in_child(setting: Setting, name: str, program: str) -> float:
    """Peak memory of a row in MiB, in a process of its own, where the benchmark's program runs.

    Large blocks go straight back to the system there, so that the peak is not blurred by what the allocator holds back.
    """
    order = json.dumps({"setting": asdict(setting), "row": name})
    command = [sys.executable, program, "--child", order]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return float(done.stdout.splitlines()[-1])


def peak_here(order: str, suite: Suite) -> float:
    """Peak memory of a row in MiB, in this process; a tiny student goes first, so that all is imported."""
    torch.set_num_threads(1)
    given = json.loads(order)
    setting = Setting(**{**given["setting"], "shape": Shape(**given["setting"]["shape"])})
    run = suite.rows[given["row"]].run
    tiny = TINY_IMAGES if setting.shape.kind == "residual" else TINY
    run(suite.bench(replace(setting, shape=tiny, steps=4)))
    gc.collect()
    cuda = setting.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        idle = resident("VmRSS")
    run(suite.bench(setting))
    return ((torch.cuda.max_memory_allocated() if cuda else resident("VmHWM")) - idle) / MIB


def measure_memory(setting: Setting, found: dict[str, Found], suite: Suite) -> None:
    """Peak memory of every row."""

    def peak(entry: Found) -> None:
        few = replace(setting, steps=min(setting.steps, 10)) if suite.rows[entry.row].few else setting
        try:
            entry.mib = peak_in_child(few, entry.row, suite.program)
        except RuntimeError as error:
            entry.failed = entry.failed or str(error)[:100]
        logger.info("T = %d, %s: peak of %s MiB", setting.steps, entry.row, entry.mib and round(entry.mib))

    workers = 1 if setting.device.startswith("cuda") else 2
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(peak, [entry for entry in found.values() if not entry.failed]))


def left_out(row: Row, setting: Setting) -> str:
    """Why a row is not measured; empty if it is."""
    if row.library and importlib.util.find_spec(row.library) is None:
        return f"{row.library} is not installed"
    needed = row.graphs * setting.steps * setting.graph_mib
    if needed > 0.4 * _free_mib(setting.device):
        return f"its graphs would take {needed / 1024:.1f} GiB"
    return ""


def _free_mib(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0] / MIB
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def table(found: list[Found], copy_mib: float) -> str:
    """The figures as a table, with the goals for a CPU."""
    lines = []
    for entry in found:
        row = ROWS[entry.row]
        least = next(other.mib for other in found if other.row == "plain" and other.steps == entry.steps)
        goal = 3.2 * least + row.copies(entry.steps) * copy_mib if row.copies and least else None
        costs = (median(entry.costs), median(entry.cpu_costs)) if entry.costs else (None, None)
        ratio = entry.mib / least if entry.mib and least else None
        figures = [(costs[0], ".2f"), (costs[1], ".2f"), (row.cost, ".2f"), (entry.mib, ".0f")]
        figures += [(ratio, ".1f"), (goal, ".0f"), (entry.off, ".0e")]
        cells = ["" if figure is None else format(figure, form) for figure, form in figures]
        lines.append([str(entry.steps), entry.row, *cells, *([entry.failed] if entry.failed else [])])
    return result_table(COLUMNS, lines, words=2)


def _is_wanted(name: str, row: Row, options: argparse.Namespace) -> bool:
    wanted = options.rows.split(",") if options.rows else [*ROWS]
    return name == "plain" or (name in wanted and (options.libraries or not row.library))


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All rows for every T."""
    setting = Setting(SHAPES[options.shape], 1, options.device, options.precision, options.attention)
    bench = Bench(setting)
    setting = replace(setting, graph_mib=bench.graph_size())
    copy_mib = bench.start.weights.nbytes / MIB
    logger.info("%.2f M weights, a step's graph %.0f MiB", copy_mib / 4 * MIB / 1e6, setting.graph_mib)
    del bench
    everything: list[Found] = []
    for steps in map(int, options.steps.split(",")):
        here = replace(setting, steps=steps)
        names = [name for name, row in ROWS.items() if _is_wanted(name, row, options)]
        found = {name: Found(steps, name, failed=left_out(ROWS[name], here)) for name in names}
        everything += found.values()
        for _ in range(options.rounds):
            answers = time_round(here, found, SUITE)
            for name in answers if "exact" in answers else ():
                found[name].off = distance(answers[name], answers["exact"])
        if options.memory:
            measure_memory(here, found, SUITE)
    sys.stdout.write(table(everything, copy_mib) + "\n")
    facts = {"copy_mib": copy_mib, "graph_mib": setting.graph_mib}
    return {**facts, "rows": [asdict(entry) for entry in everything]}


def common_options(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="on a CPU; more wait for one another on a shared one")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="whether it is measured")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def run_program(
    options: argparse.Namespace, suite: Suite, measured: Callable[[argparse.Namespace], dict[str, object]]
) -> None:
    """Measure, or answer the peak memory of one row."""
    if options.child:
        sys.stdout.write(f"{peak_here(options.child, suite)}\n")
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    settings = {name: value for name, value in vars(options).items() if name not in {"output", "child"}}
    result = {"torch": torch.__version__, **settings, **measured(options)}
    if options.output:
        options.output.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = common_options(__doc__)
    parser.add_argument("--steps", default="10", help="T, or several with commas between them")
    parser.add_argument("--rows", help="some rows alone, by name, with commas between them")
    parser.add_argument("--libraries", action="store_true", help="torchopt and higher too, where they are installed")
    run_program(parser.parse_args(), SUITE, measure)


if __name__ == "__main__":
    main()
