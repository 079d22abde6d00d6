"""Published predictions: one parquet file an arm, without texts and human scores.

Human scores of many data sets cannot be redistributed: who measures such a file joins it with those of their own copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.reports.arms import ScoredRun
from aes_dynloss.reports.human_scores import HumanScores, refuse_repeats, refuse_rows
from aes_dynloss.reports.predictions import check_predictions, inferred_notes, resolve_ranges
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.cells import parse_ids, parse_numbers
from aes_dynloss.tables.columns import ID_COLUMNS, PREDICTION_COLUMNS
from aes_dynloss.tables.formats import read_cells

COLUMNS = (*ID_COLUMNS, "fold", "arm", "seed", *PREDICTION_COLUMNS)
FOLD = "fold_"  # runs of fold 2 are the stratum fold_2
MOST_BYTES = 400_000


class PublishedTooLargeError(DataError):
    """A file of published predictions would be larger than ``MOST_BYTES``."""


def published_name(grid: str, arm: str) -> str:
    """The file of an arm: ``GRID.ARM.parquet``, any characters but letters, digits, ``_``, ``-`` and ``.`` as ``_``.

    Args:
        grid: The grid's name.
        arm: The arm's.

    Examples:
        >>> published_name("asap_exact", "ridge"), published_name("asap_exact", "floor: length")
        ('asap_exact.ridge.parquet', 'asap_exact.floor_length.parquet')
    """
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', f'{grid}.{arm}')}.parquet"


def write_published(path: Path, arm: str, runs: Sequence[ScoredRun], *, seeded: bool) -> None:
    """Write an arm's predictions of test essays to one parquet file, float32 and compressed by zstd.

    Args:
        path: The file, which appears whole or not at all.
        arm: The arm's name.
        runs: Its runs, of the strata ``fold_0``, ``fold_1``, ...; all are complete.
        seeded: Whether runs have seeds, which are whole numbers. Otherwise ``seed`` is null: an exact solver, a floor
            and an ensemble have one run a fold (and prompt).

    Raises:
        PublishedTooLargeError: The file would take more than ``MOST_BYTES``; nothing is written.
        DataError: An essay is there twice for a fold and seed, or the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [
        run.test.table.assign(fold=int(run.stratum.removeprefix(FOLD)), arm=arm, seed=int(run.seed) if seeded else None)
        for run in runs
    ]
    table = pd.concat(tables)[list(COLUMNS)].sort_values(["seed", "fold", *ID_COLUMNS], ignore_index=True)
    for (fold, _), rows in table.groupby(["fold", "seed"], dropna=False):
        refuse_repeats(pd.MultiIndex.from_frame(rows[[*ID_COLUMNS]]), f"Fold {fold} of {path.name}")
    kinds = {"fold": pa.int16(), "seed": pa.int64(), "raw": pa.float32(), "score": pa.float32()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    with atomic_file(path) as temporary:
        rows = pa.Table.from_pandas(table, schema=schema, preserve_index=False).replace_schema_metadata(None)
        # Encodings for ids that are alike in their beginnings, and for numbers: the file is half as large.
        encodings = {"essay_id": "DELTA_BYTE_ARRAY", "raw": "BYTE_STREAM_SPLIT"}
        pq.write_table(
            rows,
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=[name for name in COLUMNS if name not in encodings],
            column_encoding=encodings,
        )
        size = temporary.stat().st_size
        if size > MOST_BYTES:
            raise PublishedTooLargeError(
                f"{path.name} is not written: the predictions of {arm} take {size:,} bytes, more than {MOST_BYTES:,}. "
                "Publish fewer seeds."
            )


def is_published(path: Path) -> bool:
    """Whether a file holds published predictions, by its columns; whatever else is wrong with it is not looked at.

    Args:
        path: The file.
    """
    import pyarrow.parquet as pq

    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        return set(pq.read_schema(path).names) >= set(COLUMNS)
    except Exception:  # Damage reaches Python as any of a dozen classes; who reads the file says it.
        return False


def read_published(path: Path, human: HumanScores | None) -> list[ScoredRun]:
    """Runs of a published arm, of the strata ``fold_0``, ``fold_1``, ..., without dev predictions.

    Args:
        path: Its file.
        human: The essays' human scores, from elsewhere.

    Raises:
        DataError: There are no human scores, an essay is missing among them, or a row cannot be used.
    """
    if human is None:
        raise DataError(
            f"{path} holds published predictions, without human scores. Name a table of these by --references, with "
            "--format asap if it is ASAP-AES."
        )
    source, cells = path.name, read_cells(path)
    if not set(cells) >= set(COLUMNS):
        raise DataError(
            f"{source} holds no published predictions: expected columns {', '.join(COLUMNS)}, found "
            f"{', '.join(map(str, cells))}."
        )
    table = pd.DataFrame({role: parse_ids(cells[role], role, source) for role in ID_COLUMNS}, index=cells.index)
    for column in ("fold", "seed", *PREDICTION_COLUMNS):
        table[column] = parse_numbers(cells[column], column, table["essay_id"], source)
    for column, broken in (("fold", table["fold"] % 1 != 0), ("seed", table["seed"] % 1 > 0)):
        fault = f"{column} is {{{column}:g}}, expected a whole number. Publish the arm anew."
        refuse_rows(broken.to_numpy(), table, source, fault)
    arms = sorted(map(str, cells["arm"].unique()))
    if len(arms) > 1:
        raise DataError(f"{source} holds the arms {', '.join(arms)}; expected one. Write one file an arm.")
    # float32 to the shortest decimal number that it stands for: a score of 60.1 is not 60.09999847.
    table["score"] = table["score"].astype(np.float32).astype(str).astype(np.float64)
    table = human.join(table, source)
    ranges, inferred = resolve_ranges(table, human.ranges, source)
    notes = tuple(inferred_notes(ranges, inferred, source))
    strata = [f"{FOLD}{fold:.0f}" for fold in table["fold"]]
    seeds = ["" if np.isnan(seed) else f"{seed:.0f}" for seed in table["seed"]]
    runs = []
    for stratum, seed in dict.fromkeys(zip(strata, seeds, strict=True)):
        rows = table[(np.asarray(strata) == stratum) & (np.asarray(seeds) == seed)]
        own = {prompt: ranges[prompt] for prompt in rows["prompt_id"].unique()}
        checked = check_predictions(rows, ranges=own, source=source)
        test = replace(checked, inferred=frozenset(inferred) & own.keys(), notes=notes)
        runs.append(ScoredRun(stratum, seed, test, None))
    return runs
