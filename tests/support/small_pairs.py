"""A few made-up sentence pairs in the layout of Multi30k."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

WORDS = {
    "Hund": "dog", "Katze": "cat", "Mann": "man", "Frau": "woman", "läuft": "runs", "schläft": "sleeps",
    "springt": "jumps", "rot": "red", "grün": "green", "Straße": "street", "Wald": "forest", "schnell": "fast",
}  # fmt: skip
PARTS = {"train": 48, "val": 10, "test_2016_flickr": 6}


def write_pairs(folder: Path) -> Path:
    """Sentences of three to six words with their word-for-word translations; train is compressed, the rest is not."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for part, count in PARTS.items():
        german = [random.choice(list(WORDS), random.integers(3, 7)).tolist() for _ in range(count)]
        for language, lines in (("de", german), ("en", [[WORDS[word] for word in line] for line in german])):
            content = "".join(" ".join(line) + ".\n" for line in lines).encode()
            if part == "train":
                (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{part}.{language}").write_bytes(content)
    return folder
