"""Options that the conversion commands share, and what they become: keywords of the Python functions, and a Dask client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from cryolike_dask.cli.main import debug_option, quiet_option
from cryolike_dask.errors import InputError
from cryolike_dask.settings import Device, DownsampleType, MixedOptics, OnBadImage, OnMissing, Order, OutputFormat

Command = TypeVar("Command", bound=Callable[..., Any])


def _choice(values: Any) -> click.Choice[str]:
    return click.Choice(get_args(values))


_CONVERSION = (
    click.option("--params", "params_input", required=True, metavar="P.npz", help="Image parameters: see `cryolike-dask params`."),
    click.option("--out", "folder_output", required=True, metavar="DIR", help="Where the stacks go."),
    click.option("--batch-size", type=int, default=1024, show_default=True, help="Images in a stack."),
    click.option("--n-stacks-max", type=int, default=-1, show_default=True, help="Stop after this many stacks; -1 for all."),
    click.option("--pixel-size", type=float, help="Å, of the source images. By default what the table says."),
    click.option(
        "--ignore-manual-pixel-size", is_flag=True, help="Let the table win where --pixel-size disagrees with it, without an error."
    ),
    click.option("--downsample-factor", type=int, default=1, show_default=True, help="Edge of the blocks that become one pixel."),
    click.option("--downsample-type", type=_choice(DownsampleType), default="mean", show_default=True, help="What of a block."),
    click.option("--no-plots", "flag_plots", is_flag=True, flag_value=False, default=True, help="Draw no pictures."),
    click.option("--no-phys", "save_phys", is_flag=True, flag_value=False, default=True, help="Write no real-space images."),
    click.option(
        "--format", "output_format", type=_choice(OutputFormat), default="pt", show_default=True, help="CryoLike's files, or Zarr."
    ),
    click.option("--zarr-store", default="", metavar="PLACE", help="Path or URL (s3://...) of the Zarr store, if not in --out."),
    click.option(
        "--order", type=_choice(Order), default="metadata", show_default=True, help="Row order of the table, or file by file."
    ),
    click.option("--skip-exist", is_flag=True, help="Go on with an interrupted run: keep its complete stacks."),
    click.option("--overwrite", is_flag=True, help="Replace what the folder holds."),
    click.option("--device", type=_choice(Device), default="auto", show_default=True, help="auto: CUDA where there is one."),
    click.option(
        "--on-missing", type=_choice(OnMissing), default="raise", show_default=True, help="For image files that are missing."
    ),
    click.option(
        "--on-bad-image", type=_choice(OnBadImage), default="raise", show_default=True, help="For constant or non-finite images."
    ),
    click.option(
        "--mixed-optics",
        type=_choice(MixedOptics),
        default="raise",
        show_default=True,
        help="Where voltage, Cs or contrast differ.",
    ),
    click.option("--hash-inputs", is_flag=True, help="Also record the SHA-256 of each image file: see the reliability guide."),
)

_RUNNING = (
    click.option("--workers", type=click.IntRange(min=1), help="Start a local Dask cluster of this many processes."),
    click.option("--scheduler", metavar="ADDRESS", help="Use a running Dask cluster, such as tcp://10.0.0.1:8786."),
    click.option("--scheduler-file", metavar="FILE", help="The same, by the file that the scheduler wrote."),
    click.option("--performance-report", metavar="FILE.html", help="Write Dask's page about what the cluster did."),
    click.option("--dry-run", is_flag=True, help="Check all tables and headers, print the plan, write nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    quiet_option,
    debug_option,
)


def conversion_options(command: Command) -> Command:
    """Adds the options of all conversions; in the help they come after the command's own."""
    return reduce(lambda decorated, option: option(decorated), reversed((*_CONVERSION, *_RUNNING)), command)


@contextmanager
def dask_client(workers: int | None, scheduler: str | None, scheduler_file: str | None, device: Device = "auto") -> Iterator[Any]:
    """What the options ask for, as the `client` argument of a conversion. What was started here is stopped here.

    Args:
        workers: processes of a local cluster to start.
        scheduler, scheduler_file: of a running cluster.
        device: of the local cluster's workers.

    Raises:
        InputError: more than one of them is given, or the scheduler file is no such file.
    """
    if sum(option is not None for option in (workers, scheduler, scheduler_file)) > 1:
        raise InputError("--workers, --scheduler and --scheduler-file exclude each other: give one of them.")
    if workers is not None:
        from cryolike_dask.execution.cluster import local_cluster

        with local_cluster(device, workers) as cluster:
            yield cluster
    elif scheduler_file is not None:
        yield _address_in(Path(scheduler_file).expanduser())
    else:
        yield scheduler


def _address_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not the file of a Dask scheduler ({error}). Start one with `dask scheduler --scheduler-file {path}`."
        ) from error
