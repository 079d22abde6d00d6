"""What stands beside products while they are written, and after."""

from __future__ import annotations

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.tables.provenance import (
    Differences,
    Provenance,
    provenance_path,
    read_provenance,
    seal,
    sealed,
    verify,
)


def made() -> Provenance:
    return Provenance.now()


def test_nothing_is_told_while_a_product_is_written(tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("old")
    seal(scores, made())
    with sealed(made(), scores):
        assert not provenance_path(scores).exists()
        scores.write_text("new")
    assert verify(scores).found == []


def test_a_kill_leaves_none_and_an_error_the_old_one(tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("old")
    seal(scores, made())
    before = provenance_path(scores).read_bytes()
    with pytest.raises(DataError), sealed(made(), scores):
        raise DataError("a disk is full")
    assert provenance_path(scores).read_bytes() == before
    scores.write_text("half")
    with pytest.raises(DataError), sealed(made(), scores):
        raise DataError("a disk is full")
    assert verify(scores).found == ["scores.csv was changed"]
    with pytest.raises(KeyboardInterrupt), sealed(made(), scores):
        raise KeyboardInterrupt
    assert not provenance_path(scores).exists()


def test_other_products_of_a_folder_are_told_on(tmp_path):
    for name in ("report.json", "own.txt"):
        (tmp_path / name).write_text("first")
    seal(tmp_path, made(), ["report.json"])
    with sealed(made(), tmp_path, names=["pages", "absent.txt"]):
        (tmp_path / "pages").mkdir()
        (tmp_path / "pages" / "1.html").write_text("page")
    told = read_provenance(tmp_path)
    assert told.products.keys() == {"report.json", "pages/1.html"}
    assert len(told.earlier) == 1


def test_what_the_block_did_not_write_is_passed_over(tmp_path):
    with sealed(made(), tmp_path / "scores.csv", tmp_path / "review.csv"):
        (tmp_path / "scores.csv").write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "scores.csv.provenance.json"}


def test_a_folder_stands_for_its_parts(tmp_path):
    parts = [tmp_path / "parts" / name for name in ("a.csv", "b.csv", "notes.md")]
    parts[0].parent.mkdir()
    for part in parts:
        part.write_text(part.name)
    scores = tmp_path / "scores.csv"
    with sealed(Provenance.now(parts[:2]), scores):
        scores.write_text("new")
    assert verify(scores, [tmp_path / "parts"]) == Differences(3, [])
    parts[0].write_text("other")
    parts[1].unlink()
    assert verify(scores, [tmp_path / "parts"]).found == [
        "it was made from another a.csv",
        "it was made from b.csv too, which is gone",
    ]
    (tmp_path / "elsewhere").mkdir()
    assert verify(scores, [tmp_path / "elsewhere"]).found == [
        "it was not made from a elsewhere; it was from a.csv, b.csv"
    ]
