"""Bytes to lines of text, a piece at a time, with the exact place of a byte that cannot be decoded."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

from aes_dynloss.errors import DataError

_NEWLINE = re.compile(r"\r\n|\r|\n")


class _CountedBytes(io.BufferedIOBase):
    """A binary stream that knows how many bytes were taken from it, and which stood before the last piece.

    Standard input can tell neither.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self.before = b""
        self._last = b""
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        # read() where there is no read1(): raw streams.
        data: bytes = getattr(self._stream, "read1", self._stream.read)(size)
        self.count += len(data)
        self.before, self._last = self._last, data[-1:]
        return data


def read_lines(stream: BinaryIO, encoding: str, source: str) -> Iterator[str]:
    r"""Decode a stream line by line; memory holds one line.

    Line ends (``\n``, ``\r\n``, ``\r``) stay on the lines, so that line breaks inside quoted fields stay what they
    are. A byte order mark at the start is taken off.

    Args:
        stream: Bytes.
        encoding: Such as ``utf-8`` or ``cp1252``.
        source: The stream's name in messages.

    Raises:
        DataError: A byte is not ``encoding``, a NUL character was found, or the stream cannot be read.
    """
    counted = _CountedBytes(stream)
    # newline="": split at line ends, but do not translate them.
    text = io.TextIOWrapper(cast(BinaryIO, counted), encoding=codec_name(encoding), errors="strict", newline="")
    line = 0
    while True:
        try:
            found = text.readline()
        except UnicodeDecodeError as error:
            # The decoder holds the last bytes taken, so offsets count back from their end.
            offset = counted.count - len(error.object) + error.start
            # A carriage return before them is held back, to see whether a line feed follows.
            held = "\r" if counted.before == b"\r" else ""
            before = held + error.object[: error.start].decode(encoding, errors="replace")
            place = f"Line {line + 1 + len(_NEWLINE.findall(before))} of {source} (byte {offset})"
            raise DataError(f"{place}: {describe_byte(error, encoding, at_start=offset == 0)}") from None
        except (OSError, UnicodeError) as error:
            raise DataError(f"{source} cannot be read: {error}.") from None
        if not found:
            return
        line += 1
        if "\0" in found:
            raise DataError(
                f"Line {line} of {source} holds a NUL character: the file is damaged, or no {encoding} text."
            )
        yield found


def codec_name(encoding: str) -> str:
    """The codec of an encoding; for UTF-8 the one that takes off a byte order mark."""
    name = codecs.lookup(encoding).name
    return "utf-8-sig" if name == "utf-8" else name


def describe_byte(error: UnicodeDecodeError, encoding: str, *, at_start: bool) -> str:
    """Words for a byte that is not in the expected encoding, with an encoding to try instead."""
    found = error.object[error.start : error.end][:4]
    if at_start and found[:1] in {b"\xff", b"\xfe"}:
        advice = "utf-16"
    elif codec_name(encoding) == "utf-8-sig":
        advice = "cp1252"
    else:
        advice = "utf-8"
    shown = " ".join(f"0x{byte:02x}" for byte in found)
    expected = f"expected {encoding} text, found {shown} ({error.reason})"
    return f"{expected}. If it was saved in another encoding, name it, such as encoding: {advice}."
