"""The folder of a teacher that learned: teacher.json and teacher.safetensors, which hold data, never code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aes_dynloss.configfile import ConfigModel, read_mapping, validate
from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.parts import Origin, recorded_origins
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.losses.loss_spec import LossSpec, MetaWeightSpec, NetworkSpec
from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.teachers.config import TEACHERS
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, FixedPolicy, TaughtPolicy
from aes_dynloss.training.episodes import in_pieces
from aes_dynloss.training.run_folder import write_json

TEACHER_CONFIG = "teacher.json"
TEACHER_WEIGHTS = "teacher.safetensors"
PHI = "phi"
TeacherKind = Literal["dlf", "dln", "mwn", "glc", "rewriting"]


class SavedTeacher(ConfigModel):
    """The content of teacher.json."""

    format: Literal["aes_dynloss.teacher"] = "aes_dynloss.teacher"
    version: Literal[1] = 1
    kind: TeacherKind = Field(description="The method that trained it; rewriting: one from outside.")
    loss: LossSpec = Field(description="The family of losses whose coefficients it returns.")
    pieces: int | None = Field(default=None, ge=1, description="dlf: stretches of a run that it is asked for.")
    parts: dict[Literal["teachers", "losses"], dict[str, Origin]] = Field(
        default={}, description="Where those parts come from that are from outside, by name."
    )
    sha256: str = Field(description="Digest of teacher.safetensors.")


def write_teacher(
    folder: Path,
    kind: TeacherKind,
    spec: LossSpec,
    weights: dict[str, Tensor],
    *,
    pieces: int | None = None,
    registered: str | None = None,
) -> None:
    """Write a teacher.

    Args:
        folder: The folder, created if it is missing.
        kind: The method that trained it.
        spec: The losses whose coefficients it returns.
        weights: dlf: the attention teacher's. dln: the loss network as ``phi``, and the recurrent teacher's. mwn: the
            weighting network as ``phi``. glc: the matrices as ``phi``. rewriting: the mixture's weights as ``phi``.
        pieces: Stretches of a run over which its coefficients stay the same; None: none.
        registered: Name of a teacher from outside.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    with atomic_file(folder / TEACHER_WEIGHTS) as temporary:
        temporary.write_bytes(content)
    teachers = TEACHERS.origins([] if registered is None else [registered])
    saved = SavedTeacher(
        kind=kind,
        loss=spec,
        pieces=pieces,
        parts={"teachers": teachers, "losses": COMPONENTS.origins(getattr(spec, "terms", ()))},
        sha256=hashlib.sha256(content).hexdigest(),
    )
    write_json(folder / TEACHER_CONFIG, saved.model_dump(mode="json"))


def read_teacher(folder: Path, device: torch.device) -> tuple[LossSpec, LossPolicy]:
    """Read a frozen teacher: its family of losses, and its policy.

    Args:
        folder: A folder that :func:`write_teacher` wrote.
        device: The student's device.

    Raises:
        ConfigError: There is no such folder.
        CheckpointError: It is damaged.
    """
    if not (folder / TEACHER_CONFIG).is_file():
        raise ConfigError(
            f"teacher.from: {folder} holds no {TEACHER_CONFIG}. Name the folder teacher/ of a run that taught."
        )
    try:
        values = read_mapping(folder / TEACHER_CONFIG)
        COMPONENTS.check_origins(recorded_origins(values, COMPONENTS.kind), folder / TEACHER_CONFIG)
        saved = validate(SavedTeacher, values, str(folder / TEACHER_CONFIG))
        content = (folder / TEACHER_WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != saved.sha256:
            raise CheckpointError(
                f"{folder / TEACHER_WEIGHTS} is not the file that was written. Copy the folder again, whole."
            )
        weights = load(content)
        if saved.kind in {"rewriting", "glc"} or isinstance(saved.loss, NetworkSpec | MetaWeightSpec):
            return saved.loss, FixedPolicy(weights[PHI].to(device))
        keys = weights["keys"].shape[1]
        teacher = AttentionTeacher(saved.loss.neutral(), saved.loss.blocks, positive=saved.loss.positive, keys=keys)
        teacher.load_state_dict(weights)
        return saved.loss, in_pieces(TaughtPolicy(teacher.to(device)), saved.pieces)
    except CheckpointError:
        raise
    except (ConfigError, OSError, SafetensorError, LookupError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The teacher in {folder} cannot be read: {error}. Copy the folder again, whole."
        ) from None
