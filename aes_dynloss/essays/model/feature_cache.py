"""Pooled vectors of a frozen encoder, kept from run to run; see :mod:`aes_dynloss.essays.model.essay_cache`.

One file for each encoder, pooling and precision. While a run encodes, parts lie in a folder beside that file. At its
end all parts are merged into it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import user_path
from aes_dynloss.essays.model.essay_cache import ABSENT, EssayCache, encoder_identity, file_state
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.atomic import leftovers_of

FORMAT = "aes_dynloss.pooled_vectors"
VERSION = 1


class FeatureCache(EssayCache):
    """The vectors of one encoder under one pooling and precision, (H,) float32; ``path`` is their main file."""

    name = "features cache"
    content = "vectors"
    otherwise = "set model.features_cache to another folder; null: no cache"
    table = "vectors"
    types = ("F32",)
    several_rows = False

    @classmethod
    def of(cls, model: ScoringModel, precision: str, folder: str) -> FeatureCache:
        """The cache of a scorer's vectors.

        Args:
            model: The scorer.
            precision: Accelerate's mixed precision, such as no or bf16.
            folder: Where caches lie.

        Raises:
            ConfigError: The folder is that of a user who is not there.
        """
        values = {
            "format": FORMAT,
            "version": VERSION,
            **encoder_identity(model.encoder, precision, dropout=True),
            "pooling": model.config.pooling,
            "layers": model.pooled_count,
        }
        identity = json.dumps(values, sort_keys=True)
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        path = user_path(folder, "model.features_cache") / f"{name}.safetensors"
        return cls(path, identity, int(model.feature_mean.shape[0]))

    def missing(self, packs: Iterable[Sequence[bytes]]) -> Iterator[bool]:
        """Whether packs are still to compute, each looked up when it is asked for.

        Args:
            packs: Digests of the essays of each, as they are added.

        Raises:
            CheckpointError: The main file is damaged or foreign.
        """
        merged: Collection[bytes] = ()
        read = ABSENT
        for pack in packs:
            if (state := file_state(self.path)) != read:  # another process has merged its parts
                merged, read = self._read(self.path).keys(), state
            yield not self._part(pack).exists() and not all(digest in merged for digest in pack)

    def merge(self) -> None:
        """Move all parts into the main file, but for vectors that it has already; whole or not at all.

        In a folder that is only to be read parts stay as they are.

        Raises:
            CheckpointError: The main file cannot be written, or a file is damaged or foreign.
        """
        if not (self._folder.is_dir() and self._writable()):
            return
        with self._locked():
            main = self._read(self.path)
            merged = self._read_parts() | main
            if len(merged) > len(main):
                for half in leftovers_of(self.path):
                    half.unlink(missing_ok=True)
                self._write(self.path, merged)
            if self._folder.is_dir():  # another process may have merged them
                shutil.rmtree(self._folder)

    @property
    def _folder(self) -> Path:
        return self.path.with_name(f"{self.path.name}.parts")

    def _stored(self, checked: Collection[bytes]) -> dict[bytes, Any]:  # noqa: ARG002 - all are merged
        # The main file comes last: what another process merges meanwhile is then found there.
        return self._read_parts() | self._read(self.path)

    def _needed(self, essays: int, rows: int | None) -> int:
        """Free bytes for the parts, and for the file into which they are merged while the old one is still there."""
        return 2 * self.size(essays, rows) - self.size()

    def _files(self) -> list[Path]:
        return [self.path, *self._parts()]
