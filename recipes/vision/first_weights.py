"""Weights of a local file that a student starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Module

from aes_dynloss import ConfigError
from aes_dynloss.configfile import user_path

logger = logging.getLogger("aes_dynloss.vision")

BACKBONE = "backbone."


def start_from(student: Module, path: str | None) -> None:
    """Put weights of a local file into a student as far as their names and shapes fit.

    Args:
        student: The student; what is called ``backbone.NAME`` in it or in the file is NAME in both, so that the file
            may be an earlier student's or that of a bare backbone.
        path: A .safetensors file, or None for none.

    Raises:
        ConfigError: The file cannot be read, or nothing in it that learns fits.
    """
    if path is None:
        return
    file = user_path(path, "model.weights")
    try:
        saved = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"model.weights: {file} cannot be read: {error}. Name a .safetensors file.") from None
    state = student.state_dict()
    places = {name.removeprefix(BACKBONE): name for name in state}
    offered = {name.removeprefix(BACKBONE): tensor for name, tensor in saved.items()}
    shared = [name for name in places if name in offered]
    fitting = [name for name in shared if offered[name].shape == state[places[name]].shape]
    # Biases and counters fit students of any width, so that only tables and kernels tell.
    tables = {name for name, weight in student.named_parameters() if weight.ndim > 1}
    taken = [name for name in fitting if places[name] in tables]
    other = [name for name in shared if places[name] in tables and name not in fitting]
    if not taken:
        learns = _with_shapes(dict(student.named_parameters()))
        raise ConfigError(
            f"model.weights: nothing in {file} fits this student, which has {learns}, ...; the file has "
            f"{_with_shapes(saved)}, ... Name weights of the same kind and width."
        )
    student.load_state_dict({places[name]: offered[name] for name in fitting}, strict=False)
    counts = len(fitting), len(state), _layers(taken), len(offered) - len(fitting), len(offered)
    logger.info("Weights from %s: %d of the student's %d fitted (%s), %d of the file's %d were left.", file, *counts)
    if other:
        message = (
            "%d weights in %s have the name of one of the student's and another shape (%s); those start at random."
        )
        logger.warning(message, len(other), file, _layers(other))


def _layers(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))


def _with_shapes(tensors: Mapping[str, Tensor]) -> str:
    tables = [f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items() if tensor.ndim > 1]
    return ", ".join(tables[:3])
