"""The bilevel problem of a teacher: the student's training inside, a measure on teacher_dev outside.

Both levels read their batches as plans: one process's micro-batches of a step that the teacher differentiates.
"""

from __future__ import annotations

from accelerate import Accelerator

from aes_dynloss.teaching.hypergradient.differences import check_differences
from aes_dynloss.teaching.hypergradient.estimators import HypergradientConfig
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient, Measure
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.training.accelerator import AccelerateProcesses
from aes_dynloss.training.batching import Examples, Rows, Step, micro_batches, share_of
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.optimization import build_rule, learning_rate_factor

# Padded tokens in one forward pass under `training.micro_batch_tokens: auto`. Whole MiniLM on a CPU, 16 essays a step:
# 6.3 GB after 15 steps with 16384, 3.5 with 4096, 3.0 with 2048, all in the same time.
AUTO_TOKENS, AUTO_TOKENS_CPU = 16384, 4096


def step_plan(
    accelerator: Accelerator,
    train: Examples,
    step: Step,
    number: int,
    total: int,
    config: TrainingConfig,
    *,
    over_batch: bool,
) -> StepPlan:
    """Step ``number`` of ``total`` of a run, counted from 0; see :func:`measure_plan`."""
    plan = measure_plan(accelerator, train, step.rows, config, over_batch=over_batch)
    return StepPlan(plan.batches, plan.count, learning_rate_factor(number, total, config))


def measure_plan(
    accelerator: Accelerator, examples: Examples, rows: Rows, config: TrainingConfig, *, over_batch: bool
) -> StepPlan:
    """This process's share of some rows, on its device.

    Args:
        accelerator: The run's.
        examples: The table.
        rows: Its rows that are taken together.
        config: How many go forwards at once.
        over_batch: Whether what is computed of them is of all together.
    """
    tokens = config.micro_batch_tokens
    if tokens == "auto":
        tokens = AUTO_TOKENS_CPU if accelerator.device.type == "cpu" and not over_batch else AUTO_TOKENS
    share = share_of(rows, examples, accelerator.process_index, accelerator.num_processes)
    packs = micro_batches(share, examples, tokens, config.micro_batch_size)
    return StepPlan(tuple(pack.to(accelerator.device) for pack in packs), len(rows))


class BilevelProblem:
    """A student, its loss and optimiser (inner level), a measure on teacher_dev (outer level), and its hypergradient.

    Args:
        accelerator: The run's.
        student: The student, on its device.
        loss: The loss whose coefficients change.
        dev: Examples of teacher_dev.
        measure: The measure on them, without coefficients.
        config: Settings of its hypergradient.
        training: The student's settings.

    Attributes:
        live: The student.
        objective: The student's loss.
        measured: The measure on teacher_dev.
        rule: The student's optimiser as a pure function.
        estimator: The estimator of hypergradients.
        memory: What a run must store for it.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        student: Student,
        loss: DynamicLoss,
        dev: Examples,
        measure: DynamicLoss,
        config: HypergradientConfig,
        training: TrainingConfig,
    ) -> None:
        self.accelerator, self.dev, self.config, self.training = accelerator, dev, config, training
        processes, self.live = AccelerateProcesses(accelerator), LiveStudent(student)
        self.objective = Objective(self.live, loss, processes)
        self.measured = Objective(self.live, measure, processes, measuring=True)
        self.rule = build_rule(self.live, training)
        self.estimator = config.build()
        self.memory = config.memory(needs_gradient=self.rule.needs_gradient)

    def measure_on(self, rows: Rows) -> Measure:
        """The measure on some rows of teacher_dev."""
        whole = self.measured.loss.over_batch
        return Measure(self.measured, measure_plan(self.accelerator, self.dev, rows, self.training, over_batch=whole))

    def hypergradient(self, trajectory: Trajectory, measure: Measure) -> Hypergradient:
        """The hypergradient of a measure over a run; the live module is changed on the way."""
        return self.estimator(self.objective, self.rule, trajectory, measure)

    def check(self, trajectory: Trajectory, measure: Measure) -> None:
        """Warn if finite differences are far from the exact product on a run's last step, if they are in use."""
        if self.config.self_check and self.config.by_differences:
            with self.live.undisturbed():
                check_differences(self.objective, self.rule, trajectory, measure, self.config.difference_size)
