"""Tables in requests: what comes back is what `aes-dynloss score` writes, within limits, and without a word in logs."""

from __future__ import annotations

import asyncio
import io
import logging
import zipfile
from concurrent.futures import ThreadPoolExecutor

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import command
from served import call, essays
from served_app import SECRET, WORDS, Served

from aes_dynloss.serving.app import create_app
from aes_dynloss.serving.batching import ScoringQueue
from aes_dynloss.serving.requests import RefusalError
from aes_dynloss.serving.tables import READ_TYPES

SUFFIXES = {suffix: kind for kind, suffix in READ_TYPES.items()}
ROWS = [
    {"class": "007", "essay_id": "é 1", "prompt_id": "letter", "text": "An otter, by the river.", "score": "03"},
    {"class": "NA", "essay_id": "é 2", "prompt_id": "notice", "text": 'She said "phones".\nTwice; twice.', "score": ""},
    {"class": "8b", "essay_id": "é 2", "prompt_id": "letter", "text": WORDS, "score": "2"},
]


def table(suffix: str, rows=ROWS, **options) -> bytes:
    """Rows as a file of a kind."""
    frame, stream = pd.DataFrame(rows), io.BytesIO()
    if suffix in {".csv", ".tsv"}:
        frame.to_csv(stream, index=False, sep="," if suffix == ".csv" else "\t", **options)
    elif suffix == ".jsonl":
        frame.to_json(stream, orient="records", lines=True, force_ascii=False)
    elif suffix == ".parquet":
        frame.to_parquet(stream, index=False)
    else:
        frame.to_excel(stream, index=False)
    return stream.getvalue()


def with_shared_text(content: bytes, text: str) -> bytes:
    """A sheet that names a text where openpyxl wrote it out."""
    stream, inline = io.BytesIO(), f't="inlineStr"><is><t>{text}</t></is>'.encode()
    space, kind = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "application/vnd.openxmlformats-"
    kind += "officedocument.spreadsheetml.sharedStrings+xml"
    known = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'.encode()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            part = source.read(entry).replace(inline, b't="s"><v>0</v>')
            target.writestr(entry, part.replace(b"</Types>", known))
        target.writestr("xl/sharedStrings.xml", f'<sst xmlns="{space}"><si><t>{text}</t></si></sst>')
    return stream.getvalue()


def post(served, content: bytes, query: str = "", suffix: str = ".csv", **headers: str):
    return served.ask("POST", f"/score-table?{query}", content, {"content-type": SUFFIXES[suffix], **headers})


def by_command(model, folder, content: bytes, suffix: str, *words: str) -> bytes:
    """What the command writes for the same table; with duplicates off, as a server has them."""
    (folder / f"table{suffix}").write_bytes(content)
    form = words[words.index("--format") + 1] if "--format" in words else "csv"
    output = folder / f"scores.{form}"
    words = (*words, "--policy", "duplicate=off", "--output", output, "--force", "--cpu")
    outcome = command("score", model, folder / f"table{suffix}", *words)
    assert outcome.code == 0, outcome.err
    return output.read_bytes()


class TestSameAsTheCommand:
    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
    def test_every_format_that_is_read(self, served, model, tmp_path, suffix):
        content = table(suffix)
        answer = post(served, content, "keep_columns=true", suffix)
        assert answer.status == 200, answer.body
        assert answer.body == by_command(model, tmp_path, content, suffix, "--keep-columns")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="scores.csv"'

    @pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
    @pytest.mark.parametrize("keep", [False, True])
    def test_every_format_that_is_written(self, served, model, tmp_path, form, keep):
        answer = post(served, table(".csv"), f"format={form}&keep_columns={str(keep).lower()}")
        words = ("--format", form, *(["--keep-columns"] if keep else []))
        expected = by_command(model, tmp_path, table(".csv"), ".csv", *words)
        if form == "parquet":
            assert pq.read_table(io.BytesIO(answer.body)).equals(pq.read_table(io.BytesIO(expected)))
        else:
            assert answer.body == expected
        assert ("input_score" in answer.body.decode("latin-1")) == keep

    def test_options(self, served, model, tmp_path):
        rows = [{"nr": "7", "words": "Otters swim in the café.", "task": "notice"}]
        content = table(".csv", rows, encoding="cp1252")
        named = {"text": "words", "id": "nr", "prompt": "task"}
        query = "&".join([*(f"{role}_column={name}" for role, name in named.items()), "encoding=cp1252"])
        words = [word for role, name in named.items() for word in (f"--{role}-column", name)]
        expected = by_command(model, tmp_path, content, ".csv", *words, "--encoding", "cp1252")
        assert post(served, content, query).body == expected

    def test_quotes_that_are_plain_characters(self, served, model, tmp_path):
        content = b'prompt_id,text\nletter,"a\nnotice,b" c\n'
        expected = by_command(model, tmp_path, content, ".csv", "--quoting", "none")
        assert post(served, content, "quoting=none").body == expected
        assert post(served, content).status == 422

    def test_columns_of_other_names_are_found(self, served):
        answer = post(served, b"id,essay\n7,My dog is big.\n", "prompt=letter")
        assert answer.status == 200
        assert answer.body.splitlines()[1].startswith(b"7,letter,")

    def test_more_essays_than_a_batch(self, scorer, model, tmp_path):
        rows = [{"prompt_id": "letter", "text": f"{WORDS} {'otter ' * number}"} for number in range(11)]
        answer = post(Served(scorer, batch_size=4), table(".csv", rows), "format=jsonl")
        expected = by_command(model, tmp_path, table(".csv", rows), ".csv", "--format", "jsonl")
        frames = [pd.read_json(io.BytesIO(one), lines=True) for one in (answer.body, expected)]
        pd.testing.assert_frame_equal(*frames, atol=1e-4)

    def test_a_withheld_score_is_blank(self, scorer):
        class Silent:
            screen = None

            def __getattr__(self, name):
                return getattr(scorer, name)

        answer = post(Served(Silent()), b"prompt_id,text\nletter,\n", "format=jsonl")
        row = pd.read_json(io.BytesIO(answer.body), lines=True).iloc[0]
        assert (bool(row["withheld"]), row["advisories"]) == (True, ["empty"])
        assert pd.isna(row["score"])


REFUSED = [
    (b"", "", 422, "table.csv is empty. Give a table with a header and rows."),
    (b"prompt_id,text\n", "", 422, "table.csv holds a header (prompt_id, text) but no rows."),
    (b"prompt_id,text\nletter,a,b\n", "", 422, "Row 2 of table.csv: expected 2 values as in the header, found 3."),
    (b'prompt_id,text\nletter,"a\n', "", 422, "Row 2 of table.csv (from line 2): a quote is opened in it and never"),
    (b"prompt_id,text\nletter,\xff\n", "", 422, "Line 2 of table.csv (byte 22): expected utf-8 text, found 0xff"),
    (b"a,b\n1,2\n", "", 422, "table.csv: which column holds the essays?"),
    (b"text\na b\n", "", 422, "Essay 1 of the table: prompt_id is missing; the model knows letter, notice."),
    (b"prompt_id,text\npoem,a\n", "", 422, "Essay 1 of the table: prompt_id 'poem' is not known to the model"),
    (b"prompt_id,text\nletter,a\n", "prompt=letter", 422, "table.csv has a column 'prompt_id', and the prompt"),
    (b"prompt_id,text\nletter,a\n", "text_column=t", 422, "table.csv has no column 't'; found"),
    (b"prompt_id,text\nletter,a\n", "id_column=text", 422, "table.csv has 1 fault: "),
    (b"", "format=xlsx", 422, "In the address, format must be 'csv', 'jsonl' or 'parquet'."),
    (b"", "keep_columns=perhaps", 422, "In the address, keep_columns must be true or false."),
    (b"", "colour=red", 422, "In the address, colour is no key that is known here."),
    (b"", f"prompt={'p' * 201}", 422, "In the address, prompt is too long for a name."),
    (b"", "encoding=latin-17", 422, "In the address, encoding: "),
]


class TestRefusals:
    @pytest.mark.parametrize(("content", "query", "status", "words"), REFUSED)
    def test_words(self, served, content, query, status, words):
        answer = post(served, content, query)
        assert (answer.status, answer.detail[: len(words)]) == (status, words)
        assert len(answer.detail) <= 300

    @pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"prompt_id,t\nletter,a\n"])
    def test_options_are_called_as_they_are_here(self, served, content):
        assert "Name it with text_column" in post(served, content, "id_column=t").detail

    @pytest.mark.parametrize("suffix", [".xlsx", ".parquet", ".jsonl"])
    def test_damage(self, served, suffix):
        for content in (b"\x00nonsense", table(suffix)[:-20]):
            answer = post(served, content, "", suffix)
            assert answer.status == 422, answer.body
            assert "table" in answer.detail

    @pytest.mark.parametrize("kind", [None, "application/json", "multipart/form-data; boundary=x", "text/plain"])
    def test_no_table(self, served, kind):
        headers = {} if kind is None else {"content-type": kind}
        answer = served.ask("POST", "/score-table", table(".csv"), headers)
        assert answer.status == 415
        assert "text/csv, text/tab-separated-values" in answer.detail
        assert answer.headers["connection"] == "close"

    def test_no_file_of_this_machine_is_named(self, served, tmp_path):
        for text in (b"-", b"made-up-essays", str(tmp_path).encode()):
            assert post(served, b"prompt_id,text\nletter," + text + b"\n").status == 200

    def test_logs_hold_no_word(self, served, caplog):
        with caplog.at_level(logging.DEBUG):
            post(served, f"prompt_id,text,{SECRET}\nletter,{SECRET},{SECRET}\n".encode(), "keep_columns=true")
            post(served, f"{SECRET}\n{SECRET},{SECRET}\n".encode())
            post(served, f"prompt_id,text\n{SECRET},{SECRET}\n".encode(), f"id_column={SECRET}")
            post(served, SECRET.encode(), "", ".jsonl")
            post(served, b"", f"{SECRET}={SECRET}")
        assert SECRET not in caplog.text
        assert caplog.text.count("POST /score-table") == 5


class TestLimits:
    def test_essays_bytes_and_characters(self, scorer):
        small = Served(scorer, max_table_rows=2, max_table_body=100, max_characters=10)
        for content, words in (
            (b"prompt_id,text\n" + b"letter,a\n" * 3, "The table holds more than 2 essays, the most that is taken."),
            (b"prompt_id,text\nletter," + b"a" * 100, "The body is larger than 100 bytes, the most that is taken."),
            (b"prompt_id,text\nletter," + b"a" * 11, "Essay 1 of the table: text has 11 characters; 10 at most are"),
        ):
            answer = post(small, content)
            assert (answer.status, answer.detail[: len(words)]) == (413, words)
        assert post(small, b"prompt_id,text\n" + b"letter,a\n" * 2).status == 200

    def test_time_to_send_and_to_read(self, scorer, monkeypatch):
        slow = Served(scorer, client_seconds=0.2)
        answer = slow.ask("POST", "/score-table", [b"a", b"b"], {"content-type": "text/csv"}, [0, 5, 5])
        assert (answer.status, answer.detail) == (408, "The body did not arrive within 0.2 seconds.")
        clock = iter(range(0, 10_000, 20))
        monkeypatch.setattr("aes_dynloss.serving.tables.time.monotonic", lambda: next(clock))
        answer = post(Served(scorer), b"prompt_id,text\n" + b"letter,a\n" * 3)
        assert (answer.status, answer.detail) == (413, "The table takes longer than 30 seconds to read.")

    def test_a_zip_bomb(self, scorer):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as book:
            book.writestr("xl/sharedStrings.xml", b"a" * 2_000_000)
        assert len(stream.getvalue()) < 10_000
        answer = post(Served(scorer, max_table_body=10_000), stream.getvalue(), "", ".xlsx")
        assert (answer.status, answer.detail[:40]) == (413, "The table unpacks to more than 160000 by")
        stream = io.BytesIO()
        pq.write_table(pa.table({"text": [str(n) + "a" * 9999 for n in range(100)]}), stream, compression="zstd")
        assert len(stream.getvalue()) < 10_000
        assert post(Served(scorer, max_table_body=10_000), stream.getvalue(), "", ".parquet").status == 413

    @pytest.mark.parametrize("query", ["prompt=letter", "prompt=letter&keep_columns=true"])
    @pytest.mark.parametrize(
        ("suffix", "notes"),
        [(".parquet", "b" * 20_000), (".parquet", {"of_rater": "b" * 20_000}), (".xlsx", "b" * 20_000)],
    )
    def test_rows_that_share_a_long_text(self, scorer, suffix, notes, query):
        small = Served(scorer, max_table_body=10_000)
        for count, status in ((4, 200), (20, 413)):
            content = table(suffix, [{"essay": "a", "notes": notes}] * count)
            content = with_shared_text(content, notes) if suffix == ".xlsx" else content
            answer = post(small, content, query, suffix)
            assert len(content) < 10_000
            assert answer.status == status, answer.body
        assert answer.detail == "The table unpacks to more than 160000 bytes, the most that is taken."

    def test_rows_that_share_a_long_name(self, scorer):
        content = f"text,{'n' * 8000}\n".encode() + b"a,\n" * 30
        answer = post(Served(scorer, max_table_body=10_000), content, "prompt=letter&keep_columns=true&format=jsonl")
        assert (answer.status, answer.detail[:40]) == (413, "The table unpacks to more than 160000 by")

    @pytest.mark.parametrize(("value", "count"), [("b" * 100, 10_000), (0, 100_000), (b"b" * 1000, 2000)])
    def test_a_row_with_a_long_list(self, scorer, monkeypatch, value, count):
        stream = io.BytesIO()
        kind = {int: pa.int64(), str: pa.string(), bytes: pa.binary(1000)}[type(value)]
        tags = pa.array([[value] * count], pa.list_(kind))
        pq.write_table(pa.table({"text": ["a"], "tags": tags}), stream, compression="zstd")
        monkeypatch.setattr("aes_dynloss.serving.tables.iterate_rows", None)  # not a row may be read
        answer = post(Served(scorer, max_table_body=10_000), stream.getvalue(), "prompt=letter", ".parquet")
        assert (answer.status, answer.detail[:40]) == (413, "The table unpacks to more than 160000 by")

    def test_lists_of_a_few_words(self, served):
        content = table(".parquet", [{"prompt_id": "letter", "text": "a", "tags": ["x", "y"]}] * 50)
        assert post(served, content, "keep_columns=true", ".parquet").status == 200

    def test_a_long_cell(self, scorer, monkeypatch):
        monkeypatch.setattr("aes_dynloss.serving.tables._LONGEST_CELL", 1000)
        small = Served(scorer, max_characters=10)
        for length, status in ((1000, 200), (1001, 413)):
            answer = post(small, f"prompt_id,text,notes\nletter,a,{'b' * length}\n".encode())
            assert answer.status == status
        assert answer.detail == "A cell holds more than 1000 characters, the most that is taken."

    def test_a_sheet_whose_last_row_is_far_beyond_all(self, served):
        book, stream = openpyxl.Workbook(), io.BytesIO()
        book.active.append(["prompt_id", "text"])
        book.active.append(["letter", "a"])
        book.save(stream)
        damaged = io.BytesIO()
        with zipfile.ZipFile(stream) as source, zipfile.ZipFile(damaged, "w") as target:
            for entry in source.infolist():
                content = source.read(entry).replace(b'<row r="2"', b'<row r="99999999999"')
                target.writestr(entry, content.replace(b'r="A2"', b'r="A99999999999"').replace(b'r="B2"', b""))
        answer = post(served, damaged.getvalue(), "", ".xlsx")
        assert answer.status == 422

    def test_so_many_at_once(self, scorer):
        async def main():
            app = create_app(Served(scorer, max_tables=1).service)
            async with app.router.lifespan_context(app):
                with app.state.queues["table"].open_request():
                    full = await call(app, "POST", "/score-table", table(".csv"), {"content-type": "text/csv"})
                    other = await call(app, "POST", "/score", essays(WORDS))
                free = await call(app, "POST", "/score-table", table(".csv"), {"content-type": "text/csv"})
                return full, other, free

        full, other, free = asyncio.run(main())
        assert (full.status, other.status, free.status) == (503, 200, 200)
        assert full.detail == "1 such requests are being answered already; try again in 60 s."
        assert (full.headers["retry-after"], full.headers["connection"]) == ("60", "close")

    def test_a_table_that_fails_gives_its_place_back(self):
        async def main():
            with ThreadPoolExecutor(1) as thread:
                queue = ScoringQueue(list, thread, batch_size=1, max_queue=1, max_open=1)
                for _ in range(2):
                    with pytest.raises(RuntimeError), queue.open_request():
                        raise RuntimeError
                with queue.open_request(), pytest.raises(RefusalError), queue.open_request():
                    pass

        asyncio.run(main())


def test_scores_come_in_between(scorer):
    rows = [{"prompt_id": "letter", "text": WORDS}] * 40
    served = Served(scorer, batch_size=2)
    ends = []

    async def main():
        app = create_app(served.service)
        async with app.router.lifespan_context(app):
            kind = {"content-type": "text/csv"}
            whole = asyncio.create_task(call(app, "POST", "/score-table", table(".csv", rows), kind))
            whole.add_done_callback(lambda _: ends.append("table"))
            while not app.state.queues["table"]._open:
                await asyncio.sleep(0.001)
            one = await call(app, "POST", "/score", essays(WORDS))
            ends.append("essay")
            return one, await whole

    one, whole = asyncio.run(main())
    assert (one.status, whole.status, ends) == (200, 200, ["essay", "table"])
