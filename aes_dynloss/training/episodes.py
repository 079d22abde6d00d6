"""Episodes of L2T-DLF: the student is trained from its first weights in each, and the teacher updated after some."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aes_dynloss.errors import TrainingError
from aes_dynloss.progress import Progress
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient, Measure
from aes_dynloss.teaching.policies import LossPolicy, StateTracker, StudentState
from aes_dynloss.teaching.teachers.config import DlfConfig
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, TaughtPolicy
from aes_dynloss.teaching.teachers.steps import build_teacher_steps, teacher_reach
from aes_dynloss.teaching.unrolling.step_plan import Gradient
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.training.accelerator import agree_on_buffers
from aes_dynloss.training.batching import Examples, Rows, Subset, members, steps_left, total_steps
from aes_dynloss.training.loop import RunContext, TeacherUpdate
from aes_dynloss.training.problem import BilevelProblem, step_plan
from aes_dynloss.training.run_folder import RunLog
from aes_dynloss.training.run_state import read_checkpoint, write_checkpoint

logger = logging.getLogger(__name__)

TEACHING_CHECKPOINT = "teaching.pt"
TEACHING_LOG = "teaching.jsonl"
# Progress is a part of the steps: multiplied again, it may fall short of a whole number.
_ROUNDING = 1e-9


def episode_figures(log: Path) -> dict[str, list[float]] | None:
    """The measure that the teacher lowers and the hypergradient's norm in every episode; None where there is no log."""
    if not log.exists():
        return None
    episodes = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {name: [episode[name] for episode in episodes] for name in ("measure", "hypergradient_norm")}


class PiecewisePolicy(TeacherUpdate):
    """Coefficients that stay the same over a stretch of a run: a policy is asked at each stretch's first step alone.

    As the update of a run it carries the states in which the policy was asked through checkpoints.

    Args:
        policy: The policy.
        pieces: Stretches, of equal progress.

    Examples:
        >>> from aes_dynloss.teaching.policies import Linear, ScheduledPolicy
        >>> policy = PiecewisePolicy(ScheduledPolicy({"mse": Linear(start=0.0, end=1.0)}), pieces=2)
        >>> [float(policy.coefficients(StudentState(progress))) for progress in (0.0, 0.25, 0.5, 0.75)]
        [0.0, 0.0, 0.5, 0.5]
    """

    def __init__(self, policy: LossPolicy, pieces: int) -> None:
        self._policy = policy
        self._pieces = pieces
        self._asked: dict[int, StudentState] = {}

    def first_state(self, state: StudentState) -> StudentState:
        """The state at the first step of a state's stretch."""
        piece = min(int(state.progress * self._pieces + _ROUNDING), self._pieces - 1)
        return self._asked.setdefault(piece, state)

    def coefficients(self, state: StudentState) -> Tensor:
        """Coefficients for a state, (K,): those of its stretch."""
        return self._policy.coefficients(self.first_state(state))

    def state_dict(self) -> dict[str, Any]:
        """The first states of the stretches so far."""
        return {"asked": {piece: list(astuple(state)) for piece, state in self._asked.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._asked = {piece: StudentState(*values) for piece, values in state["asked"].items()}


def in_pieces(policy: LossPolicy, pieces: int | None) -> LossPolicy:
    """A policy over so many stretches of a run; None: as it is."""
    return policy if pieces is None else PiecewisePolicy(policy, pieces)


@dataclass
class EpisodesState:
    """The progress of the episodes.

    Args:
        episodes: Completed episodes, of which ``average`` make an update.
        coefficients: The teacher's coefficients in the last of them, (T, K).
        states: States of the student that it saw there, (T, S).
        best: Least measure on the held-out half of teacher_dev, a mean over an update's episodes; infinite without one.
        teacher: The teacher of those episodes.
        held_out: The measures on that half in the last episodes, by which the last update's teacher is judged.
    """

    episodes: int = 0
    coefficients: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    states: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    best: float = math.inf
    teacher: dict[str, Tensor] = field(default_factory=dict)
    held_out: list[float] = field(default_factory=list)


@dataclass
class _Episode:
    """One training run of the student under the current teacher."""

    trajectory: Trajectory
    states: Tensor
    hypergradient: Hypergradient
    dev: Mapping[str, float]
    held_out: float | None


def _halves(examples: Examples) -> list[Rows]:
    """Rows of two halves of the teacher's examples, those of a unit in one."""
    together = members(examples)
    if together is None:
        rows = np.arange(len(examples))
        return [rows[::2], rows[1::2]]
    none = np.empty(0, dtype=np.int64)
    return [np.concatenate([none, *together[start::2]]) for start in (0, 1)]


class Episodes:
    """The episodes of a run under L2T-DLF.

    Every episode starts from the student's first weights, with an order of examples and dropout of its own.

    Args:
        context: The run; the teacher sees ``select_by`` of its measures in the state of the student.
        problem: The student, which is left as it was, and the measure that the teacher minimises.
        teacher: The teacher, on the student's device; it is updated.
        train: Training examples.
        config: The teacher's settings.
        shared: Where the teacher's examples are training examples too, the row of each in ``train``: then an episode
            trains on one half of them, and measures on the other, in turn.
    """

    def __init__(
        self,
        context: RunContext,
        problem: BilevelProblem,
        teacher: AttentionTeacher,
        train: Examples,
        config: DlfConfig,
        shared: Rows | None = None,
    ) -> None:
        self._context = context
        self._accelerator = context.accelerator
        self._problem = problem
        self._halves = _halves(problem.dev)
        self._shared = shared
        # Where halves are measured by turns, one teacher is compared with another on both, each as often.
        self._judged = config.average if shared is None else config.average + config.average % 2
        self._teacher = teacher
        self._optimizer = build_teacher_steps(config.optimizer, teacher.parameters(), config.learning_rate)
        self._whole = train
        self._config = config

    def run(self) -> EpisodesState:
        """Run the episodes; the result is the teacher after the last one, or the best, as the configuration says.

        Raises:
            TrainingError: A measure or the teacher's gradient is no longer finite.
        """
        path, select_by = self._context.folder / TEACHING_CHECKPOINT, self._context.select_by
        state, kept = self._restored(path) if self._context.resume and path.exists() else (EpisodesState(), 0)
        if state.episodes == 0:
            self._warn_of_short_reach()
        main, total = self._accelerator.is_main_process, self._config.episodes * self._config.average
        with (
            RunLog(self._context.folder / TEACHING_LOG if main else None, keep=kept) as log,
            Progress(total=total, initial=state.episodes, desc="teach", unit="episode", disable=not main) as bar,
        ):
            while state.episodes < total:
                with self._problem.live.undisturbed():
                    episode = self._episode(state.episodes)
                self._learn_from(episode, state)
                state.episodes += 1
                if state.episodes % self._config.average == 0:
                    self._update(state)
                state.coefficients, state.states = episode.trajectory.coefficients, episode.states
                log.write(self._line(state.episodes, episode))
                bar.set_postfix({select_by: f"{episode.dev[select_by]:.3f}"})
                bar.update()
                self._save(path, state, log.flushed())
        if state.teacher:
            self._teacher.load_state_dict(state.teacher)
        return state

    def _warn_of_short_reach(self) -> None:
        """Warn of a teacher that cannot bring its largest value to 0 however long it walks in one direction."""
        config, weights = self._config, sum(parameter.numel() for parameter in self._teacher.parameters())
        reach = teacher_reach(config.optimizer, config.learning_rate, config.decay, config.episodes, weights)
        scale = float(self._teacher.values.detach().abs().max())
        if reach < scale and self._accelerator.is_main_process:
            logger.warning(
                "The teacher cannot move far: %d updates change its weights by at most %.2g (root mean square), where "
                "they are as large as %.2g, so that the loss stays near the plain one. Raise teacher.learning_rate or "
                "teacher.episodes.",
                config.episodes,
                reach,
                scale,
            )

    def _episode(self, number: int) -> _Episode:
        train, measure, held_out = self._parts(number)
        training = self._context.config
        training = training.model_copy(update={"seed": training.seed + 1000 * (number + 1)})
        total = self._config.steps or total_steps(self._whole, training)
        endless = training.model_copy(update={"epochs": 10**9})
        steps = list(islice(steps_left(train, endless, taken=0), total))
        torch.manual_seed(training.seed + self._accelerator.process_index)  # before batches, which may draw from it
        whole = self._problem.objective.loss.over_batch
        plans = [
            step_plan(self._accelerator, train, step, index, total, training, over_batch=whole)
            for index, step in enumerate(steps)
        ]
        tracker = StateTracker(total)
        stretches = PiecewisePolicy(TaughtPolicy(self._teacher), self._config.pieces or total)
        states: list[Tensor] = []
        errors: list[Tensor] = []

        def next_coefficients() -> Tensor:
            states.append(stretches.first_state(tracker.state()).as_tensor(self._problem.live.device))
            return stretches.coefficients(tracker.state())

        def on_step(index: int, gradient: Gradient) -> None:
            tracker.step += 1
            errors.append(gradient.error)
            measured = steps[index].measured and index + 1 < total
            if measured or len(errors) >= training.log_every:
                for error in torch.stack(errors).tolist():
                    tracker.take_error(error)
                errors.clear()
            if measured:
                tracker.take_measure(self._measured()[self._context.select_by])

        problem = self._problem
        start = problem.rule.start(problem.live.weights())
        trajectory = unroll(
            problem.objective, problem.rule, start, plans, next_coefficients, memory=problem.memory, on_step=on_step
        )
        dev = self._measured()
        if number == 0:
            problem.check(trajectory, measure)
        beside = None if held_out is None else float(held_out.value(trajectory.end.weights))
        hypergradient = problem.hypergradient(trajectory, measure)
        if self._shared is not None and self._config.keep == "best":  # what is measured was not trained on
            beside = float(hypergradient.measure)
        return _Episode(trajectory, torch.stack(states), hypergradient, dev, beside)

    def _parts(self, number: int) -> tuple[Examples, Measure, Measure | None]:
        """An episode's training examples, its measure, and that on examples which give no hypergradient."""
        problem, (first, second) = self._problem, self._halves
        if self._shared is not None:
            measured = self._halves[number % 2]
            rest = np.setdiff1d(np.arange(len(self._whole)), self._shared[measured])
            return Subset(self._whole, rest), problem.measure_on(measured), None
        if self._config.keep == "best":
            return self._whole, problem.measure_on(first), problem.measure_on(second)
        return self._whole, problem.measure_on(np.concatenate([first, second])), None

    def _learn_from(self, episode: _Episode, state: EpisodesState) -> None:
        """Add an episode to its update's gradient: its whole run in one backward pass, batched over the steps."""
        if state.episodes % self._config.average == 0:
            self._optimizer.zero_grad()
        coefficients = self._teacher(episode.states)
        hypergradient = episode.hypergradient.coefficients / self._config.average
        coefficients.backward(hypergradient.to(coefficients.dtype))
        _check_finite("measure", episode.hypergradient.measure)
        _check_finite("hypergradient", episode.hypergradient.norm)
        if episode.held_out is not None:
            state.held_out.append(episode.held_out)

    def _update(self, state: EpisodesState) -> None:
        """One step of the teacher, which is kept as it was if its episodes ended best, or none has been judged yet."""
        recent = state.held_out = state.held_out[-self._judged :]
        held_out = fmean(recent) if len(recent) == self._judged else math.inf
        if recent and (held_out < state.best or not state.teacher):
            state.best = held_out
            state.teacher = {name: tensor.clone() for name, tensor in self._teacher.state_dict().items()}
        if self._config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._teacher.parameters(), self._config.clip_norm)
        for group in self._optimizer.param_groups:
            update = state.episodes // self._config.average - 1
            group["lr"] = self._config.learning_rate * self._config.decay**update
        self._optimizer.step()

    def _measured(self) -> dict[str, float]:
        """The current dev measures; a student that diverged is reported as such, before it is measured."""
        _check_finite("norm of the student's weights", self._problem.live.weights().norm())
        agree_on_buffers(self._accelerator, self._problem.live.module)
        return dict(self._context.measure())

    def _line(self, number: int, episode: _Episode) -> dict[str, Any]:
        mean = self._problem.objective.loss.logged_values(episode.trajectory.coefficients.mean(0))
        return {
            "step": number,
            "measure": float(episode.hypergradient.measure),
            "hypergradient_norm": float(episode.hypergradient.norm),
            "coefficients": {name: float(value) for name, value in mean.items()},
            "dev": dict(episode.dev),
            **({} if episode.held_out is None else {"held_out": episode.held_out}),
        }

    def _save(self, path: Path, state: EpisodesState, log_bytes: int) -> None:
        if self._accelerator.is_main_process:
            content = {"taught": vars(state), "teacher": self._teacher.state_dict(), "log_bytes": log_bytes}
            gradient = [parameter.grad for parameter in self._teacher.parameters()]
            write_checkpoint(path, {**content, "optimizer": self._optimizer.state_dict(), "gradient": gradient})
        self._accelerator.wait_for_everyone()

    def _restored(self, path: Path) -> tuple[EpisodesState, int]:
        saved = read_checkpoint(path)
        self._teacher.load_state_dict(saved["teacher"])
        self._optimizer.load_state_dict(saved["optimizer"])
        for parameter, gradient in zip(self._teacher.parameters(), saved["gradient"], strict=True):
            parameter.grad = gradient.to(parameter)
        return EpisodesState(**saved["taught"]), int(saved["log_bytes"])


def _check_finite(name: str, value: Tensor) -> None:
    if not math.isfinite(float(value)):
        raise TrainingError(
            f"In the teacher's episode the {name} is {float(value)}, expected a finite number. Lower the student's "
            "learning rate or training.clip_norm, or shorten the episode by teacher.steps."
        )
