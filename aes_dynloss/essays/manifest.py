"""What made a run: versions, seeds, data, split, machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.splits import Splits, data_hash, split_hash
from aes_dynloss.essays.finetune_config import FinetuneConfig
from aes_dynloss.training.provenance import describe_run

_PACKAGES = (
    "aes-dynloss",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "scikit-learn",
    "numpy",
    "pandas",
)


def build_manifest(
    accelerator: Accelerator,
    config: FinetuneConfig,
    table: EssayTable,
    splits: Splits,
    started_from: str | None = None,
    augmentation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything beside the configuration that a repetition needs to know; no essay and no path of the machine.

    Args:
        accelerator: The run's.
        config: Its configuration.
        table: All essays.
        splits: Their parts.
        started_from: SHA-256 of the config.json of the model whose weights the run starts with, if there is one.
        augmentation: What the changed copies of training essays are, if there are any.
    """
    return {
        **describe_run(accelerator, _PACKAGES),
        "seeds": {"training": config.training.seed, "split": config.data.split.seed},
        "data": {"sha256": data_hash(table), "essays": len(table)},
        "split": {"sha256": split_hash(splits), "essays": {name: len(part) for name, part in splits.tables().items()}},
        "augmentation": augmentation,
        "started_from": started_from,
    }
