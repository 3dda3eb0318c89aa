"""A table of any kind as one argument. Its kind is recognised by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cryolike_dask.cli.help import FILE
from cryolike_dask.cli.options import described_option
from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.particles.inputs import (
    CryosparcInput,
    LeopardEMInput,
    PairedInput,
    ParticleInput,
    StarInput,
    job_of,
)

Command = TypeVar("Command", bound=Callable[..., Any])


def table_options(command: Command) -> Command:
    """Adds the options about a table: where its images are, and how large boxes are."""
    for option in (
        click.option("--box-size", type=int, help="Edge of the boxes in pixels, for a Leopard-EM table."),
        click.option(
            "--mrc", "particle_file", type=FILE, metavar="FILE.mrcs", help="The images of a STAR file that does not name them."
        ),
        described_option(StarInput, "folder_mrc"),
    ):
        command = option(command)
    return command


def input_of_table(
    table: str, folder: str, particle_file: str | None, box_size: int | None, invert: bool = False, also: str = ""
) -> ParticleInput:
    """The description of the input for a table, whose kind is recognised by its name.

    Args:
        table: a STAR file, cryoSPARC table or job directory, or Leopard-EM table.
        folder: of the images.
        particle_file: the images of a STAR file that does not name them.
        box_size: of the boxes of a Leopard-EM table.
        invert: invert the contrast of these boxes.
        also: other inputs that the command takes, for the message.

    Raises:
        InputError: the table is not of a known kind, or an argument is for another kind.
    """
    path = Path(table).expanduser()
    if not path.exists():
        raise MissingFileError(f"{table} does not exist. Check the path.")
    job = job_of(path)
    kind = "job" if path.is_dir() and job else path.suffix.lower()
    if particle_file is not None and kind != ".star":
        raise InputError(f"--mrc gives the images of a STAR file, but {table} is not one.")
    if (box_size is not None or invert) and kind != ".csv":
        raise InputError(f"--box-size and --invert are for boxes of a Leopard-EM .csv file, but {table} is not one.")
    if particle_file is not None:
        return PairedInput([particle_file], [table])
    if kind == ".star":
        return StarInput(table, folder)
    if kind == ".cs":
        return CryosparcInput(table, folder)
    if job and kind == "job":
        return job
    if kind == ".csv":
        if box_size is None:
            raise InputError(
                f"{table} is a Leopard-EM table, for which boxes are cut from micrographs: give their size with --box-size."
            )
        return LeopardEMInput([table], box_size, invert=invert, folder_micrographs=folder)
    raise InputError(
        f"{table} is a {'folder' if path.is_dir() else 'file'} of an unknown kind. Give a STAR file (.star), a cryoSPARC table (.cs) or "
        f"job directory (such as P3/J42), or a Leopard-EM table (.csv){also}."
    )
