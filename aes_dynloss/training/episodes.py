"""L2T-DLF's episodes: the student is trained from its start, again and again, and the teacher learns from each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from aes_dynloss.errors import TrainingError
from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.hypergradient.estimator import Hypergradient
from aes_dynloss.teaching.policies import StateTracker
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.teachers.config import DlfConfig
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher
from aes_dynloss.teaching.unrolling.step_plan import Gradient
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.training.accelerator import agree_on_buffers
from aes_dynloss.training.batching import Examples, Step, all_rows, steps_left, total_steps
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.problem import Lesson, step_plan
from aes_dynloss.training.run_folder import RunLog
from aes_dynloss.training.run_state import read_checkpoint, write_checkpoint

TEACHING_CHECKPOINT = "teaching.pt"
TEACHING_LOG = "teaching.jsonl"


@dataclass
class Taught:
    """What the episodes have left so far.

    Args:
        episodes: Episodes so far.
        coefficients: What the teacher answered in the last of them, (T, K).
    """

    episodes: int = 0
    coefficients: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


@dataclass
class _Episode:
    """One training of the student under the teacher as it is."""

    trajectory: Trajectory
    states: Tensor
    hypergradient: Hypergradient
    dev: Mapping[str, float]


class Episodes:
    """The episodes of a run under L2T-DLF.

    Every episode starts from the student's first weights, with an order of examples and dropout of its own.

    Args:
        accelerator: The run's.
        student: The student, on its device; it is left as it was.
        loss: The loss whose coefficients the teacher answers.
        teacher: The teacher, on the same device; it learns.
        train: Training examples.
        dev: Examples of teacher_dev.
        measure: The measure on them that the teacher lowers, without coefficients.
        config: The teacher's settings.
        training: The student's.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        student: Student,
        loss: DynamicLoss,
        teacher: AttentionTeacher,
        train: Examples,
        dev: Examples,
        measure: DynamicLoss,
        config: DlfConfig,
        training: TrainingConfig,
    ) -> None:
        self._accelerator = accelerator
        self._lesson = Lesson.prepared(accelerator, student, loss, dev, measure, config.hypergradient, training)
        self._measure = self._lesson.measure_on(all_rows(dev))
        self._teacher = teacher
        self._optimizer = torch.optim.Adam(teacher.parameters(), lr=config.learning_rate)
        self._train = train
        self._config = config
        self._training = training

    def run(
        self, measure: Callable[[], Mapping[str, float]], *, select_by: str, folder: Path, resume: bool = False
    ) -> Taught:
        """Run the episodes; no episode is chosen, the teacher is what the last has made of it.

        Args:
            measure: Measures the student as it then is on dev, as ``fit`` does it; the teacher sees it in the state.
            select_by: The measure that it sees.
            folder: Where the log and the checkpoint go.
            resume: Go on from the folder's checkpoint, if there is one.

        Raises:
            TrainingError: A measure or the teacher's gradient is no longer a number.
        """
        path = folder / TEACHING_CHECKPOINT
        taught, kept = self._restored(path) if resume and path.exists() else (Taught(), 0)
        main = self._accelerator.is_main_process
        with (
            RunLog(folder / TEACHING_LOG if main else None, keep=kept) as log,
            tqdm(
                total=self._config.episodes, initial=taught.episodes, desc="teach", unit="episode", disable=not main
            ) as bar,
        ):
            while taught.episodes < self._config.episodes:
                with self._lesson.live.undisturbed():
                    episode = self._episode(taught.episodes, measure, select_by)
                self._update(episode)
                taught.episodes += 1
                taught.coefficients = episode.trajectory.coefficients
                log.write(self._line(taught.episodes, episode))
                bar.set_postfix({select_by: f"{episode.dev[select_by]:.3f}"})
                bar.update()
                self._save(path, taught, log.flushed())
        return taught

    def _episode(self, number: int, measure: Callable[[], Mapping[str, float]], select_by: str) -> _Episode:
        training = self._training.model_copy(update={"seed": self._training.seed + 1000 * (number + 1)})
        total = self._config.steps or total_steps(self._train, training)
        steps = list(islice(_repeated(self._train, training), total))
        torch.manual_seed(training.seed + self._accelerator.process_index)  # before batches, which may draw from it
        plans = [
            step_plan(self._accelerator, self._train, step, place, total, training) for place, step in enumerate(steps)
        ]
        tracker = StateTracker(total)
        states: list[Tensor] = []
        errors: list[Tensor] = []

        @torch.no_grad()
        def asked() -> Tensor:
            states.append(tracker.state().as_tensor(self._lesson.live.device))
            answer: Tensor = self._teacher(states[-1][None])[0]
            return answer

        def taken(place: int, gradient: Gradient) -> None:
            tracker.step += 1
            errors.append(gradient.error)
            measured = steps[place].measured and place + 1 < total
            if measured or len(errors) >= training.log_every:
                for error in torch.stack(errors).tolist():
                    tracker.take_error(error)
                errors.clear()
            if measured:
                tracker.take_measure(self._measured(measure)[select_by])

        lesson = self._lesson
        start = lesson.rule.start(lesson.live.weights())
        trajectory = unroll(lesson.objective, lesson.rule, start, plans, asked, memory=lesson.memory, taken=taken)
        dev = self._measured(measure)
        if number == 0:
            lesson.check(trajectory, self._measure)
        hypergradient = lesson.hypergradient(trajectory, self._measure)
        return _Episode(trajectory, torch.stack(states), hypergradient, dev)

    def _update(self, episode: _Episode) -> None:
        """One step of the teacher: its whole run in one backward pass, batched over the steps."""
        answers = self._teacher(episode.states)
        self._optimizer.zero_grad()
        answers.backward(episode.hypergradient.coefficients.to(answers.dtype))
        _check_finite("measure", episode.hypergradient.measure)
        _check_finite("hypergradient", episode.hypergradient.norm)
        self._optimizer.step()

    def _measured(self, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The dev measures now; a student that has run away is told as such, not by what it does to them."""
        _check_finite("norm of the student's weights", self._lesson.live.weights().norm())
        agree_on_buffers(self._accelerator, self._lesson.live.module)
        return dict(measure())

    def _line(self, number: int, episode: _Episode) -> dict[str, Any]:
        mean = self._lesson.objective.loss.logged_values(episode.trajectory.coefficients.mean(0))
        return {
            "step": number,
            "measure": float(episode.hypergradient.measure),
            "hypergradient_norm": float(episode.hypergradient.norm),
            "coefficients": {name: float(value) for name, value in mean.items()},
            "dev": dict(episode.dev),
        }

    def _save(self, path: Path, taught: Taught, log_bytes: int) -> None:
        if self._accelerator.is_main_process:
            content = {"taught": vars(taught), "teacher": self._teacher.state_dict(), "log_bytes": log_bytes}
            write_checkpoint(path, {**content, "optimizer": self._optimizer.state_dict()})
        self._accelerator.wait_for_everyone()

    def _restored(self, path: Path) -> tuple[Taught, int]:
        saved = read_checkpoint(path)
        self._teacher.load_state_dict(saved["teacher"])
        self._optimizer.load_state_dict(saved["optimizer"])
        return Taught(**saved["taught"]), int(saved["log_bytes"])


def _check_finite(name: str, value: Tensor) -> None:
    if not math.isfinite(float(value)):
        raise TrainingError(
            f"In the teacher's episode the {name} is {float(value)}, expected a finite number. Lower the student's "
            "learning rate or training.clip_norm, or shorten the episode by teacher.steps."
        )


def _repeated(train: Examples, training: TrainingConfig) -> Iterator[Step]:
    """The steps of as many epochs as are asked for."""
    endless = training.model_copy(update={"epochs": 10**9})
    return steps_left(train, endless, taken=0)
