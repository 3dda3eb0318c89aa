"""The image descriptor: the Cartesian grid of the images, the polar grid of their transforms, and the precision.

It is what CryoLike calls the params file. Floats are kept and written exactly as they were read, because CryoLike compares the
descriptors of images and templates with exact equality.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryolike_dask.errors import InputError
from cryolike_dask.grids.polar_grid import PolarGrid

Precision = Literal["single", "double"]

REQUIRED_KEYS = ("n_pixels", "pixel_size", "radius_max", "dist_radii", "n_inplanes", "precision")
OPTIONAL_KEYS = ("viewing_distance", "atom_radii", "atom_selection", "use_protein_residue_model", "atom_shape")


@dataclass(frozen=True)
class ImageDescriptor:
    """Grids and precision of a stack of images.

    Args:
        n_pixels: (rows, columns) of the physical images. CryoLike calls the rows x.
        pixel_size: (rows, columns) in Angstrom.
        radius_max: radius of the polar grid; the Nyquist limit is min(n_pixels) / 4.
        dist_radii: distance between shells.
        n_inplanes: number of in-plane angles.
        precision: 'single' (complex64) or 'double' (complex128).
        viewing_distance, atom_radii, atom_selection, use_protein_residue_model, atom_shape: used by CryoLike for templates only;
            carried along unchanged. An absent value is None.
    """

    n_pixels: tuple[int, int]
    pixel_size: tuple[float, float]
    radius_max: float
    dist_radii: float
    n_inplanes: int
    precision: Precision = "single"
    viewing_distance: float | None = None
    atom_radii: float | None = None
    atom_selection: str | None = "name CA"
    use_protein_residue_model: bool | None = True
    atom_shape: str | None = "gaussian"

    def __post_init__(self) -> None:
        if min(self.n_pixels) < 2:
            raise InputError(f"n_pixels is {self.n_pixels}: an image needs at least 2 x 2 pixels.")
        for name in ("radius_max", "dist_radii"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} is {getattr(self, name)}: it must be a positive number.")
        if not all(math.isfinite(p) and p > 0 for p in self.pixel_size):
            raise InputError(f"pixel_size is {self.pixel_size}: give the pixel size in Angstrom, a positive number.")
        if self.n_inplanes < 1:
            raise InputError(f"n_inplanes is {self.n_inplanes}: at least one in-plane angle is needed.")
        if self.precision not in ("single", "double"):
            raise InputError(f"precision is {self.precision!r}: choose 'single' or 'double'.")

    @classmethod
    def from_individual_values(
        cls,
        n_pixels: int | tuple[int, int],
        pixel_size: float | tuple[float, float],
        precision: str = "single",
        resolution_factor: float = 1.0,
        viewing_distance: float | None = None,
        n_inplanes: int | None = None,
        atom_radii: float | None = None,
        atom_selection: str | None = "name CA",
        use_protein_residue_model: bool | None = True,
        atom_shape: str | None = "gaussian",
    ) -> ImageDescriptor:
        """A descriptor with CryoLike's defaults.

        Args:
            n_pixels: box size, one number for a square.
            pixel_size: Angstrom a pixel.
            precision: 'single' or 'double'.
            resolution_factor: radius of the polar grid as a fraction of the Nyquist limit; 0.5 keeps half the resolution.
            viewing_distance: CryoLike's template spacing; 1 / (4 pi resolution_factor) if not given.
            n_inplanes: in-plane angles; twice the box if not given.
            atom_radii, atom_selection, use_protein_residue_model, atom_shape: for CryoLike's templates only.

        Raises:
            InputError: a value is out of range.
        """
        box = _pair(n_pixels, int, "n_pixels")
        if not (math.isfinite(resolution_factor) and 0 < resolution_factor <= 1):
            raise InputError(
                f"resolution_factor is {resolution_factor}: it must be above 0 and at most 1, the Nyquist limit of the images."
            )
        if precision not in ("single", "double"):
            raise InputError(f"precision is {precision!r}: choose 'single' or 'double'.")
        return cls(
            n_pixels=box,
            pixel_size=_pair(pixel_size, float, "pixel_size"),
            radius_max=min(box) * resolution_factor / 4.0,
            dist_radii=0.25,
            n_inplanes=2 * max(box) if n_inplanes is None else int(n_inplanes),
            precision="double" if precision == "double" else "single",
            viewing_distance=1.0 / (4.0 * math.pi * resolution_factor) if viewing_distance is None else float(viewing_distance),
            atom_radii=atom_radii,
            atom_selection=atom_selection,
            use_protein_residue_model=use_protein_residue_model,
            atom_shape=atom_shape,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageDescriptor:
        """A descriptor from the keys of a params file. Size-0 arrays and None stand for absent values."""
        missing = [key for key in REQUIRED_KEYS if _scalar_or_none(values.get(key)) is None]
        if missing:
            raise InputError(f"The image descriptor lacks {', '.join(missing)}. Write a new one with `cryolike-dask params`.")
        try:
            optional = {key: _scalar_or_none(values.get(key)) for key in OPTIONAL_KEYS}
            return cls(
                n_pixels=_pair(values["n_pixels"], int, "n_pixels"),
                pixel_size=_pair(values["pixel_size"], float, "pixel_size"),
                radius_max=float(values["radius_max"]),
                dist_radii=float(values["dist_radii"]),
                n_inplanes=int(values["n_inplanes"]),
                precision=str(values["precision"]),  # type: ignore[arg-type]  # checked in __post_init__
                viewing_distance=None if optional["viewing_distance"] is None else float(optional["viewing_distance"]),
                atom_radii=None if optional["atom_radii"] is None else float(optional["atom_radii"]),
                atom_selection=None if optional["atom_selection"] is None else str(optional["atom_selection"]),
                use_protein_residue_model=(
                    None if optional["use_protein_residue_model"] is None else bool(optional["use_protein_residue_model"])
                ),
                atom_shape=None if optional["atom_shape"] is None else str(optional["atom_shape"]),
            )
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"The image descriptor holds a value of the wrong kind: {error}.") from error

    def to_dict(self) -> dict[str, Any]:
        """The values under the keys of a params file, absent ones as None."""
        return {key: getattr(self, key) for key in (*REQUIRED_KEYS, *OPTIONAL_KEYS)}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The same as arrays that load without pickle: an absent value is a size-0 array, which CryoLike reads as None."""
        kinds: dict[str, Any] = {"n_pixels": np.int64, "n_inplanes": np.int64, "pixel_size": np.float64}
        kinds |= {"radius_max": np.float64, "dist_radii": np.float64, "viewing_distance": np.float64, "atom_radii": np.float64}
        return {
            key: np.empty(0) if value is None else np.asarray(value, dtype=kinds.get(key)) for key, value in self.to_dict().items()
        }

    @classmethod
    def load(cls, path: str | Path) -> ImageDescriptor:
        """Read a params `.npz` written by CryoLike or by cryolike_dask, without unpickling anything.

        Raises:
            InputError: the file is missing, is not a params file, or lacks a value.
        """
        file = Path(path).expanduser()
        values: dict[str, Any] = {}
        try:
            with zipfile.ZipFile(file) as archive:
                # An optional value whose name is damaged would otherwise pass for an absent one.
                damaged = archive.testzip()
                if damaged is not None:
                    raise zipfile.BadZipFile(f"{damaged} in it is damaged")
                for key in (*REQUIRED_KEYS, *OPTIONAL_KEYS):
                    if f"{key}.npy" in archive.namelist():
                        values[key] = _array_or_none(archive.read(f"{key}.npy"))
        except FileNotFoundError:
            raise InputError(
                f"The parameter file {file} does not exist. Write one with `cryolike-dask params {file} ...`."
            ) from None
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError) as error:
            raise InputError(
                f"{file} is not a readable params .npz file ({error}). Write one with `cryolike-dask params`."
            ) from error
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a params `.npz` that CryoLike and cryolike_dask load; `.npz` is appended to a name without it."""
        file = Path(path).expanduser()
        if file.suffix != ".npz":
            file = file.with_name(file.name + ".npz")
        buffer = io.BytesIO()
        np.savez(buffer, **self.to_arrays())  # type: ignore[arg-type]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(buffer.getvalue())

    @classmethod
    def ensure(cls, value: ImageDescriptor | str | Path) -> ImageDescriptor:
        """The descriptor itself, or the one stored at the path."""
        if isinstance(value, cls):
            return value
        if isinstance(value, (str, Path)):
            return cls.load(value)
        raise InputError(f"params_input is a {type(value).__name__}: give an ImageDescriptor or the path of a params .npz file.")

    @property
    def polar_grid(self) -> PolarGrid:
        return PolarGrid(self.radius_max, self.dist_radii, self.n_inplanes)

    @property
    def nyquist_radius(self) -> float:
        """The largest radius at which these images hold information."""
        return min(self.n_pixels) / 4.0

    @property
    def real_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64 if self.precision == "double" else np.float32)

    @property
    def complex_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.complex128 if self.precision == "double" else np.complex64)

    def with_pixel_size(self, pixel_size: float) -> ImageDescriptor:
        """A copy with this (square) pixel size."""
        return replace(self, pixel_size=(float(pixel_size), float(pixel_size)))

    def downsampled(self, factor: int) -> ImageDescriptor:
        """The descriptor of these images after block downsampling: R is cut to the new Nyquist limit."""
        box = (self.n_pixels[0] // factor, self.n_pixels[1] // factor)
        pixel_size = (self.pixel_size[0] * factor, self.pixel_size[1] * factor)
        return replace(self, n_pixels=box, pixel_size=pixel_size, radius_max=min(self.radius_max, min(box) / 4.0))

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in self.to_dict().items() if value is not None)
        grid = self.polar_grid
        return f"<table><caption>ImageDescriptor: {grid.n_shells} shells x {grid.n_inplanes} in-planes</caption>{rows}</table>"


def _pair(value: Any, kind: type, name: str) -> Any:
    """One number, or two, as a pair of `kind`, refusing what would silently change the value."""
    array = np.asarray(value)
    if array.size not in (1, 2) or array.dtype.kind not in "iuf" or not np.all(np.isfinite(array)):
        raise InputError(f"{name} is {value!r}: give one number, or two for (rows, columns).")
    numbers = [kind(x) for x in array.ravel()]
    if any(number != x for number, x in zip(numbers, array.ravel(), strict=True)):
        raise InputError(f"{name} is {value!r}: whole numbers are needed.")
    return (numbers[0], numbers[-1])


def _scalar_or_none(value: Any) -> Any:
    if value is None:
        return None
    array = np.asarray(value)
    if array.size == 0 or array.dtype == object:
        return None
    return array.item() if array.size == 1 else value


def _array_or_none(npy: bytes) -> Any:
    """One array of an .npz member. CryoLike stores None as a pickled object array, which is recognised without unpickling it."""
    stream = io.BytesIO(npy)
    try:
        return np.load(stream, allow_pickle=False)
    except ValueError:
        version = np.lib.format.read_magic(_rewound(stream))
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        if dtype.hasobject and shape == ():
            names = [op.name for op, _, _ in pickletools.genops(stream.read()) if op.name not in ("MEMOIZE", "BINPUT", "PUT")]
            # The array's content is a list; `[None]` is the only one that is understood.
            start = names.index("EMPTY_LIST") if "EMPTY_LIST" in names else -1
            if start >= 0 and names[start + 1 : start + 3] == ["NONE", "APPEND"]:
                return None
        raise ValueError("it holds a Python object, which is never unpickled from a file") from None


def _rewound(stream: io.BytesIO) -> io.BytesIO:
    stream.seek(0)
    return stream
