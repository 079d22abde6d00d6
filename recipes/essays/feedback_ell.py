"""The five folds of Feedback-ELL; and, for the learning curve, its six traits as prompts.

    python recipes/essays/feedback_ell.py [data/feedback_ell.parquet]

The file has essay_id, text, a column for each trait and `fold`, the fold in whose test part an essay is. It writes
data/feedback_ell/folds/fold_K/{train,dev,test}_ids.txt, where dev is a fifth of what is not test, by a hash; and
data/feedback_ell/essays.parquet, with a row for each essay and trait, whose id is ESSAY_TRAIT.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.formats import write_table

SOURCE = Path("data/feedback_ell.parquet")
ESSAYS, SPLITS = Path("data/feedback_ell/essays.parquet"), Path("data/feedback_ell/folds")
TRAITS = ("cohesion", "syntax", "vocabulary", "phraseology", "grammar", "conventions")
RANGES = {trait: {"low": 1, "high": 5, "step": 0.5} for trait in TRAITS}
FOLDS = range(5)
PARTS = ("train", "dev", "test")


def read(source: Path) -> pd.DataFrame:
    """A row for each essay and trait: essay_id, prompt_id, text, score, own_id (of the essay), fold.

    Raises:
        DataError: The file is not there.
    """
    if not source.exists():
        raise DataError(f"{source} is not there: Feedback-ELL with its six traits and the column fold. Put it there.")
    essays = pd.read_parquet(source)
    return pd.concat(
        pd.DataFrame(
            {
                "essay_id": essays["essay_id"] + f"_{trait}",
                "prompt_id": trait,
                "text": essays["text"],
                "score": essays[trait],
                "own_id": essays["essay_id"],
                "fold": essays["fold"],
            }
        )
        for trait in TRAITS
    )


def parts_of(essays: pd.DataFrame, fold: int) -> dict[str, pd.DataFrame]:
    """Train, dev and test of a fold: rows of :func:`read`, all of an essay in one part."""
    is_test = essays["fold"] == fold
    is_dev = ~is_test & (essays["own_id"].map(lambda one: order(f"dev {fold}", one)[0]) < 51)  # of 256: a fifth
    return {"train": essays[~is_test & ~is_dev], "dev": essays[is_dev], "test": essays[is_test]}


def order(seed: str, essay: str) -> bytes:
    """A key that puts essays in an order by chance, which no machine and no order of rows changes."""
    return hashlib.sha256(f"{seed} {essay}".encode()).digest()


def write_ids(place: Path, ids: Mapping[str, list[str]]) -> None:
    """Write train_ids.txt, dev_ids.txt and test_ids.txt into a folder."""
    place.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        write_text(place / f"{part}_ids.txt", "".join(f"{one}\n" for one in ids[part]))


def make(source: Path) -> None:
    """Write the table and the folds."""
    essays = read(source)
    ESSAYS.parent.mkdir(parents=True, exist_ok=True)
    write_table(essays[["essay_id", "prompt_id", "text", "score"]].reset_index(drop=True), ESSAYS)
    for fold in FOLDS:
        parts = parts_of(essays, fold)
        write_ids(SPLITS / f"fold_{fold}", {part: rows["own_id"].unique().tolist() for part, rows in parts.items()})


def main() -> None:
    """From the command line."""
    try:
        make(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE)
    except AesDynlossError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
