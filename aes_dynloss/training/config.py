"""Settings of a student's training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.teachers.config import DlnConfig, MwnConfig, RewritingConfig, TeacherConfig

Precision = Literal["float32", "bf16"]


class TrainingConfig(ConfigModel):
    """Settings of a student's training, see :func:`aes_dynloss.training.loop.fit`.

    Examples:
        >>> config = TrainingConfig(epochs=3, optimizer="sgd", momentum=0.9)
        >>> config.epochs, config.momentum, config.batch_size
        (3, 0.9, 16)
    """

    epochs: int = Field(default=5, ge=1, description="Passes over the training essays; early stopping may end sooner.")
    batch_size: int = Field(
        default=16, ge=1, description="Essays an optimiser step, over all processes and accumulation."
    )
    micro_batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default="auto",
        description="Padded tokens in one forward pass of one process; a batch with more is accumulated. auto: 16384; "
        "on a CPU, where more is no faster and takes memory, 4096, unless the loss is of the whole batch, which would "
        "go forwards twice. null: any number.",
    )
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="Essays in one forward pass of one process, at most."
    )
    length_window: int = Field(
        default=1,
        ge=1,
        description="Batches that are sorted by length together: 1 draws essays at random, more pads less "
        "but makes a batch's lengths, and so its scores, alike.",
    )
    learning_rate: float = Field(
        default=3e-5, gt=0, le=1e3, description="Peak learning rate of the encoder's top layer."
    )
    head_learning_rate: float = Field(default=1e-2, gt=0, le=1e3, description="Peak learning rate of pooling and head.")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="Factor on the learning rate from each encoder layer to the one below."
    )
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="The student's optimiser.")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of sgd.")
    weight_decay: float = Field(default=0.01, ge=0, le=1e3, description="Weight decay, on matrices only.")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Fraction of steps spent in warm-up.")
    decay: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate goes to 0 afterwards."
    )
    clip_norm: float | None = Field(default=1.0, gt=0, description="Largest norm of the gradient; null: no clipping.")
    averaging: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of the weights' exponential moving average; null: no averaging."
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 autocast on a GPU, or a CPU, that has it in hardware, else float32. A run that began "
        "goes on in its precision.",
    )
    device: Literal["auto", "cpu"] = Field(default="auto", description="cpu keeps a GPU out of it.")
    evaluations: int = Field(default=1, ge=1, le=1000, description="Measurements on dev, and checkpoints, an epoch.")
    checkpoint_minutes: float = Field(
        default=10.0,
        gt=0,
        description="Minutes after which a checkpoint is written between evaluations too, each of which writes one.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Evaluations without a better dev measure after which training stops."
    )
    log_every: int = Field(
        default=10, ge=1, description="Steps between looks at the numbers on the device: the log's resolution."
    )
    trackers: list[str] = Field(default=[], description="Accelerate's trackers, such as tensorboard; off by default.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of initial weights, order and dropout.")

    @model_validator(mode="after")
    def _check_momentum(self) -> Self:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError("momentum belongs to the optimizer sgd; leave it out with adamw, which has its own")
        return self


def check_averaging(config: TrainingConfig, teacher: TeacherConfig | None) -> None:
    """Refuse averaged weights beside a teacher that puts other weights into the student between its steps.

    Raises:
        ConfigError: The two are asked for together.

    Examples:
        >>> check_averaging(TrainingConfig(averaging=0.9), DlnConfig(kind="dln"))
        Traceback (most recent call last):
        aes_dynloss.errors.ConfigError: training.averaging has no place beside a teacher of kind dln, which rewrites
        weights; leave it out.
    """
    if config.averaging is not None and isinstance(teacher, DlnConfig | MwnConfig | RewritingConfig):
        raise ConfigError(
            f"training.averaging has no place beside a teacher of kind {teacher.kind}, which rewrites weights; leave "
            "it out."
        )
