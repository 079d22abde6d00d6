"""The component losses by name, and what each asks of a student; it needs no torch until a loss is computed.

So a configuration that names components is checked at once. The losses themselves are in :mod:`.components`, or come
from outside by :func:`register_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar, get_args

from pydantic import AfterValidator

from aes_dynloss.configfile import advice_on
from aes_dynloss.errors import ConfigError, ShapeError, TrainingError
from aes_dynloss.parts import Parts, decorator_name, faults_named

if TYPE_CHECKING:
    from torch import Tensor

    from aes_dynloss.teaching.student import Elements

LossFunction: TypeAlias = "Callable[[Elements], Tensor]"


@dataclass(frozen=True)
class Component:
    """A component loss and what it asks of a student.

    Args:
        source: Its function, or the name of that in :mod:`.components`.
        over_batch: Whether it couples the elements, so that it needs the whole effective batch at once.
        needs: Name of an optional field of :class:`Elements` that it reads, or "".
        in_units: Whether it measures in the units of the scores, so that standardising changes its value.
        kinked: Whether it has a kink at each element's target, across which finite differences find curvature that is
            not there.
    """

    source: str | LossFunction
    over_batch: bool = False
    needs: str = ""
    in_units: bool = True
    kinked: bool = False

    @property
    def function(self) -> LossFunction:
        """The loss: elements to (E,), or to a scalar where ``over_batch``."""
        if not isinstance(self.source, str):
            return self.source
        from aes_dynloss.teaching.losses import components

        function: LossFunction = getattr(components, self.source)
        return function


# Components of classes and score points; their functions have the same names.
OF_CLASSES = (
    "cross_entropy",
    "label_smoothing",
    "generalised_cross_entropy",
    "focal",
    "large_margin",
    "smooth_error",
    "expected_error",
)

COMPONENTS: Parts[Component] = Parts(
    "losses",
    {
        "mse": Component("squared_error"),
        "mae": Component("absolute_error", kinked=True),
        "huber": Component("huber"),
        "binary_cross_entropy": Component("binary_cross_entropy", needs="logits", in_units=False),
        **{name: Component(name, needs="log_probs", in_units=False) for name in OF_CLASSES},
        "ranking": Component("ranking", over_batch=True, in_units=False),
        "one_minus_qwk": Component("one_minus_qwk", over_batch=True, in_units=False),
        "stde": Component("standard_deviation_error", over_batch=True),
        "all_pairs_error": Component("all_pairs_error", over_batch=True),
    },
)

Loss = TypeVar("Loss", bound="LossFunction")
Need = Literal["", "log_probs", "logits"]


def register_loss(
    name: str, *, over_batch: bool = False, needs: Need = "", in_units: bool = True, kinked: bool = False
) -> Callable[[Loss], Loss]:
    """Decorator that makes a function a component loss, under a name that ``loss.terms`` and ``teacher.measure`` know.

    The function takes :class:`aes_dynloss.Elements`, E predictions beside their targets, and returns the loss of each,
    (E,), or with ``over_batch`` one number. Teachers differentiate it twice: smooth functions of torch suit them.

    Args:
        name: Its name: small letters, digits and _.
        over_batch: Whether it couples the elements, so that it needs the whole effective batch at once.
        needs: The field of the elements that it reads and that not every head gives: ``log_probs`` (softmax, ordinal)
            or ``logits`` (a sigmoid link).
        in_units: Whether it measures in the units of the scores, so that ``loss.standardise`` changes its value.
        kinked: Whether it has a kink at each element's target, which finite differences of a teacher do not bear.

    Raises:
        ConfigError: The name is another loss's, or what is decorated is no function.

    Examples:
        >>> import torch
        >>> from aes_dynloss import Elements, LossConfig
        >>> @register_loss("log_cosh")
        ... def log_cosh(elements):
        ...     '''ln cosh of the error: squared near 0, absolute far from it.'''
        ...     return torch.log(torch.cosh(elements.scores - elements.targets))
        >>> loss, policy = LossConfig(terms={"mse": 0.5, "log_cosh": 0.5}).build()
        >>> half = torch.full((2,), 0.5)
        >>> elements = Elements(torch.tensor([0.0, 1.0]), half, torch.tensor([0, 0]), centre=half, spread=half)
        >>> loss.terms(elements)["log_cosh"]
        tensor([0.1201, 0.1201])
    """
    decorator_name(name, "register_loss")
    if needs not in get_args(Need):
        raise ConfigError(f"register_loss: needs is {needs!r}, expected log_probs, logits or nothing.")

    def register(function: Loss) -> Loss:
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"register_loss decorates a function of Elements, found {function!r} for {name!r}.")
        checked = partial(_checked, name, function, over_batch=over_batch)
        COMPONENTS.register(name, Component(checked, over_batch, needs, in_units, kinked), function)
        return function

    return register


def _checked(name: str, function: LossFunction, elements: Elements, *, over_batch: bool) -> Tensor:
    """A loss from outside, named where it fails, or has a shape that would broadcast to a wrong number."""
    import torch

    with faults_named(f"The loss {name!r} failed", function, TrainingError):
        value = function(elements)
    expected = () if over_batch else (len(elements),)
    if not isinstance(value, torch.Tensor) or value.shape != expected:
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ShapeError(
            f"The loss {name!r} returned {found}, expected a tensor of shape {expected}: "
            + ("one number for the batch." if over_batch else "one number an element.")
            + " Mend it, or its over_batch in register_loss."
        )
    return value


def those_that_need(field: str, names: Sequence[str]) -> list[str]:
    """The components among these that read an optional field of :class:`Elements`.

    Examples:
        >>> those_that_need("log_probs", ["mse", "focal"])
        ['focal']
    """
    return [name for name in names if COMPONENTS[name].needs == field]


def _known_component(name: str) -> str:
    if name not in COMPONENTS:
        advice = advice_on(name, COMPONENTS)
        own = "" if advice.endswith("?") else " One of your own: --plugin FILE.py, or import its module."
        raise ValueError(f"there is no loss {name!r}; {advice}{own}")
    return name


ComponentName = Annotated[str, AfterValidator(_known_component)]
