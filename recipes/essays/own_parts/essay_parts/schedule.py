"""A schedule: a weight that rises and then stays."""

from typing import Annotated

from pydantic import Field

from aes_dynloss import register_schedule


@register_schedule("ramp")
def ramp(progress: float, *, until: Annotated[float, Field(gt=0, le=1)] = 0.3, height: float = 0.5) -> float:
    """Rises in a straight line from 0 to its height, reached at progress `until`."""
    return height * min(1.0, progress / until)
