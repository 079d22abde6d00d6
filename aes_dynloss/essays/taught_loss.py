"""The loss of an essay run and who steers it: a schedule, a teacher that learns, or one that was taught before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.finetune_config import FinetuneConfig
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.loss_spec import BilinearSpec, LossSpec, MixtureSpec, NetworkSpec, numbers_of, settled
from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.teachers.attention import AttentionTeacher, TaughtPolicy
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig, FrozenTeacherConfig
from aes_dynloss.teaching.teachers.controls import RandomPolicy, frozen_mean
from aes_dynloss.teaching.teachers.loss_network_teacher import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.training.batching import Examples, total_steps
from aes_dynloss.training.episodes import Episodes, Taught
from aes_dynloss.training.loop import NO_TEACHER, TeacherUpdate
from aes_dynloss.training.loss_history import History, answers_over, thinned
from aes_dynloss.training.loss_network_update import LossNetworkUpdate
from aes_dynloss.training.loss_plots import write_loss_plots
from aes_dynloss.training.teacher_folder import PHI, read_teacher, write_teacher


@dataclass(frozen=True)
class SteeredLoss:
    """A loss whose coefficients change.

    Args:
        loss: The loss.
        policy: Who answers its coefficients.
        update: Who moves the policy while the student trains.
        write: Writes the teacher into a folder; nothing where there is none that learnt.
        remembered: What the coefficients were over the run, where they cannot be asked of the policy again.
    """

    loss: DynamicLoss
    policy: LossPolicy
    update: TeacherUpdate
    write: Callable[[Path], None] = lambda _: None
    remembered: Callable[[], History] | None = None

    def plot(self, folder: Path, log: Path) -> None:
        """Draw how the loss changed over a run.

        Args:
            folder: Where the pictures go.
            log: The run's metrics.jsonl.
        """
        history = answers_over(self.policy, log) if self.remembered is None else self.remembered()
        write_loss_plots(folder, self.loss, history, log)


@dataclass(frozen=True)
class Steering:
    """What building a steered loss reads.

    Args:
        accelerator: The run's.
        config: The run's configuration.
        model: The scorer, untrained.
        train: Training essays.
        teacher_dev: Essays on which a teacher's gradient is taken.
        measure: Measures the scorer as it then is on dev.
        select_by: The measure that chooses.
        folder: The run's folder.
        resume: Whether to go on with what is there.
    """

    accelerator: Accelerator
    config: FinetuneConfig
    model: ScoringModel
    train: Examples
    teacher_dev: Examples
    measure: Callable[[], Mapping[str, float]]
    select_by: str
    folder: Path
    resume: bool

    def build(self) -> SteeredLoss:
        """The loss as the configuration says; a teacher of the kind dlf learns now.

        Raises:
            DataError: A teacher is to learn and there are no essays for it.
            ConfigError: The teacher does not fit the scorer.
        """
        teacher = self.config.teacher
        if teacher is None:
            return SteeredLoss(*self.config.loss.build(), NO_TEACHER)
        self.model.to(self.accelerator.device)
        if isinstance(teacher, FrozenTeacherConfig):
            spec, policy = read_teacher(user_path(teacher.folder, "teacher.from"), self.accelerator.device)
            self._check_fits(spec)
            return SteeredLoss(spec.build(), policy, NO_TEACHER)
        if len(self.teacher_dev) == 0:
            raise DataError(
                "A teacher learns on essays of its own, and there are none. Set data.split.teacher_dev_fraction, such "
                "as 0.25 of train, or add teacher_dev_ids.txt to data.split.folds_dir."
            )
        return self._dlf(teacher) if isinstance(teacher, DlfConfig) else self._dln(teacher)

    def _dlf(self, config: DlfConfig) -> SteeredLoss:
        spec = self._dlf_spec(config)
        loss, seed = spec.build(), self.config.training.seed
        teacher = AttentionTeacher(spec.neutral(), spec.blocks, positive=spec.positive, keys=config.keys, seed=seed).to(
            self.accelerator.device
        )
        episodes = Episodes(
            self.accelerator,
            self.model,
            loss,
            teacher,
            self.train,
            self.teacher_dev,
            settled(config.measure),
            config,
            self.config.training,
        )
        taught = episodes.run(self.measure, select_by=self.select_by, folder=self.folder, resume=self.resume)
        policy = _controlled(config, spec, teacher, taught, seed)
        return SteeredLoss(loss, policy, NO_TEACHER, lambda f: write_teacher(f, "dlf", spec, teacher.state_dict()))

    def _dln(self, config: DlnConfig) -> SteeredLoss:
        form: Literal["scores", "distribution"] = "scores" if self.config.model.head == "regression" else "distribution"
        spec = NetworkSpec(
            form=form, width=config.width, hidden=config.hidden, plain=config.plain, smooth=config.smooth
        )
        loss, device = spec.build(), self.accelerator.device
        generator = torch.Generator().manual_seed(self.config.training.seed)
        phi = loss.start(generator, silent=config.silent_start).to(device)
        network = build_coordinate_teacher(config.teacher, self.config.training.seed).to(device)
        teacher = LossNetworkTeacher(
            phi, network, step_size=config.step_size, learning_rate=config.learning_rate, memory_span=config.memory_span
        )
        update = LossNetworkUpdate(
            self.accelerator,
            self.model,
            loss,
            teacher,
            self.teacher_dev,
            total_steps(self.train, self.config.training),
            settled(config.measure),
            config,
            self.config.training,
        )

        def write(folder: Path) -> None:
            weights: dict[str, Tensor] = {f"network.{n}": t for n, t in teacher.network.state_dict().items()}
            write_teacher(folder, "dln", spec, {PHI: teacher.phi, **weights})

        return SteeredLoss(loss, teacher, update, write, lambda: thinned(update.history))

    def _dlf_spec(self, config: DlfConfig) -> MixtureSpec | BilinearSpec:
        if self.config.model.head != "regression":
            return BilinearSpec(classes=self.model.head.points, floor=config.floor, bins=config.bins)
        terms = numbers_of(self.config.loss.terms)
        if terms is None:
            raise ConfigError("loss.terms: a teacher starts from plain numbers; leave schedules and `rest` out.")
        return MixtureSpec(terms=terms, standardise=self.config.loss.standardise)

    def _check_fits(self, spec: LossSpec) -> None:
        head = self.config.model.head
        needs = "regression" if isinstance(spec, MixtureSpec) else "softmax or ordinal"
        if isinstance(spec, NetworkSpec):
            needs = "regression" if spec.form == "scores" else "softmax or ordinal"
        if (head == "regression") != (needs == "regression"):
            raise ConfigError(f"teacher.from: that teacher steers scorers with model.head {needs}, here it is {head}.")
        if isinstance(spec, BilinearSpec) and spec.classes != self.model.head.points:
            raise ConfigError(
                f"teacher.from: that teacher knows {spec.classes} score points, this scorer has "
                f"{self.model.head.points}. Use it with prompts of the same range."
            )


def _controlled(
    config: DlfConfig, spec: MixtureSpec | BilinearSpec, teacher: AttentionTeacher, taught: Taught, seed: int
) -> LossPolicy:
    if config.control == "frozen_mean":
        return frozen_mean(taught.coefficients)
    if config.control == "random":
        return RandomPolicy(taught.coefficients, spec.neutral(), positive=spec.positive, seed=seed)
    return TaughtPolicy(teacher)
