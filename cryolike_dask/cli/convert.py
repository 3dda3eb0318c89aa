"""`cryolike-dask convert`: one command an input, each with the options that all share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from cryolike_dask.cli.main import LazyGroup, debug_option
from cryolike_dask.cli.options import conversion_options, dask_client
from cryolike_dask.mrc.boxes import EdgeMode
from cryolike_dask.particles.table import ParticleTable

if TYPE_CHECKING:
    from cryolike_dask.conversion import Conversion


@click.group(cls=LazyGroup)
@debug_option
def convert() -> None:
    """Convert particles to Fourier-polar stacks.

    \b
    Everything that can be wrong with tables and image headers is found before the first image is read.
    An interrupted run goes on with --skip-exist.

    \b
    Where it runs:
      by default         in this process, on all cores or the GPU
      --workers N        on a local Dask cluster of N processes
      --scheduler ADDR   on a Dask cluster that is there already
    """


@convert.command()
@click.argument("star_file", metavar="FILE.star")
@click.option(
    "--mrc-folder", "folder_mrc", default="", metavar="DIR", help="Folder of the images, whatever path the table records."
)
@conversion_options
def star(star_file: str, folder_mrc: str, **options: Any) -> None:
    """Convert the particles of a RELION STAR file (3.0, 3.1 and later).

    \b
    Examples:
      cryolike-dask convert star run_data.star --params params.npz --out stacks
      cryolike-dask convert star particles.star --mrc-folder mrc --params params.npz --out stacks --workers 8
    """
    from cryolike_dask.particles.star import particles_from_star

    _convert(particles_from_star(star_file, folder_mrc), options)


@convert.command()
@click.option("--star", "star_file_list", multiple=True, required=True, metavar="FILE.star", help="Table of one image file.")
@click.option("--mrc", "particle_file_list", multiple=True, required=True, metavar="FILE.mrcs", help="The images of that table.")
@click.option("--defocus-angle-in-radians", is_flag=True, help="The tables give the defocus angle in radians.")
@click.option("--phase-shift-in-radians", is_flag=True, help="The tables give the phase shift in radians.")
@conversion_options
def paired(
    star_file_list: tuple[str, ...],
    particle_file_list: tuple[str, ...],
    defocus_angle_in_radians: bool,
    phase_shift_in_radians: bool,
    **options: Any,
) -> None:
    """Convert image files that each have a STAR file of their own, row by row.

    \b
    Example:
      cryolike-dask convert paired --star A.star --mrc A.mrcs --star B.star --mrc B.mrcs --params params.npz --out stacks
    """
    from cryolike_dask.particles.star import particles_from_paired_star_and_mrc_files

    particles = particles_from_paired_star_and_mrc_files(
        particle_file_list,
        star_file_list,
        defocus_angle_is_degree=not defocus_angle_in_radians,
        phase_shift_is_degree=not phase_shift_in_radians,
    )
    _convert(particles, options)


@convert.command()
@click.argument("file_cs", metavar="FILE.cs")
@click.option(
    "--mrc-folder", "folder_cryosparc", default="", metavar="DIR", help="Folder of the images, whatever path the table records."
)
@conversion_options
def cryosparc(file_cs: str, folder_cryosparc: str, **options: Any) -> None:
    """Convert the particles of a cryoSPARC table.

    \b
    Example:
      cryolike-dask convert cryosparc J42_particles_exported.cs --mrc-folder J42 --params params.npz --out stacks
    """
    from cryolike_dask.particles.cryosparc import particles_from_cryosparc

    _convert(particles_from_cryosparc(file_cs, folder_cryosparc), options)


@convert.command("cryosparc-job")
@click.argument("folder_cryosparc", metavar="FOLDER")
@click.argument("job_number", metavar="JOB", type=click.IntRange(min=0))
@conversion_options
def cryosparc_job(folder_cryosparc: str, job_number: int, **options: Any) -> None:
    """Convert the restacked or downsampled images of a cryoSPARC job, FOLDER/J<JOB>.

    \b
    Example, for the directory P3/J42:
      cryolike-dask convert cryosparc-job P3 42 --params params.npz --out stacks
    """
    from cryolike_dask.particles.cryosparc_job import particles_of_cryosparc_job

    needed = options["batch_size"] * options["n_stacks_max"]
    _convert(particles_of_cryosparc_job(folder_cryosparc, job_number, needed if needed > 0 else None), options)


@convert.command("leopard-em")
@click.argument("dataframe_files", metavar="TABLE.csv ...", nargs=-1, required=True)
@click.option("--box-size", type=click.IntRange(min=2), required=True, help="Edge of the boxes in pixels.")
@click.option(
    "--template-size", type=click.IntRange(min=1), help="Edge of the template in pixels. By default what the table implies."
)
@click.option("--micrograph-folder", "folder_micrographs", default="", metavar="DIR", help="Folder of the micrographs.")
@click.option("--edge", type=click.Choice(get_args(EdgeMode)), default="constant", show_default=True, help="Beyond the micrograph.")
@click.option("--invert", is_flag=True, help="Multiply the boxes by -1: protein is dark in micrographs.")
@click.option("--unrefined", is_flag=True, help="Ignore refined positions, angles and defocus.")
@conversion_options
def leopard_em(dataframe_files: tuple[str, ...], unrefined: bool, **options: Any) -> None:
    """Convert boxes of micrographs at the positions of Leopard-EM tables.

    \b
    Example:
      cryolike-dask convert leopard-em results.csv --box-size 256 --invert --params params.npz --out stacks
    """
    own = {name: options.pop(name) for name in ("box_size", "template_size", "folder_micrographs", "edge", "invert")}
    from cryolike_dask.leopard_em.particles import particles_from_leopard_em

    _convert(particles_from_leopard_em(dataframe_files, use_refined=not unrefined, **own), options)


def _convert(particles: ParticleTable, options: dict[str, Any]) -> None:
    """Plan the conversion of these particles, and run it unless only the plan is wanted."""
    from cryolike_dask.conversion import Conversion
    from cryolike_dask.progress_bars import progress_for_terminal

    running = {name: options.pop(name) for name in ("workers", "scheduler", "scheduler_file")}
    dry_run, as_json, quiet, page = (options.pop(name) for name in ("dry_run", "as_json", "quiet", "performance_report"))
    conversion = Conversion(particles, options.pop("params_input"), **options)
    if dry_run:
        _show_plan(conversion, as_json)
        return
    with dask_client(**running, device=conversion.settings.device) as client:
        report = conversion.run(client, progress_for_terminal(quiet), page)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    elif not quiet:
        click.echo(f"{report}.")
        if conversion.settings.flag_plots:
            click.echo(f"Look at {report.folder / 'report.html'}, and the pictures in {report.folder / 'plots'}.")


def _show_plan(conversion: Conversion, as_json: bool) -> None:
    summary = conversion.calibrate()
    click.echo(json.dumps(summary.to_dict(), indent=1) if as_json else f"{summary}\nThis is the plan: nothing was written.")
