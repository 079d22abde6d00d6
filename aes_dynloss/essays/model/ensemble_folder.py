"""An ensemble's folder: config.json, a card, and its members as whole model folders, which nothing can swap unseen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from aes_dynloss.errors import AesDynlossError, CheckpointError
from aes_dynloss.essays.model.encoders import file_sha256
from aes_dynloss.essays.model.ensemble import EssayEnsemble, Member
from aes_dynloss.essays.model.model_folder import (
    CARD,
    CONFIG,
    ENSEMBLE_FORMAT,
    FORMAT,
    MEMBERS,
    VERSION,
    appearing_whole,
    config_digest,
    read_config,
    read_model_folder,
)
from aes_dynloss.essays.model.postprocessing import Postprocessing
from aes_dynloss.evaluation.certainty import Certainty
from aes_dynloss.evaluation.conformal import Intervals


def write_ensemble_folder(ensemble: EssayEnsemble, folder: Path, card: str | None = None) -> None:
    """Write an ensemble; the folder appears whole or not at all, in the place of an older model.

    The members are copied from their own folders. A file that several have, such as a tokenizer, or the weights of a
    model that is there twice, takes its room on the disk once where the file system can do that.

    Args:
        ensemble: The ensemble.
        folder: Where to.
        card: Text of README.md.

    Raises:
        CheckpointError: The folder cannot be written, or holds something that is no model; or a member's folder is no
            longer what was opened.
    """
    with appearing_whole(folder) as new:
        stored: dict[str, Path] = {}
        for number, member in enumerate(ensemble.members):
            _store_member(member, new / MEMBERS / str(number), stored)
        values: dict[str, Any] = {
            "format": ENSEMBLE_FORMAT,
            "version": VERSION,
            "members": [member.sha256 for member in ensemble.members],
            "postprocessing": ensemble.postprocessing.to_dict(),
            "intervals": ensemble.intervals.to_dict(),
            "certainty": ensemble.certainty.to_dict(),
            "sha256": {},
        }
        values["sha256"][CONFIG] = config_digest(values)
        (new / CONFIG).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (new / CARD).write_text(card or _card(ensemble), encoding="utf-8")


def read_ensemble_folder(folder: Path, accelerator: Accelerator | None = None) -> EssayEnsemble:
    """Open an ensemble's folder.

    Args:
        folder: The folder.
        accelerator: Devices and precision; by default what Accelerate finds.

    Raises:
        CheckpointError: It is missing, damaged, not of this format, or a member is not the one that was stored.
    """
    values = read_config(folder, ENSEMBLE_FORMAT)
    try:
        whole = values["sha256"][CONFIG] == config_digest(values)
        digests = [str(digest) for digest in values["members"]]
        postprocessing = Postprocessing.from_dict(values["postprocessing"])
        intervals = Intervals.from_dict(values.get("intervals", {}))
        certainty = Certainty.from_dict(values.get("certainty", {}))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, AesDynlossError) as error:
        words = f"lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CheckpointError(f"{folder / CONFIG} is damaged: {words}. Fetch the folder again.") from None
    if not whole:
        raise CheckpointError(
            f"{folder / CONFIG} is not what was written: its sha256 is another. It was edited; fetch the folder again."
        )
    accelerator = accelerator or Accelerator()
    places = [folder / MEMBERS / str(number) for number in range(len(digests))]
    for place, digest in zip(places, digests, strict=True):  # all of them, before the first is opened
        _check_member(place, digest)
    members = [
        Member(read_model_folder(place, accelerator), place.resolve(), digest)
        for place, digest in zip(places, digests, strict=True)
    ]
    try:
        return EssayEnsemble(members, postprocessing, intervals, certainty)
    except AesDynlossError as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from None


def _check_member(folder: Path, digest: str) -> None:
    """Refuse another member than the one that was stored here."""
    config = folder / CONFIG
    if not config.is_file():
        raise CheckpointError(f"The ensemble lacks its member {folder}. Fetch its folder again, whole.")
    found = file_sha256(config)
    if found != digest:
        raise CheckpointError(
            f"{folder} is not the member that was stored there: the sha256 of its {CONFIG} is {found[:12]}..., "
            f"expected {digest[:12]}... It was swapped or edited; fetch the folder again."
        )


def _store_member(member: Member, folder: Path, stored: dict[str, Path]) -> None:
    """Copy a member's files.

    Args:
        member: The member.
        folder: Where to.
        stored: The files that the ensemble holds already, by digest; those copied here are added.
    """
    folder.mkdir(parents=True)
    _copy(member.folder / CONFIG, folder / CONFIG, member.sha256, stored)
    digests: dict[str, str] = read_config(folder, FORMAT)["sha256"]
    for name in sorted(digests.keys() - {CONFIG}):
        _copy(member.folder / Path(name).name, folder / Path(name).name, digests[name], stored)
    if (member.folder / CARD).is_file():
        shutil.copyfile(member.folder / CARD, folder / CARD)


def _copy(source: Path, target: Path, digest: str, stored: dict[str, Path]) -> None:
    """Copy a file of a known digest, or link to where it is already."""
    if digest in stored:
        try:
            os.link(stored[digest], target)
            return
        except OSError:  # the file system has no hard links
            pass
    whole = source.is_file()
    if whole:
        shutil.copyfile(source, target)
        whole = file_sha256(target) == digest
    if not whole:
        raise CheckpointError(f"{source} is not what was opened: it has changed since. Make the ensemble again.")
    stored[digest] = target


def _card(ensemble: EssayEnsemble) -> str:
    rows = "\n".join(f"| {prompt.id} | {prompt.range} |" for prompt in ensemble.prompts.values())
    return f"""---
library_name: aes-dynloss
tags: [automated-essay-scoring]
---
# Ensemble of essay scorers

Scores essays that answer one of these prompts, on the prompt's own scale, by the mean of {len(ensemble.members)}
models' raw scores. The cards of the models are in {MEMBERS}/.

| prompt | score points |
|---|---|
{rows}

- From raw to score: {ensemble.postprocessing.kind}, trimmed to the range and rounded half up.

## Use

    aes-dynloss score PATH/TO/THIS/FOLDER essays.csv --output scores.csv

## Limits

Those of its members. Members of different folds have between them been trained on every essay of their data: measure
such an ensemble on other essays alone.
"""
