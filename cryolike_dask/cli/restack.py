"""`cryolike-dask restack`: writes the images of a conversion as stacks of another size or format."""

from __future__ import annotations

import json
from typing import Any

import click

from cryolike_dask.cli.help import FILE, FOLDER, GroupedCommand
from cryolike_dask.cli.main import debug_option, echo, quiet_option
from cryolike_dask.cli.options import described_option
from cryolike_dask.settings import ConversionSettings


@click.command(cls=GroupedCommand)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("out", metavar="OUT", type=FOLDER)
@click.option("--batch-size", type=click.IntRange(min=1), help="Number of images per stack. By default the same as before.")
@described_option(ConversionSettings, "output_format")
@described_option(ConversionSettings, "zarr_store")
@described_option(ConversionSettings, "save_phys")
@described_option(ConversionSettings, "skip_exist")
@described_option(ConversionSettings, "overwrite")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@quiet_option
@debug_option
def restack(source: str, out: str, save_phys: bool, as_json: bool, quiet: bool, **options: Any) -> None:
    """Write the images of a conversion as stacks of another size or format, without computing them again.

    IN is the output folder of a conversion, or the path or URL of its Zarr store.

    \b
    Examples:
      cryolike-dask restack stacks smaller --batch-size 256
      cryolike-dask restack stacks store --format zarr
      cryolike-dask restack s3://bucket/particles.zarr stacks
    """
    from cryolike_dask.execution.restacking import restack as run

    report = run(source, out, save_phys=None if save_phys else False, progress=not quiet, **options)
    if as_json:
        echo(json.dumps(report.to_dict(), indent=1))
    elif not quiet:
        echo(f"{report}.")
