"""The parts from outside that a run is made with, and where they come from."""

from __future__ import annotations

from typing import Any

from aes_dynloss.essays.features.linguistic import GROUPS
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.policies import SCHEDULES, ScheduleConfig
from aes_dynloss.teaching.teachers.config import TEACHERS, TeachingConfig


def own_parts(config: FinetuneConfig) -> dict[str, dict[str, Any]]:
    """Origins of a run's losses, schedules, teacher and features that are from outside, by kind and name.

    Example:
        >>> own_parts(FinetuneConfig(data={"source": "made-up-essays"}))
        {}
    """
    teacher, losses = config.teacher, list(config.loss.terms)
    if isinstance(teacher, TeachingConfig) and teacher.measure is not None:
        losses.append(teacher.measure)
    schedules = [weight.schedule for weight in config.loss.terms.values() if isinstance(weight, ScheduleConfig)]
    origins = {
        COMPONENTS.kind: COMPONENTS.origins(losses),
        SCHEDULES.kind: SCHEDULES.origins(schedules),
        TEACHERS.kind: TEACHERS.origins([] if teacher is None else [teacher.kind]),
        GROUPS.kind: GROUPS.origins(config.model.linguistic_groups),
    }
    return {
        kind: {name: origin.model_dump(mode="json") for name, origin in named.items()}
        for kind, named in origins.items()
        if named
    }
