"""`cryolike-dask preview`: a look at a few particles before the long run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from cryolike_dask.cli.main import debug_option
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.settings import DownsampleType, OnBadImage

if TYPE_CHECKING:
    from cryolike_dask.particles.table import ParticleTable


@click.command()
@click.argument("table", metavar="TABLE")
@click.option("--params", "params_input", required=True, metavar="P.npz", help="Image parameters: see `cryolike-dask params`.")
@click.option("--mrc-folder", "folder", default="", metavar="DIR", help="Folder of the images, whatever path the table records.")
@click.option("--mrc", "particle_file", metavar="FILE.mrcs", help="The images of a STAR file that does not name them.")
@click.option("--box-size", type=click.IntRange(min=2), help="Edge of the boxes in pixels, for a Leopard-EM table.")
@click.option("--invert", is_flag=True, help="Multiply such boxes by -1.")
@click.option("--out", default="preview.png", show_default=True, metavar="FILE.png", help="Where the picture goes.")
@click.option("--n-images", type=click.IntRange(1, 16), default=16, show_default=True, help="Particles to show.")
@click.option("--low-pass", type=float, help="Å. By default 20, or the resolution of the polar grid if that is coarser.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed shows other particles.")
@click.option("--pixel-size", type=float, help="Å, of the source images. By default what the table says.")
@click.option("--downsample-factor", type=int, default=1, show_default=True, help="Edge of the blocks that become one pixel.")
@click.option("--downsample-type", type=click.Choice(get_args(DownsampleType)), default="mean", show_default=True)
@click.option(
    "--on-bad-image",
    type=click.Choice(get_args(OnBadImage)),
    default="raise",
    show_default=True,
    help="For constant or non-finite images; a zero one stays black.",
)
@debug_option
def preview(
    table: str,
    params_input: str,
    folder: str,
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

    particles = _particles(table, folder, particle_file, box_size, invert)
    result = preview_particles(particles, params_input, **options)
    try:
        result.save(Path(out).expanduser())
    except (OSError, ValueError) as error:
        raise OutputError(f"The picture {out} cannot be written: {error}. Give another file with --out.") from error
    click.echo(f"{result}\npicture      {out}")


def _particles(table: str, folder: str, particle_file: str | None, box_size: int | None, invert: bool) -> ParticleTable:
    """The particles of any table, its kind told by its name."""
    path = Path(table).expanduser()
    job = re.fullmatch(r"J(\d+)", path.resolve().name)
    kind = "job" if path.is_dir() and job else path.suffix.lower()
    if particle_file is not None and kind != ".star":
        raise InputError(f"--mrc gives the images of a STAR file, but {table} is none.")
    if (box_size is not None or invert) and kind != ".csv":
        raise InputError(f"--box-size and --invert are for boxes of a Leopard-EM .csv file, but {table} is none.")
    if particle_file is not None:
        from cryolike_dask.particles.star import particles_from_paired_star_and_mrc_files

        return particles_from_paired_star_and_mrc_files([particle_file], [table])
    if kind == ".star":
        from cryolike_dask.particles.star import particles_from_star

        return particles_from_star(table, folder)
    if kind == ".cs":
        from cryolike_dask.particles.cryosparc import particles_from_cryosparc

        return particles_from_cryosparc(table, folder)
    if job and kind == "job":
        from cryolike_dask.particles.cryosparc_job import particles_from_cryosparc_job

        return particles_from_cryosparc_job(path.resolve().parent, int(job[1]))
    if kind == ".csv":
        from cryolike_dask.leopard_em.particles import particles_from_leopard_em

        if box_size is None:
            raise InputError(f"{table} is a Leopard-EM table, of which boxes are cut: say how large with --box-size.")
        return particles_from_leopard_em([table], box_size, invert=invert, folder_micrographs=folder)
    raise InputError(
        f"{table} is of no kind that can be previewed: give a STAR file (.star), a cryoSPARC table (.cs) or job directory (such as "
        "P3/J42), or a Leopard-EM table (.csv)."
    )
