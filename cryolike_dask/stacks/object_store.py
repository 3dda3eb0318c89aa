"""Named objects in a folder, or behind a URL that fsspec knows (`s3://bucket/particles.zarr`).

An object appears complete or not at all. fsspec and the service read access keys and endpoints from their own environment variables and
configuration files; this package never records them.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.pinned import pinned, pinned_place, temporary_folder
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.settings import is_url
from cryolike_dask.stacks.durable import make_directory, make_directory_below, replace_durably, write_atomic


class ObjectStore(Protocol):
    """A place for objects."""

    def write(self, name: str, content: bytes) -> None:
        """Create or replace an object."""

    def read(self, name: str, first: int = 0, size: int | None = None) -> bytes:
        """Bytes of an object.

        Raises:
            FileNotFoundError: there is none.
        """

    def changed_ns(self, name: str) -> int:
        """When an object was last changed, by the clock of the folder's files; 0 behind a URL, where objects appear complete and never
        change.

        Raises:
            FileNotFoundError: there is none.
        """

    def temporary_file(self, name: str) -> Any:
        """A context manager with a local file to fill. `put_file` makes it the object; without this call, the file is removed."""

    def put_file(self, file: Path, name: str) -> None:
        """Make a file of `temporary_file` the object of this name."""

    def move(self, old: str, new: str) -> None:
        """Give an object another name, replacing an existing object. If only the new name exists, the object was moved before.

        Raises:
            FileNotFoundError: neither name exists.
        """

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""

    def remove_all(self, prefix: str) -> None:
        """Remove all objects whose names begin with PREFIX/."""

    def remove_partial(self) -> None:
        """Remove unfinished objects of killed processes, if objects are not written atomically."""

    def is_empty(self) -> bool:
        """Whether there is no object."""

    def clear(self, last: str) -> None:
        """Remove all objects, the one of this name last, so that it still identifies the store if this process is killed meanwhile."""


def open_object_store(location: str) -> ObjectStore:
    """The objects at a path or URL.

    Raises:
        InputError: no package for such a URL is installed.
    """
    return _RemoteStore(location) if is_url(location) else _LocalStore(Path(location))


_PARTIAL = re.compile(r"\..+\.[0-9a-f]{12}\.partial")
"""Names of files while this package writes them."""


class _LocalStore:
    """Objects in a folder. Neither the folder nor anything below it may be a link."""

    def __init__(self, root: Path) -> None:
        self.root, self.above = root, root.parent

    def write(self, name: str, content: bytes) -> None:
        make_directory(self.above)
        make_directory_below((self.root / name).parent, self.above)
        write_atomic(self.root / name, content, self.above)

    def read(self, name: str, first: int = 0, size: int | None = None) -> bytes:
        with open_input(self.root / name, "a part of a Zarr store") as file:
            file.seek(first)
            return file.read(-1 if size is None else size)

    def changed_ns(self, name: str) -> int:
        return (self.root / name).stat().st_mtime_ns

    @contextmanager
    def temporary_file(self, name: str) -> Iterator[Path]:
        final = self.root / name
        make_directory(self.above)
        make_directory_below(final.parent, self.above)
        with pinned_place(final, self.above) as place:
            partial = place.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.partial")  # matches _PARTIAL
            try:
                yield partial
            finally:
                partial.unlink(missing_ok=True)

    def put_file(self, file: Path, name: str) -> None:
        with pinned_place(self.root / name, self.above) as place:
            replace_durably(file, place)

    def move(self, old: str, new: str) -> None:
        make_directory_below((self.root / new).parent, self.above)
        with pinned_place(self.root / new, self.above) as place:
            try:
                with pinned_place(self.root / old, self.above) as staged:
                    replace_durably(staged, place)
            except FileNotFoundError:
                if not place.exists():
                    raise

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError), pinned_place(self.root / name, self.above) as place:
            place.unlink()

    def remove_all(self, prefix: str) -> None:
        with suppress(FileNotFoundError), pinned_place(self.root / prefix, self.above) as place:
            shutil.rmtree(place)

    def remove_partial(self) -> None:
        for folder in filter(Path.is_dir, (self.root, *self.root.glob("*"), *self.root.glob("*/c"))):
            with suppress(FileNotFoundError), pinned(folder, self.above) as place:
                for path in place.iterdir():
                    if _PARTIAL.fullmatch(path.name):
                        path.unlink(missing_ok=True)

    def is_empty(self) -> bool:
        if not self.root.is_dir():
            return not self.root.exists()
        # The unfinished file of a killed process is not an object yet.
        return all(_PARTIAL.fullmatch(path.name) for path in self.root.iterdir())

    def clear(self, last: str) -> None:
        with suppress(FileNotFoundError), pinned(self.root, self.above) as root:  # refuses a link
            for path in root.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != last:
                    path.unlink()
            (root / last).unlink(missing_ok=True)
            self.root.rmdir()


_PROTOCOLS = ("s3", "gs", "abfs", "az", "http", "https", "file", "memory")


def _check_protocol(url: str) -> None:
    """Refuse protocols of fsspec that take further addresses from the data that they fetch, and chained ones, `simplecache::s3://...`.

    Raises:
        InputError: a store cannot be at such a URL.
    """
    protocol = url.partition("://")[0]
    if protocol not in _PROTOCOLS or "::" in url:
        raise InputError(
            f"{url} is not an address at which a Zarr store can be. Give one that begins with {', '.join(f'{p}://' for p in _PROTOCOLS)}, "
            "or a path."
        )


class _RemoteStore:
    def __init__(self, url: str) -> None:
        _check_protocol(url)
        import fsspec

        self.url = url
        try:
            self.files, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{url} cannot be reached: {error}. Install the package for such addresses; for S3: `pip install s3fs`."
            ) from error

    def _full_name(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def _errors_as_os_errors(self) -> Iterator[None]:
        """Turns errors of fsspec's libraries into the errors that a disk raises."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{self.url} cannot be reached ({type(error).__name__}: {error})") from error

    def write(self, name: str, content: bytes) -> None:
        with self._errors_as_os_errors():
            self.files.pipe_file(self._full_name(name), content)

    def read(self, name: str, first: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else first + size
        with self._errors_as_os_errors():
            return bytes(self.files.cat_file(self._full_name(name), start=first or None, end=end))

    def changed_ns(self, name: str) -> int:
        return 0

    @contextmanager
    def temporary_file(self, name: str) -> Iterator[Path]:
        import dask.config

        parent = dask.config.get("temporary-directory", None)
        with temporary_folder(parent=Path(parent) if parent else None) as folder:
            yield folder / os.path.basename(name)

    def put_file(self, file: Path, name: str) -> None:
        with self._errors_as_os_errors():
            self.files.put_file(str(file), self._full_name(name))

    def move(self, old: str, new: str) -> None:
        with self._errors_as_os_errors():
            self.files.invalidate_cache()
            # The service copies the object. This can be repeated as long as the old name exists.
            try:
                self.files.cp_file(self._full_name(old), self._full_name(new))
            except FileNotFoundError:
                if not self.files.exists(self._full_name(new)):
                    raise
            else:
                self.files.rm_file(self._full_name(old))

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._errors_as_os_errors():
            self.files.rm_file(self._full_name(name))

    def remove_all(self, prefix: str) -> None:
        with self._errors_as_os_errors():
            self.files.invalidate_cache()
            for name in self.files.find(self._full_name(prefix)):
                self.files.rm_file(name)

    def remove_partial(self) -> None:
        """Nothing to do: a service writes objects atomically."""

    def is_empty(self) -> bool:
        with self._errors_as_os_errors():
            self.files.invalidate_cache()
            return not self.files.find(self.root, maxdepth=2)

    def clear(self, last: str) -> None:
        with self._errors_as_os_errors():
            self.files.invalidate_cache()
            if others := [name for name in self.files.find(self.root) if name != self._full_name(last)]:
                self.files.rm(others)
            if self.files.exists(self.root):
                self.files.rm(self.root, recursive=True)
