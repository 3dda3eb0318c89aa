"""`cryolike-dask convert`: one command per input. Each also has the options that all conversions share."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from cryolike_dask.cli.config_file import repeating_command
from cryolike_dask.cli.help import GroupedCommand
from cryolike_dask.cli.main import LazyGroup, debug_option, echo, loading_libraries
from cryolike_dask.cli.options import conversion_options, dask_client, input_arguments
from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.file_conversions.inputs import read_particles
from cryolike_dask.particles.inputs import (
    CryosparcInput,
    CryosparcJobInput,
    LeopardEMInput,
    PairedInput,
    ParticleInput,
    StarInput,
    job_of,
)

if TYPE_CHECKING:
    from cryolike_dask.conversion import Conversion


@click.group(cls=LazyGroup)
@debug_option
def convert() -> None:
    """Convert particles to Fourier-polar stacks.

    \b
    Tables and image headers are checked before the first image is read. An
    interrupted run continues with --skip-exist.

    \b
    Where it runs:
      by default         in this process, on all cores or the GPU
      --workers N        on a local Dask cluster of N processes
      --scheduler ADDR   on a running Dask cluster
    """


@convert.command(cls=GroupedCommand, short_help="Convert particles of a RELION STAR file.")
@input_arguments(StarInput, star_file="FILE.star")
@conversion_options
def star(**options: Any) -> None:
    """Convert the particles of a RELION STAR file (3.0, 3.1 and later).

    \b
    Examples:
      cryolike-dask convert star run_data.star --out stacks
      cryolike-dask convert star particles.star --mrc-folder mrc --out stacks \\
        --workers 8
    """
    _convert(StarInput, options)


@convert.command(cls=GroupedCommand, short_help="Convert image files that have a STAR file each.")
@input_arguments(PairedInput)
@conversion_options
def paired(**options: Any) -> None:
    """Convert image files that each have a STAR file of their own, row by row.

    \b
    Example:
      cryolike-dask convert paired --star A.star --mrc A.mrcs \\
        --star B.star --mrc B.mrcs --out stacks
    """
    _convert(PairedInput, options)


@convert.command(cls=GroupedCommand)
@input_arguments(CryosparcInput, file_cs="FILE.cs")
@conversion_options
def cryosparc(**options: Any) -> None:
    """Convert the particles of a cryoSPARC table.

    \b
    Example:
      cryolike-dask convert cryosparc J42_particles_exported.cs \\
        --mrc-folder J42 --out stacks
    """
    _convert(CryosparcInput, options)


@convert.command("cryosparc-job", cls=GroupedCommand, short_help="Convert the particles of a cryoSPARC job directory.")
@input_arguments(CryosparcJobInput, folder_cryosparc="FOLDER", job_number="[JOB]")
@conversion_options
def cryosparc_job(folder_cryosparc: str, job_number: int | None, **options: Any) -> None:
    """Convert the restacked or downsampled images of a cryoSPARC job, FOLDER/J<JOB>. Without JOB, FOLDER is the directory of the job.

    \b
    Examples, for the directory P3/J42:
      cryolike-dask convert cryosparc-job P3 42 --out stacks
      cryolike-dask convert cryosparc-job P3/J42 --out stacks
    """
    if job_number is None:
        job = job_of(folder_cryosparc)
        if job is None:
            raise InputError(
                f"{folder_cryosparc} does not have the name of a job directory, such as P3/J42. Give the folder that holds the job "
                "directory and the number of the job, such as `P3 42`."
            )
        folder_cryosparc, job_number = str(job.folder_cryosparc), job.job_number
    _convert(CryosparcJobInput, options | {"folder_cryosparc": folder_cryosparc, "job_number": job_number})


@convert.command("leopard-em", cls=GroupedCommand, short_help="Convert boxes of micrographs from Leopard-EM tables.")
@input_arguments(LeopardEMInput, dataframe_files="TABLE.csv ...")
@conversion_options
def leopard_em(**options: Any) -> None:
    """Convert boxes of micrographs at the positions of Leopard-EM tables.

    \b
    Example:
      cryolike-dask convert leopard-em results.csv --box-size 256 \\
        --invert --out stacks
    """
    _convert(LeopardEMInput, options)


def _convert(kind: type[ParticleInput], options: dict[str, Any]) -> None:
    """Plan the conversion of an input of this kind, and run it unless only the plan is wanted."""
    if options["workers"] is not None and options["device"] != "cuda" and not options["dry_run"]:
        from cryolike_dask.execution.fork_server import start_fork_server

        start_fork_server()  # imports the libraries of the workers while this process reads tables
    with loading_libraries():
        from cryolike_dask.conversion import Conversion
        from cryolike_dask.execution.clients import check_scheduler, check_this_process

    source = kind(**{field.name: options.pop(field.name) for field in fields(kind)})
    running = {name: options.pop(name) for name in ("workers", "scheduler", "scheduler_file")}
    dry_run, as_json, quiet, page = (options.pop(name) for name in ("dry_run", "as_json", "quiet", "performance_report"))
    try:
        conversion = Conversion(read_particles(source), options.pop("params_input"), **options)
    except MissingFileError as error:
        if as_json:
            echo(json.dumps({"error": str(error), "missing": error.missing}, indent=1))
        raise
    conversion.record_command(repeating_command(click.get_current_context()))
    if dry_run:
        if running["scheduler"] is running["scheduler_file"] is None:
            check_this_process(conversion.settings.device, None if running["workers"] else page)
        else:
            with dask_client(**running) as address:
                check_scheduler(address)
        _show_plan(conversion, as_json, quiet)
        return
    with dask_client(**running, device=conversion.settings.device, quiet=quiet) as client:
        report = conversion.run(client, not quiet, page)
    if as_json:
        echo(json.dumps(report.to_dict(), indent=1))
    elif not quiet:
        echo(f"{report}.")
        if report.ctf is not None and report.ctf.reason not in report.warnings:  # those were logged
            echo(str(report.ctf))
        if conversion.settings.flag_plots:
            echo(f"Look at {report.folder / 'report.html'}, and the pictures in {report.folder / 'plots'}.")


def _show_plan(conversion: Conversion, as_json: bool, quiet: bool) -> None:
    summary = conversion.calibrate(progress=not quiet)
    echo(
        json.dumps(summary.to_dict(), indent=1)
        if as_json
        else f"{summary}\nThis is the plan: nothing was written to the output folder."
    )
