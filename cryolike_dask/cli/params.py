"""`cryolike-dask params`: the image parameter file, from numbers or from a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cryolike_dask.cli.help import FILE, GroupedCommand
from cryolike_dask.cli.main import debug_option, echo
from cryolike_dask.cli.options import choice_options, described_option
from cryolike_dask.cli.tables import input_of_table, table_options
from cryolike_dask.errors import InputError, OutputExistsError
from cryolike_dask.settings import ConversionSettings

if TYPE_CHECKING:
    from cryolike_dask.metadata.image_descriptor import ImageDescriptor

_WITHOUT_TABLE = ("out", "n_pixels", "pixel_size", "precision", "resolution_factor", "n_inplanes", "overwrite")
"""What can be given without a table."""
_TOLERANCE = 1e-4  # relative: tables round pixel sizes


@click.command(cls=GroupedCommand)
@click.argument("out", metavar="OUT.npz", type=FILE)
@click.option(
    "--from", "table", type=FILE, metavar="TABLE", help="Take box and pixel size from this table, or else from the image headers."
)
@click.option("--n-pixels", type=click.IntRange(min=2), help="Box size of the images, after downsampling.")
@click.option("--pixel-size", type=click.FloatRange(min=0, min_open=True), help="Å per pixel, after downsampling.")
@click.option(
    "--precision", type=click.Choice(["single", "double"]), default="single", show_default=True, help="Of the Fourier images."
)
@click.option(
    "--resolution-factor", type=float, default=1.0, show_default=True, help="Fraction of the Nyquist limit to keep: 0.5 keeps half."
)
@click.option("--n-inplanes", type=click.IntRange(min=1), help="In-plane angles. By default twice the box size.")
@click.option("--override", is_flag=True, help="Use --n-pixels and --pixel-size even if they contradict the table.")
@click.option("--overwrite", is_flag=True, help="Replace a file that holds other parameters.")
@table_options
@choice_options
@described_option(ConversionSettings, "axes")
@described_option(ConversionSettings, "downsample_factor")
@described_option(ConversionSettings, "downsample_type")
@described_option(ConversionSettings, "downsample_to")
@debug_option
def params(
    out: str,
    table: str | None,
    n_pixels: int | None,
    pixel_size: float | None,
    precision: str,
    resolution_factor: float,
    n_inplanes: int | None,
    override: bool,
    overwrite: bool,
    folder_mrc: str,
    particle_file: str | None,
    box_size: int | None,
    **options: Any,
) -> None:
    """Write a file of image parameters: box, pixel size and polar grid.

    \b
    A conversion needs such a file only if its grid is not to be that of the
    table. CryoLike reads it, too, and makes templates on the same grid.

    \b
    TABLE is a STAR file, a cryoSPARC .cs file or job directory, or a
    Leopard-EM .csv file.

    \b
    Examples:
      cryolike-dask params params.npz --from particles.star
      cryolike-dask params half.npz --from particles.star --downsample-factor 2
      cryolike-dask params params.npz --n-pixels 256 --pixel-size 1.06
    """
    if Path(out).suffix not in (".npz", ""):
        raise InputError(f"{out}: the name of a parameter file ends with .npz. Choose such a name.")
    given, settings = _Given(n_pixels, pixel_size, override), ConversionSettings.from_options(options)
    if table is None:
        _check_without_table()
        box, size = given.alone()
    else:
        box, size = given.beside(table, folder_mrc, particle_file, box_size, settings)
    from cryolike_dask.metadata.image_descriptor import ImageDescriptor

    descriptor = ImageDescriptor.from_individual_values(
        n_pixels=box, pixel_size=size, precision=precision, resolution_factor=resolution_factor, n_inplanes=n_inplanes
    )
    _save(descriptor, out, overwrite)


def _check_without_table() -> None:
    """Refuse options about a table, of which none is given."""
    context = click.get_current_context()
    for option in context.command.params:
        name = str(option.name)
        if name not in _WITHOUT_TABLE and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise InputError(f"{option.opts[-1]} has an effect only with a table: give one with --from TABLE, or leave it out.")


@dataclass(frozen=True)
class _Given:
    """The user's box and pixel size of the images as they will be written. With `override` they may contradict a table."""

    n_pixels: int | None
    pixel_size: float | None
    override: bool

    def alone(self) -> tuple[tuple[int, int], float]:
        """Box and pixel size without a table."""
        if self.n_pixels is None or self.pixel_size is None:
            raise InputError(
                "Box and pixel size are not known: give --from TABLE, which takes box and pixel size from a table, or both "
                "--n-pixels and --pixel-size."
            )
        return (self.n_pixels, self.n_pixels), self.pixel_size

    def beside(
        self, table: str, folder: str, particle_file: str | None, box_size: int | None, settings: ConversionSettings
    ) -> tuple[tuple[int, int], float]:
        """Box and pixel size, from these values and a table."""
        from cryolike_dask.file_conversions.inputs import read_particles
        from cryolike_dask.particles.choice import check_seed_is_used, choose_particles
        from cryolike_dask.particles.image_grid import find_image_grid

        check_seed_is_used(settings)
        particles, _ = choose_particles(read_particles(input_of_table(table, folder, particle_file, box_size)), settings)
        grid = find_image_grid(particles, settings, takes_params=False)
        box, size = grid.box, grid.pixel_size
        if self.n_pixels is not None and box != (self.n_pixels, self.n_pixels):
            self._allow(f"--n-pixels {self.n_pixels}", grid.statement)
            box = (self.n_pixels, self.n_pixels)
        if self.pixel_size is not None and not abs(size - self.pixel_size) <= _TOLERANCE * self.pixel_size:
            if size == size:  # it is known
                self._allow(f"--pixel-size {self.pixel_size:g}", grid.statement)
            size = self.pixel_size
        if size != size:
            raise InputError(f"{grid.statement} Give it with --pixel-size.")
        echo(grid.statement)
        return box, size

    def _allow(self, option: str, statement: str) -> None:
        if not self.override:
            raise InputError(f"{option} contradicts the table. {statement} Leave it out, or add --override to use it.")


def _save(descriptor: ImageDescriptor, out: str, overwrite: bool) -> None:
    """Write the file, unless it already exists, and print its content."""
    from cryolike_dask.formatting import format_bytes
    from cryolike_dask.metadata.params_file import params_path

    file = params_path(out)

    def is_there() -> bool:
        try:
            return type(descriptor).load(file) == descriptor
        except InputError:
            return False

    try:
        descriptor.save(file, overwrite=overwrite)
    except OutputExistsError:
        # Templates may have been made with the existing file, so only a file with the same content is accepted.
        if not is_there():
            raise OutputExistsError(f"{file} holds something else. Choose another name, or replace it with --overwrite.") from None
    grid, (rows, columns) = descriptor.polar_grid, descriptor.n_pixels
    finest = min(rows, columns) * descriptor.pixel_size[0] / (2 * descriptor.radius_max)
    echo(
        f"{file}: {rows} × {columns} pixels of {descriptor.pixel_size[0]:g} Å; {grid.n_shells} shells × {grid.n_inplanes} in-plane "
        f"angles up to {finest:.3g} Å, {format_bytes(grid.n_points * descriptor.complex_dtype.itemsize)} per image in "
        f"{descriptor.precision} precision."
    )
