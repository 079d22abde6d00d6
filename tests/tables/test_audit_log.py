"""The audit log: whatever is changed in it is found, and a writer mends what a killed one left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.tables import audit_log as module
from aes_dynloss.tables.audit_log import AuditLog, Head, head_path, verify_log

TEXTS = ("a", 'say "no", \\ and \n', "\u00fc\U0001f600\u2028", '"previous": "', "")


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "audit.jsonl"
    for text in TEXTS:
        AuditLog(path).append([{"essay_id": text, "run": "r"}, {"essay_id": text + "2", "run": "s"}])
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_lines_are_json_and_chained(path):
    rows = [json.loads(line) for line in lines_of(path)]
    assert [row["number"] for row in rows] == list(range(1, 11))
    assert [row["essay_id"] for row in rows[::2]] == list(TEXTS)
    assert [row["previous"] for row in rows[1:]] == [row["hash"] for row in rows[:-1]]
    assert verify_log(path) == module.Verification(10)
    assert AuditLog(path).count("run", "s") == 5


def test_any_changed_byte_is_found(path):
    for file in (path, head_path(path)):
        whole = file.read_bytes()
        for place in range(len(whole)):
            for value in (whole[place] ^ 1, ord("\n"), ord("0")):
                if value != whole[place]:
                    file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
                    assert verify_log(path).faults, (file.name, place, value)
        file.write_bytes(whole)
    assert not verify_log(path).faults


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:4] + lines[5:], "where line 5 is expected there is line 6"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], "where line 5 is expected there is line 6"),
        (lambda lines: lines[:4] + lines[3:], "where line 5 is expected there is line 4"),
        (lambda lines: lines[1:], "where line 1 is expected there is line 2"),
        (lambda lines: lines[:-1], "the end was cut off: the head counts 10 lines, 9 are there"),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], "the end was cut off: the head counts 10 lines, 9 are there"),
        (lambda _: [], "the end was cut off: the head counts 10 lines, 0 are there"),
    ],
)
def test_missing_moved_doubled_and_cut_off_lines_are_found(path, change, words):
    path.write_bytes(b"".join(change(lines_of(path))))
    assert verify_log(path).faults[0] == words
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"was changed: .* Nothing was added"):
        AuditLog(path).append([{"essay_id": "new"}])
    assert path.read_bytes() == before


def test_a_line_forged_with_its_own_hash_breaks_the_chain(path):
    lines = lines_of(path)
    row = json.loads(lines[3])
    lines[3] = module._line({**{key: value for key, value in row.items() if key != "hash"}, "essay_id": "forged"})
    path.write_bytes(b"".join(lines))
    assert verify_log(path).faults == ["line 5 does not follow the line before it"]


def test_nothing_is_added_to_a_log_that_was_changed_in_the_middle(path):
    changed = path.read_bytes().replace(b'"run": "s"', b'"run": "r"', 1)
    path.write_bytes(changed)
    for write in (AuditLog(path).check, lambda: AuditLog(path).append([{"essay_id": "new"}])):
        with pytest.raises(DataError, match=r"was changed: line 2 was changed\. Nothing was added"):
            write()
    assert path.read_bytes() == changed


def test_a_writer_reads_each_line_once(path, monkeypatch):
    looked_at, plain = [], module._fault
    monkeypatch.setattr(
        module, "_fault", lambda line, before: looked_at.append(before.lines + 1) or plain(line, before)
    )
    log = AuditLog(path)
    log.check()
    log.append([{"essay_id": "new"}])
    AuditLog(path).append([{"essay_id": "another writer's"}])
    looked_at.clear()
    log.append([{"essay_id": "newer"}])
    assert looked_at == [12], "what the other writer added"
    assert verify_log(path) == module.Verification(13)


@pytest.mark.parametrize("tail", [b"", b'{"number": 11, "ti'])
def test_a_head_that_is_behind_is_brought_up_and_half_a_line_removed(path, tail):
    lines, head = lines_of(path), head_path(path).read_bytes()
    AuditLog(path).append([{"essay_id": "last"}])
    head_path(path).write_bytes(head)
    with path.open("ab") as file:
        file.write(tail)
    found = verify_log(path)
    assert (found.lines, found.faults, len(found.notes)) == (11, [], 1 + bool(tail))
    AuditLog(path).append([{"essay_id": "after"}])
    assert verify_log(path) == module.Verification(12)
    assert lines_of(path)[:10] == lines


def test_a_head_of_words_and_an_endless_number_are_faults(path):
    whole, head = path.read_bytes(), head_path(path).read_bytes()
    head_path(path).write_bytes(head.replace(b'"lines": 10', b'"lines": "10"'))
    assert "needs two numbers and a hash" in verify_log(path).faults[0]
    with pytest.raises(DataError, match="is damaged"):
        AuditLog(path).append([{"essay_id": "new"}])
    head_path(path).write_bytes(head)
    path.write_bytes(whole.replace(b'"number": 3,', b'"number": ' + b"3" * 5000 + b","))
    assert verify_log(path).faults[0] == "line 3 was changed"


def test_lines_behind_the_head_that_are_none_are_refused(path):
    with path.open("ab") as file:
        file.write(b"something\n")
    with pytest.raises(DataError, match=r"was changed: line 11 was changed. Nothing was added"):
        AuditLog(path).append([{"essay_id": "new"}])


def test_a_log_without_its_head_and_a_head_of_another_log_are_refused(path, tmp_path):
    other = tmp_path / "other.jsonl"
    AuditLog(other).append([{"essay_id": "other"}])
    head_path(path).write_bytes(head_path(other).read_bytes())
    assert verify_log(path).faults == ["the head was changed, or is another log's"]
    with pytest.raises(DataError, match="the line that the head ends with is another"):
        AuditLog(path).append([{"essay_id": "new"}])
    head_path(path).unlink()
    assert verify_log(path).faults == ["the head audit.jsonl.head is missing"]
    with pytest.raises(DataError, match="has lost its head"):
        AuditLog(path).append([{"essay_id": "new"}])
    with pytest.raises(DataError, match="There is no audit log"):
        verify_log(tmp_path / "none.jsonl")


def test_a_log_whose_first_writer_was_killed_before_its_first_line_goes_on(tmp_path):
    path = tmp_path / "audit.jsonl"
    head_path(path).write_text(Head().text())
    path.write_bytes(b'{"num')
    assert not verify_log(path).faults
    AuditLog(path).append([{"essay_id": "first"}])
    assert verify_log(path) == module.Verification(1)
