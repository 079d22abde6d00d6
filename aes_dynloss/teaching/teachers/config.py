"""Configuration of teachers: the kind of teacher, how it learns, and its controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, model_serializer, model_validator

from aes_dynloss.configfile import ChosenBy, ConfigModel
from aes_dynloss.errors import ConfigError
from aes_dynloss.parts import Parts, decorator_name
from aes_dynloss.teaching.hypergradient.estimators import HypergradientConfig
from aes_dynloss.teaching.losses.component_table import ComponentName

if TYPE_CHECKING:
    from torch import Tensor

    from aes_dynloss.teaching.policies import LossPolicy
    from aes_dynloss.teaching.teachers.rewriting import RewritingTeacher

_MEASURE = "Smooth measure of the student on teacher_dev that the teacher lowers."


class TeachingConfig(ConfigModel):
    """Settings that all trainable teachers share."""

    measure: ComponentName | None
    hypergradient: HypergradientConfig = Field(
        default=HypergradientConfig(), description="How the measure is differentiated through the student's training."
    )


class DlfConfig(TeachingConfig):
    """L2T-DLF: an attention teacher outputs the loss's coefficients from the student's state.

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions, arXiv 1810.12081.
    """

    kind: Literal["dlf"] = Field(description="A teacher that outputs the loss's coefficients.")
    measure: ComponentName = Field(default="one_minus_qwk", description=_MEASURE)
    episodes: int = Field(
        default=20, ge=1, description="Updates of the teacher; after each training of the student, or see average."
    )
    average: int = Field(
        default=1,
        ge=1,
        description="Trainings of the student whose hypergradients are averaged for one update: other orders of "
        "examples, other dropout, the same first weights.",
    )
    steps: int | None = Field(
        default=None, ge=1, description="Steps of the student an episode; null: as many as the final training takes."
    )
    pieces: int | None = Field(
        default=None,
        ge=1,
        description="Stretches of the run over which the coefficients stay as the teacher sets them at the first step, "
        "in the final training too; null: they may change in every step.",
    )
    learning_rate: float = Field(
        default=0.4, gt=0, description="Length of the teacher's steps, or its Adam's rate; see optimizer."
    )
    optimizer: Literal["adam", "normalised", "sign"] = Field(
        default="sign",
        description="sign: steps by each weight's sign, halved where it flips. normalised: steps of one length, taken "
        "over all weights together, along hypergradients that are each brought to length 1, with a momentum of 0.5. "
        "adam: as published; its steps stay short for many updates after one long hypergradient.",
    )
    decay: float = Field(default=0.9, gt=0, le=1, description="Factor on the teacher's rate after each update.")
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="Longest hypergradient of the teacher's weights; longer ones are scaled; null: any.",
    )
    keep: Literal["last", "best"] = Field(
        default="best",
        description="best: the teacher whose episodes ended best by a half of teacher_dev that gives no hypergradient, "
        "which the one after the last update has none of. last: that one; all of teacher_dev gives hypergradients.",
    )
    keys: int = Field(default=10, ge=1, description="Learned keys of its attention.")
    matrix: Literal["bilinear", "forward"] = Field(
        default="bilinear",
        description="With a distribution. bilinear: W of the bilinear loss, as published. forward: how untrusted "
        "targets come about (data.trusted), the matrix that glc counts; cross-entropy goes through it.",
    )
    floor: float = Field(
        default=0.1, ge=0, description="With a distribution: weight of the cross-entropy beside the bilinear loss."
    )
    bins: int = Field(default=12, ge=2, description="With a distribution: most score points or bins of the matrix.")
    control: Literal["none", "frozen_mean", "random"] = Field(
        default="none",
        description="frozen_mean: the final student is trained under the teacher's mean output. random: under "
        "coefficients as far from the plain loss in random directions. Both measure what the dynamics are worth.",
    )


class DlnConfig(TeachingConfig):
    """L2T-DLN: a loss network, rewritten during the training by a recurrent teacher.

    References:
        Hai et al. 2023, Learning to teach with dynamic loss network, arXiv 2310.19313.
    """

    kind: Literal["dln"] = Field(description="A loss network that a recurrent teacher rewrites.")
    measure: ComponentName = Field(default="one_minus_qwk", description=_MEASURE)
    window: int = Field(default=15, ge=1, description="Steps of the student from one teacher step to the next.")
    dev_batch: int = Field(default=100, ge=2, description="Essays of teacher_dev in one measure.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's, for the teacher.")
    step_size: float = Field(default=1e-3, gt=0, description="Factor on the teacher's changes of the loss network.")
    width: int = Field(default=40, ge=1, description="Width of the loss network's hidden layers.")
    hidden: int = Field(default=4, ge=1, description="Number of its hidden layers.")
    plain: float = Field(
        default=1.0, ge=0, description="Weight of the plain loss beside the loss network; 0: the published form."
    )
    silent_start: bool = Field(
        default=True, description="Start with the plain loss alone; false: the published random network."
    )
    smooth: bool = Field(
        default=False,
        description="Softplus instead of LeakyReLU in the loss network; finite differences need it.",
    )
    memory_span: int | None = Field(
        default=None,
        ge=1,
        description="Teacher steps after which its memory begins anew; null: never, as published, but over short runs "
        "such a memory soon saturates.",
    )
    teacher: Literal["lstm", "odd_lstm", "memoryless_lstm", "feed_forward"] = Field(
        default="lstm",
        description="lstm: as published. odd_lstm: ours, the size of its answer to the gradient less that to the "
        "opposite one, with the gradient's sign, so that no gradient means no change and each change lowers the "
        "measure to first order. memoryless_lstm and feed_forward are controls: without memory, of the same size.",
    )

    @model_validator(mode="after")
    def _check_differences(self) -> Self:
        if self.hypergradient.by_differences and not self.smooth:
            raise ValueError(
                "hypergradient.estimator by differences finds curvature at the loss network's kinks that is not there; "
                "set smooth to true, or the estimator to exact"
            )
        return self


class MwnConfig(TeachingConfig):
    """Meta-Weight-Net: a network weights each example by its loss, and learns with the student.

    References:
        Shu et al. 2019, Meta-Weight-Net: Learning an explicit mapping for sample weighting, arXiv 1902.07379.
    """

    kind: Literal["mwn"] = Field(description="A network that weights each example by its loss.")
    measure: ComponentName | None = Field(
        default=None,
        description=f"{_MEASURE} null: the plain loss whose examples are weighted, as published.",
    )
    window: int = Field(default=1, ge=1, description="Steps of the student from one teacher step to the next.")
    dev_batch: int = Field(default=100, ge=2, description="Essays of teacher_dev in one measure.")
    optimizer: Literal["adam", "sgd"] = Field(
        default="adam", description="The network's; adam: the released program's, sgd: that of the paper's equations."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="The network's.")
    weight_decay: float = Field(default=1e-4, ge=0, description="The network's L2 penalty, as released.")
    width: int = Field(default=100, ge=1, description="Hidden units of the network.")

    @model_validator(mode="after")
    def _check_estimator(self) -> Self:
        if self.hypergradient.by_differences:
            raise ValueError(
                f"hypergradient.estimator {self.hypergradient.estimator} takes differences of the loss's own "
                "derivatives, from which the weights of kind mwn are detached; set it to exact, which with window 1 "
                "is the published one-step hypergradient"
            )
        return self


class GlcConfig(ConfigModel):
    """Gold loss correction: a student of the untrusted targets tells how they come about; no gradient is involved.

    References:
        Hendrycks et al. 2018, Using trusted data to train deep networks on labels corrupted by severe noise,
        arXiv 1802.05300.
    """

    kind: Literal["glc"] = Field(description="A matrix of how untrusted targets come about, told by a first student.")
    bins: int = Field(default=12, ge=2, description="Most score points or bins of the matrix.")
    first_student: Literal["last", "best"] = Field(
        default="last", description="Whose matrix: the first student at its end, as published, or at its best on dev."
    )


def forward_correction(teacher: object) -> str | None:
    """What in a teacher's configuration asks for a matrix of how untrusted targets come about; None: nothing.

    Examples:
        >>> forward_correction(GlcConfig(kind="glc")), forward_correction(DlfConfig(kind="dlf"))
        ('teacher.kind glc', None)
    """
    if isinstance(teacher, GlcConfig):
        return "teacher.kind glc"
    return "teacher.matrix forward" if isinstance(teacher, DlfConfig) and teacher.matrix == "forward" else None


# Teachers that learn in a run, by hypergradients or not.
LearningTeacherConfig = TeachingConfig | GlcConfig


class PolicyConfig(ConfigModel):
    """Settings of a teacher from outside that knows the weights from the student's state, without learning them.

    Examples:
        >>> import torch
        >>> from aes_dynloss import PolicyConfig, StudentState, register_teacher
        >>> class Fading:
        ...     def __init__(self, weights):
        ...         self.weights = weights
        ...     def coefficients(self, state):
        ...         return self.weights * state.train_error
        >>> @register_teacher("fading")
        ... class FadingConfig(PolicyConfig):
        ...     '''Weights that fall with the training error.'''
        ...     def build(self, weights):
        ...         return Fading(weights)
        >>> policy = FadingConfig(kind="fading").build(torch.tensor([1.0, 0.5]))
        >>> policy.coefficients(StudentState(progress=0.5, train_error=0.5))
        tensor([0.5000, 0.2500])
    """

    kind: str = Field(description="The name under which it is registered.")

    def build(self, weights: Tensor) -> LossPolicy:
        """The policy; what it returns depends on the state that it is shown alone.

        Args:
            weights: Of ``loss.terms``, (K,), on the student's device.
        """
        raise NotImplementedError


class RewritingConfig(TeachingConfig):
    """Settings of a teacher from outside that rewrites the weights by hypergradients, after every window of steps.

    After ``window`` steps of the student the measure is differentiated through them by the weights; see
    :class:`aes_dynloss.RewritingTeacher`, of which a subclass makes other weights of that.

    Examples:
        >>> from aes_dynloss import RewritingConfig
        >>> config = RewritingConfig(kind="mine", window=5)
        >>> config.measure, config.window, config.hypergradient.estimator
        ('one_minus_qwk', 5, 'exact')
    """

    kind: str = Field(description="The name under which it is registered.")
    measure: ComponentName = Field(default="one_minus_qwk", description=_MEASURE)
    window: int = Field(default=10, ge=1, description="Steps of the student from one teacher step to the next.")
    dev_batch: int = Field(default=100, ge=2, description="Essays of teacher_dev in one measure.")

    def build(self, weights: Tensor) -> RewritingTeacher:
        """The teacher.

        Args:
            weights: Of ``loss.terms``, (K,), on the student's device.
        """
        raise NotImplementedError


class FrozenTeacherConfig(ConfigModel):
    """A teacher that was trained before and no longer learns."""

    kind: Literal["frozen"] = Field(default="frozen", description="A teacher that no longer learns.")
    folder: str = Field(alias="from", description="The folder teacher/ of the run that trained it.")

    @model_serializer
    def _by_its_keys(self) -> dict[str, str]:
        """As it is read, so that a written configuration repeats the run."""
        return {"kind": self.kind, "from": self.folder}


def _frozen_if_from(value: Any) -> Any:  # noqa: ANN401 - whatever a configuration holds
    """``teacher.from=DIR`` says which kind it is."""
    if isinstance(value, dict) and "from" in value and "kind" not in value:
        return {"kind": "frozen", **value}
    return value


TEACHERS: Parts[type[BaseModel]] = Parts(
    "teachers", {"dlf": DlfConfig, "dln": DlnConfig, "mwn": MwnConfig, "glc": GlcConfig, "frozen": FrozenTeacherConfig}
)
TeacherConfig = Annotated[
    DlfConfig | DlnConfig | MwnConfig | GlcConfig | FrozenTeacherConfig | PolicyConfig | RewritingConfig,
    ChosenBy("kind", TEACHERS),
    BeforeValidator(_frozen_if_from),
]
Registered = TypeVar("Registered", bound=type[PolicyConfig] | type[RewritingConfig])


def register_teacher(kind: str) -> Callable[[Registered], Registered]:
    """Decorator that makes a configuration with its method ``build`` a teacher, as in ``teacher: {kind: KIND}``.

    The fields of the class are the keys that a configuration gives. It steers the weights of ``loss.terms``: as a
    function of the student's state under :class:`PolicyConfig`, by hypergradients under :class:`RewritingConfig`.

    Args:
        kind: Its name: small letters, digits and _.

    Raises:
        ConfigError: The name is another teacher's, or what is decorated is no such class.

    Examples:
        >>> import torch
        >>> from aes_dynloss import RewritingConfig, RewritingTeacher
        >>> @register_teacher("exponentiated")
        ... class Exponentiated(RewritingConfig):
        ...     '''Weights that are multiplied by exp(-rate G), and so stay above 0.'''
        ...     rate: float = 0.1
        ...     def build(self, weights):
        ...         return Multiplied(weights, self.rate)
        >>> class Multiplied(RewritingTeacher):
        ...     def __init__(self, weights, rate):
        ...         super().__init__(weights)
        ...         self.rate = rate
        ...     def rewritten(self, hypergradient):
        ...         return self.phi * torch.exp(-self.rate * hypergradient)
        >>> teacher = Exponentiated(kind="exponentiated").build(torch.tensor([1.0, 0.5]))
        >>> teacher.rewritten(torch.tensor([1.0, -1.0]))
        tensor([0.9048, 0.5526])
    """
    decorator_name(kind, "register_teacher")

    def register(model: Registered) -> Registered:
        if not isinstance(model, type) or not issubclass(model, PolicyConfig | RewritingConfig):
            raise ConfigError(
                f"register_teacher decorates a subclass of PolicyConfig or RewritingConfig, found {model!r} for "
                f"{kind!r}."
            )
        if model.build in {PolicyConfig.build, RewritingConfig.build}:
            raise ConfigError(f"The teacher {kind!r} needs a method build(self, weights), which returns it.")
        TEACHERS.register(kind, model, model)
        return model

    return register
