"""Files as a test writes them, and the rows that are read from them."""

from __future__ import annotations

from pathlib import Path

from aes_dynloss.tables.formats import iterate_rows


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path | str, **options: object) -> list[tuple[int, dict[str, object]]]:
    return list(iterate_rows(path, **options))
