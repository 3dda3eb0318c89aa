"""One stack on disk: names, metadata, staging and publishing.

A stack goes through three states. A crash at any time does no harm:

1. *partial*: its files are being filled, under hidden names that no other attempt uses;
2. *staged*: they are complete and durable, under hidden names that contain the attempt. The `.npz` is staged last;
3. *published*: they have their final names. The `.npz` is published last, so a stack with an `.npz` is complete.

All names of a file are in one directory, so that each step is one atomic rename. Files of different attempts are never mixed, because two
workers that make the same stack may differ in the last bits. The process that fills a file also makes it durable, because another host may
not be able to.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.pinned import pinned_place
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, existing_folder, open_archive, open_input, read_arrays
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.stacks.durable import sync_directory

PARTIAL, STAGED = ".partial", ".staged"
LEFTOVER = "leftover"
"""The name of the attempt for files that earlier runs have staged."""
MANIFEST, PARAMS_FILE, STAR_FILE = "manifest.json", "params.npz", "particles.star"
_METADATA, _MOST_METADATA_BYTES = "the metadata of a stack", 1 << 28
"""The name in messages, and the largest unpacked size if the file is compressed."""
_FOURIER = "particles_fourier_stack_"


@dataclass(frozen=True)
class StackPaths:
    """The final names of a stack below an output folder."""

    folder: Path
    counter: int

    @property
    def fourier(self) -> Path:
        return self.folder / "fft" / f"{_FOURIER}{self.counter:06d}.pt"

    @property
    def physical(self) -> Path:
        return self.folder / "phys" / f"particles_phys_stack_{self.counter:06d}.pt"

    @property
    def metadata(self) -> Path:
        return self.folder / "fft" / f"{_FOURIER}{self.counter:06d}.npz"

    @property
    def plots(self) -> tuple[Path, Path, Path]:
        """Pictures of the images, of their transforms, and of the power spectrum."""
        plots, counter = self.folder / "plots", f"{self.counter:06d}.png"
        return (
            plots / f"particles_phys_stack_{counter}",
            plots / f"particles_fourier_stack_{counter}",
            plots / f"power_spectrum_stack_{counter}",
        )

    def data(self, settings: ConversionSettings) -> tuple[Path, ...]:
        """The files of a complete stack in the order in which they are published."""
        if settings.output_format == "zarr":
            return (self.metadata,)
        return (self.physical, self.fourier, self.metadata) if settings.save_phys else (self.fourier, self.metadata)


def new_id() -> str:
    """A name that no other attempt at any stack has."""
    return uuid.uuid4().hex[:12]


def partial_name(final: Path, attempt: str) -> Path:
    """The name of a file while this attempt fills it."""
    return final.with_name(f".{final.name}.{attempt}{PARTIAL}")


def staged_name(final: Path, attempt: str) -> Path:
    """The name of a file from its completion by this attempt until it is published."""
    return final.with_name(f".{final.name}.{attempt}{STAGED}")


def mark_staged_as_leftover(folder: Path, settings: ConversionSettings) -> None:
    """Rename files that earlier runs have staged to the attempt LEFTOVER, one attempt per stack, so that no task needs to list the folder.

    If this is interrupted, files of two attempts may be mixed. The checksums in the metadata then do not fit.
    """
    prefix, middle = f".{_FOURIER}", ".npz."
    for name in sorted(path.name for path in (folder / "fft").glob(f"{prefix}*{middle}*{STAGED}")):
        digits, _, attempt = name[len(prefix) : -len(STAGED)].partition(middle)
        # If a stack was staged although it had a leftover, the leftover could not be used, so it is replaced.
        if digits.isdigit() and attempt != LEFTOVER:
            for final in StackPaths(folder, int(digits)).data(settings):
                with suppress(FileNotFoundError), _pinned(final) as place:
                    os.replace(staged_name(place, attempt), staged_name(place, LEFTOVER))


def publish(finals: Iterable[Path], attempt: str) -> None:
    """Make the files that this attempt has staged visible, in this order. It may be repeated, even after a crash in the middle.

    Raises:
        FileNotFoundError: a file is neither staged nor published.
    """
    for final in finals:
        with _pinned(final) as place:
            try:
                os.replace(staged_name(place, attempt), place)
            except FileNotFoundError:
                if not place.exists():
                    raise
            # The name must be durable before the next one appears, because an .npz guarantees that all other files exist.
            sync_directory(place.parent)


def unpublish(finals: Iterable[Path]) -> None:
    """Turn a published stack back into a staged one, its metadata first."""
    for final in reversed(tuple(finals)):
        with suppress(FileNotFoundError), _pinned(final) as place:
            os.replace(place, staged_name(place, LEFTOVER))
            sync_directory(place.parent)


def _pinned(final: Path) -> AbstractContextManager[Path]:
    """The final place of a file of a stack, OUT/fft/NAME: its folder is below the output folder."""
    return pinned_place(final, final.parent.parent)


def write_metadata(path: Path, values: Mapping[str, Any]) -> None:
    """Write an `.npz` that loads without pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    with path.open("xb") as file:
        file.write(buffer.getvalue())


def read_metadata(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a stack's `.npz`.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        with open_input(path, _METADATA) as file:
            # An uncompressed archive, as this package writes it, takes no more memory than the file itself.
            most = max(_MOST_METADATA_BYTES, os.fstat(file.fileno()).st_size)
            with open_archive(file, path, _METADATA, most) as archive:
                return read_arrays(archive)
    except FileNotFoundError:
        raise MissingFileError(
            f"{path} does not exist. `cryolike-dask info {path.parent.parent}` shows which stacks there are."
        ) from None
    except InputError:
        raise
    except UNREADABLE_ARRAY as error:
        raise InputError(f"{path} is damaged ({error}). `cryolike-dask verify {path.parent.parent}` lists all problems.") from error


def conversion_folder(folder: str | Path) -> Path:
    """The output folder of a conversion, as the user gave it; `~` is expanded.

    Raises:
        InputError: it does not exist or holds no conversion (the error is then also a FileNotFoundError), or is a file.
    """
    what = "the output folder of a conversion"
    root = existing_folder(folder, what)
    if not (root / MANIFEST).exists() and not published_counters(root):
        raise MissingFileError(
            f"{root} holds no conversion: there is neither a {MANIFEST} nor a stack in its folder fft. Give {what}."
        )
    return root


def published_counters(folder: Path) -> list[int]:
    """Counters of the visible stacks, ascending."""
    return _counters(folder, _FOURIER, ".npz")


def leftover_counters(folder: Path) -> list[int]:
    """Counters of the stacks that earlier runs have staged, ascending. `mark_staged_as_leftover` comes first."""
    return _counters(folder, f".{_FOURIER}", f".npz.{LEFTOVER}{STAGED}")


def _counters(folder: Path, before: str, after: str) -> list[int]:
    """The numbers between these parts of the names of files in `fft`, ascending."""
    digits = (path.name[len(before) : -len(after)] for path in (folder / "fft").glob(f"{before}*{after}"))
    return sorted(int(text) for text in digits if text.isascii() and text.isdigit())
