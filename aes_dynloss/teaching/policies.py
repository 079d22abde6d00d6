"""Loss policies and schedules: the coefficients of the next step's loss, as a function of the student's state.

:class:`LossPolicy` is what the training loop calls; constants, schedules and teachers all implement it. A schedule is a
pure function of progress, the fraction of all optimiser steps taken so far. A new one is a class here, and an entry in
:data:`SCHEDULES`; from outside, a function under :func:`register_schedule`. Torch is imported where coefficients are
computed: a configuration is checked without it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeVar, get_type_hints

from pydantic import Field, create_model, field_validator, model_validator

from aes_dynloss.configfile import ChosenBy, ConfigModel
from aes_dynloss.errors import ConfigError, TrainingError
from aes_dynloss.parts import Parts, decorator_name, faults_named
from aes_dynloss.teaching.losses.component_table import ComponentName

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from aes_dynloss.teaching.losses.dynamic_loss import Mixture


class ScheduleConfig(ConfigModel):
    """A weight as a function of progress, with its settings; a subclass for each kind, which ``schedule`` names."""

    schedule: str

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        raise NotImplementedError


class Constant(ScheduleConfig):
    """The same weight throughout.

    Examples:
        >>> Constant(value=0.3)(progress=0.5)
        0.3
    """

    schedule: Literal["constant"] = "constant"
    value: float = Field(description="The weight.")

    def __call__(self, progress: float) -> float:  # noqa: ARG002 - the signature of all schedules
        """Weight at ``progress`` in [0, 1]."""
        return self.value


class Morris(ScheduleConfig):
    """Morris's schedule: w = min(a, a exp(-c (progress - b))), a plateau and then exponential decay.

    References:
        Morris 2023, arXiv 2305.10447: a = 1, b = .15, c = 1.1 in the paper's figure; a = 1, b = .2, c = 1 in the runs
        behind its tables.

    Examples:
        >>> schedule = Morris(a=1.0, b=0.2, c=1.0)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.2, 0.6, 1.0)]
        [1.0, 1.0, 0.67, 0.449]
    """

    schedule: Literal["morris"] = "morris"
    a: float = Field(default=1.0, ge=0, description="Weight on the plateau.")
    b: float = Field(default=0.15, ge=0, le=1, description="Progress at which the plateau ends.")
    c: float = Field(default=1.1, ge=0, description="Rate of the decay.")

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        # exp(0) on the plateau: before its end the exponent may be too great for a number.
        return self.a * math.exp(min(0.0, -self.c * (progress - self.b)))


class Linear(ScheduleConfig):
    """A straight line from ``start`` to ``end``.

    Examples:
        >>> schedule = Linear(start=1.0, end=0.0)
        >>> [schedule(progress) for progress in (0.0, 0.25, 1.0)]
        [1.0, 0.75, 0.0]
    """

    schedule: Literal["linear"] = "linear"
    start: float = Field(description="Weight at progress 0.")
    end: float = Field(description="Weight at progress 1.")

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        return self.start + (self.end - self.start) * progress


class Cosine(ScheduleConfig):
    """Half a cosine wave from ``start`` to ``end``, flat at both.

    Examples:
        >>> schedule = Cosine(start=1.0, end=0.0)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.854, 0.5, 0.0]
    """

    schedule: Literal["cosine"] = "cosine"
    start: float = Field(description="Weight at progress 0.")
    end: float = Field(description="Weight at progress 1.")

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: Parts[type[ScheduleConfig]] = Parts(
    "schedules", {"constant": Constant, "morris": Morris, "linear": Linear, "cosine": Cosine}
)
Schedule = Annotated[ScheduleConfig, ChosenBy("schedule", SCHEDULES)]

Weight = TypeVar("Weight", bound=Callable[..., float])


def register_schedule(name: str) -> Callable[[Weight], Weight]:
    """Decorator that makes a function of progress a schedule, as in ``{schedule: NAME, KEY: VALUE}``.

    Its first argument is progress, the fraction of optimiser steps taken, in [0, 1]. The others, by keyword alone and
    with their types, are the keys that a configuration gives; ``Annotated[float, Field(ge=0)]`` limits one.

    Args:
        name: Its name: small letters, digits and _.

    Raises:
        ConfigError: The name is another schedule's, or what is decorated is no such function.

    Examples:
        >>> @register_schedule("sawtooth")
        ... def sawtooth(progress: float, *, teeth: int = 4, height: float = 1.0) -> float:
        ...     '''Rises from 0 to its height, again and again.'''
        ...     return height * (progress * teeth % 1.0)
        >>> LossConfig(terms={"mse": {"schedule": "sawtooth", "teeth": 2}, "mae": "rest"}).terms["mse"](progress=0.25)
        0.5
    """
    decorator_name(name, "register_schedule")

    def register(function: Weight) -> Weight:
        SCHEDULES.register(name, _schedule_of(name, function), function)
        return function

    return register


def _schedule_of(name: str, function: Callable[..., float]) -> type[ScheduleConfig]:
    """The model of a function's keys, which calls it."""
    if not inspect.isfunction(function):
        raise ConfigError(f"register_schedule decorates a function of progress, found {function!r} for {name!r}.")
    parameters = inspect.signature(function).parameters
    with faults_named(f"The types of the schedule {name!r} cannot be read", function, ConfigError):
        hints = get_type_hints(function, include_extras=True)
    others = list(parameters.values())[1:]
    wrong = [one for one in others if one.kind is not one.KEYWORD_ONLY or one.name not in hints.keys() - {"schedule"}]
    if not parameters or wrong:
        raise ConfigError(
            f"The function of the schedule {name!r} takes progress, and after a * its keys with their types; found "
            f"{inspect.signature(function)}. Write such as {function.__name__}(progress: float, *, rate: float = 1.0)."
        )

    class OfFunction(ScheduleConfig):
        def __call__(self, progress: float) -> float:
            with faults_named(f"The schedule {name!r} failed at progress {progress:g}", function, TrainingError):
                weight = function(progress, **{one.name: getattr(self, one.name) for one in others})
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise TrainingError(
                    f"The schedule {name!r} returned {weight!r} at progress {progress:g}, expected a finite number. "
                    "Mend it, or change its keys."
                )
            return float(weight)

        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return _read_schedule, (self.model_dump(),)  # the class has no place that pickle could name

    keys: dict[str, Any] = {"schedule": (Literal[name], name)}
    keys |= {one.name: (hints[one.name], ... if one.default is one.empty else one.default) for one in others}
    with faults_named(f"The types of the schedule {name!r} are none of a configuration's", function, ConfigError):
        model: type[ScheduleConfig] = create_model(name, __base__=OfFunction, __doc__=function.__doc__, **keys)
    return model


def _read_schedule(values: Mapping[str, Any]) -> ScheduleConfig:
    return SCHEDULES[values["schedule"]].model_validate(values)


@dataclass(frozen=True)
class StudentState:
    """The student's state, as a policy sees it: plain numbers in [0, 1], so that nothing is differentiated through it.

    Args:
        progress: Part of all optimiser steps that were taken.
        train_error: Running mean of the training error, in units of the error of always predicting the mean, cut at 1.
        dev_measure: The newest dev measure, higher is better; 0 before the first.

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions: the state of the student model.

    Examples:
        >>> StudentState(progress=0.25, train_error=0.5, dev_measure=0.75).as_tensor()
        tensor([0.2500, 0.5000, 0.7500])
    """

    SIZE: ClassVar[int] = 3

    progress: float
    train_error: float = 1.0
    dev_measure: float = 0.0

    def as_tensor(self, device: torch.device | None = None) -> Tensor:
        """The fields in their order, (3,) float32."""
        import torch

        return torch.tensor([self.progress, self.train_error, self.dev_measure], device=device)


@dataclass
class StateTracker:
    """Keeps the state current while a student trains; ``fit`` owns one and checkpoints carry it.

    Args:
        total_steps: Optimiser steps of the whole run, at least 1.
        memory: Weight of the past in the running training error.
        unseen: Training errors that are known and not in the state yet, see :meth:`show_errors`.

    Examples:
        >>> tracker = StateTracker(total_steps=100, memory=0.5)
        >>> tracker.step = 20
        >>> tracker.take_error(0.5)
        >>> tracker.take_measure(0.75)
        >>> tracker.state()
        StudentState(progress=0.2, train_error=0.75, dev_measure=0.75)
    """

    total_steps: int
    memory: float = 0.9
    step: int = 0
    train_error: float = 1.0
    dev_measure: float = 0.0
    unseen: list[float] = field(default_factory=list)

    def state(self) -> StudentState:
        """The state before the next step."""
        return StudentState(min(1.0, self.step / self.total_steps), self.train_error, self.dev_measure)

    def take_error(self, error: float) -> None:
        """Take in one step's training error (1 = always predicting the mean)."""
        self.train_error = self.memory * self.train_error + (1 - self.memory) * min(1.0, max(0.0, error))

    def show_errors(self) -> None:
        """Take in the unseen errors: a policy sees them at fixed steps, whenever they were read."""
        for error in self.unseen:
            self.take_error(error)
        self.unseen.clear()

    def take_measure(self, measure: float) -> None:
        """Take in a new dev measure."""
        self.dev_measure = min(1.0, max(0.0, measure))


class LossPolicy(Protocol):
    """The source of a dynamic loss's coefficients: a constant, a schedule or a teacher."""

    def coefficients(self, state: StudentState) -> Tensor:
        """Coefficients phi_t for the state s_t, float32."""


class ScheduledPolicy:
    """Coefficients from schedules, without looking at the student beyond its progress.

    Args:
        weights: A schedule for each component; None for one that gets what the others leave of 1.

    Examples:
        >>> policy = ScheduledPolicy({"mse": Constant(value=0.75), "mae": None})
        >>> policy.coefficients(StudentState(progress=0.5))
        tensor([0.7500, 0.2500])
    """

    def __init__(self, weights: Mapping[str, Schedule | None]) -> None:
        self._weights = dict(weights)

    def coefficients(self, state: StudentState) -> Tensor:
        """Weights at the state's progress, (K,)."""
        import torch

        given = {name: rule(state.progress) for name, rule in self._weights.items() if rule is not None}
        rest = 1.0 - sum(given.values())
        return torch.tensor([given.get(name, rest) for name in self._weights])


class LossConfig(ConfigModel):
    """The losses that are mixed, with their weights or the schedules of these.

    Examples:
        >>> config = LossConfig(terms={"mse": {"schedule": "linear", "start": 1.0, "end": 0.0}, "mae": "rest"})
        >>> loss, policy = config.build()
        >>> loss.coefficient_names
        ('mse', 'mae')
        >>> policy.coefficients(StudentState(progress=0.25))
        tensor([0.7500, 0.2500])
    """

    terms: dict[ComponentName, float | Literal["rest"] | Schedule] = Field(
        default={"mse": 1.0},
        min_length=1,
        description="Component losses with their weights: a number, a schedule, or `rest` for 1 minus the others.",
    )
    standardise: bool = Field(
        default=False,
        description="Measure errors in units of each prompt's standard deviation instead of its score range.",
    )
    by: list[Literal["rater", "score", "trait"]] = Field(
        default=[],
        description="A weight of its own on this loss for the essays of each rater (data.columns.rater) or trait, of "
        "each level of the score, or of each pair, such as [rater, score]; a teacher of kind dlf sets them. Trusted "
        "essays count as a rater.",
    )
    traits: dict[str, float] = Field(
        default={}, description="What each of several traits counts in the loss, such as {overall: 2.0}; others 1."
    )
    levels: int = Field(default=6, ge=2, description="By score: even parts of each score range that are levels.")

    @field_validator("by", mode="before")
    @classmethod
    def _one_or_both(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("by")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError(f"names {value[0]} twice; name each once")
        return value

    @model_validator(mode="after")
    def _check_rest(self) -> LossConfig:
        if sum(weight == "rest" for weight in self.terms.values()) > 1:
            raise ValueError("at most one term can have the weight `rest`")
        if list(self.terms.values()) == ["rest"]:
            raise ValueError("a single term cannot have the weight `rest`; give it 1.0")
        return self

    def build(self) -> tuple[Mixture, ScheduledPolicy]:
        """The loss and the policy that steers it."""
        from aes_dynloss.teaching.losses.dynamic_loss import Mixture

        schedules: dict[str, Schedule | None] = {}
        for name, weight in self.terms.items():
            if weight == "rest":
                schedules[name] = None
            elif isinstance(weight, float):
                schedules[name] = Constant(value=weight)
            else:
                schedules[name] = weight
        return Mixture(list(self.terms), standardise=self.standardise), ScheduledPolicy(schedules)
