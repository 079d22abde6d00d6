"""Files in ASAP's layout with made-up essays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_encoder import WORDS


def write_asap(path: Path, essays: int = 30) -> Path:
    """Essays to two prompts, most of them short, some longer than 32 tokens."""
    generator = np.random.default_rng(0)
    lines = ["essay_id\tessay_set\tessay\trater1_domain1\trater2_domain1\trater3_domain1\tdomain1_score"]
    for number in range(essays):
        text = " ".join(generator.choice(WORDS, int(np.exp(generator.normal(2.3, 0.9)).clip(2, 80))))
        lines.append(f"{number}\t{3 + number % 2}\t{text}\t1\t1\t\t{number // 2 % 4}")
    path.write_text("\r\n".join(lines) + "\r\n", encoding="cp1252", newline="")
    return path
