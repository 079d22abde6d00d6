"""What a model folder holds to tell essays that its model should not judge: numbers, neither text nor code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from aes_dynloss.errors import AesDynlossError, CheckpointError
from aes_dynloss.essays.model.familiarity import Familiarity
from aes_dynloss.essays.screening.screen import Screen

SCREENING = "screening.safetensors"
_TEXT, _VECTORS, _THRESHOLDS = "text.", "vectors.", "distances"


@dataclass(frozen=True)
class Screening:
    """What was learned from training essays beside their scores.

    Args:
        text: From their words.
        familiarity: From their vectors.
    """

    text: Screen
    familiarity: Familiarity


def write_screening(screening: Screening, path: Path) -> None:
    """Write the file.

    Args:
        screening: What is written.
        path: Where to.
    """
    from safetensors.numpy import save_file

    arrays = {_TEXT + name: np.ascontiguousarray(array) for name, array in screening.text.to_arrays().items()}
    for number, vectors in enumerate(screening.familiarity.references):
        arrays[f"{_VECTORS}{number}"] = vectors.half().cpu().numpy()
    arrays[_THRESHOLDS] = screening.familiarity.thresholds.cpu().numpy()
    save_file(arrays, path)


def read_screening(path: Path) -> Screening:
    """Read what ``write_screening`` wrote.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        text = Screen.from_arrays(
            {name.removeprefix(_TEXT): array for name, array in arrays.items() if name.startswith(_TEXT)}
        )
        thresholds = arrays[_THRESHOLDS]
        vectors = [torch.from_numpy(arrays[f"{_VECTORS}{number}"]) for number in range(len(thresholds))]
        return Screening(text, Familiarity(vectors, thresholds.tolist()))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AesDynlossError) as error:
        words = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path.name} is damaged: {words}. Fetch the folder again.") from None
