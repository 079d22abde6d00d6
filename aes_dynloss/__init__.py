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
    from aes_dynloss.essays.finetune import finetune
    from aes_dynloss.essays.finetune_config import FinetuneConfig
    from aes_dynloss.essays.model.ensemble import EssayEnsemble, open_scorer
    from aes_dynloss.essays.model.scorer import EssayScorer
    from aes_dynloss.evaluation.agreement import quadratic_weighted_kappa
    from aes_dynloss.evaluation.calibration import fit_rescaling
    from aes_dynloss.evaluation.predictions import read_predictions
    from aes_dynloss.evaluation.report import build_report
    from aes_dynloss.evaluation.resampling import Paired, bootstrap_draws
    from aes_dynloss.evaluation.score_range import ScoreRange
    from aes_dynloss.teaching.batch import Batch
    from aes_dynloss.teaching.elements import Elements
    from aes_dynloss.teaching.policies import LossConfig
    from aes_dynloss.training.config import TrainingConfig
    from aes_dynloss.training.loop import fit
    from aes_dynloss.training.prediction import predict
    from aes_dynloss.training.steering import teach

_HOMES = {
    "AesDynlossError": "aes_dynloss.errors",
    "Batch": "aes_dynloss.teaching.batch",
    "CheckpointError": "aes_dynloss.errors",
    "ConfigError": "aes_dynloss.errors",
    "DataConfig": "aes_dynloss.essays.data.data_config",
    "DataError": "aes_dynloss.errors",
    "Elements": "aes_dynloss.teaching.elements",
    "EssayEnsemble": "aes_dynloss.essays.model.ensemble",
    "EssayScorer": "aes_dynloss.essays.model.scorer",
    "FinetuneConfig": "aes_dynloss.essays.finetune_config",
    "LossConfig": "aes_dynloss.teaching.policies",
    "Paired": "aes_dynloss.evaluation.resampling",
    "ScoreRange": "aes_dynloss.evaluation.score_range",
    "ShapeError": "aes_dynloss.errors",
    "TrainingConfig": "aes_dynloss.training.config",
    "TrainingError": "aes_dynloss.errors",
    "bootstrap_draws": "aes_dynloss.evaluation.resampling",
    "build_report": "aes_dynloss.evaluation.report",
    "finetune": "aes_dynloss.essays.finetune",
    "fit": "aes_dynloss.training.loop",
    "fit_rescaling": "aes_dynloss.evaluation.calibration",
    "open_scorer": "aes_dynloss.essays.model.ensemble",
    "predict": "aes_dynloss.training.prediction",
    "quadratic_weighted_kappa": "aes_dynloss.evaluation.agreement",
    "read_essays": "aes_dynloss.essays.data.readers",
    "read_predictions": "aes_dynloss.evaluation.predictions",
    "teach": "aes_dynloss.training.steering",
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
    "teach",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
