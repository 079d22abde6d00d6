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
from aes_dynloss.teaching.losses.loss_spec import LossSpec, MetaWeightSpec, NetworkSpec, SteeredSpec
from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.teachers.config import TEACHERS
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, FixedPolicy, RandomPolicy, TaughtPolicy
from aes_dynloss.training.episodes import in_pieces
from aes_dynloss.training.run_folder import write_json

TEACHER_CONFIG = "teacher.json"
TEACHER_WEIGHTS = "teacher.safetensors"
PHI = "phi"
COEFFICIENTS = "coefficients"
TeacherKind = Literal["dlf", "dln", "mwn", "glc", "rewriting"]


class SavedControl(ConfigModel):
    """What an L2T-DLF run's final student was trained under in the teacher's place."""

    kind: Literal["frozen_mean", "random"] = Field(description="As ``teacher.control``.")
    seed: int = Field(description="Of random directions.")

    def policy(self, spec: SteeredSpec, coefficients: Tensor) -> LossPolicy:
        """The policy.

        Args:
            spec: The losses whose coefficients it returns.
            coefficients: The teacher's outputs over a run, (T, K).
        """
        if self.kind == "frozen_mean":
            return FixedPolicy(coefficients.mean(0))  # the teacher's tuning of the loss without the dynamics
        return RandomPolicy(coefficients, spec.neutral(), positive=spec.positive, seed=self.seed)


class SavedTeacher(ConfigModel):
    """The content of teacher.json."""

    format: Literal["aes_dynloss.teacher"] = "aes_dynloss.teacher"
    version: Literal[1] = 1
    kind: TeacherKind = Field(description="The method that trained it; rewriting: one from outside.")
    loss: LossSpec = Field(description="The family of losses whose coefficients it returns.")
    pieces: int | None = Field(default=None, ge=1, description="dlf: stretches of a run that it is asked for.")
    control: SavedControl | None = Field(default=None, description="dlf: what stands in for the teacher, if anything.")
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
    control: SavedControl | None = None,
    registered: str | None = None,
) -> None:
    """Write a teacher.

    Args:
        folder: The folder, created if it is missing.
        kind: The method that trained it.
        spec: The losses whose coefficients it returns.
        weights: dlf: the attention teacher's, or with a control its outputs over a run as ``coefficients``. dln: the
            loss network as ``phi``, and the recurrent teacher's. mwn: the weighting network as ``phi``. glc: the
            matrices as ``phi``. rewriting: the mixture's weights as ``phi``.
        pieces: Stretches of a run over which its coefficients stay the same; None: none.
        control: What stands in for an L2T-DLF teacher; None: nothing.
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
        control=control,
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
        if saved.control is not None:
            policy = saved.control.policy(saved.loss, weights[COEFFICIENTS].to(device))
            return saved.loss, in_pieces(policy, saved.pieces)
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
