"""Lets tasks check, on any machine, whether their run is still in progress in an output folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryolike_dask.errors import RunStoppedError
from cryolike_dask.runs.lock import exclusive_access

HIDDEN_FOLDER = ".conversion"


def is_active(folder: Path, run_id: str) -> bool:
    """Whether this run still owns the folder."""
    path = folder / HIDDEN_FOLDER / run_id
    if path.exists():
        return True
    # A network file system may have cached that the name did not exist; listing the folder refreshes this.
    with suppress(OSError):
        os.listdir(folder)
        os.listdir(path.parent)
    return path.exists()


@contextmanager
def publishing(folder: Path, run_id: str) -> Iterator[None]:
    """A context in which a task of this run makes stacks visible, while no other run can begin to change the folder.

    Raises:
        RunStoppedError: the run has ended.
    """
    try:
        with exclusive_access(folder / HIDDEN_FOLDER):
            if not is_active(folder, run_id):
                raise RunStoppedError(f"The run in {folder} has ended.")
            yield
    except FileNotFoundError:
        if not is_active(folder, run_id):
            raise RunStoppedError(f"The run in {folder} has ended.") from None
        raise
