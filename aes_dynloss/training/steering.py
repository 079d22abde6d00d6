"""The loss of a run and who steers it: a schedule, a teacher that learns, or one that was taught before.

Teacher folders: teacher.json and teacher.safetensors. Data, never code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aes_dynloss.configfile import ConfigModel, read_mapping, user_path, validate
from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.loss_spec import BilinearSpec, LossSpec, MixtureSpec, NetworkSpec, fixed_objective, numbers_of
from aes_dynloss.teaching.policies import LossConfig, LossPolicy
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig, FrozenTeacherConfig, TeacherConfig
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, FixedPolicy, RandomPolicy, TaughtPolicy, frozen_mean
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.training.batching import Examples, total_steps
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.episodes import Episodes, Taught
from aes_dynloss.training.loop import NO_TEACHER, TeacherUpdate
from aes_dynloss.training.loss_network_update import LossNetworkUpdate
from aes_dynloss.training.plots import History, answers_over, thinned, write_loss_plots
from aes_dynloss.training.run_folder import write_json

TEACHER = "teacher.json"
WEIGHTS = "teacher.safetensors"
PHI = "phi"


class SavedTeacher(ConfigModel):
    """The content of teacher.json."""

    format: Literal["aes_dynloss.teacher"] = "aes_dynloss.teacher"
    version: Literal[1] = 1
    kind: Literal["dlf", "dln"] = Field(description="How it was taught.")
    loss: LossSpec = Field(description="The family of losses that it steers.")
    sha256: str = Field(description="Digest of teacher.safetensors.")


def write_teacher(folder: Path, kind: Literal["dlf", "dln"], spec: LossSpec, weights: dict[str, Tensor]) -> None:
    """Write a teacher.

    Args:
        folder: Where to; made if it is not there.
        kind: How it was taught.
        spec: The losses that it steers.
        weights: dlf: the attention teacher's. dln: the loss network as ``phi``, and the recurrent teacher's.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    with atomic_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    saved = SavedTeacher(kind=kind, loss=spec, sha256=hashlib.sha256(content).hexdigest())
    write_json(folder / TEACHER, saved.model_dump(mode="json"))


def read_teacher(folder: Path, device: torch.device) -> tuple[LossSpec, LossPolicy]:
    """A frozen teacher: its losses, and the policy that it is now.

    Args:
        folder: A folder that :func:`write_teacher` wrote.
        device: Where the student is.

    Raises:
        ConfigError: There is no such folder.
        CheckpointError: It is damaged.
    """
    if not (folder / TEACHER).is_file():
        raise ConfigError(f"teacher.from: {folder} holds no {TEACHER}. Name the folder teacher/ of a run that taught.")
    try:
        saved = validate(SavedTeacher, read_mapping(folder / TEACHER), str(folder / TEACHER))
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != saved.sha256:
            raise CheckpointError(f"{folder / WEIGHTS} is not the file that was written. Copy the folder again, whole.")
        weights = load(content)
        return saved.loss, _policy(saved, weights, device)
    except CheckpointError:
        raise
    except (ConfigError, OSError, SafetensorError, LookupError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The teacher in {folder} cannot be read: {error}. Copy the folder again, whole."
        ) from None


def _policy(saved: SavedTeacher, weights: dict[str, Any], device: torch.device) -> LossPolicy:
    if isinstance(saved.loss, NetworkSpec):
        return FixedPolicy(weights[PHI].to(device))
    keys = weights["keys"].shape[1]
    teacher = AttentionTeacher(saved.loss.neutral(), saved.loss.blocks, positive=saved.loss.positive, keys=keys)
    teacher.load_state_dict(weights)
    return TaughtPolicy(teacher.to(device))


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


def teach(
    accelerator: Accelerator,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    loss: LossConfig,
    teacher: TeacherConfig | None,
    config: TrainingConfig,
    *,
    classes: int | None,
    measure: Callable[[], Mapping[str, float]],
    select_by: str,
    folder: Path,
    resume: bool = False,
) -> SteeredLoss:
    """The loss that :func:`aes_dynloss.training.loop.fit` is to lower, with who steers it.

    A teacher of the kind dlf learns now, from episodes of the student; one of the kind dln will while ``fit`` runs.

    Args:
        accelerator: Devices, processes and precision.
        student: The student, untrained; it is left so.
        train: Training examples.
        teacher_dev: Examples of the teacher's own, disjoint from all others; may be empty where none learns.
        loss: The loss without a teacher; with one of the kind dlf for a student of scores, the mixture that it steers.
        teacher: The teacher; None for a schedule.
        config: The student's settings.
        classes: Classes or score points of the student's distribution; None for a student of scores.
        measure: Measures the student as it then is on dev.
        select_by: The measure that a teacher sees.
        folder: The run's folder.
        resume: Whether to go on with what is there.

    Raises:
        DataError: A teacher is to learn and there are no examples for it.
        ConfigError: The teacher does not fit the student.
    """
    if teacher is None:
        return SteeredLoss(*loss.build(), NO_TEACHER)
    student.as_module().to(accelerator.device)
    if isinstance(teacher, FrozenTeacherConfig):
        spec, policy = read_teacher(user_path(teacher.folder, "teacher.from"), accelerator.device)
        _check_fits(spec, classes)
        return SteeredLoss(spec.build(), policy, NO_TEACHER)
    if len(teacher_dev) == 0:
        raise DataError(
            "A teacher learns on examples of its own, and there are none. Set some of train aside by "
            "data.teacher_dev_fraction."
        )
    lesson = _Learning(accelerator, student, train, teacher_dev, config, classes, folder)
    if isinstance(teacher, DlfConfig):
        return lesson.dlf(teacher, loss, measure, select_by, resume=resume)
    return lesson.dln(teacher)


@dataclass(frozen=True)
class _Learning:
    """A student, and what a teacher learns from it; see :func:`teach`."""

    accelerator: Accelerator
    student: Student
    train: Examples
    teacher_dev: Examples
    config: TrainingConfig
    classes: int | None
    folder: Path

    def dlf(
        self,
        teacher: DlfConfig,
        loss: LossConfig,
        measure: Callable[[], Mapping[str, float]],
        select_by: str,
        *,
        resume: bool,
    ) -> SteeredLoss:
        """L2T-DLF: the teacher learns now."""
        spec, seed = _dlf_spec(teacher, loss, self.classes), self.config.seed
        steered = spec.build()
        module = AttentionTeacher(spec.neutral(), spec.blocks, positive=spec.positive, keys=teacher.keys, seed=seed).to(
            self.accelerator.device
        )
        episodes = Episodes(
            self.accelerator,
            self.student,
            steered,
            module,
            self.train,
            self.teacher_dev,
            fixed_objective(teacher.measure),
            teacher,
            self.config,
        )
        taught = episodes.run(measure, select_by=select_by, folder=self.folder, resume=resume)
        policy = _controlled(teacher, spec, module, taught, seed)
        return SteeredLoss(steered, policy, NO_TEACHER, lambda f: write_teacher(f, "dlf", spec, module.state_dict()))

    def dln(self, teacher: DlnConfig) -> SteeredLoss:
        """L2T-DLN: the teacher learns between the student's steps."""
        spec = NetworkSpec(
            form="scores" if self.classes is None else "distribution",
            width=teacher.width,
            hidden=teacher.hidden,
            plain=teacher.plain,
            smooth=teacher.smooth,
        )
        loss, device, seed = spec.build(), self.accelerator.device, self.config.seed
        phi = loss.start(torch.Generator().manual_seed(seed), silent=teacher.silent_start).to(device)
        network = LossNetworkTeacher(
            phi,
            build_coordinate_teacher(teacher.teacher, seed).to(device),
            step_size=teacher.step_size,
            learning_rate=teacher.learning_rate,
            memory_span=teacher.memory_span,
        )
        update = LossNetworkUpdate(
            self.accelerator,
            self.student,
            loss,
            network,
            self.teacher_dev,
            total_steps(self.train, self.config),
            fixed_objective(teacher.measure),
            teacher,
            self.config,
        )

        def write(folder: Path) -> None:
            weights: dict[str, Tensor] = {f"network.{n}": t for n, t in network.network.state_dict().items()}
            write_teacher(folder, "dln", spec, {PHI: network.phi, **weights})

        return SteeredLoss(loss, network, update, write, lambda: thinned(update.history))


def _dlf_spec(teacher: DlfConfig, loss: LossConfig, classes: int | None) -> MixtureSpec | BilinearSpec:
    if classes is not None:
        return BilinearSpec(classes=classes, floor=teacher.floor, bins=teacher.bins)
    terms = numbers_of(loss.terms)
    if terms is None:
        raise ConfigError("loss.terms: a teacher starts from plain numbers; leave schedules and `rest` out.")
    return MixtureSpec(terms=terms, standardise=loss.standardise)


def _check_fits(spec: LossSpec, classes: int | None) -> None:
    of_scores = isinstance(spec, MixtureSpec) or (isinstance(spec, NetworkSpec) and spec.form == "scores")
    if of_scores is not (classes is None):
        words = {True: "scores (model.head regression)", False: "a distribution (model.head softmax or ordinal)"}
        raise ConfigError(
            f"teacher.from: that teacher steers students that answer {words[of_scores]}, this one answers "
            f"{words[classes is None]}."
        )
    if isinstance(spec, BilinearSpec) and spec.classes != classes:
        raise ConfigError(
            f"teacher.from: that teacher knows {spec.classes} score points or classes, this student has {classes}. Use "
            "it with students of the same."
        )


def _controlled(
    config: DlfConfig, spec: MixtureSpec | BilinearSpec, teacher: AttentionTeacher, taught: Taught, seed: int
) -> LossPolicy:
    if config.control == "frozen_mean":
        return frozen_mean(taught.coefficients)
    if config.control == "random":
        return RandomPolicy(taught.coefficients, spec.neutral(), positive=spec.positive, seed=seed)
    return TaughtPolicy(teacher)
