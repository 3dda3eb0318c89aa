"""Splits the bytes of a STAR file into lines and values, without interpreting them.

The `starfile` library tolerates damaged files: it cuts a row at a '#' inside a path, takes an apostrophe as a quotation mark,
fills a short row with NaN, keeps the last of two blocks with the same name, and finds nothing in a file that is not UTF-8. So this
module first finds the structure from the bytes alone: the blocks, the columns that they name and the line of each row. It checks
that each row has as many values as there are columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.file_kind import STAR, cryosparc_group, foreign_content, other_input, utf16_advice
from cryolike_dask.filesystem.reading import read_input
from cryolike_dask.formatting import first_few, plural

_CHUNK_BYTES = 1 << 24  # bytes that are searched together; limits the size of temporary arrays
_SPACE, _TAB, _NEWLINE, _DELETE = b" \t\n\x7f"
_FOREIGN = {
    b"\x1f\x8b": "compressed: decompress it with gunzip first",
    b"BZh": "compressed: decompress it with bunzip2 first",
}
_OF_GROUP = "convert the one of its tables that has the images (blob/path) as a cryoSPARC table:"
_HASH, _EMPTY = b"\x01", b"\x02"
_ENCODE = bytes.maketrans(b"# \t'\"", b"\x01\x03\x04\x05\x06")
_DECODE = str.maketrans({1: "#", 2: "", 3: " ", 4: "\t", 5: "'", 6: '"'})
_TOKEN = re.compile(rb"""[ \t]*(?:"([^"]*)"(?=[ \t]|$)|'([^']*)'(?=[ \t]|$)|(\#.*)|([^ \t"'#][^ \t]*))[ \t]*""")


@dataclass(frozen=True)
class StarBlock:
    """One block of a STAR file.

    Args:
        name: what follows 'data_'.
        line: the line of its header, counted from 1.
        columns: names as in the file, without the underscore.
        rows: (n,) int64 line number of each row, counted from 1. A block that is not a loop has one row.
        values: the values of a block that is not a loop, as plain text.
    """

    name: str
    line: int
    columns: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    values: tuple[bytes, ...] | None = None


def decode(value: str) -> str:
    """Convert a value from plain text to what the file means."""
    return value.translate(_DECODE)


class StarText:
    """A STAR file as plain text, without comments and quotation marks, and with blanks only between values.

    Control characters replace a blank, '#' or quotation mark inside a value, and stand for an empty value; `decode` restores them.
    Lines keep their numbers.

    Args:
        path: the STAR file.

    Raises:
        InputError: the file cannot be read, is not a STAR file, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read(path)
        self.ends_with_newline = content.endswith(b"\n")
        self._text = self._plain(content if self.ends_with_newline else content + b"\n")
        self._bytes = np.frombuffer(self._text, dtype=np.uint8)
        ends = _positions(self._bytes, _NEWLINE)
        self._starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
        n_lines = len(ends)
        self._tokens = np.zeros(n_lines, np.int32)
        self._first = np.zeros(n_lines, np.uint8)
        for first, last in self._line_chunks(0, n_lines):
            buffer, values, _ = self._value_edges(first, last)
            bounds = np.searchsorted(values, self._starts[first : last + 1] - self._starts[first])
            self._tokens[first:last] = np.diff(bounds)
            filled = np.flatnonzero(np.diff(bounds))
            self._first[first + filled] = buffer[values[bounds[filled]]]

    def blocks(self) -> tuple[StarBlock, ...]:
        """The blocks in the order of the file.

        Raises:
            InputError: there is none, a name occurs twice, or a line does not belong to any block.
        """
        headers = [i for i in np.flatnonzero(self._first == ord("d")).tolist() if self._line(i).startswith(b"data_")]
        before = np.flatnonzero(self._tokens[: headers[0] if headers else None])
        if len(before) or not headers:
            where = f": line {before[0] + 1} comes before any 'data_' line" if len(before) else ""
            raise InputError(f"{self.path} is not a STAR file, or its beginning is lost{where}. Check the path, or copy it again.")
        blocks: dict[str, StarBlock] = {}
        for header, end in zip(headers, [*headers[1:], len(self._tokens)], strict=True):
            block = self._block(header, end)
            if block.name in blocks:
                self._fail(
                    header,
                    f"begins a second block 'data_{block.name}'; the first is on line {blocks[block.name].line}. It is not clear "
                    "which one is valid: remove or rename one",
                )
            blocks[block.name] = block
        return tuple(blocks.values())

    def select_columns(self, block: StarBlock, columns: list[int]) -> Iterator[bytes]:
        """The rows of a block with only these columns (ascending positions), in pieces of whole lines."""
        if block.values is not None:
            yield b"\t".join(block.values[column] for column in columns) + b"\n"
        else:
            for first, last in self._line_chunks(int(block.rows[0]) - 1, int(block.rows[-1])):
                buffer, starts, ends = self._value_edges(first, last)
                if not len(starts):  # blank lines only
                    continue
                starts = starts.reshape(-1, len(block.columns))[:, columns]
                ends = ends.reshape(-1, len(block.columns))[:, columns]
                buffer = buffer.copy()
                buffer[ends[:, :-1]] = _TAB
                buffer[ends[:, -1]] = _NEWLINE
                edges = np.stack([starts, ends + 1], axis=-1).ravel()  # a value and the byte after it
                kept = np.arange(len(edges)) % 2 == 1
                yield buffer[: edges[-1]][np.repeat(kept, np.diff(edges, prepend=0))].tobytes()

    def _block(self, header: int, end: int) -> StarBlock:
        words = self._line(header).split()
        if len(words) > 1:
            self._fail(header, "begins with 'data_' like a block, but has more text. If it is a row, put another column first")
        name = words[0].decode()[len("data_") :]
        content = header + 1 + np.flatnonzero(self._tokens[header + 1 : end])
        if not len(content):
            return StarBlock(name, header + 1, (), np.zeros(0, np.int64))
        if self._line(int(content[0])) == b"loop_":
            return self._loop(name, header, content)
        columns, values = [], []
        for i in content.tolist():
            words = [word for word in self._line(i).split() if not word.startswith(_HASH)]
            if not words[0].startswith(b"_") or len(words) != 2:
                self._fail(i, f"is not a 'name value' pair, and block 'data_{name}' has no 'loop_' line. Copy the file again")
            columns.append(words[0][1:].decode())
            values.append(words[1])
        self._check_columns(name, header, columns)
        return StarBlock(name, header + 1, tuple(columns), np.array([header + 1], np.int64), tuple(values))

    def _loop(self, name: str, header: int, content: npt.NDArray[np.int64]) -> StarBlock:
        columns: list[str] = []
        numbers: list[int] = []
        for i in content[1:].tolist():
            words = self._line(i).split()
            if not words[0].startswith(b"_"):
                break
            if any(not word.startswith(_HASH) for word in words[1:2]):
                self._fail(i, f"names a column of 'data_{name}' and holds values too. Copy the file again")
            columns.append(words[0][1:].decode())
            numbers.extend(int(word[1:]) for word in words[1:2] if word[1:].isdigit())
        self._check_columns(name, header, columns)
        if numbers != sorted(numbers) and sorted(numbers) == list(range(1, len(columns) + 1)):
            self._fail(
                header, f"begins block 'data_{name}', whose columns are not in the order of their numbers. Copy the file again"
            )
        rows = content[1 + len(columns) :]
        wrong = np.flatnonzero(self._tokens[rows] != len(columns))
        if len(wrong):
            i, row = int(rows[wrong[0]]), int(wrong[0]) + 1
            more = f" (as has {plural(len(wrong) - 1, 'more row')})" if len(wrong) > 1 else ""
            self._fail(
                i,
                f"(row {row} of 'data_{name}') has {self._tokens[i]} values where {len(columns)} columns are named{more}. The row "
                "is damaged, or a value with a blank is not quoted: correct the row or copy the file again",
            )
        return StarBlock(name, header + 1, tuple(columns), rows + 1)

    def _check_columns(self, name: str, header: int, columns: list[str]) -> None:
        times = Counter(column.removeprefix("rln") for column in columns)
        duplicated = sorted({column for column in columns if times[column.removeprefix("rln")] > 1})
        if duplicated:
            self._fail(
                header, f"begins block 'data_{name}', which names {first_few(duplicated)} more than once. Remove one of them"
            )

    def _line(self, i: int) -> bytes:
        return self._text[self._starts[i] : self._starts[i + 1]].strip()

    def _fail(self, i: int, reason: str) -> NoReturn:
        raise InputError(f"{self.path}: line {i + 1} {reason}.")

    def _line_chunks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Ranges of whole lines of about _CHUNK_BYTES."""
        while first < last:
            next_line = int(np.searchsorted(self._starts, self._starts[first] + _CHUNK_BYTES))
            next_line = min(max(next_line, first + 1), last)
            yield first, next_line
            first = next_line

    def _value_edges(self, first: int, last: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The bytes of some lines, and the positions at which each value starts and ends."""
        buffer = self._bytes[self._starts[first] : self._starts[last]]
        blank = (buffer == _SPACE) | (buffer == _TAB) | (buffer == _NEWLINE)
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        if not blank[0]:
            edges = np.concatenate([np.zeros(1, np.intp), edges])
        return buffer, edges[::2], edges[1::2]  # the last byte is a newline: each value has an end

    def _plain(self, content: bytes) -> bytes:
        """The content without comments and quotation marks; only lines that have some are changed."""
        buffer = np.frombuffer(content, dtype=np.uint8)
        ends = _positions(buffer, _NEWLINE)
        lines = np.unique(np.searchsorted(ends, _positions(buffer, *b"'\"#")))
        pieces: list[memoryview | bytes] = []
        view, done = memoryview(content), 0
        for i in lines.tolist():
            start, end = (int(ends[i - 1]) + 1 if i else 0), int(ends[i])
            pieces += [view[done:start], self._plain_line(i, content[start:end].strip())]
            done = end
        return b"".join([*pieces, view[done:]])

    def _plain_line(self, i: int, line: bytes) -> bytes:
        if line.startswith(b"#"):
            return b""
        values, position = [], 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if match is None:
                self._fail(i, "has a quotation mark that is not closed. Close it, or copy the file again")
            double, single, comment, bare = match.groups()
            value = next(part for part in (double, single, comment, bare) if part is not None)
            if comment is not None:
                if line.startswith(b"_"):  # the number of a column
                    values.append(value.replace(b" ", b"").translate(_ENCODE))
                break
            values.append(value.translate(_ENCODE) or _EMPTY)
            position = match.end()
        return b"\t".join(values)


def _read(path: Path) -> bytes:
    """The content of a file that can be STAR: UTF-8 text, with uniform line breaks and without byte-order mark."""
    try:
        content = read_input(path, "a STAR file")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist: check the path of the STAR file.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    by_magic = next((what for magic, what in _FOREIGN.items() if content.startswith(magic)), None)
    start = content[:4096]
    if (what := foreign_content(start) or by_magic or other_input(start, STAR) or utf16_advice(start[:512])) is not None:
        raise InputError(f"{path} is {what}.")
    if (tables := cryosparc_group(content)) is not None:
        raise InputError(f"{path} is a cryoSPARC result group (.csg), not a STAR file: {_OF_GROUP} {', '.join(tables)}.")
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if not content.isascii():
        _check_utf8(path, content)
    for first in range(0, len(content), _CHUNK_BYTES):
        part = np.frombuffer(content, np.uint8)[first : first + _CHUNK_BYTES]
        strange = np.flatnonzero(((part < _SPACE) & (part != _NEWLINE) & (part != _TAB)) | (part == _DELETE))
        if len(strange):
            position = first + int(strange[0])
            line = content.count(b"\n", 0, position) + 1
            raise InputError(
                f"{path}: line {line} holds the control character 0x{content[position]:02X}: the file is damaged, or not text."
            )
    return content


def _check_utf8(path: Path, content: bytes) -> None:
    try:
        blank = re.search(r"[^\S \t\n]", content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line} holds the byte 0x{content[error.start]:02X}, which is not UTF-8 text. Convert the file, for "
            "example with `iconv -f latin1 -t utf-8`, and rename the image files it names to match."
        ) from error
    if blank is not None:
        line = blank.string.count("\n", 0, blank.start()) + 1
        raise InputError(
            f"{path}: line {line} holds U+{ord(blank.group()):04X}, a character that looks like a blank but is not. Replace it."
        )


def _positions(buffer: npt.NDArray[np.uint8], *wanted: int) -> npt.NDArray[np.int64]:
    """Positions of any of these bytes."""
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(buffer), _CHUNK_BYTES):
        part = buffer[start : start + _CHUNK_BYTES]
        hits = part == wanted[0]
        for code in wanted[1:]:
            hits |= part == code
        parts.append(np.flatnonzero(hits) + start)
    return np.concatenate(parts)
