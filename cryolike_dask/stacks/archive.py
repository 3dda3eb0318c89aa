"""Reads zip archives, such as `.pt` and `.npz` files, and checks every byte.

Other readers look only at the parts that they need, so that one of them may accept an archive with flipped bits or with data after its end,
and another refuse it. Here, the members must follow one after the other from the first byte, the header of each must agree with its entry
in the directory, the directory must follow, and the file must end with the directory. Nothing may be compressed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.stacks.checksums import crc32

_LOCAL, _DESCRIPTOR, _CENTRAL, _END64, _LOCATOR, _END = (
    b"PK\x03\x04",
    b"PK\x07\x08",
    b"PK\x01\x02",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x05\x06",
)
_HAS_DESCRIPTOR = 0x0008
_FLAGS = (0, _HAS_DESCRIPTOR, 0x0800, 0x0800 | _HAS_DESCRIPTOR)
"""With or without a descriptor after the data, names in UTF-8 or ASCII; no encryption."""
_ZIP64, _PADDING = 0x0001, int.from_bytes(b"FB", "little")
_IN_ZIP64 = 0xFFFFFFFF
# The values that torch and Python write into fields that no other part of the archive repeats.
_VERSIONS = {(0, 0)} | {((system << 8) | version, version) for system in (0, 3) for version in (20, 45)}
_ATTRIBUTES = (0, 0o600 << 16)


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Args:
        name: its name.
        data_offset, size: position and number of its bytes.
        crc: their CRC-32 according to the archive.
        end: offset of the end of its data and, if there is one, of their descriptor.
        crc_offsets: offsets of the CRC in the central directory, and in the local header or after the data.
    """

    name: str
    data_offset: int
    size: int
    crc: int
    end: int
    crc_offsets: tuple[int, int]


@dataclass(frozen=True)
class _Entry:
    """The directory entry of a member. `common` contains the fields that the local header repeats unchanged."""

    name: bytes
    common: bytes
    flags: int
    crc: int
    size: int
    offset: int
    crc_offset: int


def read_members(file: BinaryIO) -> tuple[Member, ...]:
    """The members of an archive, after everything but their bytes was checked.

    Raises:
        BadZipFile: there is a byte that neither torch nor numpy would have written.
        OSError: the file cannot be read.
    """
    try:
        entries, start = _directory(file)
        ends = [*(entry.offset for entry in entries[1:]), start]
        if not entries or entries[0].offset:
            raise BadZipFile("there are bytes before its first member")
        return tuple(_member(file, entry, end) for entry, end in zip(entries, ends, strict=True))
    except (struct.error, UnicodeDecodeError) as error:
        raise BadZipFile(f"its directory is damaged: {error}") from error


def member_bytes(file: BinaryIO, member: Member) -> bytes:
    """The bytes of a member, after their checksum was compared.

    Raises:
        BadZipFile: the checksum does not fit.
    """
    content = _read(file, member.data_offset, member.size)
    if crc32(content) != member.crc:
        raise BadZipFile(f"the checksum of {member.name} in it does not fit")
    return content


def check_archive(path: Path, what: str) -> None:
    """Check that every byte of an archive is as it was written.

    Args:
        path: the file.
        what: a name for the kind of file, for messages.

    Raises:
        InputError: the file is damaged, or was not written by this package.
        OSError: the file cannot be read.
    """
    with open_input(path, what) as file:
        try:
            for member in read_members(file):
                member_bytes(file, member)
        except BadZipFile as error:
            raise InputError(f"{path} is damaged ({error})") from error


def _directory(file: BinaryIO) -> tuple[list[_Entry], int]:
    """The entries of the central directory, and its offset."""
    size = file.seek(0, os.SEEK_END)
    end = max(0, size - 22)
    magic, disk, start_disk, here, total, n_bytes, start, comment = struct.unpack("<4sHHHHLLH", _read(file, end, 22))
    if magic != _END or disk or start_disk or comment or here != total:
        raise BadZipFile("it does not end where its directory ends")
    stated = (total, n_bytes, start)
    if end >= 76 and _read(file, end - 20, 4) == _LOCATOR:
        position = end - 76
        if _read(file, end - 20, 20) != struct.pack("<4sLQL", _LOCATOR, 0, position, 1):
            raise BadZipFile("the offset of its directory is damaged")
        magic, record, made, needed, disk, start_disk, here, total, n_bytes, start = struct.unpack(
            "<4sQHHLLQQQQ", _read(file, position, 56)
        )
        if (
            magic != _END64
            or (record, disk, start_disk, here) != (44, 0, 0, total)
            or (made, needed) not in ((0x031E, 45), (45, 45))
        ):
            raise BadZipFile("the end of its directory is damaged")
        if stated != (min(total, 0xFFFF), min(n_bytes, _IN_ZIP64), min(start, _IN_ZIP64)):
            raise BadZipFile("its two directory ends differ")
        end = position
    if start + n_bytes != end:
        raise BadZipFile("its directory is not where it should be")
    entries = list(_entries(_read(file, start, n_bytes), start))
    if len(entries) != total:
        raise BadZipFile(f"its directory has {len(entries)} members instead of {total}")
    return entries, start


def _entries(directory: bytes, start: int) -> Iterator[_Entry]:
    position = 0
    while position < len(directory):
        fields = struct.unpack_from("<4sHHHHHHLLLHHHHHLL", directory, position)
        magic, made, needed, flags, method = fields[:5]
        crc, packed, size, n_name, n_extra, n_comment, disk, internal, attributes, offset = fields[7:]
        if magic != _CENTRAL or method or n_comment or disk or internal:
            raise BadZipFile("its directory is damaged, or something in it is compressed")
        if (made, needed) not in _VERSIONS or attributes not in _ATTRIBUTES or flags not in _FLAGS:
            raise BadZipFile("its directory has values that neither torch nor numpy writes")
        name_at = position + 46
        name, extra = directory[name_at : name_at + n_name], directory[name_at + n_name : name_at + n_name + n_extra]
        values = [_IN_ZIP64 if value == _IN_ZIP64 else None for value in (size, packed, offset)]
        n_large = sum(value is not None for value in values)
        large = list(struct.unpack(f"<HH{n_large}Q", extra)) if n_large else []
        if large[:2] != ([_ZIP64, 8 * n_large] if n_large else []) or (extra and not n_large):
            raise BadZipFile("its directory is damaged")
        numbers = iter(large[2:])
        size, packed, offset = (next(numbers) if value == _IN_ZIP64 else value for value in (size, packed, offset))
        if size != packed:
            raise BadZipFile("something in it is compressed")
        common = directory[position + 6 : position + 16]
        yield _Entry(name, common, flags, crc, size, offset, start + position + 16)
        position = name_at + n_name + n_extra
    if position != len(directory):
        raise BadZipFile("its directory is cut off")


def _member(file: BinaryIO, entry: _Entry, end: int) -> Member:
    header = _read(file, entry.offset, 30)
    magic, common, crc, packed, size, n_name, n_extra = struct.unpack("<4s10sLLLHH", header)
    name = entry.name.decode()
    data = entry.offset + 30 + n_name + n_extra
    if magic != _LOCAL or common != entry.common or _read(file, entry.offset + 30, n_name) != entry.name:
        raise BadZipFile(f"the header of {name} in it is damaged")
    has_sizes = _check_extra(_read(file, entry.offset + 30 + n_name, n_extra), entry, name)
    after = data + entry.size
    crc_offset = entry.offset + 14
    stated = (crc, packed, size)
    if entry.flags & _HAS_DESCRIPTOR:
        expected = (0, 0, 0)
        crc_offset = after + 4
        width = {16: "L", 24: "Q"}.get(end - after)
        descriptor = struct.pack(f"<4sL{width * 2}", _DESCRIPTOR, entry.crc, entry.size, entry.size) if width else b""
        if not width or _read(file, after, end - after) != descriptor:
            raise BadZipFile(f"the descriptor after the data of {name} in it is damaged")
    else:
        expected = (entry.crc, entry.size, entry.size)
        # Python before 3.11.4 states the sizes in both places.
        if has_sizes and stated != expected:
            expected = (entry.crc, _IN_ZIP64, _IN_ZIP64)
        if after != end:
            raise BadZipFile(f"there are surplus bytes after {name} in it")
    if stated != expected:
        raise BadZipFile(f"the header of {name} in it is damaged")
    return Member(name, data, entry.size, entry.crc, end, (entry.crc_offset, crc_offset))


def _check_extra(extra: bytes, entry: _Entry, name: str) -> bool:
    """Whether the extra fields of a local header state the size. They may contain only padding and 64-bit numbers."""
    has_sizes = False
    while extra:
        kind, n = struct.unpack_from("<HH", extra)
        content, extra = extra[4 : 4 + n], extra[4 + n :]
        # torch writes the header before the data.
        packed = 0 if entry.flags & _HAS_DESCRIPTOR else entry.size
        sizes, offset = struct.pack("<QQ", entry.size, packed), struct.pack("<Q", entry.offset)
        if len(content) != n:
            raise BadZipFile(f"the header of {name} in it is damaged")
        is_number = kind == _ZIP64 and content in (sizes, offset, sizes + offset)
        has_sizes |= is_number and len(content) > 8
        if not is_number and not (kind == _PADDING and content == b"Z" * n):
            raise BadZipFile(f"the header of {name} in it is damaged")
    return has_sizes


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise BadZipFile("it is cut off")
    return content
