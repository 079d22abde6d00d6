"""Scoring that is killed on its way to the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aes_dynloss.essays.scoring.score import score_essays

KILLS = 50


def kill_at(step: int) -> None:
    """Score three essays at a time, and end without warning before so many steps towards the disk; 0: never."""
    score_essays.__kwdefaults__["window"] = 3
    left = [step]

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def step_of(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **kwargs)

        return step_of

    os.fsync, Path.replace, Path.unlink = counted(os.fsync), counted(Path.replace), counted(Path.unlink)  # type: ignore[method-assign]
