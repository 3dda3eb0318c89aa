"""The commands `info`, `verify` and `demo`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from cryolike_dask.cli.command import Command
from cryolike_dask.cli.help import FILE, FOLDER
from cryolike_dask.cli.main import FAILED, debug_option, echo, quiet_option

_SHOWN = 10
"""Number of problems that are shown on the terminal."""


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--zarr-store", type=FILE, default="", metavar="PLACE", help="Path or URL of the run's Zarr store, if it is not in DIR."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def info(folder: str, zarr_store: str, as_json: bool) -> None:
    """Show the content of an output folder: stacks, images, settings, and whether it is complete.

    \b
    Example:
      cryolike-dask info stacks
    """
    from cryolike_dask.runs.info import describe_output

    description = describe_output(folder, zarr_store=zarr_store)
    echo(json.dumps(description.to_dict(), indent=1) if as_json else str(description))


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--deep", is_flag=True, help="Also compute a sample of images again from their source, and compare them.")
@click.option(
    "--templates",
    type=FILE,
    metavar="DIR_OR_PARAMS",
    help="Also check that CryoLike can compare the stacks with these templates (their folder, or their parameter file).",
)
@click.option(
    "--zarr-store", type=FILE, default="", metavar="PLACE", help="Path or URL of the run's Zarr store, if it is not in DIR."
)
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@quiet_option
@debug_option
def verify(folder: str, deep: bool, templates: str | None, zarr_store: str, as_json: bool, quiet: bool) -> None:
    """Check that an output folder is complete and undamaged. Exit code 1 if it is not.

    \b
    Examples:
      cryolike-dask verify stacks
      cryolike-dask verify stacks --deep
      cryolike-dask verify stacks --templates templates
    """
    from cryolike_dask.runs.verify import verify_output

    problems = verify_output(folder, deep=deep, templates=templates, zarr_store=zarr_store, progress=not quiet)
    if as_json:
        echo(json.dumps({"folder": folder, "deep": deep, "templates": templates, "problems": problems}, indent=1))
    else:
        _echo_problems(problems, "all of them with --json")
        if not quiet:
            echo(f"{folder}: {_verdict(problems, templates)}.")
    if problems:
        sys.exit(FAILED)


def _echo_problems(problems: Sequence[str], where: str) -> None:
    """Print the first problems, and where to find the others."""
    for problem in problems[:_SHOWN]:
        echo(problem, err=True)
    if len(problems) > _SHOWN:
        echo(f"and {len(problems) - _SHOWN:,} more ({where})", err=True)


def _verdict(problems: list[str], templates: str | None) -> str:
    if problems:
        return "incomplete or damaged" if templates is None else "incomplete, damaged, or not on the grids of the templates"
    return "complete and undamaged" if templates is None else "complete and undamaged, and on the grids of the templates"


@click.command(cls=Command)
@click.argument("folder", metavar="[DIR]", type=FOLDER, default="cryolike-demo")
@click.option("--n-images", type=click.IntRange(min=3), default=600, show_default=True, help="Number of images.")
@click.option("--box", type=click.IntRange(min=16), default=64, show_default=True, help="Edge of the images in pixels.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes of the local Dask cluster.")
@quiet_option
@debug_option
def demo(folder: str, n_images: int, box: int, workers: int, quiet: bool) -> None:
    """Make particles in DIR (by default cryolike-demo), convert them on a local Dask cluster, and verify the stacks.

    \b
    The particles are projections of a random molecule with CTF and noise, in
    several MRC stacks with a STAR file, as RELION would write them.
    """
    from cryolike_dask.demo.run import run_demo

    result = run_demo(folder, n_images=n_images, box=box, n_workers=workers, progress=not quiet)
    output = result.report.folder
    _echo_problems(result.problems, f"cryolike-dask verify {output}")
    if result.problems:
        sys.exit(FAILED)
    if quiet:
        return
    echo(
        f"Particles  {result.data.star_file}\n"
        f"Images     {result.data.folder_mrc}\n"
        f"Parameters {result.data.params_file}\n"
        f"Stacks     {output / 'fft'} and {output / 'phys'}\n"
        f"Pictures   {output / 'plots'}\n"
        f"Report     {result.report}\n"
        "Verified   complete and undamaged"
    )
