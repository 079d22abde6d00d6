"""Teacher folders: teacher.json and teacher.safetensors. Data, never code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aes_dynloss.configfile import ConfigModel, read_mapping, validate
from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.teaching.loss_spec import LossSpec, NetworkSpec
from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.teachers.attention import AttentionTeacher, TaughtPolicy
from aes_dynloss.teaching.teachers.controls import FixedPolicy
from aes_dynloss.training.run_folder import write_json

TEACHER = "teacher.json"
WEIGHTS = "teacher.safetensors"
PHI = "phi"


class SavedTeacher(ConfigModel):
    """The content of teacher.json."""

    format: Literal["aes_dynloss.teacher"] = "aes_dynloss.teacher"
    version: Literal[1] = 1
    kind: Literal["dlf", "dln"] = Field(description="How it was taught.")
    loss: LossSpec = Field(description="The family of losses that it steers.")
    sha256: str = Field(description="Digest of teacher.safetensors.")


def write_teacher(folder: Path, kind: Literal["dlf", "dln"], spec: LossSpec, weights: dict[str, Tensor]) -> None:
    """Write a teacher.

    Args:
        folder: Where to; made if it is not there.
        kind: How it was taught.
        spec: The losses that it steers.
        weights: dlf: the attention teacher's. dln: the loss network as ``phi``, and the recurrent teacher's.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{WEIGHTS}.partial"
    partial.write_bytes(content)
    partial.replace(folder / WEIGHTS)
    saved = SavedTeacher(kind=kind, loss=spec, sha256=hashlib.sha256(content).hexdigest())
    write_json(folder / TEACHER, saved.model_dump(mode="json"))


def read_teacher(folder: Path, device: torch.device) -> tuple[LossSpec, LossPolicy]:
    """A frozen teacher: its losses, and the policy that it is now.

    Args:
        folder: A folder that :func:`write_teacher` wrote.
        device: Where the student is.

    Raises:
        ConfigError: There is no such folder.
        CheckpointError: It is damaged.
    """
    if not (folder / TEACHER).is_file():
        raise ConfigError(f"teacher.from: {folder} holds no {TEACHER}. Name the folder teacher/ of a run that taught.")
    try:
        saved = validate(SavedTeacher, read_mapping(folder / TEACHER), str(folder / TEACHER))
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != saved.sha256:
            raise CheckpointError(f"{folder / WEIGHTS} is not the file that was written. Copy the folder again, whole.")
        weights = load(content)
        return saved.loss, _policy(saved, weights, device)
    except CheckpointError:
        raise
    except (ConfigError, OSError, SafetensorError, LookupError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The teacher in {folder} cannot be read: {error}. Copy the folder again, whole."
        ) from None


def _policy(saved: SavedTeacher, weights: dict[str, Any], device: torch.device) -> LossPolicy:
    if isinstance(saved.loss, NetworkSpec):
        return FixedPolicy(weights[PHI].to(device))
    keys = weights["keys"].shape[1]
    teacher = AttentionTeacher(saved.loss.neutral(), saved.loss.blocks, positive=saved.loss.positive, keys=keys)
    teacher.load_state_dict(weights)
    return TaughtPolicy(teacher.to(device))
