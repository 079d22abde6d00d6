"""A run of a vision recipe: configuration, folder, training, test, report. Each task brings its student and data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

from accelerate import Accelerator
from image_table import RATERS, Table
from matplotlib.figure import Figure
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor

from aes_dynloss import ConfigError, LossConfig, RunContext, TrainingConfig, TrainingError, predict, train_student
from aes_dynloss.cli.recipe_command import recipe_command
from aes_dynloss.configfile import ConfigModel
from aes_dynloss.teaching.losses.component_table import OF_CLASSES, those_that_need
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.teachers.config import DlfConfig, TeacherConfig, TeachingConfig
from aes_dynloss.training.batching import Examples
from aes_dynloss.training.config import Precision
from aes_dynloss.training.episodes import TEACHING_CHECKPOINT, TEACHING_LOG
from aes_dynloss.training.run_folder import (
    FIRST_STAGE,
    MANIFEST,
    PLOTS,
    TEACHER,
    describe_run,
    write_json,
)
from aes_dynloss.training.student_run import student_run

logger = logging.getLogger("aes_dynloss.vision")

WEIGHTS, PICTURE, REPORT = "student.safetensors", "predictions.png", "report.json"
PRODUCTS = (MANIFEST, TEACHER, PLOTS, TEACHING_LOG, TEACHING_CHECKPOINT, FIRST_STAGE, WEIGHTS, PICTURE, REPORT)
CONFIG_NAMES = {
    "classification": "ClassificationConfig",
    "detection": "DetectionConfig",
    "segmentation": "SegmentationConfig",
}
PACKAGES = ("aes-dynloss", "torch", "torchvision", "pycocotools", "accelerate", "numpy")
_DEFAULT_LOSS = LossConfig(terms={"cross_entropy": 1.0})
_USUAL_MEASURES = {"dlf": "expected_error", "dln": "cross_entropy"}


class VisionConfig(ConfigModel):
    """What all vision recipes have in common; a task adds its ``data`` and ``model``."""

    loss: LossConfig = Field(
        default=_DEFAULT_LOSS,
        description=f"The loss without a teacher, of {', '.join(OF_CLASSES)}.",
    )
    teacher: TeacherConfig | None = Field(
        default=None, description="A teacher that brings a loss of its own: kind dlf, dln, mwn or glc, or from: DIR."
    )
    training: TrainingConfig = Field(default=TrainingConfig())
    measure_size: int = Field(default=256, ge=1, description="Images in one forward pass where nothing is learnt.")

    @model_validator(mode="before")
    @classmethod
    def _usual_measure(cls, values: Any) -> Any:  # noqa: ANN401 - whatever a configuration holds
        """A teacher of classes lowers what its paper lowers; the core's own default is for scores."""
        teacher = values.get("teacher") if isinstance(values, dict) else None
        if not isinstance(teacher, dict) or "measure" in teacher:
            return values
        kind = teacher.get("kind")
        usual = _USUAL_MEASURES.get(kind) if isinstance(kind, str) else None
        if usual is None:
            return values
        return {**values, "teacher": {**teacher, "measure": usual}}

    @model_validator(mode="after")
    def _check_losses(self) -> Self:
        measure = self.teacher.measure if isinstance(self.teacher, TeachingConfig) else None
        asked = {"loss": list(self.loss.terms), "teacher.measure": [] if measure is None else [measure]}
        for what, names in asked.items():
            wrong = [name for name in names if name not in those_that_need("log_probs", names)]
            if wrong:
                raise ValueError(
                    f"{what}: {wrong[0]} is for scores, and these students answer classes; take one of "
                    f"{', '.join(OF_CLASSES)}"
                )
        if self.training.averaging is not None:
            raise ValueError(
                "training.averaging averages weights, not the statistics of batch norm that go with them; leave it out"
            )
        plain = self.loss.model_copy(update={"by": [], "levels": _DEFAULT_LOSS.levels})
        if self.teacher is not None and "loss" in self.model_fields_set and plain != _DEFAULT_LOSS:
            raise ValueError("a teacher brings its own loss; leave the section loss out")
        return self


class Task(Protocol[Table]):
    """A student and its data: ``train``, ``teacher_dev``, ``dev`` and ``test``."""

    select_by: str
    train: Table
    teacher_dev: Table
    dev: Table
    test: Table

    @property
    def student(self) -> Student:
        """What is trained."""

    @property
    def classes(self) -> int:
        """Their number."""

    def measures(self, outputs: Tensor, examples: Table) -> dict[str, float]:
        """Measures of a student's outputs, (N, D), for a whole table; ``select_by`` is among them; higher is better."""

    def draw(self, outputs: Tensor, examples: Table) -> Figure:
        """Predictions beside labels for the first few examples."""


Build = Callable[[Any, Accelerator], Task[Any]]


def run(
    build: Build,
    config: Any,  # noqa: ANN401
    folder: Path,
    precision: Precision | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    force_precision: bool = False,
) -> dict[str, Any]:
    """Train a task's student as a configuration says; test is read once, at the end.

    Args:
        build: Builds the task.
        config: A :class:`VisionConfig` with the task's sections.
        folder: For everything the run leaves behind.
        precision: That of its grid; None: as the configuration says, and as the run began.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run.
        force_precision: Allow bf16 on a processor that has it in software alone.

    Returns:
        The content of report.json.
    """

    def train(accelerator: Accelerator) -> dict[str, Any]:
        return _train_and_test(accelerator, build(config, accelerator), config, folder, resume=resume)

    how = {"resume": resume, "force": force, "force_precision": force_precision}
    return student_run(config, folder, PRODUCTS, train, precision, **how)


def _train_and_test(
    accelerator: Accelerator,
    task: Task[Any],
    config: Any,  # noqa: ANN401
    folder: Path,
    *,
    resume: bool,
) -> dict[str, Any]:
    check_bins(config.teacher, task.classes)
    if accelerator.is_main_process:  # before training: it says in which precision to go on
        parts = {name: getattr(task, name) for name in ("train", "teacher_dev", "dev", "test")}
        manifest = describe_run(accelerator, PACKAGES)
        manifest |= {"seed": config.training.seed, "images": {name: len(part) for name, part in parts.items()}}
        write_json(folder / MANIFEST, manifest)
    measure = partial(_measured, accelerator, task, config.measure_size)
    context = RunContext(accelerator, config.training, folder, measure, task.select_by, resume)
    result = train_student(
        context,
        task.student,
        task.train,
        task.teacher_dev,
        config.loss,
        config.teacher,
        classes=task.classes,
        raters=() if task.train.trusted_rows is None else RATERS,
        unit=None if task.train.trusted_rows is None else RATERS[0],
        shared=task.train.trusted_rows,
    )
    outputs = _outputs(accelerator, task, task.test, config.measure_size)
    if not accelerator.is_main_process:
        return {}
    task.draw(outputs, task.test).savefig(folder / PICTURE, dpi=110)
    state = task.student.as_module().state_dict()
    save_file({name: tensor.contiguous().cpu() for name, tensor in state.items()}, folder / WEIGHTS)
    return {
        "test": task.measures(outputs, task.test),
        "dev": {task.select_by: result.best_measure},
        "best_step": result.best_step,
        "steps": result.steps,
        "weights": sum(parameter.numel() for parameter in task.student.as_module().parameters()),
    }


def check_bins(teacher: TeacherConfig | None, classes: int) -> None:
    """Refuse a bilinear loss that would take classes for each other, as it does with neighbouring score points.

    Raises:
        ConfigError: It has fewer rows than there are classes.
    """
    if isinstance(teacher, DlfConfig) and teacher.bins < classes:
        raise ConfigError(
            f"teacher.bins is {teacher.bins}, expected at least {classes}, one for each class: with fewer the teacher "
            f"would take some for each other. Set teacher.bins={classes}."
        )


def _outputs(accelerator: Accelerator, task: Task[Any], examples: Examples, size: int) -> Tensor:
    outputs = predict(accelerator, task.student.as_module(), examples, tokens=None, size=size)
    if not bool(outputs.isfinite().all()):
        raise TrainingError(
            "The student's outputs are no longer finite numbers: it ran away in training. Lower training.learning_rate "
            "and training.head_learning_rate, or set training.clip_norm."
        )
    return outputs


def _measured(accelerator: Accelerator, task: Task[Any], size: int) -> Mapping[str, float]:
    return task.measures(_outputs(accelerator, task, task.dev, size), task.dev)


def command(name: str, config: type[VisionConfig], build: Build) -> None:
    """The command line of a recipe, see :func:`aes_dynloss.cli.recipe_command.recipe_command`.

    Args:
        name: The script's name.
        config: The class of its configuration.
        build: Builds its task.
    """
    recipe_command(name, config, partial(run, build))
