"""DataFrames as sources: names by content, cells as readers know them, and nothing held on to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.tables.formats import is_table, iterate_rows, source_name
from aes_dynloss.tables.frames import held_frame

TABLE = pd.DataFrame(
    {
        "text": pd.Series(["one", None, "3"], dtype="string"),
        "score": [1, 2, 3],
        "second": [1.5, np.nan, 2.0],
        "group": pd.Categorical(["a", "b", None]),
        "when": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
        "mixed": ["007", 7, None],
    }
).set_axis([9, 9, 9])


def test_cells_are_plain():
    with held_frame(TABLE) as name:
        numbers, rows = zip(*iterate_rows(name), strict=True)
        assert (is_table(name), source_name(name)) == (True, "the DataFrame")
    assert numbers == (1, 2, 3)
    assert [tuple(row.values())[:4] for row in rows] == [
        ("one", 1, 1.5, "a"),
        (None, 2, None, "b"),
        ("3", 3, 2.0, None),
    ]
    assert [type(row["score"]) for row in rows] == [int] * 3
    assert [row["when"] is None for row in rows] == [False, True, False]
    assert [row["mixed"] for row in rows] == ["007", 7, None]


def test_the_name_tells_the_content():
    def name(table: pd.DataFrame) -> str:
        with held_frame(table) as found:
            return found

    assert name(TABLE) == name(TABLE.copy().reset_index(drop=True))
    others = [TABLE[::-1], TABLE[["score", "text"]], TABLE.rename(columns={"text": "essay"}), TABLE.assign(score=4)]
    assert len({name(TABLE), *map(name, others)}) == 5


def test_it_is_held_within_the_block_and_the_thread_alone():
    with held_frame(TABLE) as name:
        with held_frame(TABLE) as same:
            assert same == name
        assert len(list(iterate_rows(name))) == 3
        with ThreadPoolExecutor(1) as pool, pytest.raises(DataError, match="was in memory when the run began"):
            pool.submit(iterate_rows, name).result()
    with pytest.raises(DataError, match=f"^{name} is a DataFrame that was in memory when the run began"):
        iterate_rows(name)


def test_refusals():
    with pytest.raises(DataError, match="holds no rows"), held_frame(TABLE[:0]):
        pass
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(DataError, match="names the column 'a' 2 times"), held_frame(twice):
        pass
