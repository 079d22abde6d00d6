"""The five folds of ASAP-SAS, and its prompts with their words.

    python recipes/essays/short_answers.py [data/short_answers]

The folder has asap_sas_train.parquet and, for each of the ten prompts, prompt_P.txt with its question, source text and
rubric. Beside this script, asap_sas_folds.csv says in which fold's test part each answer is; dev of a fold is the test
part of the next. Written are data/asap_sas/folds/fold_K/{train,dev,test}_ids.txt and data/asap_sas/prompts.yaml.

The folds are those of `aes-dynloss data split --seed 0`, alike in prompts and scores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from aes_dynloss.configfile import dump_yaml
from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.tables.atomic import write_text

SOURCE, MADE = Path("data/short_answers"), Path("data/asap_sas")
FOLDS = Path(__file__).with_name("asap_sas_folds.csv")
HIGHEST = {"1": 3, "2": 3, "3": 2, "4": 2, "5": 3, "6": 3, "7": 2, "8": 2, "9": 2, "10": 2}


def parts_of(folds: pd.Series, fold: int) -> dict[str, list[int]]:
    """Ids of train, dev and test of a fold.

    Args:
        folds: By id, the fold in whose test part an answer is.
        fold: From 0.

    Example:
        >>> parts_of(pd.Series([0, 1, 2, 0], index=[7, 8, 9, 10]), 2)
        {'train': [8], 'dev': [7, 10], 'test': [9]}
    """
    following = (fold + 1) % (folds.max() + 1)
    part = folds.map({fold: "test", following: "dev"}).fillna("train")
    return {name: folds.index[part == name].tolist() for name in ("train", "dev", "test")}


def prompts_of(source: Path) -> dict[str, dict[str, object]]:
    """Score points and words of each prompt, as `data.prompts` has them.

    Raises:
        DataError: A prompt's words are not there.
    """
    prompts: dict[str, dict[str, object]] = {}
    for prompt, high in HIGHEST.items():
        path = source / f"prompt_{prompt}.txt"
        if not path.exists():
            raise DataError(f"{path} is not there: the question, source text and rubric of prompt {prompt}.")
        prompts[prompt] = {"low": 0, "high": high, "text": path.read_text(encoding="utf-8", errors="replace")}
    return prompts


def make(source: Path) -> None:
    """Write folds and prompts."""
    folds = pd.read_csv(FOLDS, index_col="essay_id")["fold"]
    for fold in sorted(folds.unique()):
        place = MADE / "folds" / f"fold_{fold}"
        place.mkdir(parents=True, exist_ok=True)
        for name, ids in parts_of(folds, fold).items():
            write_text(place / f"{name}_ids.txt", "".join(f"{one}\n" for one in ids))
    write_text(MADE / "prompts.yaml", dump_yaml(prompts_of(source)))


def main() -> None:
    """From the command line."""
    try:
        make(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE)
    except AesDynlossError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
