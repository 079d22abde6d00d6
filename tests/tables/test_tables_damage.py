"""Damaged files give rows or a DataError, never another error."""

from __future__ import annotations

import csv
import io
import json
import logging
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import iterate_unscored, read_essays
from aes_dynloss.tables.formats import iterate_rows

ROWS = [
    {
        "essay_id": f"e{number}",
        "prompt_id": str(number % 2 + 1),
        "text": 'She said "héllo",\nthen left.' * (1 + number % 3),
        "score": str(number % 5),
    }
    for number in range(20)
]
INSERTED = [
    b'"',
    b"\0",
    b"\r",
    b"\n",
    b",",
    b"\t",
    b"\xff",
    b"\xed\xa0\x80",
    b"{",
    b"}",
    b"NaN",
    b"\\ud800",
    b"1e999",
    b"-",
]


def delimited(delimiter: str) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return buffer.getvalue().encode()


def parquet(**options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**row, "score": int(row["score"])} for row in ROWS]), buffer, **options)
    return buffer.getvalue()


SOUND = {
    "csv": delimited(","),
    "tsv": delimited("\t"),
    "jsonl": "\n".join(json.dumps(row, ensure_ascii=place % 2 == 0) for place, row in enumerate(ROWS)).encode(),
    "parquet": parquet(),
    "plain parquet": parquet(compression="none", use_dictionary=False),
}


def damaged(content: bytes, random_state: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(random_state.randint(1, 3)):
        place = random_state.randrange(len(found) + 1)
        kind = random_state.choice(["flip", "delete", "truncate", "insert", "replace"])
        if kind == "flip" and place < len(found):
            found[place] ^= 1 << random_state.randrange(8)
        elif kind == "delete":
            del found[place : place + random_state.choice([1, 2, 50])]
        elif kind == "truncate":
            del found[place:]
        elif kind == "insert":
            found[place:place] = random_state.choice([*INSERTED, random_state.randbytes(4)])
        elif place < len(found):
            found[place] = random_state.randrange(256)
    return bytes(found)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", SOUND)
def test_damage_gives_rows_or_a_data_error(tmp_path, kind):
    path = tmp_path / f"t.{kind.split()[-1]}"
    path.write_bytes(SOUND[kind])
    assert [row["essay_id"] for _, row in iterate_rows(path)] == [row["essay_id"] for row in ROWS]
    random_state = random.Random(kind)
    readings = {
        "rows": lambda: list(iterate_rows(path)),
        "scored": lambda: read_essays(DataConfig(source=str(path))).essay_ids,
        "unscored": lambda: list(iterate_unscored(str(path))),
    }
    refusals: list[str] = []
    for _ in range(120):
        path.write_bytes(damaged(SOUND[kind], random_state))
        for reading in readings.values():
            try:
                assert len(reading()) > 0
            except DataError as error:
                refusals.append(str(error))
    assert all(path.name in refusal for refusal in refusals)
    assert 100 < len(refusals) < 360
