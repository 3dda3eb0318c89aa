"""The image descriptor: the Cartesian grid of the images, the polar grid of their transforms, and the precision.

CryoLike calls its file the params file, and compares descriptors with exact equality: floats are written exactly as they were read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, not_particles_error
from cryolike_dask.formatting import printable
from cryolike_dask.grids.cartesian_grid import CartesianGrid2D, pair_of
from cryolike_dask.grids.polar_grid import PolarGrid
from cryolike_dask.html import render
from cryolike_dask.metadata import cryolike_objects, descriptor_values
from cryolike_dask.metadata.descriptor_values import SerializedImageDescriptor, is_absent, number
from cryolike_dask.metadata.params_file import read_params, write_params
from cryolike_dask.settings import Axes, ConversionSettings, DownsampleType

if TYPE_CHECKING:
    from cryolike_dask.particles.table import ParticleTable

Precision = Literal["single", "double"]

REQUIRED_KEYS = ("n_pixels", "pixel_size", "radius_max", "dist_radii", "n_inplanes", "precision")
OPTIONAL_KEYS = ("viewing_distance", "atom_radii", "atom_selection", "use_protein_residue_model", "atom_shape")


@dataclass(frozen=True)
class ImageDescriptor:
    """Grids and precision of a stack of images.

    A descriptor cannot be changed: its methods return a changed copy. CryoLike loads every file that `save` writes.

    Args:
        n_pixels: (rows, columns) of the physical images. CryoLike calls the rows x.
        pixel_size: (rows, columns) in Å.
        radius_max: radius of the polar grid; the Nyquist limit is min(n_pixels) / 4.
        dist_radii: distance between shells.
        n_inplanes: number of in-plane angles.
        precision: 'single' (complex64) or 'double' (complex128); CryoLike's 'default' is single.
        viewing_distance: CryoLike's template spacing; None for CryoLike's default for this radius.
        atom_radii, atom_selection: kept unchanged; CryoLike uses them only for templates.
        use_protein_residue_model, atom_shape: also only for templates; None for CryoLike's defaults, True and 'gaussian'.

    Raises:
        InputError: a value is out of range, or CryoLike does not know it.

    Example:
        >>> ImageDescriptor.from_individual_values(256, 1.06, "single", 0.5).radius_max
        32.0
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
        # Checked on every construction, so that no descriptor that CryoLike cannot load is ever made or saved.
        for key, value in descriptor_values.checked_values(self._values()).items():
            object.__setattr__(self, key, value)

    @classmethod
    def from_individual_values(
        cls,
        n_pixels: int | Sequence[int] | npt.NDArray[np.integer[Any]],
        pixel_size: float | Sequence[float] | npt.NDArray[np.floating[Any]],
        precision: str | Enum = "single",
        resolution_factor: float = 1.0,
        viewing_distance: float | None = None,
        n_inplanes: int | None = None,
        atom_radii: float | None = None,
        atom_selection: str | None = "name CA",
        use_protein_residue_model: bool = True,
        atom_shape: str | Enum = "gaussian",
    ) -> ImageDescriptor:
        """Make a descriptor with CryoLike's defaults.

        Args:
            n_pixels: box size, one number for a square.
            pixel_size: Å per pixel.
            precision: 'single' or 'double', or CryoLike's `Precision`.
            resolution_factor: radius of the polar grid as a fraction of the Nyquist limit; 0.5 keeps half the resolution.
            viewing_distance: CryoLike's template spacing; 1 / (4 pi resolution_factor) if not given.
            n_inplanes: number of in-plane angles; twice the box if not given.
            atom_radii, atom_selection, use_protein_residue_model: only for CryoLike's templates.
            atom_shape: also for templates: 'gaussian', 'hard-sphere' or 'default', or CryoLike's `AtomShape`.

        Raises:
            InputError: a value is out of range.
        """
        box = pair_of(n_pixels, int, "n_pixels")
        factor = number(resolution_factor, "resolution_factor")
        if factor > 1:
            raise InputError(
                f"resolution_factor is {resolution_factor}: it must be above 0 and at most 1, the Nyquist limit of the images."
            )
        values: dict[str, Any] = {
            "n_pixels": box,
            "pixel_size": pixel_size,
            "radius_max": factor * min(box) * 0.25,
            "dist_radii": 0.25,
            "n_inplanes": 2 * max(box) if n_inplanes is None else n_inplanes,
            "precision": precision,
            "viewing_distance": descriptor_values.default_viewing_distance(factor)
            if viewing_distance is None
            else viewing_distance,
            "atom_radii": atom_radii,
            "atom_selection": atom_selection,
            "use_protein_residue_model": use_protein_residue_model,
            "atom_shape": atom_shape,
        }
        return cls(**values)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageDescriptor:
        """Make a descriptor from a dictionary with the keys of a params file. Size-0 arrays and None stand for absent values.

        Raises:
            InputError: a value is missing, or wrong.
        """
        missing = [key for key in REQUIRED_KEYS if is_absent(data.get(key))]
        if missing:
            raise InputError(f"The image descriptor lacks {', '.join(missing)}. Write a new one with `cryolike-dask params`.")
        return cls(**{key: data.get(key) for key in (*REQUIRED_KEYS, *OPTIONAL_KEYS)})  # type: ignore[arg-type]  # it is checked

    @classmethod
    def from_particles(
        cls,
        particles: ParticleTable,
        *,
        precision: str = "single",
        resolution_factor: float = 1.0,
        n_inplanes: int | None = None,
        axes: Axes = "cryolike",
        downsample_factor: int = 1,
        downsample_type: DownsampleType = "mean",
        downsample_to: int | None = None,
    ) -> ImageDescriptor:
        """Make a descriptor for the images of these particles: box and pixel size come from their table, or else from the image headers.

        Args:
            particles: particles of one box and pixel size.
            precision, resolution_factor, n_inplanes: as for `from_individual_values`.
            axes, downsample_factor, downsample_type, downsample_to: options of the conversion, so that the descriptor is that of the
                images it writes.

        Raises:
            InputError: the images have several boxes or pixel sizes, or nothing states them.

        Example: `ImageDescriptor.from_particles(particles_from_star("particles.star", "mrc"), precision="double")`
        """
        downsampling = {"downsample_factor": downsample_factor, "downsample_type": downsample_type, "downsample_to": downsample_to}
        settings = ConversionSettings.from_options({"axes": axes, **downsampling})
        if not hasattr(particles, "_image_grid"):
            raise not_particles_error(particles)
        return particles._image_grid(settings).descriptor(precision, resolution_factor, n_inplanes)

    def serialize(self) -> SerializedImageDescriptor:
        """The values as CryoLike stores them: n_pixels and pixel_size as arrays of two, absent values as None."""
        arrays = {"n_pixels": np.array(self.n_pixels, np.int64), "pixel_size": np.array(self.pixel_size, np.float64)}
        return SerializedImageDescriptor(self._values() | arrays)

    def to_dict(self) -> dict[str, Any]:
        """The same as a plain dictionary, which `from_dict` of this class and of CryoLike's reads."""
        return self.serialize().model_dump()

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The same as arrays that load without pickle: an absent value is a size-0 array, which CryoLike reads as None."""
        return {key: np.empty(0) if value is None else np.asarray(value) for key, value in self.serialize().items()}

    @classmethod
    def load(cls, filename: str | Path) -> ImageDescriptor:
        """Read a params `.npz` written by CryoLike or by cryolike_dask, without unpickling anything.

        Raises:
            InputError: the file is missing (the error is then also a FileNotFoundError), is not a params file, or lacks a value.
        """
        values = read_params(filename, (*REQUIRED_KEYS, *OPTIONAL_KEYS))
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{Path(filename).expanduser()}: {error}") from error

    def save(self, filename: str | Path, overwrite: bool = False) -> None:
        """Write a params `.npz` that CryoLike and cryolike_dask can load.

        Args:
            filename: path of the file; `.npz` is appended if it is missing.
            overwrite: replace an existing file.

        Raises:
            OutputError: the file exists, and `overwrite` is not set. The error is also a FileExistsError and a ValueError.
        """
        write_params(filename, self.to_arrays(), overwrite=overwrite)

    @classmethod
    def ensure(cls, input: Any) -> ImageDescriptor:
        """A descriptor from what was given: a descriptor itself, the path of a params file, or an ImageDescriptor of CryoLike.

        Raises:
            InputError: it is none of these, or has what a params file cannot hold: explicit viewing angles, a polar grid of another kind.
        """
        if isinstance(input, cls):
            return input
        if isinstance(input, (str, Path)):
            return cls.load(input)
        if cryolike_objects.is_image_descriptor(input):
            return cls.from_dict(cryolike_objects.values_of(input))
        raise InputError(f"params_input is of type {type(input).__name__}: give an ImageDescriptor or the path of a params .npz.")

    @property
    def cartesian_grid(self) -> CartesianGrid2D:
        """The grid of the physical images."""
        return CartesianGrid2D(self.n_pixels, self.pixel_size)

    @property
    def polar_grid(self) -> PolarGrid:
        """The grid of the Fourier images."""
        return PolarGrid(self.radius_max, self.dist_radii, n_inplanes=self.n_inplanes)

    @property
    def viewing_angles(self) -> None:
        """None: images have no viewing angles, and CryoLike derives those of templates from `viewing_distance`."""
        return None

    @property
    def nyquist_radius(self) -> float:
        """The largest radius at which these images hold information."""
        return min(self.n_pixels) / 4.0

    @property
    def real_dtype(self) -> np.dtype[Any]:
        """The dtype in which physical images are computed."""
        return np.dtype(np.float64 if self.precision == "double" else np.float32)

    @property
    def complex_dtype(self) -> np.dtype[Any]:
        """The dtype in which Fourier images are stored."""
        return np.dtype(np.complex128 if self.precision == "double" else np.complex64)

    def is_compatible_with(self, other: Any) -> bool:
        """Whether images and templates of the two descriptors can be compared: their grids are exactly equal.

        Args:
            other: a descriptor, which may be one of CryoLike's, or the path of a params file.
        """
        theirs = other if cryolike_objects.is_image_descriptor(other) else ImageDescriptor.ensure(other)
        return cryolike_objects.same_grids(self, theirs)

    def update_pixel_size(self, pixel_size: Any) -> ImageDescriptor:
        """A copy with this pixel size; the descriptor itself does not change.

        Args:
            pixel_size: Å, one number for square pixels, or two.
        """
        return replace(self, pixel_size=pixel_size)

    def downsampled(self, box: tuple[int, int], factor: float) -> ImageDescriptor:
        """The descriptor of these images after downsampling to a box whose pixels are `factor` times larger.

        The radius of the polar grid is cut to the new Nyquist limit.

        Args:
            box: (n_x, n_y) pixels after downsampling.
            factor: how many times larger the pixels become.
        """
        pixel_size = (self.pixel_size[0] * factor, self.pixel_size[1] * factor)
        return replace(self, n_pixels=box, pixel_size=pixel_size, radius_max=min(self.radius_max, min(box) / 4.0))

    def print(self) -> None:
        """Print the values, one per line, under the names of a params file."""
        values = "".join(f"  {key}: {value}\n" for key, value in self._values().items())
        sys.stdout.write(f"{type(self).__name__}:\n{printable(values)}")

    def __repr__(self) -> str:
        return printable(f"<ImageDescriptor: {descriptor_values.described(self._values(), self.polar_grid.n_shells)}")

    def _repr_html_(self) -> str:
        caption = f"ImageDescriptor: {self.polar_grid.n_shells} shells × {self.n_inplanes} in-plane angles"
        return render("table", caption=caption, rows=descriptor_values.stated(self._values()), warnings=None)

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
