"""SHA-256 of image files, for runs that know their inputs by what is in them rather than by their times."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cryolike_dask.errors import InputError
from cryolike_dask.human import human_bytes, plural
from cryolike_dask.mrc_header import open_regular

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 4 << 20


def sha256_of_files(paths: Sequence[str]) -> list[str]:
    """SHA-256 of each file as `sha256sum` prints it; several are read at a time.

    Raises:
        InputError: one cannot be read.
    """
    if not paths:
        return []
    stopped = threading.Event()
    with ThreadPoolExecutor(thread_name_prefix="cryolike-hash") as pool:
        try:
            total = sum(os.path.getsize(path) for path in paths if os.path.exists(path))
            logger.info("Hashing %s (%s).", plural(len(paths), "image file"), human_bytes(total))
            return list(pool.map(lambda path: _sha256(path, stopped), paths))
        except BaseException:
            # The pool waits for its threads; those are not to read on to the end of their files.
            stopped.set()
            raise


def _sha256(path: str, stopped: threading.Event) -> str:
    try:
        with open(open_regular(path), "rb", buffering=0) as file:
            digest = hashlib.sha256()
            while not stopped.is_set() and (block := file.read(_BLOCK_BYTES)):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read for its hash: {error.strerror or error}. Mend that, or leave out hash_inputs (--hash-inputs)."
        ) from error
