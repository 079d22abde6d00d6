"""A recipe's script, run in this process: what it says and how it ends."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from unittest import mock

import torch
from command_line import Outcome, outcome_of

RECIPES = Path(__file__).parents[2] / "recipes"
VISION, TRANSLATION = RECIPES / "vision", RECIPES / "translation"


def recipe(script: str, *words: object, folder: Path = VISION) -> Outcome:
    """Run ``python FOLDER/SCRIPT WORDS`` without starting a process, on one thread; a bug raises."""
    path, threads, precision = folder / script, torch.get_num_threads(), torch.get_float32_matmul_precision()

    def call() -> int:
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as ended:
            return ended.code
        raise AssertionError(f"{script} ended without an exit code")

    torch.set_num_threads(1)
    try:
        with (
            mock.patch.object(sys, "argv", [str(path), *map(str, words)]),
            mock.patch.object(sys, "path", [str(folder), *sys.path]),
        ):
            return outcome_of(call)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
