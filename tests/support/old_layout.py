"""Model folders as version 1 of the format had them: all weights in one file, nothing for other libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from tiny_scorer import sign, values_of

_OURS = ("format", "model", "prompts", "postprocessing", "intervals", "certainty", "encoder", "sha256")


def to_version_1(folder: Path) -> Path:
    """Rewrite the folder of a Transformer scorer; returns it."""
    weights, head = folder / "model.safetensors", folder / "head.safetensors"
    whole = {f"encoder.{name}": value for name, value in load_file(weights).items()} | load_file(head)
    save_file(whole, weights, metadata={"format": "pt"})
    head.unlink()
    for name in ("modules.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Pooling")
    values = {name: value for name, value in values_of(folder).items() if name in _OURS} | {"version": 1}
    values["sha256"] = {name: "" for name in values["sha256"] if (folder / name).is_file()}
    sign(folder, values)
    return folder
