"""Toy students under teachers that learn: episodes of L2T-DLF, and whole runs under L2T-DLN."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from toy_runs import Outcome, settings
from toy_student import CLASSES, ToyExamples, ToyStudent

from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.losses.loss_spec import BilinearSpec, MixtureSpec, NetworkSpec, fixed_objective
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig, MwnConfig
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.teaching.teachers.mwn import MetaWeightTeacher
from aes_dynloss.teaching.teachers.rewriting import RewritingTeacher
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.batching import total_steps
from aes_dynloss.training.episodes import TEACHING_LOG, Episodes, EpisodesState
from aes_dynloss.training.loop import NO_TEACHER, RunContext, fit
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.problem import BilevelProblem
from aes_dynloss.training.run_folder import CHECKPOINT, METRICS
from aes_dynloss.training.run_state import read_checkpoint, trained_state
from aes_dynloss.training.window_update import WindowUpdate

SPECS = {
    "mixture": MixtureSpec(terms={"mse": 1.0, "cross_entropy": 0.2}),
    "with stde": MixtureSpec(terms={"mse": 1.0, "stde": 0.2}),
    "bilinear": BilinearSpec(classes=CLASSES, floor=0.1, bins=12),
}
# Short windows, a small loss network that speaks from the start.
DLN = {"window": 3, "dev_batch": 9, "width": 4, "hidden": 2, "silent_start": False, "step_size": 0.05}
MWN = {"dev_batch": 9, "width": 6, "learning_rate": 0.05}
# The teacher's steps as published; tests of others say so.
ADAM = {"optimizer": "adam", "learning_rate": 0.01, "decay": 1.0, "keep": "last"}


class DoubleTeacher(AttentionTeacher):
    """In float64; it remembers the states that it was asked about, or answers for states from an earlier run."""

    def __init__(self, name: str, *, keys: int = 3, seed: int = 0) -> None:
        spec = SPECS[name]
        super().__init__(spec.neutral(), spec.blocks, positive=spec.positive, keys=keys, seed=seed)
        self.double()
        self.seen: list[Tensor] = []
        self.instead: list[Tensor] = []

    def forward(self, states: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            self.seen.append(states)
            states = self.instead[len(self.seen) - 1] if self.instead else states
        return super().forward(states.double())


def measure_of(
    accelerator: Accelerator, student: ToyStudent, before: Callable[[], None] = lambda: None
) -> Callable[[], dict[str, float]]:
    """One minus the squared error on dev."""
    dev = ToyExamples(11, seed=1)
    targets, groups = torch.from_numpy(dev.targets), torch.from_numpy(dev.groups)

    def measure() -> dict[str, float]:
        before()
        scores = student.elements(predict(accelerator, student, dev), targets, groups)
        return {"one_minus_mse": 1.0 - float((scores.scores - scores.targets).square().mean())}

    return measure


@dataclass
class Lesson:
    """What some episodes left."""

    taught: EpisodesState
    teacher: DoubleTeacher
    log: list[dict[str, Any]]

    @property
    def gradient(self) -> Tensor:
        """Of the teacher's weights, in the last episode."""
        return torch.cat([parameter.grad.reshape(-1) for parameter in self.teacher.parameters()])


def teach(
    folder: Path,
    *,
    loss: str = "mixture",
    student: ToyStudent | None = None,
    teacher: DoubleTeacher | None = None,
    dlf: Mapping[str, Any] = {},
    train: ToyExamples | None = None,
    resume: bool = False,
    before_measure: Callable[[], None] = lambda: None,
    change: Callable[[Episodes], None] = lambda _: None,
    **changed: Any,
) -> Lesson:
    """Some episodes of a toy student."""
    training = settings(**changed)
    accelerator = build_accelerator(training)
    student = student or ToyStudent()
    teacher = teacher or DoubleTeacher(loss)
    config = DlfConfig.model_validate({"kind": "dlf", "episodes": 2, **ADAM, **dlf})
    folder.mkdir(parents=True, exist_ok=True)
    measure = measure_of(accelerator, student, before_measure)
    problem = BilevelProblem(
        accelerator, student, SPECS[loss].build(), ToyExamples(13, seed=2),
        fixed_objective(config.measure), config.hypergradient, training,
    )  # fmt: skip
    context = RunContext(accelerator, training, folder, measure, "one_minus_mse", resume)
    episodes = Episodes(context, problem, teacher, train or ToyExamples(37), config)
    change(episodes)
    taught = episodes.run()
    lines = (folder / TEACHING_LOG).read_text(encoding="utf-8").splitlines()
    return Lesson(taught, teacher, [json.loads(line) for line in lines])


@dataclass
class NetworkRun:
    """What a run under a loss that is rewritten left."""

    outcome: Outcome
    update: WindowUpdate
    teacher: Any
    checkpoint: dict[str, Any]

    @property
    def lines(self) -> dict[int, dict[str, float]]:
        """The teacher's lines, by step."""
        return {line["step"]: line["teacher"] for line in self.outcome.log if "teacher" in line}


def network_fit(
    folder: Path,
    *,
    form: Any = "scores",
    student: ToyStudent | None = None,
    dln: Mapping[str, Any] = {},
    train: ToyExamples | None = None,
    resume: bool = False,
    before_measure: Callable[[], None] = lambda: None,
    mwn: Mapping[str, Any] | None = None,
    policy: Callable[[Any], Any] = lambda teacher: teacher,
    learns: bool = True,
    clock: Callable[[], float] = time.monotonic,
    **changed: Any,
) -> NetworkRun:
    """Train a toy student under a loss network whose teacher learns, or with ``mwn`` under Meta-Weight-Net.

    All in float64.
    """
    training = settings(**changed)
    accelerator = build_accelerator(training)
    student, train = student or ToyStudent(), train or ToyExamples(37)
    config: DlnConfig | MwnConfig
    if mwn is None:
        config = DlnConfig.model_validate({"kind": "dln", **DLN, **dln})
    else:
        config = MwnConfig.model_validate({"kind": "mwn", **MWN, **mwn})
    loss, teacher = _loss_network(form, config) if isinstance(config, DlnConfig) else _meta_weights(form, config)
    problem = BilevelProblem(
        accelerator,
        student,
        loss,
        ToyExamples(13, seed=2),
        fixed_objective(config.measure or "mse"),
        config.hypergradient,
        training,
    )
    update = WindowUpdate(problem, teacher, total_steps(train, training), config)
    folder.mkdir(parents=True, exist_ok=True)
    measure = measure_of(accelerator, student, before_measure)
    context = RunContext(accelerator, training, folder, measure, "one_minus_mse", resume, clock)
    result = fit(context, student, train, loss, policy(teacher), update if learns else NO_TEACHER)
    log = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    outcome = Outcome(result, trained_state(student), log)
    return NetworkRun(outcome, update, teacher, read_checkpoint(folder / CHECKPOINT))


def _loss_network(form: Any, config: DlnConfig) -> tuple[DynamicLoss, RewritingTeacher]:
    spec = NetworkSpec(form=form, width=config.width, hidden=config.hidden, plain=config.plain, smooth=config.smooth)
    loss = spec.build()
    phi = loss.start(torch.Generator().manual_seed(0), silent=config.silent_start).double()
    network = build_coordinate_teacher(config.teacher, 0).double()
    return loss, LossNetworkTeacher(
        phi, network, step_size=config.step_size, learning_rate=config.learning_rate, memory_span=config.memory_span
    )


def _meta_weights(form: Any, config: MwnConfig) -> tuple[DynamicLoss, RewritingTeacher]:
    loss = MetaWeightLoss({"mse" if form == "scores" else "cross_entropy": 1.0}, width=config.width)
    return loss, MetaWeightTeacher(
        loss.start(torch.Generator().manual_seed(0)).double(),
        optimizer=config.optimizer, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
    )  # fmt: skip


def same_teachers(one: torch.nn.Module, other: torch.nn.Module, tolerance: float = 0.0) -> None:
    """Fail unless both have the same weights, to the bit or within an absolute tolerance."""
    for (name, found), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def replaying(history: Sequence[tuple[float, Tensor]], total: int) -> Callable[[Any], Any]:
    """A policy that answers in every step what its window's second run had.

    Args:
        history: Of the update, without its start.
        total: Steps of the run.
    """

    class Replaying:
        def __init__(self, teacher: Any) -> None:
            pass

        def coefficients(self, state: StudentState) -> Tensor:
            step = round(state.progress * total)
            return next(phi for progress, phi in history if round(progress * total) > step)

    return Replaying
