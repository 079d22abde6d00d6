"""What the members of an ensemble predicted of the same essays, and their weights fitted to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.ensembles.ensemble import Member
from aes_dynloss.measures.stacking import LEAST_ESSAYS, fit_weights


@dataclass(frozen=True)
class MemberPredictions:
    """Raw predictions of N essays by the M members of an ensemble.

    Args:
        index: Levels ``prompt_id`` and ``essay_id``, of cross-fitted runs ``part`` too; (N,).
        reference: Human scores, (N,).
        raw: Raw predictions, (N, M).
    """

    index: pd.Index[Any]
    reference: NDArray[np.float64]
    raw: NDArray[np.float64]

    @classmethod
    def of(cls, members: Sequence[Member], tables: Sequence[pd.DataFrame]) -> MemberPredictions:
        """The essays that all members' tables hold, in the order of their index.

        Args:
            members: M members.
            tables: Columns reference and raw of each under the same levels.

        Raises:
            DataError: The tables have different human scores.
        """
        shared = reduce(pd.MultiIndex.intersection, (table.index for table in tables)).sort_values()
        first, *others = (table.loc[shared] for table in tables)
        for member, other in zip(members[1:], others, strict=True):
            differs = (other["reference"] != first["reference"]).to_numpy()
            if differs.any():
                row = int(differs.argmax())
                essay, prompt = (shared.get_level_values(key)[row] for key in ("essay_id", "prompt_id"))
                raise DataError(
                    f"Essay {essay} of prompt {prompt} has the human score {first['reference'].iloc[row]:g} in the run "
                    f"of {members[0].folder} and {other['reference'].iloc[row]:g} in that of {member.folder}. Name "
                    "runs on the same essays and scores, or fit no postprocessing."
                )
        raw = np.column_stack([table["raw"].to_numpy(dtype=np.float64) for table in (first, *others)])
        return cls(shared, first["reference"].to_numpy(dtype=np.float64), raw)

    @property
    def prompt_ids(self) -> list[str]:
        """The essays' prompts, N ids."""
        return list(self.index.get_level_values("prompt_id"))

    @property
    def parts(self) -> NDArray[np.object_]:
        """Of cross-fitted runs, the part that each essay is in, or that its scorer was fitted without; (N,)."""
        return self.index.get_level_values("part").to_numpy(dtype=object)

    def rows(self, chosen: NDArray[np.bool_]) -> MemberPredictions:
        """Those of some essays, (N,)."""
        return MemberPredictions(self.index.take(np.flatnonzero(chosen)), self.reference[chosen], self.raw[chosen])

    def weights(self, prompts: Iterable[str], least_shrinkage: float) -> dict[str, tuple[float, ...]]:
        """Fitted weights of the members, by prompt; none of prompts with fewer than LEAST_ESSAYS essays.

        Args:
            prompts: The prompts' ids.
            least_shrinkage: As :func:`~aes_dynloss.measures.stacking.fit_weights` takes it.
        """
        weights = {}
        answered, essay_ids = (self.index.get_level_values(key).to_numpy() for key in ("prompt_id", "essay_id"))
        for prompt in prompts:
            rows = answered == prompt
            if rows.sum() >= LEAST_ESSAYS:
                ids = essay_ids[rows].tolist()
                fitted = fit_weights(self.raw[rows], self.reference[rows], ids, least_shrinkage=least_shrinkage)
                weights[prompt] = tuple(fitted.tolist())
        return weights
