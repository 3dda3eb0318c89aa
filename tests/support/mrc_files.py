"""MRC files packed by hand, byte by byte according to the MRC2014 table, without the code under test."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

# For each mode: NumPy type without byte order, and values that are exact in it and reach its limits.
MODES: dict[int, tuple[str, tuple[float, float]]] = {
    0: ("i1", (-128, 127)),
    1: ("i2", (-32768, 32767)),
    2: ("f4", (-1e6, 1e6)),
    6: ("u2", (0, 65535)),
    12: ("f2", (-2048, 2048)),
}
STAMPS = {"<": b"\x44\x44\x00\x00", ">": b"\x11\x11\x00\x00"}


def pack_mrc(
    images: npt.NDArray[np.generic],
    mode: int,
    order: str = "<",
    *,
    pixel_size: float = 1.5,
    extended: bytes = b"",
    map_stamp: bytes = b"MAP ",
    machine_stamp: bytes | None = None,
    ispg: int = 0,
    axes: tuple[int, int, int] = (1, 2, 3),
    imod_flags: int | None = None,
) -> bytes:
    """An MRC file of (n, rows, columns) images whose values fit the mode. With `machine_stamp` None, it has the correct stamp."""
    n, rows, columns = images.shape
    header = bytearray(1024)
    struct.pack_into(f"{order}10i", header, 0, columns, rows, n, mode, 0, 0, 0, columns, rows, n)
    struct.pack_into(f"{order}6f", header, 40, pixel_size * columns, pixel_size * rows, pixel_size * n, 90, 90, 90)
    struct.pack_into(f"{order}3i", header, 64, *axes)
    struct.pack_into(f"{order}2i", header, 88, ispg, len(extended))
    if imod_flags is not None:
        struct.pack_into(f"{order}2i", header, 152, 1146047817, imod_flags)
    header[208:212] = map_stamp
    header[212:216] = STAMPS[order] if machine_stamp is None else machine_stamp
    kind = MODES[mode][0] if mode in MODES else "f4"
    return bytes(header) + extended + images.astype(order + kind).tobytes()


def example_images(mode: int, shape: tuple[int, int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    """Whole numbers that the mode stores exactly, including its smallest and largest."""
    low, high = MODES[mode][1]
    images = np.random.default_rng(seed).integers(int(low), int(high), shape, endpoint=True).astype(np.float32)
    images.flat[0], images.flat[-1] = low, high
    return images


@dataclass(frozen=True)
class Variant:
    """One way of writing images: the file, the same as a plain float32 file, and the images in both."""

    name: str
    path: Path
    twin: Path
    images: npt.NDArray[np.float32]
    mode: int
    order: str


def mrc_variants(folder: Path, box: tuple[int, int] = (8, 8), n_images: int = 3) -> Iterator[Variant]:
    """Write every combination of mode, byte order, extended header, stamps, space group and dimension into the folder."""
    stamps = {
        "stamped": {},
        "unstamped": {"map_stamp": bytes(4), "machine_stamp": bytes(4)},
        "misstamped": {"machine_stamp": b"\0DD\0"},
    }
    suffixes = itertools.cycle((".mrc", ".mrcs", ".st"))
    choices = itertools.product(MODES, "<>", (0, 80, 131072), stamps, (0, 1, 401), (n_images, 1))
    for mode, order, extended, stamp, ispg, n in choices:
        images = example_images(mode, (n, *box), seed=mode)
        end = "little" if order == "<" else "big"
        name = f"mode{mode}-{end}-extended{extended}-{stamp}-ispg{ispg}-n{n}"
        twin = folder / f"twin-mode{mode}-n{n}.mrcs"
        if not twin.exists():
            twin.write_bytes(pack_mrc(images, 2))
        path = folder / (name + next(suffixes))
        path.write_bytes(pack_mrc(images, mode, order, extended=b"\xee" * extended, ispg=ispg, **stamps[stamp]))
        yield Variant(name, path, twin, images, mode, order)
