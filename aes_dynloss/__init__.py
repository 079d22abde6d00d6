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
    from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
    from aes_dynloss.essays.finetune.config import FinetuneConfig
    from aes_dynloss.essays.finetune.run import finetune
    from aes_dynloss.essays.model.scorer import EssayScorer
    from aes_dynloss.measures.agreement import quadratic_weighted_kappa
    from aes_dynloss.measures.bootstrap import Paired, bootstrap_draws
    from aes_dynloss.measures.calibration import fit_rescaling
    from aes_dynloss.reports.predictions import read_predictions
    from aes_dynloss.reports.prompts import build_report
    from aes_dynloss.tables.score_range import ScoreRange
    from aes_dynloss.teaching.policies import LossConfig
    from aes_dynloss.teaching.student import Batch, Elements
    from aes_dynloss.training.config import TrainingConfig
    from aes_dynloss.training.loop import RunContext, fit
    from aes_dynloss.training.prediction import predict
    from aes_dynloss.training.run import train_student

_HOMES = {
    "AesDynlossError": "aes_dynloss.errors",
    "Batch": "aes_dynloss.teaching.student",
    "CheckpointError": "aes_dynloss.errors",
    "ConfigError": "aes_dynloss.errors",
    "DataConfig": "aes_dynloss.essays.data.data_config",
    "DataError": "aes_dynloss.errors",
    "Elements": "aes_dynloss.teaching.student",
    "EssayEnsemble": "aes_dynloss.essays.ensembles.ensemble",
    "EssayScorer": "aes_dynloss.essays.model.scorer",
    "FinetuneConfig": "aes_dynloss.essays.finetune.config",
    "LossConfig": "aes_dynloss.teaching.policies",
    "Paired": "aes_dynloss.measures.bootstrap",
    "RunContext": "aes_dynloss.training.loop",
    "ScoreRange": "aes_dynloss.tables.score_range",
    "ShapeError": "aes_dynloss.errors",
    "TrainingConfig": "aes_dynloss.training.config",
    "TrainingError": "aes_dynloss.errors",
    "bootstrap_draws": "aes_dynloss.measures.bootstrap",
    "build_report": "aes_dynloss.reports.prompts",
    "finetune": "aes_dynloss.essays.finetune.run",
    "fit": "aes_dynloss.training.loop",
    "fit_rescaling": "aes_dynloss.measures.calibration",
    "open_scorer": "aes_dynloss.essays.ensembles.ensemble",
    "predict": "aes_dynloss.training.prediction",
    "quadratic_weighted_kappa": "aes_dynloss.measures.agreement",
    "read_essays": "aes_dynloss.essays.data.readers",
    "read_predictions": "aes_dynloss.reports.predictions",
    "train_student": "aes_dynloss.training.run",
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
    "EssayScorer",
    "FinetuneConfig",
    "LossConfig",
    "Paired",
    "RunContext",
    "ScoreRange",
    "ShapeError",
    "TrainingConfig",
    "TrainingError",
    "bootstrap_draws",
    "build_report",
    "finetune",
    "fit",
    "fit_rescaling",
    "open_scorer",
    "predict",
    "quadratic_weighted_kappa",
    "read_essays",
    "read_predictions",
    "train_student",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
