"""A run's predictions of essays that its model has not learned from, tied to the run by the split in its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.splits import ids_hash
from aes_dynloss.reports.predictions import predictions_file
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.training.run_folder import MANIFEST

# Of training essays, each by a head that was fitted without it.
OUT_OF_FOLD = "oof"
# Of a cross-fitted run: what each part's scorer predicted of the others' essays, to fit on whatever scores the part.
INNER = "inner"
PART = "part"  # column: which scorer's, by the part of the essays that it was fitted without
# What post-processing is fitted on, by the file of predictions, in words.
FITTED_ON = {
    "dev": "predictions of dev essays",
    OUT_OF_FOLD: "predictions of train essays, each made without it",
    "test": "out-of-fold predictions of all essays",
}
_SPLITS = {"dev": "dev", "test": "test", OUT_OF_FOLD: "train"}


def predictions_hashes(run: Path, parts: Iterable[str]) -> dict[str, str]:
    """The sha256 of a run's files of predictions, by part, for its manifest.

    Args:
        run: The run's folder.
        parts: Of dev, test, OUT_OF_FOLD and INNER those that it has predicted.
    """
    return {part: file_sha256(run / predictions_file(part)) for part in parts}


def essay_hashes(run: Path) -> dict[str, Any]:
    """The sha256 of a run's essays, ``data``, and of the ids of each split, ``split``, as its manifest has them.

    Of a cross-fitted run ``parts`` stands for ``split``: the sha256 of the ids of each part.

    Args:
        run: The run's folder.

    Raises:
        DataError: It has no manifest, or not that of a run of finetune.
    """
    described = _described(run)
    return {name: described[name] for name in ("data", "parts" if described["parts"] else "split")}


def check_held_out(run: Path, part: str, essay_ids: Iterable[str]) -> None:
    """Refuse predictions that are not a run's own, of exactly the essays of its split.

    Splits are disjoint. So out-of-fold predictions that pass hold no essay of the run's dev and test, and dev
    predictions none of its train: a file of another fold's run, whose model may have learned from them, does not pass.
    Nor does any other file, unless the run is of a version whose manifest had no digests of predictions: then its
    essays are looked at.

    Args:
        run: The run's folder.
        part: dev, test, OUT_OF_FOLD or INNER.
        essay_ids: Ids of the essays of its file of predictions.

    Raises:
        DataError: They are other essays or predictions, or the run has no manifest.
    """
    described = _described(run)
    written = described["predictions"].get(part)
    split = _SPLITS.get(part)
    if written is not None:
        is_own = predictions_hashes(run, [part])[part] == written
    else:
        is_own = split is not None and ids_hash(essay_ids) == described["split"][split]
    if not is_own:
        raise DataError(
            f"{run / predictions_file(part)} is not what the run wrote{f' of its {split} essays' if split else ''}, by "
            f"the sha256 in {MANIFEST}: it is of another run or fold, or was edited. A model of another fold may have "
            "learned from these essays, so that nothing is fitted on them. Bring back the file of the run, or repeat "
            "the run."
        )


def _described(run: Path) -> dict[str, Any]:
    """What a manifest says of the data, the splits and, if the run's version did so, the predictions."""
    path = run / MANIFEST
    unknown = "so that it is unknown from which essays its model has learned. Name the run's own folder, whole."
    if not path.is_file():
        raise DataError(f"There is no {path}, {unknown}")
    try:
        manifest = read_mapping(path)
        splits = {name: str(manifest["split"]["sha256"][name]) for name in _SPLITS.values()}
        written = {str(part): str(digest) for part, digest in manifest.get("predictions", {}).items()}
        return {
            # Members may see other numeric columns beside the same essays; earlier versions noted one digest of all.
            "data": str(manifest.get("essays_sha256", manifest["data"]["sha256"])),
            "split": splits,
            "parts": [str(digest) for digest in manifest["split"].get("parts", [])],
            "predictions": written,
        }
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no whole manifest of a run ({error!r}), {unknown}") from None
