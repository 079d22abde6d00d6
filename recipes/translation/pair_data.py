"""Sentence pairs as numbers of tokens: Multi30k's files, byte-pair encoding, and tables for training."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from aes_dynloss import Batch, ConfigError, DataError
from aes_dynloss.configfile import ConfigModel, user_path

FILES = {"train": "train", "dev": "val", "test": "test_2016_flickr"}
SOURCE, TARGET = "de", "en"
SPECIAL = ("[PAD]", "[BEGIN]", "[END]")
PAD, BEGIN, END = range(len(SPECIAL))
TOKENIZER = "tokenizer.json"


class PairDataConfig(ConfigModel):
    """Which sentence pairs, and how they become tokens."""

    source: str = Field(
        default="data/multi30k",
        description="A folder with train, val and test_2016_flickr, each .de and .en, a sentence a line, or .gz of it.",
    )
    vocabulary: int = Field(
        default=6000, ge=300, description="Tokens of both languages together, at most; see learn_tokens."
    )
    most: int | None = Field(default=None, ge=10, description="Training pairs, at most, with those set apart.")
    teacher_dev: int = Field(default=1000, ge=0, description="Training pairs that a teacher learns on, and no student.")
    seed: int = Field(default=0, ge=0, description="Of the choice of these.")


@dataclass(frozen=True)
class Pairs(Sized):
    """A table of sentence pairs, see :class:`aes_dynloss.training.batching.Examples`.

    Args:
        source: Tokens of each sentence with END, then PAD, (N, S) int64.
        target: Those of its translation, (N, T) int64; T is the same for all tables of a run.
        references: The translations as they are written.
    """

    source: Tensor
    target: Tensor
    references: Sequence[str]

    def __len__(self) -> int:
        """Number of pairs N."""
        return len(self.target)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the longer side."""
        counts = torch.maximum((self.source != PAD).sum(1), (self.target != PAD).sum(1))
        return counts.numpy()

    @property
    def sequences(self) -> NDArray[np.int64]:
        """One each."""
        return np.ones(len(self), dtype=np.int64)

    def select(self, rows: NDArray[np.int64]) -> Pairs:
        """The pairs in these rows."""
        return Pairs(self.source[rows], self.target[rows], [self.references[row] for row in rows])

    def batch(self, rows: Sequence[int]) -> Batch:
        """The pairs in these rows: what the student reads as short as can be, targets as wide as everywhere."""
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        target = self.target[index]
        inputs = {"source": _trimmed(self.source[index]), "target": _trimmed(target)}
        return Batch(inputs, target, torch.zeros_like(index), index)


def read_pairs(config: PairDataConfig, tokenizer: Tokenizer | None) -> tuple[Tokenizer, dict[str, Pairs]]:
    """The tokens and the tables train, teacher_dev, dev and test.

    Args:
        config: Where they are.
        tokenizer: Tokens that are known; None: they are learned from train.

    Raises:
        DataError: A file cannot be read, or its translations have another number of lines, or too few are left.
    """
    folder = user_path(config.source, "data.source")
    lines = {part: [_read_lines(folder, file, side) for side in (SOURCE, TARGET)] for part, file in FILES.items()}
    for part, (source, target) in lines.items():
        if len(source) != len(target):
            raise DataError(
                f"{folder}: {FILES[part]}.{SOURCE} has {len(source)} lines and {FILES[part]}.{TARGET} {len(target)}, "
                "expected as many. Complete data.source."
            )
    lines["train"] = [side[: config.most] for side in lines["train"]]
    left = len(lines["train"][0]) - config.teacher_dev
    if left < 1:
        raise DataError(
            f"data.teacher_dev is {config.teacher_dev}, and train has {len(lines['train'][0])} pairs, so that none is "
            "left to learn from. Set data.teacher_dev lower."
        )
    tokenizer = tokenizer or learn_tokens([line for side in lines["train"] for line in side], config.vocabulary)
    tables = _tables(tokenizer, lines)
    order = np.random.default_rng(config.seed).permutation(len(tables["train"]))
    whole = tables["train"]
    tables |= {"train": whole.select(np.sort(order[:left])), "teacher_dev": whole.select(np.sort(order[left:]))}
    return tokenizer, tables


def learn_tokens(lines: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-pair encoding of some lines; any text has tokens, since single bytes are among them. Nothing is drawn.

    Args:
        lines: Sentences of both languages.
        vocabulary: Tokens at most, the special ones and the 256 bytes among them.

    References:
        Sennrich et al. 2016, Neural machine translation of rare words with subword units, arXiv 1508.07909.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = ByteLevel()
    tokenizer.decoder = ByteDecoder()
    alphabet = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def load_tokens(path: Path) -> Tokenizer:
    """The tokens that an earlier run learned.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"start: {path} cannot be read: {error}. Name the folder of a complete run.") from None


def text_of(tokenizer: Tokenizer, tokens: Iterable[Sequence[int]]) -> list[str]:
    """Sentences of tokens; special ones are left out."""
    return [line.strip() for line in tokenizer.decode_batch([list(row) for row in tokens], skip_special_tokens=True)]


def _tables(tokenizer: Tokenizer, lines: dict[str, list[list[str]]]) -> dict[str, Pairs]:
    tokens = {
        part: [[[*line.ids, END] for line in tokenizer.encode_batch(side)] for side in sides]
        for part, sides in lines.items()
    }
    width = max(len(row) for _, target in tokens.values() for row in target)
    tables = {}
    for part, (source, target) in tokens.items():
        longest = max(len(row) for row in source)
        tables[part] = Pairs(_padded(source, longest), _padded(target, width), lines[part][1])
    return tables


def _padded(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])


def _trimmed(tokens: Tensor) -> Tensor:
    return tokens[:, : int((tokens != PAD).sum(1).max())]


def _read_lines(folder: Path, part: str, language: str) -> list[str]:
    names = [f"{part}.{language}{ending}" for ending in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"data.source: {folder} has neither {names[0]} nor {names[1]}. Name the folder that has them.")
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Expected a sentence a line in UTF-8.") from None
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if not all(lines):
        raise DataError(f"{path}, line {1 + lines.index('')} is empty. Expected a sentence on each line.")
    return lines
