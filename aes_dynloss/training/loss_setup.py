"""The loss of a run and what moves it: a schedule, a frozen teacher, or one that learns before or during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.teaching.losses.component_table import those_that_need
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.losses.loss_spec import (
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
    PolicyConfig,
    RewritingConfig,
    TeacherConfig,
)
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, FixedPolicy, TaughtPolicy
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, build_coordinate_teacher
from aes_dynloss.teaching.teachers.mwn import MetaWeightTeacher
from aes_dynloss.training.batching import Examples, Rows, Subset, targets_and_groups, total_steps
from aes_dynloss.training.episodes import Episodes, in_pieces
from aes_dynloss.training.loop import NO_TEACHER, RunContext, TeacherUpdate, fit
from aes_dynloss.training.plots import History, answers_over, thinned, write_loss_plots
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.problem import BilevelProblem
from aes_dynloss.training.run_folder import FIRST_STAGE
from aes_dynloss.training.run_state import load_trained_state, trained_state
from aes_dynloss.training.teacher_folder import COEFFICIENTS, PHI, SavedControl, read_teacher, write_teacher
from aes_dynloss.training.window_update import WindowUpdate


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


def build_loss(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    loss: LossConfig,
    teacher: TeacherConfig | None,
    *,
    classes: int | None,
    raters: Sequence[str] = (),
    unit: str | None = None,
    shared: Rows | None = None,
) -> LossSetup:
    """The loss and what moves it; a teacher of kind dlf or glc learns now, and leaves the student as it was.

    Its arguments are those of :func:`aes_dynloss.training.run.train_student`.

    Raises:
        DataError: A teacher is to learn and there are no examples for it.
        ConfigError: The teacher does not fit the student.
    """
    if loss.by and not (raters and isinstance(teacher, DlfConfig | FrozenTeacherConfig)):
        raise ConfigError(
            "loss.by: those weights need a teacher of kind dlf, or a frozen one, and the names of the raters; set one "
            "and name them (raters of train_student), or leave loss.by out."
        )
    if teacher is None:
        return LossSetup(*loss.build())
    if isinstance(teacher, FrozenTeacherConfig):
        spec, policy = read_teacher(user_path(teacher.folder, "teacher.from"), context.accelerator.device)
        _check_fits(spec, classes)
        _check_raters(spec, loss, raters, unit)
        if isinstance(spec, ForwardSpec):
            _check_matrices(spec, train, raters)
        return LossSetup(spec.build(), policy, spec.plain_loss())
    if isinstance(teacher, PolicyConfig):
        spec = MixtureSpec(terms=_plain_terms(loss), standardise=loss.standardise)
        policy = teacher.build(spec.neutral().to(context.accelerator.device))
        return LossSetup(spec.build(), policy, spec.plain_loss())
    if len(teacher_dev) == 0:
        raise DataError(
            "A teacher learns on examples that it is given, and there are none. Set some of train aside for it, by "
            "data.teacher_dev_fraction or in your own program."
        )
    if isinstance(teacher, RewritingConfig):
        return _rewriting(context, student, train, teacher_dev, loss, teacher)
    return _published(
        context, student, train, teacher_dev, loss, teacher, classes=classes, raters=raters, unit=unit, shared=shared
    )


def _published(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    loss: LossConfig,
    teacher: DlfConfig | DlnConfig | MwnConfig | GlcConfig,
    *,
    classes: int | None,
    raters: Sequence[str],
    unit: str | None,
    shared: Rows | None,
) -> LossSetup:
    """One of the package's own teachers that learn."""
    if isinstance(teacher, DlfConfig):
        spec = _dlf_spec(loss, teacher, classes, raters, unit, train, shared)
        return _dlf(context, student, train, teacher_dev, spec, teacher, shared)
    if isinstance(teacher, GlcConfig):
        return _glc(context, student, train, teacher_dev, teacher, classes, shared)
    if isinstance(teacher, MwnConfig):
        return _mwn(context, student, train, teacher_dev, loss, teacher, classes)
    return _dln(context, student, train, teacher_dev, teacher, classes)


def _problem(
    context: RunContext,
    student: Student,
    loss: DynamicLoss,
    teacher_dev: Examples,
    teacher: DlfConfig | DlnConfig | RewritingConfig,
) -> BilevelProblem:
    measure, hypergradient = fixed_objective(teacher.measure), teacher.hypergradient
    return BilevelProblem(context.accelerator, student, loss, teacher_dev, measure, hypergradient, context.config)


def _dlf_spec(
    mixture: LossConfig,
    config: DlfConfig,
    classes: int | None,
    raters: Sequence[str],
    unit: str | None,
    train: Examples,
    shared: Rows | None,
) -> SteeredSpec:
    """What an L2T-DLF teacher steers: weights by rater where the loss asks for them, else a matrix, or the mixture."""
    if mixture.by and config.matrix == "forward":
        raise ConfigError("teacher.matrix forward is a loss of its own; leave loss.by out.")
    if mixture.by:
        return _rater_weights(mixture, raters, unit)
    if config.matrix == "forward":
        return _corrected("teacher.matrix forward", config.bins, classes, train, shared, logits=True)[0]
    if classes is not None:
        return BilinearSpec(classes=classes, floor=config.floor, bins=config.bins)
    return MixtureSpec(terms=_plain_terms(mixture), standardise=mixture.standardise)


def _rater_weights(loss: LossConfig, raters: Sequence[str], unit: str | None) -> RaterWeightsSpec:
    if list(raters) == [unit]:
        raise DataError(
            "loss.by: every training example is trusted, so that there is nothing to weigh. Leave loss.by out, or name "
            "fewer in data.trusted."
        )
    levels, terms = loss.levels if "score" in loss.by else 1, _plain_terms(loss)
    return RaterWeightsSpec(raters=list(raters), unit=unit, levels=levels, terms=terms, standardise=loss.standardise)


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
    control = None if config.control == "none" else SavedControl(kind=config.control, seed=seed)
    policy = TaughtPolicy(teacher) if control is None else control.policy(spec, coefficients)

    def write(folder: Path) -> None:
        weights = teacher.state_dict() if control is None else {COEFFICIENTS: coefficients}
        write_teacher(folder, "dlf", spec, weights, pieces=config.pieces, control=control)

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
    update = WindowUpdate(problem, teacher, total_steps(train, context.config), config)

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
    update = WindowUpdate(problem, teacher, total_steps(train, context.config), config)

    def write(folder: Path) -> None:
        write_teacher(folder, "mwn", spec, {PHI: teacher.phi})

    return LossSetup(loss, teacher, spec.plain_loss(), update, write, lambda: thinned(update.history))


def _rewriting(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    mixture: LossConfig,
    config: RewritingConfig,
) -> LossSetup:
    """A teacher from outside: it rewrites the weights of the mixture between the student's steps."""
    spec = MixtureSpec(terms=_plain_terms(mixture), standardise=mixture.standardise)
    loss = spec.build()
    teacher = config.build(spec.neutral().to(context.accelerator.device))
    problem = _problem(context, student, loss, teacher_dev, config)
    update = WindowUpdate(problem, teacher, total_steps(train, context.config), config)

    def write(folder: Path) -> None:
        write_teacher(folder, "rewriting", spec, {PHI: teacher.phi}, registered=config.kind)

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
    spec, untrusted = _corrected("teacher.kind glc", config.bins, classes, train, shared)
    loss, module, device = spec.build(), student.as_module(), context.accelerator.device
    plain, policy = LossConfig(terms={"cross_entropy": 1.0}).build()
    begun = trained_state(module)
    folder = context.folder / FIRST_STAGE
    folder.mkdir(exist_ok=True)
    first_stage = replace(context, folder=folder, keep=config.first_student)
    fit(first_stage, student, Subset(train, untrusted), plain, policy)
    answers = predict(context.accelerator, module, trusted), *targets_and_groups(trusted)
    with torch.no_grad():
        phi = loss.estimated(student.elements(*(tensor.to(device) for tensor in answers)))
    load_trained_state(module, begun)
    return LossSetup(
        loss, FixedPolicy(phi), spec.plain_loss(), write=lambda folder: write_teacher(folder, "glc", spec, {PHI: phi})
    )


def _corrected(
    what: str, bins: int, classes: int | None, train: Examples, shared: Rows | None, *, logits: bool = False
) -> tuple[ForwardSpec, Rows]:
    """The forward correction of a run, and its untrusted training examples."""
    if classes is None or shared is None:
        raise ConfigError(
            f"{what} needs a distribution (model.head softmax or ordinal), and trusted examples among those of "
            "training (data.trusted)."
        )
    untrusted = np.setdiff1d(np.arange(len(train)), shared)
    if len(untrusted) == 0:
        raise DataError(f"{what}: every training example is trusted, so that there is nothing to correct.")
    _, groups = targets_and_groups(train)
    spec = ForwardSpec(groups=1 + int(groups.max()), classes=classes, bins=min(bins, classes), logits=logits)
    return spec, untrusted


def _check_raters(spec: LossSpec, loss: LossConfig, raters: Sequence[str], unit: str | None) -> None:
    """Refuse a frozen teacher of other raters, levels or terms than those of the run."""
    wanted = _rater_weights(loss, raters, unit) if loss.by else None
    if spec != wanted and (wanted is not None or isinstance(spec, RaterWeightsSpec)):
        knows = spec.model_dump_json(exclude={"family"}) if isinstance(spec, RaterWeightsSpec) else "no raters"
        has = "loss.by is not set" if wanted is None else f"this run has {wanted.model_dump_json(exclude={'family'})}"
        raise ConfigError(f"teacher.from: that teacher knows {knows}, and {has}. Use it with the same loss and raters.")


def _check_matrices(spec: ForwardSpec, train: Examples, raters: Sequence[str]) -> None:
    """Refuse a frozen matrix where nobody says which targets are trusted, or for another number of groups."""
    groups = 1 + int(targets_and_groups(train)[1].max())
    if not raters:
        raise ConfigError(
            "teacher.from: that teacher corrects targets that are not trusted. Name those in data.trusted."
        )
    if groups != spec.groups:  # groups have numbers, no names: of fewer, each could get another's matrix
        raise ConfigError(
            f"teacher.from: that teacher knows {spec.groups} groups of examples, here are {groups}. Use it with the "
            "prompts that it was told of."
        )


def _check_fits(spec: LossSpec, classes: int | None) -> None:
    if isinstance(spec, RaterWeightsSpec):
        return  # its terms were compared with those of the run
    if isinstance(spec, MixtureSpec):
        of_scores = not those_that_need("log_probs", list(spec.terms))
    else:
        of_scores = isinstance(spec, NetworkSpec | MetaWeightSpec) and spec.form == "scores"
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
