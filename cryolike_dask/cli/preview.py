"""`cryolike-dask preview`: a look at a few particles before the long run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from cryolike_dask.cli.main import debug_option, echo
from cryolike_dask.cli.options import choice_options, described_option
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.file_conversions.inputs import read_particles
from cryolike_dask.particles.inputs import (
    CryosparcInput,
    CryosparcJobInput,
    LeopardEMInput,
    PairedInput,
    ParticleInput,
    StarInput,
)
from cryolike_dask.settings import ConversionSettings


@click.command()
@click.argument("table", metavar="TABLE")
@click.option("--params", "params_input", required=True, metavar="P.npz", help="Image parameters: see `cryolike-dask params`.")
@described_option(StarInput, "folder_mrc")
@click.option("--mrc", "particle_file", metavar="FILE.mrcs", help="The images of a STAR file that does not name them.")
@click.option("--box-size", type=int, help="Edge of the boxes in pixels, for a Leopard-EM table.")
@described_option(LeopardEMInput, "invert")
@click.option("--out", default="preview.png", show_default=True, metavar="FILE.png", help="Where the picture goes.")
@click.option("--n-images", type=click.IntRange(1, 16), default=16, show_default=True, help="Particles to show.")
@click.option("--low-pass", type=float, help="Å. By default 20, or the resolution of the polar grid if that is coarser.")
@choice_options
@described_option(ConversionSettings, "pixel_size")
@described_option(ConversionSettings, "override_pixel_size")
@described_option(ConversionSettings, "contrast")
@described_option(ConversionSettings, "apply_origins")
@described_option(ConversionSettings, "downsample_factor")
@described_option(ConversionSettings, "downsample_type")
@described_option(ConversionSettings, "downsample_to")
@described_option(ConversionSettings, "on_bad_image")
@debug_option
def preview(
    table: str,
    params_input: str,
    folder_mrc: str,
    particle_file: str | None,
    box_size: int | None,
    invert: bool,
    out: str,
    **options: Any,
) -> None:
    """Convert a few random particles in memory, bring them back to real space, and draw both.

    \b
    TABLE is a STAR file, a cryoSPARC .cs file or job directory, or a Leopard-EM .csv file.
    Look whether these are your particles, bright as you expect, in a box that fits them, and whether the pixel size is right.

    \b
    Examples:
      cryolike-dask preview particles.star --mrc-folder mrc --params params.npz
      cryolike-dask preview P3/J42 --params params.npz --out J42.png
      cryolike-dask preview results.csv --box-size 256 --invert --params params.npz
    """
    from cryolike_dask.preview import preview_particles

    source = _input(table, folder_mrc, particle_file, box_size, invert)
    result = preview_particles(read_particles(source), params_input, **options)
    try:
        result.save(Path(out).expanduser())
    except (OSError, ValueError) as error:
        raise OutputError(f"The picture {out} cannot be written: {error}. Give another file with --out.") from error
    echo(f"{result}\npicture      {out}")


def _input(table: str, folder: str, particle_file: str | None, box_size: int | None, invert: bool) -> ParticleInput:
    """The input that a table is, its kind known by its name."""
    path = Path(table).expanduser()
    job = re.fullmatch(r"J(\d+)", path.resolve().name)
    kind = "job" if path.is_dir() and job else path.suffix.lower()
    if particle_file is not None and kind != ".star":
        raise InputError(f"--mrc gives the images of a STAR file, but {table} is none.")
    if (box_size is not None or invert) and kind != ".csv":
        raise InputError(f"--box-size and --invert are for boxes of a Leopard-EM .csv file, but {table} is none.")
    if particle_file is not None:
        return PairedInput([particle_file], [table])
    if kind == ".star":
        return StarInput(table, folder)
    if kind == ".cs":
        return CryosparcInput(table, folder)
    if job and kind == "job":
        return CryosparcJobInput(path.resolve().parent, int(job[1]))
    if kind == ".csv":
        if box_size is None:
            raise InputError(f"{table} is a Leopard-EM table, of which boxes are cut: say how large with --box-size.")
        return LeopardEMInput([table], box_size, invert=invert, folder_micrographs=folder)
    raise InputError(
        f"{table} is of no kind that can be previewed: give a STAR file (.star), a cryoSPARC table (.cs) or job directory (such as "
        "P3/J42), or a Leopard-EM table (.csv)."
    )
