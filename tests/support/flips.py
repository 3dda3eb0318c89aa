"""Flips bits of files on purpose, in every kind of region of the files in an output folder.

This module does not use the package: regions come from the specifications of the formats and from `zipfile`.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Flip:
    """One bit of one file.

    Args:
        name: path of the file, relative to the output folder.
        region: what the byte is for.
        offset: position of the byte in the file.
        bit: bit of the byte, from 0.
    """

    name: str
    region: str
    offset: int
    bit: int

    def apply(self, folder: Path) -> None:
        """Flip the bit in place, without changing anything else of the file."""
        with (folder / self.name).open("r+b") as file:
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ (1 << self.bit)]))


Regions = dict[str, list[range]]


def choose_flips(folder: Path, names: list[str], in_each: int, random: np.random.Generator) -> list[Flip]:
    """Choose `in_each` flips in each region of each of these files."""
    flips = []
    for name in names:
        for region, places in regions(folder / name).items():
            n_bytes = sum(map(len, places))
            assert n_bytes, (name, region)
            for choice in random.choice(n_bytes, min(in_each, n_bytes), replace=False).tolist():
                flips.append(Flip(name, region, _byte(places, choice), int(random.integers(8))))
    return flips


def _byte(places: list[range], number: int) -> int:
    for place in places:
        if number < len(place):
            return place[number]
        number -= len(place)
    raise AssertionError("there are fewer bytes")


def regions(path: Path) -> Regions:
    """The regions of a file, by what they are for; every byte is in one of them."""
    content = path.read_bytes()
    if content[:2] == b"PK":
        found = _regions_of_zip(path, content)
    elif path.name == "manifest.json":
        found = _regions_of_json(content)
    elif path.parts[-4:-2] == ("c",) * 0 or re.search(r"/(fourier|phys)/c/\d+/0/0$", str(path)):
        found = _regions_of_shard(path, content)
    else:
        found = {"all": [range(len(content))]}
    assert sorted(byte for places in found.values() for place in places for byte in place) == list(range(len(content)))
    return found


def _regions_of_zip(path: Path, content: bytes) -> Regions:
    found: Regions = {}

    def add(region: str, first: int, last: int) -> None:
        if last > first:
            found.setdefault(region, []).append(range(first, last))

    with zipfile.ZipFile(path) as archive:
        entries, start = archive.infolist(), archive.start_dir
    ends = [*(entry.header_offset for entry in entries[1:]), start]
    for entry, end in zip(entries, ends, strict=True):
        name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
        fixed, data = entry.header_offset + 30, entry.header_offset + 30 + name + extra
        add("local headers", entry.header_offset, fixed)
        add("names and padding", fixed, data)
        member = entry.filename.rpartition("/")[2]
        add(f"data of {member if path.suffix == '.pt' else 'a member'}", data, data + entry.file_size)
        add("data descriptors", data + entry.file_size, end)
    end = content.rindex(b"PK\x05\x06")
    zip64 = content.find(b"PK\x06\x06", start)
    add("central directory", start, zip64 if zip64 >= 0 else end)
    add("end of the directory", zip64 if zip64 >= 0 else end, len(content))
    return found


def _regions_of_json(content: bytes) -> Regions:
    """One region per key of the outermost object."""
    keys = [(match.start(), match[1].decode()) for match in re.finditer(rb'^ "(\w+)": ', content, re.MULTILINE)]
    assert [key for _, key in keys] == list(json.loads(content))
    starts = [0, *(start for start, _ in keys[1:]), len(content)]
    return {key: [range(starts[i], starts[i + 1])] for i, (_, key) in enumerate(keys)}


def _regions_of_shard(path: Path, content: bytes) -> Regions:
    """Regions from the metadata of its array: images, padding of the last chunk, the index and its checksum."""
    array = json.loads((path.parents[3] / "zarr.json").read_text())
    (codec,) = array["codecs"]
    shard, chunk = array["chunk_grid"]["configuration"]["chunk_shape"], codec["configuration"]["chunk_shape"]
    index = len(content) - 16 * (shard[0] // chunk[0]) - 4
    n = min(shard[0], array["shape"][0] - int(path.parents[1].name) * shard[0])
    itemsize = {"complex64": 8, "float32": 4}[array["data_type"]]
    images = n * int(np.prod(array["shape"][1:])) * itemsize
    found = {"images": [range(images)], "filling": [range(images, index)], "index": [range(index, len(content) - 4)]}
    return {region: places for region, places in found.items() if places[0]} | {"checksum": [range(len(content) - 4, len(content))]}


def files_below(folder: Path) -> Iterator[str]:
    """All files, in a fixed order."""
    yield from sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
