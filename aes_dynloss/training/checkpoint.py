"""One file that holds everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import pickle
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor
from torch.nn import Module

from aes_dynloss.errors import CheckpointError

FORMAT = 1
_UNREADABLE = (pickle.UnpicklingError, BadZipFile, zlib.error)


def trained_state(module: Module) -> dict[str, Tensor]:
    """Copies of what training changes: parameters that learn, and buffers; frozen weights are left out."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items() if name not in frozen}


def load_trained_state(module: Module, state: dict[str, Tensor]) -> None:
    """Put :func:`trained_state` back.

    Raises:
        CheckpointError: The state belongs to another student.
    """
    expected = trained_state(module)
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += sorted(name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape)
    if wrong:
        raise CheckpointError(
            f"The checkpoint belongs to another student: {len(wrong)} weights do not fit, such as {wrong[0]}. "
            "Resume with the configuration of the run, or start again with --force."
        )
    module.load_state_dict(state, strict=False)


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint that is there whole or not at all, whenever the process is killed.

    Raises:
        CheckpointError: It cannot be written, such as on a full disk; the one before it is still there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch hides the system's words behind its own
        partial.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__ or error
        words = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be written: {words}. Make room on the disk, then go on with --resume."
        ) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        CheckpointError: The file is damaged, or of another format.
    """
    try:
        # torch.load does not look at the checksums, and would take a changed byte for a weight.
        with ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise BadZipFile(f"{damaged} does not have its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, EOFError, *_UNREADABLE) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint ({str(error).splitlines()[0] if str(error) else type(error).__name__}). "
            "Remove it and start again with --force."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this version. Start again with --force.")
    return content
