"""From a table's rows to what one process reads in a step that a teacher differentiates."""

from __future__ import annotations

from accelerate import Accelerator

from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.training.batching import Examples, Rows, Step, micro_batches, share_of
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.optimization import learning_rate_factor


def step_plan(
    accelerator: Accelerator, train: Examples, step: Step, number: int, total: int, config: TrainingConfig
) -> StepPlan:
    """Step ``number`` of ``total`` of a run, counted from 0."""
    plan = measure_plan(accelerator, train, step.rows, config)
    return StepPlan(plan.batches, plan.count, learning_rate_factor(number, total, config))


def measure_plan(accelerator: Accelerator, examples: Examples, rows: Rows, config: TrainingConfig) -> StepPlan:
    """This process's share of some rows, on its device."""
    share = share_of(rows, examples, accelerator.process_index, accelerator.num_processes)
    packs = micro_batches(share, examples, config.micro_batch_tokens, config.micro_batch_size)
    return StepPlan(tuple(pack.to(accelerator.device) for pack in packs), len(rows))
