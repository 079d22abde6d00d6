"""A student's training from its configuration: the loss under a schedule or a teacher, then the training loop.

A teacher that learned is saved as a folder of teacher.json and teacher.safetensors, which hold data, never code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aes_dynloss.configfile import ConfigModel, read_mapping, user_path, validate
from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.learned_loss import LearnedLoss
from aes_dynloss.teaching.loss_spec import (
    BilinearSpec,
    ForwardSpec,
    LossSpec,
    MetaWeightSpec,
    MixtureSpec,
    NetworkSpec,
    RaterWeightsSpec,
    SteeredSpec,
    fixed_objective,
)
from aes_dynloss.teaching.policies import LossConfig, LossPolicy
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.teachers.config import (
    DlfConfig,
    DlnConfig,
    FrozenTeacherConfig,
    GlcConfig,
    MwnConfig,
    TeacherConfig,
)
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, FixedPolicy, RandomPolicy, TaughtPolicy
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.teaching.teachers.mwn import MetaWeightTeacher
from aes_dynloss.training.batching import Examples, Rows, Subset, targets_and_groups, total_steps
from aes_dynloss.training.episodes import Episodes, in_pieces
from aes_dynloss.training.loop import NO_TEACHER, FitResult, RunContext, TeacherUpdate, fit
from aes_dynloss.training.loss_network_update import LossNetworkUpdate
from aes_dynloss.training.plots import History, answers_over, thinned, write_loss_plots
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.problem import BilevelProblem
from aes_dynloss.training.run_folder import FIRST_STAGE, METRICS, PLOTS, TEACHER, write_json
from aes_dynloss.training.run_state import load_trained_state, trained_state

TEACHER_CONFIG = "teacher.json"
TEACHER_WEIGHTS = "teacher.safetensors"
PHI = "phi"
TeacherKind = Literal["dlf", "dln", "mwn", "glc"]


class SavedTeacher(ConfigModel):
    """The content of teacher.json."""

    format: Literal["aes_dynloss.teacher"] = "aes_dynloss.teacher"
    version: Literal[1] = 1
    kind: TeacherKind = Field(description="The method that trained it.")
    loss: LossSpec = Field(description="The family of losses whose coefficients it returns.")
    pieces: int | None = Field(default=None, ge=1, description="dlf: stretches of a run that it is asked for.")
    sha256: str = Field(description="Digest of teacher.safetensors.")


def write_teacher(
    folder: Path,
    kind: TeacherKind,
    spec: LossSpec,
    weights: dict[str, Tensor],
    *,
    pieces: int | None = None,
) -> None:
    """Write a teacher.

    Args:
        folder: The folder, created if it is missing.
        kind: The method that trained it.
        spec: The losses whose coefficients it returns.
        weights: dlf: the attention teacher's. dln: the loss network as ``phi``, and the recurrent teacher's. mwn: the
            weighting network as ``phi``.
        pieces: Stretches of a run over which its coefficients stay the same; None: none.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    with atomic_file(folder / TEACHER_WEIGHTS) as temporary:
        temporary.write_bytes(content)
    saved = SavedTeacher(kind=kind, loss=spec, pieces=pieces, sha256=hashlib.sha256(content).hexdigest())
    write_json(folder / TEACHER_CONFIG, saved.model_dump(mode="json"))


def read_teacher(folder: Path, device: torch.device) -> tuple[LossSpec, LossPolicy]:
    """Read a frozen teacher: its family of losses, and its policy.

    Args:
        folder: A folder that :func:`write_teacher` wrote.
        device: The student's device.

    Raises:
        ConfigError: There is no such folder.
        CheckpointError: It is damaged.
    """
    if not (folder / TEACHER_CONFIG).is_file():
        raise ConfigError(
            f"teacher.from: {folder} holds no {TEACHER_CONFIG}. Name the folder teacher/ of a run that taught."
        )
    try:
        saved = validate(SavedTeacher, read_mapping(folder / TEACHER_CONFIG), str(folder / TEACHER_CONFIG))
        content = (folder / TEACHER_WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != saved.sha256:
            raise CheckpointError(
                f"{folder / TEACHER_WEIGHTS} is not the file that was written. Copy the folder again, whole."
            )
        weights = load(content)
        if isinstance(saved.loss, NetworkSpec | MetaWeightSpec | ForwardSpec):
            return saved.loss, FixedPolicy(weights[PHI].to(device))
        keys = weights["keys"].shape[1]
        teacher = AttentionTeacher(saved.loss.neutral(), saved.loss.blocks, positive=saved.loss.positive, keys=keys)
        teacher.load_state_dict(weights)
        return saved.loss, in_pieces(TaughtPolicy(teacher.to(device)), saved.pieces)
    except CheckpointError:
        raise
    except (ConfigError, OSError, SafetensorError, LookupError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The teacher in {folder} cannot be read: {error}. Copy the folder again, whole."
        ) from None


@dataclass(frozen=True)
class LossSetup:
    """A loss whose coefficients change, and what changes them.

    Args:
        loss: The loss.
        policy: Returns its coefficients.
        plain: The loss without a teacher; None for a schedule.
        update: Updates the policy while the student trains.
        write: Writes the teacher into a folder; does nothing without a teacher that learns.
        history: The coefficients over the run, where the policy cannot reproduce them.
    """

    loss: DynamicLoss
    policy: LossPolicy
    plain: DynamicLoss | None = None
    update: TeacherUpdate = NO_TEACHER
    write: Callable[[Path], None] = lambda _: None
    history: Callable[[], History] | None = None

    def plot(self, folder: Path, log: Path) -> None:
        """Plot how the loss changed over a run.

        Args:
            folder: Folder of the plots.
            log: The run's metrics.jsonl.
        """
        history = answers_over(self.policy, log) if self.history is None else self.history()
        write_loss_plots(folder, self.loss, history, log)


def train_student(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    loss: LossConfig,
    teacher: TeacherConfig | None,
    *,
    classes: int | None,
    raters: Sequence[str] = (),
    shared: Rows | None = None,
) -> FitResult:
    """Train a student under a schedule or a teacher; afterwards it has the weights of its best dev measure.

    The run's folder receives the teacher, if one learns, and plots of the loss. An L2T-DLF teacher learns first, in
    episodes that leave the student as it was; L2T-DLN and Meta-Weight-Net learn during ``fit``.

    Args:
        context: The run.
        student: The student, untrained.
        train: Training examples.
        teacher_dev: The teacher's examples, disjoint from all others; may be empty where none learns.
        loss: The loss without a teacher; for a student of scores under L2T-DLF, the mixture that it weights, and under
            Meta-Weight-Net, the loss whose elements it weights.
        teacher: The teacher; None for a schedule.
        classes: Classes or score points of the student's distribution; None for a student of scores.
        raters: Names of those who gave the targets, in the order of their numbers, where ``loss.by`` asks for them.
        shared: Where the teacher's examples are training examples too: the row of each in ``train``.

    Raises:
        DataError: A teacher is to learn and there are no examples for it.
        ConfigError: The teacher does not fit the student.
        TrainingError: The loss, its gradient or a measure is no longer finite; the last checkpoint is kept.
        CheckpointError: A checkpoint is damaged or belongs to another run.

    Examples:
        A line, learnt from four points; the weight of the squared error falls while it trains.

        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> from aes_dynloss import Batch, Elements, TrainingConfig
        >>> from aes_dynloss.training.accelerator import build_accelerator
        >>> class Line(torch.nn.Linear):
        ...     def elements(self, outputs, targets, groups):
        ...         half = torch.full_like(targets, 0.5)
        ...         return Elements(outputs[:, 0], targets, groups, centre=half, spread=half)
        ...     def parameter_stack(self):
        ...         return [list(self.named_parameters())]
        ...     def as_module(self):
        ...         return self
        >>> class Points:
        ...     lengths = sequences = np.ones(4, dtype=np.int64)
        ...     def __len__(self):
        ...         return 4
        ...     def batch(self, rows):
        ...         index = torch.tensor(rows)
        ...         x = index / 3
        ...         return Batch({"input": x[:, None]}, 0.5 * x, 0 * index, index)
        >>> student, points = Line(1, 1), Points()
        >>> def measure():  # on dev; here one point serves as such
        ...     return {"minus_error": -abs(student(torch.ones(1, 1)).item() - 0.5)}
        >>> config = TrainingConfig(epochs=2, batch_size=2, device="cpu")
        >>> loss = LossConfig(terms={"mse": {"schedule": "linear", "start": 1.0, "end": 0.0}, "mae": "rest"})
        >>> with TemporaryDirectory() as folder:
        ...     context = RunContext(build_accelerator(config), config, Path(folder), measure, select_by="minus_error")
        ...     result = train_student(context, student, points, points, loss, None, classes=None)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['checkpoint.pt', 'metrics.jsonl', 'plots']
        >>> result.steps
        4
    """
    student.as_module().to(context.accelerator.device)
    if teacher is None:
        setup = LossSetup(*loss.build())
    elif isinstance(teacher, FrozenTeacherConfig):
        spec, policy = read_teacher(user_path(teacher.folder, "teacher.from"), context.accelerator.device)
        _check_fits(spec, classes)
        _check_raters(spec, loss, raters)
        if isinstance(spec, ForwardSpec):
            _check_matrices(spec, train, raters)
        setup = LossSetup(spec.build(), policy, spec.plain_loss())
    elif len(teacher_dev) == 0:
        raise DataError(
            "A teacher learns on examples of its own, and there are none. Set some of train aside by "
            "data.teacher_dev_fraction."
        )
    elif isinstance(teacher, DlfConfig):
        spec = _dlf_spec(loss, teacher, classes, raters)
        setup = _dlf(context, student, train, teacher_dev, spec, teacher, shared)
    elif isinstance(teacher, GlcConfig):
        setup = _glc(context, student, train, teacher_dev, teacher, classes, shared)
    elif isinstance(teacher, MwnConfig):
        setup = _mwn(context, student, train, teacher_dev, loss, teacher, classes)
    else:
        setup = _dln(context, student, train, teacher_dev, teacher, classes)
    # A policy over stretches is in the checkpoints with what it was asked, as an update is.
    update = setup.policy if isinstance(setup.policy, TeacherUpdate) else setup.update
    result = fit(context, student, train, setup.loss, setup.policy, update)
    if context.accelerator.is_main_process:
        setup.write(context.folder / TEACHER)
        setup.plot(context.folder / PLOTS, context.folder / METRICS)
    if setup.plain is None:
        return result
    coefficients = setup.policy.coefficients(result.state).detach()
    return replace(result, learned=LearnedLoss(setup.loss, coefficients, setup.plain))


def _problem(
    context: RunContext, student: Student, loss: DynamicLoss, teacher_dev: Examples, teacher: DlfConfig | DlnConfig
) -> BilevelProblem:
    measure, hypergradient = fixed_objective(teacher.measure), teacher.hypergradient
    return BilevelProblem(context.accelerator, student, loss, teacher_dev, measure, hypergradient, context.config)


def _dlf_spec(mixture: LossConfig, config: DlfConfig, classes: int | None, raters: Sequence[str]) -> SteeredSpec:
    """What an L2T-DLF teacher steers: weights by rater where the loss asks for them, else W and b, or the mixture."""
    if mixture.by:
        return _rater_weights(mixture, raters)
    if classes is not None:
        return BilinearSpec(classes=classes, floor=config.floor, bins=config.bins)
    return MixtureSpec(terms=_plain_terms(mixture), standardise=mixture.standardise)


def _rater_weights(loss: LossConfig, raters: Sequence[str]) -> RaterWeightsSpec:
    levels = loss.levels if "score" in loss.by else 1
    return RaterWeightsSpec(raters=list(raters), levels=levels, terms=_plain_terms(loss), standardise=loss.standardise)


def _plain_terms(loss: LossConfig) -> dict[str, float]:
    terms = {name: weight for name, weight in loss.terms.items() if isinstance(weight, float)}
    if len(terms) < len(loss.terms):
        raise ConfigError("loss.terms: a teacher starts from plain numbers; leave schedules and `rest` out.")
    return terms


def _dlf(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    spec: SteeredSpec,
    config: DlfConfig,
    shared: Rows | None,
) -> LossSetup:
    """L2T-DLF: the teacher learns now."""
    loss, seed = spec.build(), context.config.seed
    teacher = AttentionTeacher(spec.neutral(), spec.blocks, positive=spec.positive, keys=config.keys, seed=seed)
    teacher.to(context.accelerator.device)
    problem = _problem(context, student, loss, teacher_dev, config)
    episodes = Episodes(context, problem, teacher, train, config, shared)
    taught = episodes.run()
    with torch.no_grad():  # the teacher's as it ends, for the states of its last episode
        coefficients = teacher(taught.states.to(context.accelerator.device))
    policy: LossPolicy = TaughtPolicy(teacher)
    if config.control == "frozen_mean":
        policy = FixedPolicy(coefficients.mean(0))  # its tuning of the loss without the dynamics
    elif config.control == "random":
        policy = RandomPolicy(coefficients, spec.neutral(), positive=spec.positive, seed=seed)

    def write(folder: Path) -> None:
        write_teacher(folder, "dlf", spec, teacher.state_dict(), pieces=config.pieces)

    return LossSetup(loss, in_pieces(policy, config.pieces), spec.plain_loss(), write=write)


def _dln(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    config: DlnConfig,
    classes: int | None,
) -> LossSetup:
    """L2T-DLN: the teacher learns between the student's steps."""
    architecture = config.model_dump(include={"width", "hidden", "plain", "smooth"})
    spec = NetworkSpec(form="scores" if classes is None else "distribution", **architecture)
    loss, device, seed = spec.build(), context.accelerator.device, context.config.seed
    phi = loss.start(torch.Generator().manual_seed(seed), silent=config.silent_start).to(device)
    teacher = LossNetworkTeacher(
        phi,
        build_coordinate_teacher(config.teacher, seed).to(device),
        step_size=config.step_size,
        learning_rate=config.learning_rate,
        memory_span=config.memory_span,
    )
    problem = _problem(context, student, loss, teacher_dev, config)
    update = LossNetworkUpdate(problem, teacher, total_steps(train, context.config), config)

    def write(folder: Path) -> None:
        network = {f"network.{name}": tensor for name, tensor in teacher.network.state_dict().items()}
        write_teacher(folder, "dln", spec, {PHI: teacher.phi, **network})

    return LossSetup(loss, teacher, spec.plain_loss(), update, write, lambda: thinned(update.history))


def _mwn(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    plain: LossConfig,
    config: MwnConfig,
    classes: int | None,
) -> LossSetup:
    """Meta-Weight-Net: the weighting network learns between the student's steps."""
    if classes is None:
        spec = MetaWeightSpec(terms=_plain_terms(plain), standardise=plain.standardise, width=config.width)
    else:
        spec = MetaWeightSpec(terms={"cross_entropy": 1.0}, width=config.width)
    loss, seed = spec.build(), context.config.seed
    teacher = MetaWeightTeacher(
        loss.start(torch.Generator().manual_seed(seed)).to(context.accelerator.device),
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    measure = loss.plain if config.measure is None else fixed_objective(config.measure)
    problem = BilevelProblem(
        context.accelerator, student, loss, teacher_dev, measure, config.hypergradient, context.config
    )
    update = LossNetworkUpdate(problem, teacher, total_steps(train, context.config), config)

    def write(folder: Path) -> None:
        write_teacher(folder, "mwn", spec, {PHI: teacher.phi})

    return LossSetup(loss, teacher, spec.plain_loss(), update, write, lambda: thinned(update.history))


def _glc(
    context: RunContext,
    student: Student,
    train: Examples,
    trusted: Examples,
    config: GlcConfig,
    classes: int | None,
    shared: Rows | None,
) -> LossSetup:
    """Gold loss correction: what a first student of untrusted targets says of trusted examples is the matrix C."""
    if classes is None or shared is None:
        raise ConfigError(
            "teacher.kind glc needs a distribution (model.head softmax or ordinal), and trusted examples among those "
            "of training (data.trusted)."
        )
    untrusted = np.setdiff1d(np.arange(len(train)), shared)
    if len(untrusted) == 0:
        raise DataError("teacher.kind glc: every training example is trusted, so that there is nothing to correct.")
    _, groups = targets_and_groups(train)
    spec = ForwardSpec(groups=1 + int(groups.max()), classes=classes, bins=min(config.bins, classes))
    loss, module, device = spec.build(), student.as_module(), context.accelerator.device
    plain, policy = LossConfig(terms={"cross_entropy": 1.0}).build()
    begun = trained_state(module)
    folder = context.folder / FIRST_STAGE
    folder.mkdir(exist_ok=True)
    fit(replace(context, folder=folder), student, Subset(train, untrusted), plain, policy)
    answers = predict(context.accelerator, module, trusted), *targets_and_groups(trusted)
    with torch.no_grad():
        phi = loss.estimated(student.elements(*(tensor.to(device) for tensor in answers)))
    load_trained_state(module, begun)
    return LossSetup(
        loss, FixedPolicy(phi), spec.plain_loss(), write=lambda folder: write_teacher(folder, "glc", spec, {PHI: phi})
    )


def _check_raters(spec: LossSpec, loss: LossConfig, raters: Sequence[str]) -> None:
    """Refuse a frozen teacher of other raters, levels or terms than those of the run."""
    wanted = _rater_weights(loss, raters) if loss.by else None
    if spec != wanted and (wanted is not None or isinstance(spec, RaterWeightsSpec)):
        knows = spec.model_dump_json(exclude={"family"}) if isinstance(spec, RaterWeightsSpec) else "no raters"
        has = "loss.by is not set" if wanted is None else f"this run has {wanted.model_dump_json(exclude={'family'})}"
        raise ConfigError(f"teacher.from: that teacher knows {knows}, and {has}. Use it with the same loss and raters.")


def _check_matrices(spec: ForwardSpec, train: Examples, raters: Sequence[str]) -> None:
    """Refuse a frozen matrix where nobody says which targets are trusted, or for fewer groups than there are."""
    groups = 1 + int(targets_and_groups(train)[1].max())
    if not raters:
        raise ConfigError(
            "teacher.from: that teacher corrects targets that are not trusted. Name those in data.trusted."
        )
    if groups > spec.groups:
        raise ConfigError(
            f"teacher.from: that teacher knows {spec.groups} groups of examples, here are {groups}. Use it with the "
            "prompts that it was told of."
        )


def _check_fits(spec: LossSpec, classes: int | None) -> None:
    if isinstance(spec, RaterWeightsSpec):
        return  # its terms were compared with those of the run
    of_scores = isinstance(spec, MixtureSpec) or (
        isinstance(spec, NetworkSpec | MetaWeightSpec) and spec.form == "scores"
    )
    if of_scores is not (classes is None):
        outputs = {True: "scores (model.head regression)", False: "a distribution (model.head softmax or ordinal)"}
        raise ConfigError(
            f"teacher.from: that teacher steers students that answer {outputs[of_scores]}, this one answers "
            f"{outputs[classes is None]}."
        )
    if isinstance(spec, BilinearSpec | ForwardSpec) and spec.classes != classes:
        raise ConfigError(
            f"teacher.from: that teacher knows {spec.classes} score points or classes, this student has {classes}. Use "
            "it with students of the same."
        )
