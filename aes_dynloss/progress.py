"""Progress of long work: a labelled bar on a terminal, elsewhere now and then a line of the log."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

# Seconds before the first line, which says how long it will take, and between the next ones.
FIRST, LATER = 10.0, 60.0


class Progress(tqdm):  # type: ignore[misc]
    """A bar as tqdm draws it; where standard error is no terminal, lines with a time stamp in its place.

    Args:
        args, kwargs: As tqdm takes them; ``desc`` is the label, ``unit`` one step in the singular.

    Example:
        >>> for batch in Progress([1, 2, 3], desc="encode essays", unit="batch", disable=True):
        ...     pass
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - tqdm's own
        self._told = -LATER  # seconds after the beginning
        self._draws = draws_bars()
        if not self._draws:
            kwargs |= {"mininterval": FIRST, "miniters": 1, "maxinterval": float("inf"), "file": io.StringIO()}
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
        """Draw the bar, or log how far the work is and how long the rest will take."""
        if self._draws:
            drawn: bool | None = super().display(msg, pos)
            return drawn
        done, total = self.n - self.initial, self.total
        if msg == "" or done <= 0 or self.n == total:  # it ends, or there is nothing to tell, or nothing left
            return None
        elapsed = self.format_dict["elapsed"]
        if elapsed < self._told + LATER:
            return None
        self._told = elapsed
        left = "" if not total else f" of {total}, {_minutes((total - self.n) * elapsed / done)} left"
        logger.info("%s: %s %d%s", str(self.desc).removesuffix(": "), self.unit.strip(), self.n, left)
        return None


def draws_bars() -> bool:
    """Whether standard error is a terminal, in which a bar can be drawn again and again."""
    return bool(getattr(sys.stderr, "isatty", bool)())


def _minutes(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"
