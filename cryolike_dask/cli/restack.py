"""`cryolike-dask restack`: other stacks of images that were converted before."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from cryolike_dask.cli.main import debug_option, quiet_option
from cryolike_dask.settings import OutputFormat


@click.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images in a stack. By default as many as before.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(get_args(OutputFormat)),
    default="pt",
    show_default=True,
    help="CryoLike's files, or Zarr.",
)
@click.option("--zarr-store", default="", metavar="PLACE", help="Path or URL (s3://...) of the new Zarr store, if not in OUT.")
@click.option("--no-phys", is_flag=True, help="Write no real-space images.")
@click.option("--skip-exist", is_flag=True, help="Go on with an interrupted run: keep its complete stacks.")
@click.option("--overwrite", is_flag=True, help="Replace what the folder holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@quiet_option
@debug_option
def restack(source: str, out: str, no_phys: bool, as_json: bool, quiet: bool, **options: Any) -> None:
    """Write a conversion's images as stacks of another size or form. Nothing is computed again.

    IN is the output folder of a conversion, or the path or URL of its Zarr store.

    \b
    Examples:
      cryolike-dask restack stacks smaller --batch-size 256
      cryolike-dask restack stacks store --format zarr
      cryolike-dask restack s3://bucket/particles.zarr stacks
    """
    from cryolike_dask.execution.restacking import restack as run
    from cryolike_dask.progress_bars import progress_for_terminal

    report = run(source, out, save_phys=False if no_phys else None, progress=progress_for_terminal(quiet), **options)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    elif not quiet:
        click.echo(f"{report}.")
