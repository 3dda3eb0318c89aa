"""The output folder of a run: which run may write there, what it already holds, and the hidden folder with the run's plan.

`OUT/.conversion` exists during a run. Tasks regularly check that it contains a file named after the run's ID, and stop when it is gone, so
that a lost worker cannot write to the output of a later run.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryolike_dask.errors import OutputError
from cryolike_dask.filesystem.pinned import create_file, pinned
from cryolike_dask.planning.plan import Plan
from cryolike_dask.runs.active import HIDDEN_FOLDER
from cryolike_dask.runs.lock import (
    HEARTBEAT_SECONDS,
    acquire_lock,
    check_lock,
    end_run,
    exclusive_changes,
    heartbeat,
)
from cryolike_dask.runs.store_lock import acquire_store_lock, check_store_lock, release_store_lock, touch_store_lock
from cryolike_dask.settings import ZARR_NAME
from cryolike_dask.stacks.durable import check_directory, make_directory, make_directory_below, sync_directory
from cryolike_dask.stacks.files import (
    LEFTOVER,
    MANIFEST,
    PARAMS_FILE,
    STAGED,
    STAR_FILE,
    StackPaths,
    mark_staged_as_leftover,
    new_id,
    published_counters,
)
from cryolike_dask.stacks.writer import remove_unpublished
from cryolike_dask.stacks.zarr_store import remove_store

_SUBFOLDERS = ("fft", "phys", "plots")
_SINGLE_FILES = (MANIFEST, PARAMS_FILE, STAR_FILE, "report.html")


@dataclass
class RunFolder:
    """The output folder while one run owns it.

    Args:
        folder: absolute path.
        run_id: of this run.
        store: path or URL of a Zarr store outside the folder that this run also owns; '' for none.
        made: directories that were made for this run, each before its parent. Those that are empty at its end are removed.
    """

    folder: Path
    run_id: str
    store: str = ""
    made: Sequence[Path] = ()

    def __post_init__(self) -> None:
        self._checked = time.monotonic()

    @property
    def hidden(self) -> Path:
        return self.folder / HIDDEN_FOLDER

    @property
    def lock(self) -> Path:
        return self.hidden / "lock"

    def heartbeat(self) -> AbstractContextManager[None]:
        """A context in which other hosts see that this run is alive."""
        return heartbeat(self.lock, self.run_id, self._touch_store)

    def _touch_store(self) -> None:
        if self.store:
            touch_store_lock(self.store, self.run_id)

    def acquire_store(self, location: str, tied_to_process: bool) -> None:
        """Take over a Zarr store outside the folder as well.

        Raises:
            OutputError: a run of another folder owns it.
        """
        acquire_store_lock(location, self.folder, self.run_id, tied_to_process)
        self.store = location

    @contextmanager
    def exclusive_changes(self) -> Iterator[None]:
        """A context for changes to visible files, in which the folder is this run's and no other run can take it over.

        Raises:
            OutputError: the folder is no longer this run's.
        """
        with exclusive_changes(self.lock, self.run_id):
            if self.store:
                check_store_lock(self.store, self.run_id)
            yield

    def scratch(self, name: str) -> Path:
        """A temporary file of this run only, so that an earlier run that wakes up late cannot write to it."""
        return self.hidden / f"{self.run_id}-{name}"

    def check_lock(self, now: bool = False) -> None:
        """Check that the folder is still this run's.

        Args:
            now: check with this call; otherwise only if the last check was some seconds ago.

        Raises:
            OutputError: it is not.
        """
        if now or time.monotonic() - self._checked > HEARTBEAT_SECONDS:
            self._checked = time.monotonic()
            check_lock(self.lock, self.run_id)

    def stop(self) -> None:
        """Let running tasks notice that the run has ended. They stop within a few images."""
        (self.hidden / self.run_id).unlink(missing_ok=True)

    def release(self) -> None:
        """Release the folder."""
        end_run(self.run_id)
        with suppress(OSError):
            self.stop()
        with suppress(OSError):
            if self.store:
                release_store_lock(self.store, self.run_id)
        with suppress(OSError), exclusive_changes(self.lock, self.run_id), pinned(self.hidden, self.folder) as hidden:
            _remove_contents(hidden, keep="lock")
            # The lock is removed last: until then no other run writes here.
            (hidden / self.lock.name).unlink()
            self.hidden.rmdir()
            for folder in self.made:  # the first that is not empty ends it
                folder.rmdir()


def check_folder(folder: Path) -> None:
    """Check that an output folder can be made or written to. Nothing is written.

    Raises:
        OutputError: it cannot, or a link is in it.
    """
    try:
        check_directory(folder)
        # Every change refuses links. This check does so before any work.
        for path in (*(folder / name for name in (*_SUBFOLDERS, ZARR_NAME)), *filter(Path.is_dir, (folder / ZARR_NAME).glob("*"))):
            with suppress(FileNotFoundError), pinned(path, folder):
                pass
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _not_writable(folder, error) from error


def acquire_folder(folder: Path, graph: str = "") -> RunFolder:
    """Make the folder and take it over.

    Args:
        folder: absolute path.
        graph: ID of the run of a Dask graph, which is not tied to this process; '' for a run of this process.

    Raises:
        OutputError: another run owns it, or it cannot be written.
    """
    check_folder(folder)
    run = RunFolder(folder, graph or new_id())
    try:
        run.made = make_directory(folder)
        make_directory_below(run.hidden, folder)
        acquire_lock(run.lock, run.run_id, tied_to_process=not graph)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _not_writable(folder, error) from error
    try:
        # Everything else is removed, including the IDs of dead runs, so that their remaining tasks stop.
        with pinned(run.hidden, folder) as hidden:
            _remove_contents(hidden, keep="lock")
            os.close(create_file(hidden / run.run_id))
    except OSError as error:
        run.release()
        raise _not_writable(folder, error) from error
    return run


def _not_writable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The output folder {folder} cannot be written: {error.strerror or error}. Make it writable, or choose another folder."
    )


def _remove_contents(folder: Path, keep: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == keep:
                continue
            # A run that was taken for dead may remove its own files at the same time.
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)


def prepare_folder(run: RunFolder, plan: Plan) -> None:
    """Prepare the folder for this plan: keep or replace what is there, as the settings say. `check_output` comes first."""
    folder, settings = run.folder, plan.settings
    if settings.overwrite:
        remove_output(folder)
    for other in folder.glob(graph_folder(folder, "*").name):
        if other != graph_folder(folder, run.run_id):
            shutil.rmtree(other)
    wanted = {"fft": True, "phys": settings.save_phys and settings.output_format == "pt", "plots": settings.flag_plots}
    for name in (name for name, is_wanted in wanted.items() if is_wanted):
        make_directory_below(folder / name, folder)
    # Partial files of a run that was killed are removed. Its staged files are complete, and are kept if this is the same run.
    remove_unpublished(folder, keep=lambda path: settings.skip_exist and path.name.endswith(STAGED))
    mark_staged_as_leftover(folder, settings)
    remove_unpublished(folder, keep=lambda path: path.name.endswith(f".{LEFTOVER}{STAGED}"))


def graph_folder(folder: Path, run_id: str) -> Path:
    """The folder of a Dask graph's plan until the graph is computed."""
    return folder / f".graph-{run_id}"


def has_output(folder: Path) -> bool:
    """Whether the folder holds a conversion, complete or not."""
    patterns = ("fft/particles_fourier_stack_*", "phys/particles_phys_stack_*", "plots/*_stack_*.png", MANIFEST)
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)


def remove_output(folder: Path) -> None:
    """Remove the stacks of earlier runs, from the last to the first, and the metadata of each before its data, so that visible stacks stay
    complete."""
    (folder / MANIFEST).unlink(missing_ok=True)
    with suppress(FileNotFoundError), pinned(folder / "fft", folder) as fft:
        counters = published_counters(folder)
        for counter in reversed(counters):
            (fft / StackPaths(folder, counter).metadata.name).unlink(missing_ok=True)
        if counters:
            # The removal of metadata must be durable before any data are removed: metadata guarantee that their data exist.
            sync_directory(fft)
    for name, pattern in (
        ("fft", "particles_fourier_stack_*.pt"),
        ("phys", "particles_phys_stack_*.pt"),
        ("plots", "*_stack_*.png"),
    ):
        with suppress(FileNotFoundError), pinned(folder / name, folder) as place:
            for path in place.glob(pattern):
                path.unlink(missing_ok=True)
    remove_store(str(folder / ZARR_NAME))
    for name in _SINGLE_FILES:
        (folder / name).unlink(missing_ok=True)
    remove_unpublished(folder)
