"""Simulates what a power cut may leave on a disk, with the weakest rules of file systems.

The actions of a process below a folder are recorded. A power cut after any of them leaves

- in a file, its content at the last sync, or nothing if it was never synced;
- in a directory, the names at its last sync, with any subset of the changes made since. A later change may survive without an earlier
  one, and changes in one directory without those in another. The same holds for the names of new directories; if one is lost, so is
  everything in it.

File systems with a journal lose less.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.chaos import real_path


@dataclass(frozen=True)
class Synced:
    """A file was synced with this content."""

    file: int
    content: bytes


@dataclass(frozen=True)
class DirectorySynced:
    """A directory was synced."""

    directory: str


@dataclass(frozen=True)
class Named:
    """A file got another name, or lost its name if `name` is None."""

    file: int
    name: str | None
    directory: str


@dataclass(frozen=True)
class Made:
    """A directory was created in another one."""

    name: str
    directory: str


Step = Synced | DirectorySynced | Named | Made


@dataclass
class Recording:
    """A record of the actions below a folder.

    Args:
        folder: the folder.
    """

    folder: Path
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._file_of_inode: dict[int, int] = {}
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        self.directories = {str(path) for path in (self.folder, *self.folder.rglob("*")) if path.is_dir()}
        self.names = {str(path): self._file(path) for path in paths}
        self.contents = {self._file(path): path.read_bytes() for path in paths}

    def _file(self, path: str | Path) -> int:
        """A number for the file, which is never reused, unlike that of an inode."""
        inode = os.stat(path).st_ino
        if inode not in self._file_of_inode:
            self._file_of_inode[inode] = next(self._numbers)
        return self._file_of_inode[inode]

    def _forget(self, path: str | Path) -> None:
        if os.path.lexists(path):
            self._file_of_inode.pop(os.stat(path).st_ino, None)

    def _counts(self, path: str | Path) -> bool:
        return str(path).startswith(f"{self.folder}{os.sep}") or str(path) == str(self.folder)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what this process does in this context."""
        fsync, replace, unlink, mkdir = os.fsync, os.replace, os.unlink, os.mkdir

        def recorded_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if not self._counts(path):
                return
            if os.path.isdir(path):
                self.steps.append(DirectorySynced(path))
            else:
                self.steps.append(Synced(self._file(path), Path(path).read_bytes()))

        def recorded_replace(old: Any, new: Any, **options: Any) -> None:
            old, new = real_path(old), real_path(new)
            counts = self._counts(new)
            file = self._file(old) if counts else -1
            if counts:
                self._forget(new)
            replace(old, new, **options)
            if counts:
                self.steps.append(Named(file, str(new), str(Path(new).parent)))

        def recorded_unlink(path: Any, **options: Any) -> None:
            path = path if "dir_fd" in options else real_path(path)
            counts = "dir_fd" not in options and self._counts(path) and os.path.lexists(path)
            file = self._file(path) if counts else -1
            if counts:
                self._forget(path)
            unlink(path, **options)
            if counts:
                self.steps.append(Named(file, None, str(Path(path).parent)))

        def recorded_mkdir(path: Any, *mode: int, **options: Any) -> None:
            path = path if "dir_fd" in options else real_path(path)
            mkdir(path, *mode, **options)
            if self._counts(path):
                self.steps.append(Made(str(path), str(Path(path).parent)))

        functions: dict[str, Callable[..., None]] = {
            "mkdir": recorded_mkdir,
            "fsync": recorded_fsync,
            "replace": recorded_replace,
            "rename": recorded_replace,
            "unlink": recorded_unlink,
            "remove": recorded_unlink,
        }
        with mock.patch.multiple(os, **functions):
            yield

    def after(self, n_steps: int, survives: Callable[[], bool]) -> dict[str, bytes]:
        """Relative path and content of each file after a power cut.

        Args:
            n_steps: number of actions before the power cut.
            survives: says, for each change of a name that was not synced, whether it survives.
        """
        names, contents, directories = dict(self.names), dict(self.contents), set(self.directories)
        pending: defaultdict[str, list[Named | Made]] = defaultdict(list)

        def apply(change: Named | Made) -> None:
            if isinstance(change, Made):
                directories.add(change.name)
                return
            for name in [name for name, file in names.items() if file == change.file]:
                del names[name]
            if change.name is not None:
                names[change.name] = change.file

        for step in self.steps[:n_steps]:
            if isinstance(step, Synced):
                contents[step.file] = step.content
            elif isinstance(step, Named | Made):
                pending[step.directory].append(step)
            else:
                for change in pending.pop(step.directory, []):
                    apply(change)
        for changes in pending.values():
            for change in changes:
                if survives():
                    apply(change)

        def is_there(name: str) -> bool:
            above = Path(name).relative_to(self.folder).parents
            return all(str(self.folder / directory) in directories for directory in above)

        return {os.path.relpath(name, self.folder): contents.get(file, b"") for name, file in names.items() if is_there(name)}


def restore(state: dict[str, bytes], folder: Path) -> None:
    """Restore a folder to the state after a power cut."""
    for subfolder in ("fft", "phys"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    for name, content in state.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
