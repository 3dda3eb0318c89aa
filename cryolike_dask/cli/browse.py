"""`cryolike-dask browse`: a page to look through particles, and to leave some of them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cryolike_dask.cli.config_file import configurable
from cryolike_dask.cli.help import FILE, GroupedCommand
from cryolike_dask.cli.main import debug_option, echo, quiet_option
from cryolike_dask.cli.options import described_option, image_options, params_option
from cryolike_dask.cli.tables import input_of_table, table_options
from cryolike_dask.errors import InputError
from cryolike_dask.file_conversions.inputs import read_particles
from cryolike_dask.particles.inputs import LeopardEMInput


@click.command(cls=GroupedCommand)
@click.argument("table", metavar="TABLE_OR_STACKS", type=FILE)
@params_option
@table_options
@described_option(LeopardEMInput, "invert")
@click.option(
    "--out",
    type=FILE,
    default="contact.html",
    show_default=True,
    metavar="FILE.html",
    help="Page to write; an existing page is replaced.",
)
@image_options
@click.option("--low-pass", type=float, default=20.0, show_default=True, help="Resolution of the low-pass filter in Å.")
@click.option("--tile-size", type=int, default=64, show_default=True, help="Longer edge of the small images in pixels, 16 to 256.")
@quiet_option
@debug_option
@configurable
def browse(
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
    """Write a page of low-passed particles to look through in a browser.

    \b
    TABLE_OR_STACKS is a STAR file, a cryoSPARC .cs file or job directory, a
    Leopard-EM .csv file, or the output folder of a conversion.
    The page needs no network. Click the particles that you want to leave out,
    and save the rows of the others for --ind of `cryolike-dask convert`.
    Without --sample, at most 5,000 particles are shown, drawn at random.

    \b
    Examples:
      cryolike-dask browse particles.star --mrc-folder mrc --out contact.html
      cryolike-dask browse particles.star --where "defocus_u < 15000"
      cryolike-dask browse stacks --sample 1000 --seed 1
    """
    from cryolike_dask.browse.page import browse_particles
    from cryolike_dask.stacks.files import MANIFEST

    folder = Path(table).expanduser()
    if (folder / MANIFEST).is_file():
        given = {"--mrc-folder": folder_mrc, "--mrc": particle_file, "--box-size": box_size}
        wrong = [name for name, value in given.items() if value]
        if wrong or invert:
            raise InputError(f"{table} holds stacks, which record their images: leave out {', '.join(wrong or ['--invert'])}.")
        page = browse_particles(folder, out, params=params_input, progress=not quiet, **options)
    else:
        source = input_of_table(table, folder_mrc, particle_file, box_size, invert, ", or the output folder of a conversion")
        page = browse_particles(read_particles(source), out, params=params_input, progress=not quiet, **options)
    if not quiet:
        echo(str(page))
