"""The options that the conversion commands share. They become keywords of the Python functions, and a Dask client.

The dataclass that describes an option gives its name in Python, type, default, choices and meaning. Only the spelling on the command line
is defined here.
"""

from __future__ import annotations

import collections.abc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from cryolike_dask.cli.config_file import configurable
from cryolike_dask.cli.help import FILE, FOLDER, JobNumber
from cryolike_dask.cli.main import debug_option, echo, quiet_option
from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.reading import read_input
from cryolike_dask.formatting import plural
from cryolike_dask.options import meanings
from cryolike_dask.settings import CHOICE, ConversionSettings, Device

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

_MOST_SCHEDULER_BYTES = 1 << 20

_SPELT = {
    "output_format": "--format",
    "folder_mrc": "--mrc-folder",
    "folder_cryosparc": "--mrc-folder",
    "folder_micrographs": "--micrograph-folder",
    "star_file_list": "--star",
    "particle_file_list": "--mrc",
    "never_combine_input_files": "--never-combine-input-files/--combine-input-files",
}
"""Spelling of options whose name differs from that in Python."""

_SWITCHED_OFF = {
    "flag_plots": ("--no-plots", "Draw no pictures."),
    "save_phys": ("--no-phys", "Write no real-space images."),
    "defocus_angle_is_degree": ("--defocus-angle-in-radians", "The tables give the defocus angle in radians."),
    "phase_shift_is_degree": ("--phase-shift-in-radians", "The tables give the phase shift in radians."),
    "use_refined": ("--unrefined", "Ignore refined positions, angles, defocus and pixel sizes."),
}
"""For settings that are True by default, the option that switches them off, and its help."""

_METAVARS = {
    "folder_mrc": "DIR",
    "folder_cryosparc": "DIR",
    "folder_micrographs": "DIR",
    "star_file_list": "FILE.star",
    "particle_file_list": "FILE.mrcs",
    "zarr_store": "PLACE",
    "where": "CONDITION",
    "ind": "FILE",
}


def described_option(described: type, name: str) -> Decorator:
    """The option of the command line for a field of a dataclass that describes options.

    Args:
        described: the dataclass; the Args of its docstring give the help.
        name: of the field.
    """
    kind, default = get_type_hints(described)[name], _default(described, name)
    help_text, spelt = _help(meanings(described).get(name, "")), _spelt(name)
    if name in _SWITCHED_OFF:
        spelt, help_text = _SWITCHED_OFF[name]
        return click.option(spelt, name, is_flag=True, flag_value=False, default=True, help=help_text)
    if kind is bool:
        return click.option(spelt, name, is_flag=True, help=help_text)
    if kind == bool | None:
        return click.option(spelt, name, default=None, help=help_text)
    several = collections.abc.Sequence in (kind, get_origin(kind))
    return click.option(
        spelt,
        name,
        type=_type(name, kind),
        required=default is MISSING,
        default=None if several or default is MISSING else default,
        show_default=default not in (MISSING, None, ""),
        multiple=several,
        metavar=_METAVARS.get(name),
        help=help_text,
    )


def input_arguments(described: type, **positional: str) -> Callable[[Command], Command]:
    """The arguments of one kind of input.

    Args:
        described: the dataclass that describes the input.
        positional: the fields that are positional arguments, and their names in the help, in brackets if they can be left out.
    """
    kinds = get_type_hints(described)
    arguments = [
        click.argument(
            name, metavar=shown, type=_type(name, kinds[name]), nargs=-1 if shown.endswith("...") else 1, required=shown[0] != "["
        )
        for name, shown in positional.items()
    ]
    named = [described_option(described, field.name) for field in fields(described) if field.name not in positional]
    return lambda command: _decorated(command, [*arguments, *named])


def _type(name: str, kind: Any) -> Any:
    """The type of click for an option of this name and type. Paths stay text."""
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if name.startswith("folder_"):
        return FOLDER
    if name == "job_number":
        return JobNumber()
    if _METAVARS.get(name, "").startswith("FILE") or Path in _parts(kind) or name == "zarr_store":
        return FILE
    return next((number for number in (int, float) if kind in (number, number | None)), str)


def _parts(kind: Any) -> set[Any]:
    """A type and all types in it."""
    return {kind}.union(*map(_parts, get_args(kind)))


def _default(described: type, name: str) -> Any:
    return next(field.default for field in fields(described) if field.name == name)


def _spelt(name: str) -> str:
    return _SPELT.get(name, f"--{name.replace('_', '-')}")


def _help(meaning: str) -> str:
    """The help of an option: the first sentence of its meaning, and sentences that begin with 'By default'."""
    first, *others = re.sub(r"`(\w+)`", lambda named: _spelt(named[1]), meaning).rstrip(".").split(". ")
    return ". ".join([f"{first[:1].upper()}{first[1:]}", *(other for other in others if other.startswith("By default"))]) + "."


def _decorated(command: Command, decorators: list[Decorator]) -> Command:
    """The command with these decorators. In the help, options have the order of the decorators."""
    return reduce(lambda decorated, decorator: decorator(decorated), reversed(decorators), command)


params_option = click.option(
    "--params",
    "params_input",
    type=FILE,
    metavar="P.npz",
    help="Image parameters, from `cryolike-dask params`. By default, box and pixel size of the table, or else of the image headers.",
)
"""The option for the description of the images. Without it, the table describes them."""

_CONVERSION = (
    params_option,
    click.option("--out", "folder_output", required=True, type=FOLDER, metavar="DIR", help="Output folder for the stacks."),
    *(described_option(ConversionSettings, field.name) for field in fields(ConversionSettings)),
)

_RUNNING = (
    click.option("--workers", type=click.IntRange(min=1), help="Start a local Dask cluster of this many processes."),
    click.option("--scheduler", metavar="ADDRESS", help="Use a running Dask cluster, such as tcp://10.0.0.1:8786."),
    click.option("--scheduler-file", type=FILE, metavar="FILE", help="Use the running cluster whose scheduler wrote this file."),
    click.option("--performance-report", type=FILE, metavar="FILE.html", help="Write Dask's performance report of the run."),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Check tables and headers, print the plan with an estimate of the time, and convert nothing.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    quiet_option,
    debug_option,
)


def conversion_options(command: Command) -> Command:
    """Adds the options of all conversions. In the help they come after the command's own options."""
    return _decorated(configurable(command), [*_CONVERSION, *_RUNNING])


def choice_options(command: Command) -> Command:
    """Adds the options that choose particles. They are also among `conversion_options`."""
    return _decorated(command, [described_option(ConversionSettings, name) for name in CHOICE])


def image_options(command: Command) -> Command:
    """Adds the options for looking at particles: which particles, and how their images are read."""
    names = ("pixel_size", "ignore_manual_pixel_size", "override_pixel_size", "contrast", "apply_origins", "on_missing")
    return choice_options(_decorated(command, [described_option(ConversionSettings, name) for name in names]))


@contextmanager
def dask_client(
    workers: int | None, scheduler: str | None, scheduler_file: str | None, device: Device = "auto", quiet: bool = False
) -> Iterator[Any]:
    """The `client` argument of a conversion for these options. A local cluster that was started here is closed here.

    Args:
        workers: number of processes of a local cluster to start.
        scheduler, scheduler_file: of a running cluster.
        device: of the local cluster's workers.
        quiet: print nothing about the local cluster.

    Raises:
        InputError: more than one of them is given, or the scheduler file is not the file of a scheduler.
    """
    if sum(option is not None for option in (workers, scheduler, scheduler_file)) > 1:
        raise InputError("--workers, --scheduler and --scheduler-file exclude each other: give one of them.")
    if workers is not None:
        from cryolike_dask.execution.cluster import local_cluster

        if not quiet:
            echo(f"Starting {plural(workers, 'worker')} ...", err=True)
        with local_cluster(device, workers) as cluster:
            if not quiet and find_spec("bokeh") is not None:
                echo(f"Dask's dashboard shows what they do: {cluster.dashboard_link}", err=True)
            yield cluster
            if not quiet:
                echo("Closing the workers ...", err=True)
    elif scheduler_file is not None:
        yield _address_in(Path(scheduler_file).expanduser())
    else:
        yield scheduler


def _address_in(path: Path) -> str:
    # Dask writes this file, so no advice may name a file of the user as the one for a new scheduler.
    advice = "Check the path: give the FILE of `dask scheduler --scheduler-file FILE`."
    try:
        content = json.loads(read_input(path, "the file of a scheduler", _MOST_SCHEDULER_BYTES))
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. {advice}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {advice}") from error
    except ValueError as error:
        reason = str(error) if isinstance(error, InputError) else "it is not JSON"
        raise InputError(f"{path} is not the file of a Dask scheduler ({reason.rstrip('.')}). {advice}") from error
    if not isinstance(content, dict) or not isinstance(content.get("address"), str):
        raise InputError(f"{path} is not the file of a Dask scheduler (it has no address). {advice}")
    return str(content["address"])
