"""Shards of a Zarr store between their upload and the moment from which they count.

An upload that was begun cannot be called back: where its worker is slow or suspended, it may end long after its run was given up and
another one has written the same store. So each attempt uploads to a name of its own, `fourier/staged/COUNTER.ATTEMPT`, and who publishes
the stack, inside the lock on the output folder, gives the shard its final name. What arrives too late stays under its own name, where no
reader of Zarr looks, until the next run removes it.
"""

from __future__ import annotations

from pathlib import Path

from cryolike_dask.errors import CryolikeError
from cryolike_dask.stacks.files import LEFTOVER, StackPaths, read_metadata, staged_name
from cryolike_dask.stacks.object_store import ObjectStore
from cryolike_dask.stacks.zarr_store import shard_name

ARRAYS = ("fourier", "phys")


def staged_shard(array: str, counter: int, attempt: str) -> str:
    """The object that holds a stack's images until they are published."""
    return f"{array}/staged/{counter}.{attempt}"


def install_shards(store: ObjectStore, counter: int, attempt: str, has_physical: bool) -> None:
    """Give what this attempt uploaded its final names. Doing it again, or after a crash in the middle, is harmless.

    Raises:
        FileNotFoundError: a shard is neither staged nor at its place.
    """
    for array in ARRAYS[: 1 + has_physical]:
        store.move(staged_shard(array, counter, attempt), shard_name(array, counter))


def install_leftovers(store: ObjectStore, folder: Path, n_stacks: int, has_physical: bool) -> None:
    """Install the shards of complete stacks that an earlier run left waiting for an earlier stack, and remove all others.

    Whether such a stack is of any use is looked at later, as for one that was published.
    """
    for counter in range(n_stacks):
        metadata = staged_name(StackPaths(folder, counter).metadata, LEFTOVER)
        if metadata.exists():
            try:
                install_shards(store, counter, str(read_metadata(metadata)["attempt"]), has_physical)
            except (CryolikeError, LookupError, FileNotFoundError):
                continue  # made again
    remove_staged(store)


def remove_staged(store: ObjectStore) -> None:
    """Remove whatever is staged, by any attempt of any run."""
    for array in ARRAYS:
        store.remove_all(f"{array}/staged")
