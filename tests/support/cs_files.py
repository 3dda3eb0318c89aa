"""cryoSPARC tables and job directories for tests, made with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.mrc_files import example_images, pack_mrc

Columns = dict[str, npt.NDArray[Any]]


def uids(n: int, seed: int = 7) -> npt.NDArray[np.uint64]:
    """Distinct identities in random order, some above 2^63."""
    return np.random.default_rng(seed).integers(1, 2**64 - 1, n, dtype=np.uint64)


def ctf_columns(n: int) -> Columns:
    """CTF columns with a different defocus for each row."""
    row = np.arange(n)
    return {
        "ctf/type": np.array([b"spline"] * n),
        "ctf/exp_group_id": np.full(n, 3, np.uint32),
        "ctf/accel_kv": np.full(n, 300, np.float32),
        "ctf/cs_mm": np.full(n, 2.7, np.float32),
        "ctf/amp_contrast": np.full(n, 0.1, np.float32),
        "ctf/df1_A": (15000 + row).astype(np.float32),
        "ctf/df2_A": (14000 + row).astype(np.float32),
        "ctf/df_angle_rad": (0.01 * row % np.pi).astype(np.float32),
        "ctf/phase_shift_rad": (0.02 * row % np.pi).astype(np.float32),
    }


def blob_columns(paths: Sequence[str | bytes], indexes: Sequence[int], box: int = 8) -> Columns:
    """Image columns for images of box x box pixels."""
    encoded = [path.encode() if isinstance(path, str) else path for path in paths]
    return {
        "blob/path": np.array(encoded),
        "blob/idx": np.array(indexes, np.uint32),
        "blob/shape": np.full((len(encoded), 2), box, np.uint32),
        "blob/psize_A": np.full(len(encoded), 1.5, np.float32),
        "blob/sign": np.full(len(encoded), -1, np.float32),
    }


def particle_columns(paths: Sequence[str | bytes], indexes: Sequence[int], box: int = 8) -> Columns:
    """All columns of an indexed table."""
    n = len(paths)
    return {"uid": uids(n), **blob_columns(paths, indexes, box), **ctf_columns(n)}


def records(columns: Columns) -> npt.NDArray[np.void]:
    """The columns as one structured array."""
    n = len(next(iter(columns.values())))
    rows = np.zeros(n, dtype=[(name, column.dtype, column.shape[1:]) for name, column in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    return rows


def write_cs(path: Path, columns: Columns) -> Path:
    """Write a .cs file as cryoSPARC does by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, records(columns), allow_pickle=False)
    return path


def write_batches(folder: Path, counts: dict[str, int], box: int = 8) -> None:
    """Image files of the given names and numbers of images."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, n) in enumerate(counts.items()):
        (folder / name).write_bytes(pack_mrc(example_images(2, (n, box, box), seed=seed), 2))
