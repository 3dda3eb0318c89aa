"""`cryolike-dask preview`: a picture of a few particles before the long run."""

from __future__ import annotations

from typing import Any

import click

from cryolike_dask.cli.config_file import configurable
from cryolike_dask.cli.help import FILE, GroupedCommand
from cryolike_dask.cli.main import debug_option, echo, quiet_option
from cryolike_dask.cli.options import described_option, image_options, params_option
from cryolike_dask.cli.tables import input_of_table, table_options
from cryolike_dask.errors import OutputError
from cryolike_dask.file_conversions.inputs import read_particles
from cryolike_dask.filesystem.output_file import output_file
from cryolike_dask.particles.inputs import LeopardEMInput
from cryolike_dask.settings import ConversionSettings


@click.command(cls=GroupedCommand)
@click.argument("table", metavar="TABLE", type=FILE)
@params_option
@table_options
@described_option(LeopardEMInput, "invert")
@click.option(
    "--out",
    type=FILE,
    default="preview.png",
    show_default=True,
    metavar="FILE.png",
    help="Picture to write; an existing picture is replaced.",
)
@click.option("--n-images", type=click.IntRange(1, 16), default=16, show_default=True, help="Number of particles to show.")
@click.option(
    "--low-pass",
    type=float,
    help="Resolution of the low-pass filter in Å. By default 20, or that of the polar grid if it is coarser.",
)
@image_options
@described_option(ConversionSettings, "axes")
@described_option(ConversionSettings, "downsample_factor")
@described_option(ConversionSettings, "downsample_type")
@described_option(ConversionSettings, "downsample_to")
@described_option(ConversionSettings, "on_bad_image")
@quiet_option
@debug_option
@configurable
def preview(
    table: str,
    params_input: str | None,
    folder_mrc: str,
    particle_file: str | None,
    box_size: int | None,
    invert: bool,
    out: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Convert a few random particles in memory, transform them back to real space, and draw both.

    \b
    TABLE is a STAR file, a cryoSPARC .cs file or job directory, or a
    Leopard-EM .csv file.
    Check that these are your particles, bright as you expect, in a box that
    fits them, and that the CTF fits.

    \b
    Examples:
      cryolike-dask preview particles.star --mrc-folder mrc
      cryolike-dask preview P3/J42 --out J42.png
      cryolike-dask preview results.csv --box-size 256 --invert
    """
    from cryolike_dask.preview import preview_particles

    picture = output_file(out, (".png",))
    source = input_of_table(table, folder_mrc, particle_file, box_size, invert)
    result = preview_particles(read_particles(source), params_input, progress=not quiet, **options)
    try:
        result.save(picture)
    except OSError as error:
        raise OutputError(
            f"The picture {out} cannot be written: {error.strerror or error}. Give another file with --out."
        ) from error
    if not quiet:
        echo(f"{result}\npicture      {out}")
