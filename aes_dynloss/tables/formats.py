"""Tables: rows read strictly and one at a time from any format, whole tables in memory, and tables written.

Formats are csv, tsv, jsonl, parquet, xlsx, a folder of .txt, and standard input. No value is guessed: every csv and tsv
value is text (``007`` and ``NA`` stay what they are); jsonl, parquet and xlsx give the types that they hold. A csv may
have semicolons or tabs between its columns. Nothing is skipped but blank lines, and nothing repaired.

Rows are numbered as a user finds them. In csv, tsv and xlsx the header is row 1, as in a spreadsheet (a quoted text
with line breaks is one row, a blank line counts too). In jsonl a row is a line. In parquet and in a folder of .txt
(sorted by name) the first is row 1, for they have no header.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import DataError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.columns import missing_columns
from aes_dynloss.tables.csv_jsonl import (
    CsvLines,
    OtherEncodingError,
    Quoting,
    check_header,
    codec_name,
    delimited_rows,
    describe_byte,
    json_rows,
    peeked,
    read_lines,
)
from aes_dynloss.tables.frames import frame_rows, is_frame
from aes_dynloss.tables.provenance import provenance_path, read_provenance
from aes_dynloss.tables.rows import FaultHandler, NoRowsError, Row, RowFault, damaged_table, refuse
from aes_dynloss.tables.workbook import sheet_rows, write_sheet

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

STANDARD_INPUT = "-"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Rows of a batch of parquet, at most; fewer where rows that share a dictionary's long values could have more bytes.
_BATCH_ROWS, _BATCH_BYTES = 256, 2**28


def iterate_rows(
    source: str | Path,
    *,
    encoding: str = "utf-8",
    quoting: Quoting = "minimal",
    wanted: Collection[str] | None = None,
    short: int = 0,
    on_fault: FaultHandler = refuse,
    stdin: BinaryIO | None = None,
    content: bytes | None = None,
) -> Iterator[Row]:
    r"""Read a table row by row; memory holds one row, or one batch of parquet rows.

    Args:
        source: A .csv, .tsv, .jsonl, .ndjson, .parquet or .xlsx file (its first sheet), a folder of .txt files (columns
            ``essay_id``, the file's name without .txt, and ``text``), ``-`` for standard input (jsonl if its first
            character that is not blank is ``{``, else csv), or the name of a DataFrame by ``held_frame``.
        encoding: Of text files; a UTF-8 byte order mark is taken off.
        quoting: ``minimal``: a value with delimiters, quotes or line breaks stands in double quotes, and quotes in it
            are doubled. ``none``: quotes are plain characters. For csv and tsv.
        wanted: The columns that are used. Parquet reads no others, provided that it has all these, but those of
            ``short`` values.
        short: Longest text of further columns that parquet reads, see `short_columns`; 0: it reads none.
        on_fault: Is given each row that cannot be read; the default raises. Faults after which no row can be trusted
            (encoding, quotes, damaged parquet) are raised in any case.
        stdin: Stands in for standard input.
        content: What the file holds, for a table in memory: ``source`` is then its name, and no file is read.

    Returns:
        Pairs of row number and row.

    Raises:
        DataError: The source is missing, empty, damaged or of an unknown kind, at the call or while rows are taken.

    Example:
        >>> list(iterate_rows("new.csv", content=b"id,essay\n7,My dog is big.\n"))
        [(2, {'id': '7', 'essay': 'My dog is big.'})]
    """
    if content is not None:
        return _file_rows(Path(source), io.BytesIO(content), encoding, quoting, wanted, short, on_fault)
    if str(source) == STANDARD_INPUT:
        if stdin is None and sys.stdin is None:
            raise DataError("Standard input is closed. Lead the essays into it, or name a file.")
        return _standard_input_rows(stdin or sys.stdin.buffer, encoding, quoting, on_fault)
    if is_frame(source):
        return frame_rows(source)
    path = existing_path(source)
    if path.is_dir():
        return _folder_rows(path, encoding, on_fault)
    return _file_rows(path, None, encoding, quoting, wanted, short, on_fault)


def existing_path(source: str | Path) -> Path:
    """The path of a local source, with ``~`` as the home folder.

    Raises:
        DataError: It is not there.
    """
    path = user_path(source, "data.source")
    if not path.exists():
        raise DataError(f"There is no file or folder {path}. Correct the path of the essays.")
    return path


def is_table(source: str | Path) -> bool:
    """Whether a source has the name of a table: a file of a known suffix, or a DataFrame."""
    return is_frame(source) or Path(source).suffix.lower() in SUFFIXES


def source_name(source: str | Path) -> str:
    """How messages name a source: a path's last part, ``standard input`` or ``the DataFrame``."""
    if is_frame(source):
        return "the DataFrame"
    return "standard input" if str(source) == STANDARD_INPUT else Path(source).name or str(source)


def _file_rows(
    path: Path,
    content: BinaryIO | None,
    encoding: str,
    quoting: Quoting,
    wanted: Collection[str] | None,
    short: int,
    on_fault: FaultHandler,
) -> Iterator[Row]:
    """Rows of a file, or of what it would hold, read as its suffix says."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        kind = f"a {suffix} file" if suffix else "a file without suffix"
        raise DataError(f"{path}: expected {', '.join(SUFFIXES)} or a folder of .txt, found {kind}. Convert it.")
    if suffix == ".parquet":
        return _parquet_rows(path, content or path, wanted, short)
    if suffix == ".xlsx":
        return sheet_rows(path, content or path)
    return _text_rows(path, content, encoding, quoting, on_fault)


def _text_rows(
    path: Path, content: BinaryIO | None, encoding: str, quoting: Quoting, on_fault: FaultHandler
) -> Iterator[Row]:
    suffix = path.suffix.lower()
    try:
        stream = content or path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    with stream:
        lines = read_lines(stream, encoding, path.name)
        if suffix in DELIMITERS:
            delimiter = DELIMITERS[suffix]
            yield from delimited_rows(lines, path.name, delimiter=delimiter, quoting=quoting, on_fault=on_fault)
        else:
            yield from json_rows(lines, path.name, on_fault)


def _standard_input_rows(stream: BinaryIO, encoding: str, quoting: Quoting, on_fault: FaultHandler) -> Iterator[Row]:
    name = source_name(STANDARD_INPUT)
    first, lines = peeked(read_lines(stream, encoding, name))
    # An array is no table either, but json_rows can say so.
    if first.lstrip().startswith(("{", "[{")):
        yield from json_rows(lines, name, on_fault)
    else:
        yield from delimited_rows(lines, name, delimiter=",", quoting=quoting, on_fault=on_fault)


def _parquet_rows(path: Path, opened: Path | BinaryIO, wanted: Collection[str] | None, short: int) -> Iterator[Row]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(opened, page_checksum_verification=True)
    except Exception as error:  # Damage reaches Python as any of a dozen classes.
        raise damaged_table(path, "parquet", error) from None
    with file:
        names = list(file.schema_arrow.names)
        expected = file.metadata.num_rows
        if not names or expected < 1:
            raise NoRowsError(f"{path.name} holds no rows.", names)
        check_header(names, path.name)
        # If a wanted column is missing, all are read, so that the message about it can suggest another.
        columns = None if wanted is None or set(wanted) - set(names) else [name for name in names if name in wanted]
        number, size = 0, _batch_rows(file.metadata)
        try:
            if columns is not None and short:
                columns += short_columns(file.schema_arrow, partial(_first_batch, file, size), short)
                columns = [name for name in names if name in columns]
            batches = file.iter_batches(batch_size=size, columns=columns)
            for number, row in enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), start=1):
                yield number, row
        except Exception as error:  # As above.
            raise damaged_table(path, "parquet", error) from None
        if number != expected:
            raise DataError(f"{path.name} should hold {expected} rows, but {number} were found. Save it again.")


def _first_batch(file: Any, size: int, columns: list[str]) -> Any:  # noqa: ANN401 - pyarrow is untyped
    return next(file.iter_batches(batch_size=size, columns=columns))


def short_columns(schema: Any, sample: Callable[[list[str]], Any], longest: int) -> list[str]:  # noqa: ANN401
    """Columns whose values may be names: whole numbers, truth values and texts none of which is long, by some rows.

    Args:
        schema: Of a table of pyarrow.
        sample: Gives some of its rows with these columns.
        longest: Length of a text at most, in characters.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    types = {field.name: field.type for field in schema}
    kinds = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in types.items()}
    floats = [name for name, kind in kinds.items() if kind in {pa.float32(), pa.float64()}]
    texts = [name for name, kind in kinds.items() if kind in {pa.string(), pa.large_string()}]
    rows: Any = sample([*floats, *texts]) if floats or texts else None
    found = {name for name, kind in kinds.items() if pa.types.is_integer(kind) or pa.types.is_boolean(kind)}
    for name in floats:  # where whole numbers have gaps, pandas makes floats of them
        values = rows.column(name)
        if pc.all(pc.or_(pc.is_nan(values), pc.equal(values, pc.floor(values)))).as_py() is not False:
            found.add(name)
    for name in texts:
        lengths = pc.utf8_length(rows.column(name).cast(kinds[name]))
        if (pc.max(lengths).as_py() or 0) <= longest:
            found.add(name)
    return [name for name in types if name in found]


def _batch_rows(metadata: Any) -> int:  # noqa: ANN401 - pyarrow is untyped
    """Rows to read at a time: a row of plain columns is at most as large as its whole row group."""
    largest: int = max(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return min(_BATCH_ROWS, max(1, _BATCH_BYTES // max(1, largest)))


def _folder_rows(folder: Path, encoding: str, on_fault: FaultHandler) -> Iterator[Row]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from None
    files = [path for path in entries if path.suffix.lower() == ".txt" and path.is_file()]
    if not files:
        raise DataError(f"The folder {folder} holds no .txt files. Give a file, or a folder of one .txt an essay.")
    others = len(entries) - len(files)
    if others:
        logger.warning("%d entries of the folder %s are no .txt files and are not read.", others, folder.name)
    for number, path in enumerate(files, start=1):
        try:
            text = path.read_bytes().decode(codec_name(encoding))
        except UnicodeDecodeError as error:
            found, advice = describe_byte(error, encoding, at_start=error.start == 0)
            reason = f"{path.name}, byte {error.start}: {found}. {advice}"
        except (OSError, UnicodeError) as error:
            reason = f"{path.name} cannot be read: {error}."
        else:
            if "\0" not in text:
                yield number, {"essay_id": path.stem, "text": text}
                continue
            reason = f"{path.name} holds a NUL character: it is damaged, or no {encoding} text."
        on_fault(RowFault(folder.name, number, reason))


WRITTEN_SUFFIXES = (".csv", ".jsonl", ".parquet", ".xlsx")
# A table with more columns is none: some writers make a column of each essay.
MOST_COLUMNS = 2000


def scored_tables(path: Path) -> list[Path]:
    """The tables that a path stands for: a file itself; of a folder that ``aes-dynloss score`` filled, its tables.

    Args:
        path: The file or folder. A run holds tables too, of several things, and stands for none.

    Raises:
        DataError: It is another folder, or one that is not complete.

    Examples:
        >>> import tempfile
        >>> from aes_dynloss.tables.provenance import Provenance, seal
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "b.csv").write_text("essay_id"), (folder / "a.csv").write_text("essay_id")
        >>> seal(folder, Provenance.now())
        >>> [table.name for table in scored_tables(folder)]
        ['a.csv', 'b.csv']
    """
    if not path.is_dir():
        return [path]
    names = sorted(read_provenance(path).products) if provenance_path(path).exists() else []
    if not names or any("/" in name or not is_table(name) for name in names):
        raise DataError(
            f"Cannot read {path}: it is a folder. Name a file, or a folder of tables that `aes-dynloss score` has "
            "filled to its end."
        )
    return [path / name for name in names]


def column_names(path: Path) -> list[str]:
    """The columns of a table's first row, or of those of the tables of a folder of scores.

    Args:
        path: As :func:`read_cells` takes it.

    Raises:
        DataError: It cannot be read.
    """
    rows = (row for table in scored_tables(path) for _, row in islice(_rows_of_one(table, path), 1))
    return list(dict.fromkeys(chain.from_iterable(rows)))


def _rows_of_one(table: Path, path: Path) -> Iterator[Row]:
    """Rows of one of the tables that a path stands for, in UTF-8; that of a folder may have none."""
    with suppress(*([] if table == path else [NoRowsError])):
        try:
            yield from iterate_rows(table)
        except OtherEncodingError as error:
            raise DataError(f"{error.found}. Save it as UTF-8.") from None


def read_cells(path: str | Path) -> pd.DataFrame:
    """The cells of a table as they are: text stays text ("007", "NA"), and None is a blank.

    Args:
        path: File of a kind that :func:`aes_dynloss.tables.formats.iterate_rows` reads, in UTF-8; or a folder of
            scores, see :func:`scored_tables`.

    Returns:
        Table of dtype object, at least one row; its index holds the rows' numbers, as the file counts them; those of a
        folder go on from table to table.

    Raises:
        DataError: The file is missing, of another type, empty, damaged, names a column twice, or has more than
            MOST_COLUMNS columns.
    """
    import pandas as pd

    from aes_dynloss.tables.cells import ROW_NUMBERS, is_blank

    path = Path(path)
    rows: dict[int, dict[str, object]] = {}
    columns: dict[str, None] = {}
    for table in scored_tables(path):
        checked_suffix(table, SUFFIXES)
        before = next(reversed(rows), 0)
        for number, row in _rows_of_one(table, path):
            rows[before + number] = row
            columns.update(dict.fromkeys(row))
            if len(columns) > MOST_COLUMNS:
                raise DataError(
                    f"{table.name} has more than {MOST_COLUMNS} columns up to row {number}. Write one column for each "
                    "kind of value, and one row for each essay."
                )
    if not rows:
        raise NoRowsError(f"The tables of {path} hold no rows.")
    cells = [[None if is_blank(row.get(column)) else row[column] for column in columns] for row in rows.values()]
    index = pd.Index(list(rows), name=ROW_NUMBERS)
    return pd.DataFrame(cells, index=index, columns=pd.Index(list(columns)), dtype=object)


def check_mapped(mapped: Collection[tuple[str, str]], paths: Sequence[Path]) -> None:
    """Refuse names for columns that no file has, for :class:`aes_dynloss.tables.columns.ColumnNames`.

    Args:
        mapped: Pairs of a role and a column.
        paths: Files; of each, the first row is looked at.

    Raises:
        DataError: There is such a name, or a file cannot be read.
    """
    known = {column: None for path in paths if mapped for column in column_names(path)}
    missing = {column: f"--map {role}={column} needs it in one of the files." for role, column in mapped}
    missing = {column: advice for column, advice in missing.items() if column not in known}
    if missing:
        raise DataError(missing_columns(" with ".join(path.name for path in paths), missing, list(known)))


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as its suffix says; floats keep every digit and a blank stays blank.

    Args:
        table: Columns of strings and numbers; NaN and None are blanks.
        path: File that ends in .csv, .jsonl, .parquet or .xlsx; missing folders are made.

    Raises:
        DataError: Another suffix, or the file cannot be written.
    """
    path = Path(path)
    suffix = checked_suffix(path, WRITTEN_SUFFIXES)
    with atomic_file(path) as temporary:
        if suffix == ".csv":
            with temporary.open("wb") as stream:
                lines: Any = CsvLines(stream)  # pandas' types ask for more than it uses
                table.to_csv(lines, index=False, lineterminator=CsvLines.END)
        elif suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".xlsx":
            blanks = table.astype(object).where(table.notna(), None)
            with temporary.open("wb") as stream:
                write_sheet(chain([list(table.columns)], blanks.itertuples(index=False, name=None)), stream)
        else:
            blanks = table.astype(object).where(table.notna(), None)
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in blanks.to_dict("records")]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def checked_suffix(path: Path, suffixes: tuple[str, ...]) -> str:
    """The suffix of a table file, in lower case.

    Args:
        path: The file.
        suffixes: Those that are known.

    Raises:
        DataError: It has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise DataError(
            f"{path.name or path} must end in one of {', '.join(suffixes)}, which says how to read or write it."
        )
    return suffix
