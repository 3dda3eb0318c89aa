"""The eight statistics maps of a 2D template match."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.formatting import entry
from cryolike_dask.mrc.header import read_header

FloatMap = npt.NDArray[np.float32]

# Leopard-EM computes scaled_mip in single precision, so differences of a few units in the last place do not count.
_RELATIVE_TOLERANCE = 1e-4
_CHUNK_PIXELS = 1 << 18  # few enough for the arrays of a comparison to fit in the cache


@dataclass(frozen=True, eq=False, repr=False)
class MatchTemplateMaps:
    """The best results of a search at each position; all maps have the same shape.

    A position is that of the template's top-left corner. 'same' maps have the shape of the micrograph, (H, W). 'valid' maps have only the
    positions at which the template is within the micrograph, (H - h + 1, W - w + 1), which is the top-left part of 'same'.

    Args:
        mip: the largest correlation.
        scaled_mip: (mip - correlation_average) / correlation_variance.
        correlation_average: mean correlation over the search.
        correlation_variance: standard deviation over the search, in spite of its name.
        orientation_psi, orientation_theta, orientation_phi: degrees.
        relative_defocus: Å.
    """

    mip: FloatMap
    scaled_mip: FloatMap
    correlation_average: FloatMap
    correlation_variance: FloatMap
    orientation_psi: FloatMap
    orientation_theta: FloatMap
    orientation_phi: FloatMap
    relative_defocus: FloatMap

    def __post_init__(self) -> None:
        for name in MAP_NAMES:
            values = getattr(self, name)
            if values.ndim != 2 or values.shape != self.mip.shape:
                raise InputError(
                    f"The statistics map {name} has the shape {values.shape} and mip has {self.mip.shape}. "
                    "The maps of one search are two-dimensional and have the same shape."
                )

    def __repr__(self) -> str:
        return f"<MatchTemplateMaps: {self.shape[0]} × {self.shape[1]} positions>\n" + entry("maps", ", ".join(MAP_NAMES), 10)

    @classmethod
    def read(cls, paths: Mapping[str, str | Path]) -> MatchTemplateMaps:
        """Open the maps as memory maps, so that only the pixels that are used are read.

        Args:
            paths: MRC file of each map, by the name of the map; see `map_paths`.

        Raises:
            InputError: a map has no path, is missing or damaged, or differs in shape from the others.
        """
        missing = [name for name in MAP_NAMES if name not in paths]
        if missing:
            raise InputError(f"No file is named for the statistics maps {', '.join(missing)}. All eight are needed.")
        maps = {name: read_map(paths[name]) for name in MAP_NAMES}
        for name, values in maps.items():
            if values.shape != maps["mip"].shape:
                raise InputError(
                    f"{paths[name]} has {' × '.join(map(str, values.shape))} pixels and {paths['mip']} has "
                    f"{' × '.join(map(str, maps['mip'].shape))}. Give the maps of one search."
                )
        return cls(**maps)

    def write(self, paths: Mapping[str, str | Path], pixel_size: float) -> None:
        """Write the maps as two-dimensional MRC files with their pixel size.

        Args:
            paths: file of each map, by the name of the map; an existing file is replaced when the new one is complete.
            pixel_size: Å.

        Raises:
            InputError: the pixel size is not a positive number, or a map has no path.
            OutputError: a file cannot be written.
        """
        if not (math.isfinite(pixel_size) and pixel_size > 0):
            raise InputError(f"pixel_size is {pixel_size}: give Å per pixel, a positive number.")
        missing = [name for name in MAP_NAMES if name not in paths]
        if missing:
            raise InputError(f"No file is named for the statistics maps {', '.join(missing)}. All eight are needed.")
        for name in MAP_NAMES:
            write_map(paths[name], getattr(self, name), pixel_size)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return (self.mip.shape[0], self.mip.shape[1])

    def cropped_to_valid(self, template_size: int, micrograph_shape: tuple[int, int]) -> MatchTemplateMaps:
        """The 'valid' maps: these maps if they are 'valid' themselves, otherwise views of their top-left part.

        Args:
            template_size: edge length h of the template in pixels.
            micrograph_shape: (H, W).

        Raises:
            InputError: the maps have neither the 'same' nor the 'valid' shape.
        """
        valid = (micrograph_shape[0] - template_size + 1, micrograph_shape[1] - template_size + 1)
        if template_size < 1 or min(valid) < 1:
            raise InputError(
                f"A template of {template_size} pixels does not fit a micrograph of {micrograph_shape[0]} × {micrograph_shape[1]}. "
                "Give the right template_size."
            )
        if self.shape == valid:
            return self
        if self.shape != micrograph_shape:
            raise InputError(
                f"The statistics maps have {self.shape[0]} × {self.shape[1]} pixels. A micrograph of {micrograph_shape[0]} × "
                f"{micrograph_shape[1]} and a template of {template_size} give maps of that size, or of {valid[0]} × {valid[1]}. "
                "Give the right micrograph and template_size."
            )
        return replace(self, **{name: getattr(self, name)[: valid[0], : valid[1]] for name in MAP_NAMES})

    def recomputed_scaled_mip(self) -> FloatMap:
        """(mip - mean) / standard deviation, float32; NaN or infinite where the standard deviation is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.mip - self.correlation_average) / self.correlation_variance, dtype=np.float32)

    def disagreement(self) -> str | None:
        """A warning if scaled_mip does not agree with mip, mean and standard deviation, otherwise None.

        Positions at which one of the four is not finite are left out.
        """
        chunk_rows = max(1, _CHUNK_PIXELS // self.shape[1])
        differing, compared, greatest = 0, 0, 0.0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for first in range(0, self.shape[0], chunk_rows):
                rows = slice(first, first + chunk_rows)
                recomputed = (self.mip[rows] - self.correlation_average[rows]) / self.correlation_variance[rows]
                distance = np.abs(recomputed - self.scaled_mip[rows])
                unequal = distance > _RELATIVE_TOLERANCE * np.maximum(np.abs(recomputed), 1)
                compared += unequal.size
                if unequal.any():
                    finite = unequal & np.isfinite(distance)
                    differing += int(np.count_nonzero(finite))
                    greatest = max(greatest, float(distance[finite].max(initial=0)))
        if not differing:
            return None
        return (
            f"scaled_mip is not (mip - correlation_average) / correlation_variance at {differing:,} of {compared:,} positions "
            f"(by up to {greatest:.3g}): the maps may come from different runs."
        )


MAP_NAMES = tuple(field.name for field in fields(MatchTemplateMaps))
"""The names of the eight maps."""


def map_paths(prefix: str | Path) -> dict[str, str]:
    """The usual path of each map: PREFIX_mip.mrc, PREFIX_scaled_mip.mrc, and so on."""
    return {name: f"{prefix}_{name}.mrc" for name in MAP_NAMES}


def read_map(path: str | Path) -> FloatMap:
    """Read a two-dimensional MRC file; it is memory-mapped if it is stored as float32.

    Returns:
        (rows, columns) float32.

    Raises:
        InputError: the file is missing, damaged, compressed, or holds several images.
    """
    file = read_header(str(Path(path).expanduser()))
    if file.n_images != 1:
        raise InputError(f"{path} holds {file.n_images} images; a statistics map or micrograph has one. Give the right file.")
    if file.compression:
        raise InputError(f"{path} is compressed and cannot be memory-mapped. Decompress it first, with gunzip or bunzip2.")
    stored = np.memmap(file.path, np.dtype(file.dtype), mode="r", offset=file.data_offset, shape=(file.n_rows, file.n_columns))
    return np.asarray(stored) if stored.dtype == np.float32 else stored.astype(np.float32)


def write_map(path: str | Path, values: FloatMap, pixel_size: float) -> None:
    """Write a two-dimensional MRC file. If that fails, no incomplete file is left.

    Raises:
        OutputError: the file cannot be written.
    """
    file = Path(path).expanduser()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(f".{file.name}.", file.parent) as folder:
            partial = os.path.join(folder, file.name)
            with warnings.catch_warnings(), mrcfile.new(partial) as mrc:
                # A score is NaN where the standard deviation is 0; mrcfile warns about that.
                warnings.filterwarnings("ignore", "Data array contains", RuntimeWarning)
                mrc.set_data(np.ascontiguousarray(values, dtype=np.float32))
                mrc.voxel_size = pixel_size
            os.replace(partial, file)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror or error}. Choose another place, or make room.") from error
