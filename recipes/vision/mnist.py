"""MNIST with labels that are misread: grids whose arms are tuned on dev, their table, and pictures of what was taught.

    python recipes/vision/mnist.py run [STUDENT_LABELS ...] -o runs/vision_mnist      # resumed where it was stopped
    python recipes/vision/mnist.py collect [STUDENT_LABELS ...] -o runs/vision_mnist  # results and pictures of them

A grid, such as mlp_zero40, is `grids/mnist.yaml` on one student and one kind of labels. Each arm is first run at four
rates with seed 0, and at the next one as long as the lowest or the highest is the best; dev chooses one, and the seeds
are made five. A rate at which the training runs away counts as the worst. Of L2T-DLF the teacher (_taught) learns at
half the rate that cross-entropy chose and then steers fresh students, frozen, whose rate dev chooses as for all others;
then at half of the next lower ones, as long as dev of those that it steers is better.
Where a training runs away at the rate that was chosen, all else is run before the command fails and names those runs.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click
import torch
from grid import HERE, RAN_AWAY, Arm, GridConfig, VisionCell, cells_of, results, teaches
from label_noise import NOISE
from matplotlib.figure import Figure
from scipy.stats import t
from torch import Tensor
from vision_run import REPORT

from aes_dynloss.cli.main import log_to_stderr, run_command
from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import ConfigError, TrainingError
from aes_dynloss.plot_style import empty_figure, plot_style
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.training.grid import run_in_turn
from aes_dynloss.training.run_folder import TEACHER, write_json
from aes_dynloss.training.teacher_folder import read_teacher

logger = logging.getLogger("aes_dynloss.vision")

GRID = HERE / "grids" / "mnist.yaml"
RESULTS = HERE / "results"
STUDENTS = ("mlp", "lenet")
GRIDS = tuple(f"{student}_{labels}" for student in STUDENTS for labels in ("zero40", "pair45", "clean"))
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FIRST_TRIED = RATES[2:6]
TUNED_ON = 1  # seeds, from 0 on
CONTROL, DLF = "cross_entropy", "l2t_dlf_"
MATRIX = "l2t_dlf_forward_taught"


def whole_grid() -> GridConfig:
    """The grid of all students and labels, its arms at no rate of their own."""
    return validate(GridConfig, read_mapping(GRID), GRID.name)


def grid_of(name: str, arms: Mapping[str, Arm], **changes: object) -> GridConfig:
    """The grid of a student and a kind of labels, with some arms instead of its own."""
    student, labels = name.split("_")
    grid = whole_grid()
    sets = [*grid.sets, f"model={{kind: {student}}}", f"data.labels={labels}"]
    return grid.model_copy(update={"sets": sets, "student": student, "arms": dict(arms), **changes})


def at(arm: str, rate: float) -> str:
    """The name of an arm at a rate."""
    return f"{arm}-{rate:g}"


def at_rate(arm: Arm, rate: float) -> Arm:
    """An arm at a rate of the student."""
    sets = [*arm.sets, f"training.learning_rate={rate:g}", f"training.head_learning_rate={rate:g}"]
    return arm.model_copy(update={"sets": sets})


def to_try(known: Mapping[float, float]) -> list[float]:
    """Rates that are still to be tried: the first four, then those next to the best; of equal ones the lowest is best.

    Args:
        known: Dev by rate, of those that were tried, see :func:`tried`.

    Examples:
        >>> to_try({0.01: 0.9, 0.03: 0.8, 0.1: 0.7, 0.3: 0.2}), to_try({0.01: 0.8, 0.03: 0.9, 0.1: 0.7, 0.3: 0.2})
        ([0.003], [])
    """
    if missing := [rate for rate in FIRST_TRIED if rate not in known]:
        return missing
    place = RATES.index(best_rate(known))
    return [rate for rate in RATES[max(place - 1, 0) : place + 2] if rate not in known]


def to_teach(known: Mapping[float, float], plain: float) -> float | None:
    """The rate of a teacher's students that is to be tried next; None where none is.

    Half the plain one, then half of those below it, one by one as long as dev is better than at all higher ones: where
    dev chose a plain rate at which the hypergradient is unsteady, half of it is no help.

    Args:
        known: By rate, of those that were tried, dev of the best of the students that the teacher then steered.
        plain: The rate of plain training.

    Examples:
        >>> to_teach({}, 0.3), to_teach({0.15: 0.7}, 0.3), to_teach({0.15: 0.7, 0.05: 0.6}, 0.3)
        (0.15, 0.05, None)
    """
    lowest = min(known, default=math.inf)
    if any(dev > -math.inf and dev >= known[lowest] for rate, dev in known.items() if rate > lowest):
        return None
    return max((rate / 2 for rate in RATES if rate <= plain and rate / 2 not in known), default=None)


def best_rate(known: Mapping[float, float]) -> float:
    """The rate that is best on dev; of equal ones the lowest."""
    return max(sorted(known), key=lambda rate: known[rate])


def reports(folder: Path, seeds: int) -> list[dict[str, Any]]:
    """The reports of an arm's first seeds; empty where one is lacking."""
    paths = [folder / f"seed_{seed}" / REPORT for seed in range(seeds)]
    return [read_mapping(path) for path in paths] if all(path.exists() for path in paths) else []


def tried(root: Path, whole: GridConfig, arm: str) -> dict[float, float]:
    """Dev by rate, of the rates at which an arm was run; minus infinity where its training ran away."""
    known: dict[float, float] = {}
    for rate in RATES:
        folder = root / at(arm, rate)
        if ran_away(folder):
            known[rate] = -math.inf
        elif seeds := reports(folder, TUNED_ON):
            known[rate] = fmean(one["dev"][whole.measure] for one in seeds)
    return known


def ran_away(folder: Path) -> bool:
    """Whether the training of one of the seeds that tune an arm ran away."""
    return any((folder / f"seed_{seed}" / RAN_AWAY).exists() for seed in range(TUNED_ON))


def tuned(root: Path, whole: GridConfig) -> tuple[dict[str, Arm], dict[str, Arm]]:
    """The arms at the rates that dev chose, and what is to be run for the next one's.

    Teachers wait for the control's rate. In neither is an arm whose training ran away at every rate.

    Returns:
        By ARM-RATE, or ARM-RATE_OF_ITS_TEACHER-RATE: the arms of which no rate is left to try, at the best one, of
        equal ones the lowest, of a teacher's the highest, each after its teacher; and the first of the others at each
        rate that is to be tried.
    """
    arms: dict[str, Arm] = {}
    trials: dict[str, Arm] = {}
    control = tried(root, whole, CONTROL)
    for arm, settings in whole.arms.items():
        if settings.teacher_of is None and not teaches(arm):
            own, left = _alone(root, whole, arm, settings)
        elif settings.teacher_of is not None and not to_try(control):
            own, left = _steered(root, whole, arm, best_rate(control))
        else:
            continue
        arms |= own
        trials = trials or left
    return arms, trials


def _alone(root: Path, whole: GridConfig, arm: str, settings: Arm) -> tuple[dict[str, Arm], dict[str, Arm]]:
    """Of an arm whose own rate alone is to be chosen, itself at the best one, and what is to be tried."""
    known = tried(root, whole, arm)
    if rates := to_try(known):
        return {}, {at(arm, rate): at_rate(settings, rate) for rate in rates}
    best = best_rate(known)
    return {at(arm, best): at_rate(settings, best)} if known[best] > -math.inf else {}, {}


def _steered(root: Path, whole: GridConfig, arm: str, plain: float) -> tuple[dict[str, Arm], dict[str, Arm]]:
    """Of an arm whose teacher's rate is to be chosen too, both at their best ones, and what is to be tried."""
    teacher = str(whole.arms[arm].teacher_of)
    known, found = dict[float, float](), dict[float, dict[str, Arm]]()
    while (rate := to_teach(known, plain)) is not None:
        known[rate], found[rate] = -math.inf, {}
        if ran_away(root / at(teacher, rate)):
            continue
        taught = {at(teacher, rate): at_rate(whole.arms[teacher], rate)}
        steered = whole.arms[arm].model_copy(update={"teacher_of": at(teacher, rate)})
        own, trials = _alone(root, whole, at(arm, rate), steered)
        if trials:
            return {}, taught | trials
        if own:
            known[rate], found[rate] = max(tried(root, whole, at(arm, rate)).values()), taught | own
    return found[max(sorted(known, reverse=True), key=known.__getitem__)], {}


def run(name: str, root: Path) -> None:
    """Tune the arms of a grid one after the other, then run them with all seeds; what is done is not done again.

    Args:
        name: STUDENT_LABELS.
        root: Folder of the grid's runs.

    Raises:
        TrainingError: The control's training ran away at every rate; or all is done, but for runs of arms at their own
            rates whose training ran away, and for those that need them.
    """
    whole = whole_grid()
    arms, trials = tuned(root, whole)
    while trials:
        _run_arms(name, root, arms | trials, TUNED_ON)
        arms, trials = tuned(root, whole)
        if not any(arm.startswith(f"{CONTROL}-") for arm in (*arms, *trials)):
            raise TrainingError(f"{name}: the training of {CONTROL} ran away at every rate, and all arms need its own.")
    for seeds in range(TUNED_ON, whole.seeds + 1):  # so that what is there can be compared whenever it is stopped
        cells = _run_arms(name, root, arms, seeds)
    if lost := [str(cell.name) for cell in cells if cell.name in cell.ran_away]:
        raise TrainingError(
            f"{name}: training ran away in {', '.join(lost)}, see {RAN_AWAY} there; all else is done. `collect` leaves "
            "out arms that lack a seed. Remove such a folder, and it is run again."
        )


def _run_arms(name: str, root: Path, arms: Mapping[str, Arm], seeds: int) -> list[VisionCell]:
    """The runs of some arms, which are complete, or ran away, or need one that did."""
    cells = [replace(cell, may_run_away=True) for cell in cells_of(grid_of(name, arms, seeds=seeds), root.resolve())]
    for cell in cells:
        cell.check()
    run_in_turn(cells)
    return cells


def run_all(names: Sequence[str], root: Path) -> None:
    """Run several grids in turn.

    Args:
        names: STUDENT_LABELS of each.
        root: Folder of all grids' runs.

    Raises:
        TrainingError: All are run, but in some training ran away, see :func:`run`.
    """
    faults = []
    for name in names:
        try:
            run(name, root / name)
        except TrainingError as error:
            logger.warning("%s", error)
            faults.append(str(error))
    if faults:
        raise TrainingError("\n".join(faults))


def collected(name: str, root: Path, seeds: int) -> dict[str, Any]:
    """Figures of the arms of a grid that are tuned and have so many seeds; see :func:`grid.results`.

    Args:
        name: STUDENT_LABELS.
        root: Folder of the grid's runs.
        seeds: Seeds 0, 1, ... of each arm, at least 1.

    Returns:
        The figures, the arms by their names without the rates; empty where the control is not among them.
    """
    arms, _ = tuned(root, whole_grid())
    done = {arm: own for arm, own in arms.items() if reports(root / arm, seeds)}
    if not any(arm.startswith(f"{CONTROL}-") for arm in done):
        return {}
    grid = grid_of(name, done, seeds=seeds)
    figures = results(grid, cells_of(grid, root.resolve()))
    for values in figures["arms"].values():
        for key in ("beside", "teacher_of"):
            values[key] = values[key] and values[key].partition("-")[0]
    figures["arms"] = {arm.partition("-")[0]: values for arm, values in figures["arms"].items()}
    return figures


def table(figures: Mapping[str, Any]) -> str:
    """Errors on test in percent, mean (SD) over seeds; then by what part L2T-DLF has fewer (-), with 95 % intervals."""
    names = list(dict.fromkeys(arm for own in figures.values() for arm in own["arms"] if not teaches(arm)))
    titles = [
        f"{labels}: error in %, seeds: {own['grid']['seeds']} | {best_taught(own) or 'L2T-DLF'} beside it"
        for labels, own in figures.items()
    ]
    lines = [f"| loss | {' | '.join(titles)} |", f"|---|{'---:|' * 2 * len(titles)}"]
    for arm in names:
        cells = [cell for own in figures.values() for cell in _cells(own, arm)]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(own: Mapping[str, Any], arm: str) -> tuple[str, str]:
    if arm not in own["arms"]:
        return "", ""
    errors = errors_of(own, arm)
    shown = f"{100 * fmean(errors):.2f} ({100 * stdev(errors):.2f})" if len(errors) > 1 else f"{100 * errors[0]:.2f}"
    best = best_taught(own)
    if best in {None, arm}:
        return shown, ""
    change, low, high = relative_change(errors_of(own, best), errors)
    interval = "" if math.isnan(low) else f" ({100 * low:+.0f} to {100 * high:+.0f})"
    return shown, f"{100 * change:+.0f} %{interval}"


def best_taught(own: Mapping[str, Any]) -> str | None:
    """The form of L2T-DLF that is best on dev; None where none is there."""
    forms = [arm for arm in own["arms"] if arm.startswith(DLF) and not teaches(arm)]
    measure = own["grid"]["measure"]
    return max(forms, key=lambda arm: fmean(report[measure] for report in own["arms"][arm]["dev"]), default=None)


def errors_of(own: Mapping[str, Any], arm: str) -> list[float]:
    """Shares of test that each seed's student gets wrong."""
    return [1.0 - report[own["grid"]["measure"]] for report in own["arms"][arm]["test"]]


def relative_change(errors: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """By what part some errors differ from others in the geometric mean over seeds, with its 95 % interval (t).

    Args:
        errors: Of the seeds, above 0.
        others: Of the same seeds.

    Examples:
        >>> [round(value, 3) for value in relative_change([0.02, 0.04], [0.04, 0.08])]
        [-0.5, -0.5, -0.5]
    """
    ratios = [math.log(one / other) for one, other in zip(errors, others, strict=True)]
    centre = fmean(ratios)
    half = (
        float(t.ppf(0.975, len(ratios) - 1)) * stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
    )
    return math.expm1(centre), math.expm1(centre - half), math.expm1(centre + half)


def taught_matrix(arm: Path, seeds: int) -> Tensor:
    """C of the forward correction that an arm taught, half-way through a training, the mean over seeds, (K, K)."""
    matrices = []
    for seed in range(seeds):
        spec, policy = read_teacher(arm / f"seed_{seed}" / TEACHER, torch.device("cpu"))
        loss = spec.build()
        if not isinstance(loss, ForwardCorrection):
            raise ConfigError(f"{arm}: expected a forward correction, found {spec.family}. Run it again.")
        matrices.append(loss.matrices(policy.coefficients(StudentState(0.5, 0.5, 0.9)))[0])
    return torch.stack(matrices).mean(0)


def picture(matrices: Mapping[str, Tensor]) -> Figure:
    """How labels come about as a teacher learned it, above how they truly do.

    Args:
        matrices: C by kind of labels, (K, K) each.
    """
    figure = empty_figure("", 0.6 + 2.6 * len(matrices), 5.4)
    above, below = figure.subplots(2, len(matrices), squeeze=False)
    for upper, lower, (labels, matrix) in zip(above, below, matrices.items(), strict=True):
        for axes, values, words in ((upper, matrix.numpy(), "taught"), (lower, NOISE[labels](len(matrix)), "true")):
            axes.imshow(values, cmap="Greys", vmin=0.0, vmax=1.0, interpolation="nearest")
            axes.set_title(f"{labels}, {words}")
            axes.grid(visible=False)
            axes.set_xticks(range(len(matrix)))
            axes.set_yticks(range(len(matrix)))
            figure.colorbar(axes.images[0], ax=axes, shrink=0.8)
    above[0].set_ylabel("Truly")
    below[0].set_ylabel("Truly")
    below[0].set_xlabel("Read as")
    return figure


def collect(root: Path, seeds: int, names: Sequence[str] = GRIDS, into: Path = RESULTS) -> None:
    """Write results and picture of each student, of those grids whose control is tuned and has the seeds.

    A student's files are written anew: they hold these grids alone.

    Args:
        root: Folder of all grids' runs.
        seeds: Those that an arm must have to be shown.
        names: The grids.
        into: Where they are written.

    Raises:
        ConfigError: There is no seed, or no such grid.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, found {seeds}.")
    grids = {name: collected(name, root / name, seeds) for name in GRIDS if name in names}
    lacking = [name for name, own in grids.items() if not own]
    if len(lacking) == len(grids):
        raise ConfigError(
            f"{root} holds no {CONTROL} that is tuned and has {seeds} seeds, of the grids {', '.join(grids)}. Run "
            "`python recipes/vision/mnist.py run` first, or collect fewer --seeds."
        )
    if lacking:
        logger.info("Left out, as their %s has no %d seeds at a tuned rate: %s.", CONTROL, seeds, ", ".join(lacking))
    for student in STUDENTS:
        figures = {name.partition("_")[2]: own for name, own in grids.items() if own and name.startswith(student)}
        if figures:
            write_json(into / f"mnist_{student}.json", figures)
        matrices = {}
        for labels, own in figures.items():
            if MATRIX in own["arms"]:
                folder = root / f"{student}_{labels}"
                arm = next(arm for arm in tuned(folder, whole_grid())[0] if arm.startswith(f"{MATRIX}-"))
                matrices[labels] = taught_matrix(folder / arm, seeds)
        if matrices:
            with plot_style():
                figure = picture(matrices)
                figure.savefig(into / f"mnist_{student}.svg", metadata={"Date": None})


@click.command("mnist.py", help="Run grids of MNIST, or collect their results and pictures.")
@click.argument("command", type=click.Choice(["run", "collect"]))
@click.argument("grids", nargs=-1, metavar="[STUDENT_LABELS]...")
@click.option("--output-dir", "-o", type=click.Path(path_type=Path), required=True, help="Folder of all grids' runs.")
@click.option("--seeds", type=int, default=5, show_default=True, help="To collect: those that all arms shown have.")
def main(command: str, grids: tuple[str, ...], output_dir: Path, seeds: int) -> None:
    """Run one of the two commands, on all grids unless some are named."""
    if unknown := set(grids) - set(GRIDS):
        raise ConfigError(f"There is no grid {', '.join(sorted(unknown))}. Choose from {', '.join(GRIDS)}.")
    if command == "collect":
        collect(output_dir, seeds, grids or GRIDS)
    else:
        run_all(grids or GRIDS, output_dir)


if __name__ == "__main__":
    log_to_stderr(logging.INFO)
    sys.exit(run_command(main, "mnist.py"))
