"""aes-dynloss: Transformer essay scorers trained under losses that change while they train.

The public names, loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError, DataError, ShapeError, TrainingError
    from aes_dynloss.essays.data.data_config import DataConfig
    from aes_dynloss.essays.data.readers import read_essays
    from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
    from aes_dynloss.essays.features.own_features import register_feature
    from aes_dynloss.essays.finetune.config import FinetuneConfig
    from aes_dynloss.essays.public.finetune import finetune
    from aes_dynloss.essays.public.regressor import EssayScoreRegressor
    from aes_dynloss.essays.public.scorer import EssayScorer
    from aes_dynloss.measures.agreement import quadratic_weighted_kappa
    from aes_dynloss.measures.bootstrap import Paired, bootstrap_draws
    from aes_dynloss.measures.calibration import fit_rescaling
    from aes_dynloss.reports.predictions import read_predictions
    from aes_dynloss.reports.prompts import build_report
    from aes_dynloss.tables.score_range import ScoreRange
    from aes_dynloss.teaching.losses.component_table import register_loss
    from aes_dynloss.teaching.policies import LossConfig, StudentState, register_schedule
    from aes_dynloss.teaching.student import Batch, Elements
    from aes_dynloss.teaching.teachers.config import PolicyConfig, RewritingConfig, register_teacher
    from aes_dynloss.teaching.teachers.rewriting import RewritingTeacher
    from aes_dynloss.training.config import TrainingConfig
    from aes_dynloss.training.loop import RunContext, fit
    from aes_dynloss.training.prediction import predict
    from aes_dynloss.training.run import train_student

_MODULES = {
    "errors": ["AesDynlossError", "CheckpointError", "ConfigError", "DataError", "ShapeError", "TrainingError"],
    "essays.data.data_config": ["DataConfig"],
    "essays.data.readers": ["read_essays"],
    "essays.ensembles.ensemble": ["EssayEnsemble"],
    "essays.features.own_features": ["register_feature"],
    "essays.finetune.config": ["FinetuneConfig"],
    "essays.public.finetune": ["finetune"],
    "essays.public.regressor": ["EssayScoreRegressor"],
    "essays.public.scorer": ["EssayScorer"],
    "measures.agreement": ["quadratic_weighted_kappa"],
    "measures.bootstrap": ["Paired", "bootstrap_draws"],
    "measures.calibration": ["fit_rescaling"],
    "reports.predictions": ["read_predictions"],
    "reports.prompts": ["build_report"],
    "tables.score_range": ["ScoreRange"],
    "teaching.losses.component_table": ["register_loss"],
    "teaching.policies": ["LossConfig", "StudentState", "register_schedule"],
    "teaching.student": ["Batch", "Elements"],
    "teaching.teachers.config": ["PolicyConfig", "RewritingConfig", "register_teacher"],
    "teaching.teachers.rewriting": ["RewritingTeacher"],
    "training.config": ["TrainingConfig"],
    "training.loop": ["RunContext", "fit"],
    "training.prediction": ["predict"],
    "training.run": ["train_student"],
}

__all__ = [
    "AesDynlossError",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "DataConfig",
    "DataError",
    "Elements",
    "EssayEnsemble",
    "EssayScoreRegressor",
    "EssayScorer",
    "FinetuneConfig",
    "LossConfig",
    "Paired",
    "PolicyConfig",
    "RewritingConfig",
    "RewritingTeacher",
    "RunContext",
    "ScoreRange",
    "ShapeError",
    "StudentState",
    "TrainingConfig",
    "TrainingError",
    "bootstrap_draws",
    "build_report",
    "finetune",
    "fit",
    "fit_rescaling",
    "predict",
    "quadratic_weighted_kappa",
    "read_essays",
    "read_predictions",
    "register_feature",
    "register_loss",
    "register_schedule",
    "register_teacher",
    "train_student",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
