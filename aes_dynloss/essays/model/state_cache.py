"""Token states at the top of an encoder's frozen layers, kept on disk; see :mod:`aes_dynloss.essays.model.essay_cache`.

One folder for each encoder, depth and precision. Its parts are shards, each of one batch of essays, so that what a run
computed is kept when it is killed and nothing is ever written twice. Shards stay as they are and are read by memory
map: the states need not fit in memory.

States are float16, which changes each by at most 1/2048 of itself. On the bundled essays this moves the last states of
MiniLM by at most 0.0004 of the largest, and pooled vectors by at most 0.002 standard deviations, whichever layers are
frozen. A batch in which a state is beyond float16's range, 65,504, is kept in float32, and the log says so.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.essays.model.encoders import only_layers
from aes_dynloss.essays.model.essay_cache import EssayCache, encoder_identity
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.atomic import leftovers

FORMAT = "aes_dynloss.token_states"
VERSION = 1
# Folder of a run that keeps them where no cache does, until the run is complete.
STATES = "token_states"


class StateCache(EssayCache):
    """Hidden states of each essay's tokens, (tokens, H), its chunks one after the other; ``path`` is their folder."""

    name = "cache of token states"
    content = "token states"
    table = "states"
    types = ("F16", "F32")
    several_rows = True

    @classmethod
    def of(cls, model: ScoringModel, precision: str, folder: Path) -> StateCache:
        """The cache of what a scorer's frozen layers make of tokens.

        Weights above them do not count, so that runs that start from different fine-tuned upper layers share it.

        Args:
            model: The scorer, its encoder whole.
            precision: Accelerate's mixed precision, such as no or bf16.
            folder: Where caches lie.
        """
        frozen = model.config.frozen_layers
        with only_layers(model.encoder_layers, slice(None if frozen == "all" else frozen)):
            encoder = encoder_identity(model.encoder, precision, dropout=False)
        values = {"format": FORMAT, "version": VERSION, **encoder, "frozen_layers": frozen}
        identity = json.dumps(values, sort_keys=True)
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return cls(folder / f"{name}.states", identity, int(model.encoder.config.hidden_size))

    def make_room(self, essays: int, rows: int | None = None) -> None:
        """See :meth:`EssayCache.make_room`; what killed processes left half written goes before."""
        if self.path.is_dir() and self._writable():
            with self._locked():
                for half in leftovers(self.path):
                    half.unlink(missing_ok=True)
        super().make_room(essays, rows)

    @property
    def _folder(self) -> Path:
        return self.path


def stored_states(states: Tensor) -> NDArray[np.float16] | NDArray[np.float32]:
    """States as they are kept: rounded to float16, or float32 where one of them is beyond its range.

    Args:
        states: On the CPU, of any shape.

    Examples:
        >>> import torch
        >>> stored_states(torch.tensor([1.0, 2049.0]))
        array([1.000e+00, 2.048e+03], dtype=float16)
        >>> stored_states(torch.tensor([1.0, 70000.0]))
        array([1.e+00, 7.e+04], dtype=float32)
    """
    half = states.half()
    rounded: NDArray[np.float16] | NDArray[np.float32] = (half if half.isfinite().all() else states.float()).numpy()
    return rounded
