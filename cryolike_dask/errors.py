"""The errors that a user can cause.

Each message is one plain paragraph that says what is wrong, where (file and row), and what to do. It is shown without a traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryolike_dask.formatting import printable


class CryolikeError(Exception):
    """Base of all errors that cryolike_dask raises itself. The message is for the user, and safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(CryolikeError, ValueError):
    """A table, an image file, a parameter file or an argument is wrong. It is raised before any output is written, if possible."""


class MissingFileError(
    FileNotFoundError, InputError
):  # in this order, because an error from a worker is made with OSError's __new__
    """An input file does not exist. It is an InputError and a FileNotFoundError.

    Args:
        message: for the user; if many files are missing, it names a few.
        missing: all missing files, if several were looked for.
    """

    def __init__(self, message: str, missing: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)

    def __str__(self) -> str:  # because OSError defines one, too
        return printable(super().__str__())


class FileTypeError(InputError, NotImplementedError):
    """There is no such type of input file. It is an InputError and a NotImplementedError."""


class PositionError(InputError, IndexError):
    """There is no particle at this position of a table. It is an InputError and an IndexError, which ends Python's loops over a table."""


class OutputError(CryolikeError, OSError):
    """The output folder cannot be used: it already holds stacks, belongs to another run, is full, or is not writable."""

    def __init__(self, message: str) -> None:
        # OSError interprets several arguments. With only one, `str(error)` is the message, even after pickling.
        super().__init__(message)


class OutputExistsError(OutputError, FileExistsError, ValueError):
    """The output already exists. It is also a FileExistsError and a ValueError, which users of CryoLike catch."""


class ConversionError(CryolikeError, RuntimeError):
    """The conversion started but could not finish. Complete stacks are kept, and `skip_exist=True` continues from there."""


class RunStoppedError(ConversionError):
    """The run was stopped from outside."""


def not_particles_error(given: object) -> InputError:
    """The error to raise if `particles` is not a ParticleTable: it says how to read one.

    Args:
        given: as `particles`.
    """
    if not isinstance(given, str | Path):
        return InputError(
            f"particles is of the type {type(given).__name__}: give a ParticleTable, as particles_from_star(...) returns."
        )
    readers = {".star": "star", ".cs": "cryosparc", ".csv": "leopard_em"}
    reader = readers.get(Path(given).suffix.lower(), "star")
    return InputError(
        f"particles is a path, {str(given)!r}: read the table first, and give what "
        f"particles_from_{reader}({str(given)!r}{', box_size=...' if reader == 'leopard_em' else ''}) returns."
    )


def lost_file_error(path: object) -> InputError:
    """The error to raise if a file of a complete stack does not exist."""
    return InputError(
        f"{path} does not exist, although its stack should be complete. Convert again with skip_exist=True (--skip-exist), which makes "
        "this stack again."
    )


def check_names_known(function: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse keyword arguments that a function does not have, as Python does, and suggest the name that was probably meant.

    Raises:
        TypeError: there is such an argument.
    """
    for name in given:
        if name not in known:
            from difflib import get_close_matches  # only an error needs it

            close = get_close_matches(name, known, n=2)
            advice = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Choose from {', '.join(known)}."
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}. {advice}")


def output_error(error: OSError, folder: Path) -> OutputError:
    """The error to raise if the system refuses an operation in the output folder."""
    what = f"Writing to {folder} failed: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"{what}. Free some space, then run again with skip_exist=True (--skip-exist) to continue.")
    return OutputError(f"{what}. Correct this, then run again with skip_exist=True (--skip-exist) to continue.")
