"""The component losses by name, and what each asks of a student; it needs no torch until a loss is computed.

So a configuration that names components is checked at once. The losses themselves are in :mod:`.components`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from aes_dynloss.configfile import advice_on

if TYPE_CHECKING:
    from torch import Tensor

    from aes_dynloss.teaching.student import Elements


@dataclass(frozen=True)
class Component:
    """A component loss and what it asks of a student.

    Args:
        function_name: Its function's name in :mod:`.components`.
        over_batch: Whether it couples the elements, so that it needs the whole effective batch at once.
        needs: Name of an optional field of :class:`Elements` that it reads, or "".
        in_units: Whether it measures in the units of the scores, so that standardising changes its value.
        kinked: Whether it has a kink at each element's target, across which finite differences find curvature that is
            not there.
    """

    function_name: str
    over_batch: bool = False
    needs: str = ""
    in_units: bool = True
    kinked: bool = False

    @property
    def function(self) -> Callable[[Elements], Tensor]:
        """The loss: elements to (E,), or to a scalar where ``over_batch``."""
        from aes_dynloss.teaching.losses import components

        function: Callable[[Elements], Tensor] = getattr(components, self.function_name)
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

COMPONENTS: dict[str, Component] = {
    "mse": Component("squared_error"),
    "mae": Component("absolute_error", kinked=True),
    "huber": Component("huber"),
    "binary_cross_entropy": Component("binary_cross_entropy", needs="logits", in_units=False),
    **{name: Component(name, needs="log_probs", in_units=False) for name in OF_CLASSES},
    "ranking": Component("ranking", over_batch=True, in_units=False),
    "one_minus_qwk": Component("one_minus_qwk", over_batch=True, in_units=False),
    "stde": Component("standard_deviation_error", over_batch=True),
    "all_pairs_error": Component("all_pairs_error", over_batch=True),
}


def those_that_need(field: str, names: Sequence[str]) -> list[str]:
    """The components among these that read an optional field of :class:`Elements`.

    Examples:
        >>> those_that_need("log_probs", ["mse", "focal"])
        ['focal']
    """
    return [name for name in names if COMPONENTS[name].needs == field]


def _known_component(name: str) -> str:
    if name not in COMPONENTS:
        raise ValueError(f"there is no loss {name!r}; {advice_on(name, COMPONENTS)}")
    return name


ComponentName = Annotated[str, AfterValidator(_known_component)]
