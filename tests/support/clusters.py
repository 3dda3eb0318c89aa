"""Small particle sets and clusters, and the parts of two output folders that must be equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from cryolike_dask.conversion import Conversion
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.particles.star.particles import particles_from_star

BOX = 16


def make_particles(folder: Path, n_images: int = 40, n_files: int = 3) -> DemoData:
    return write_demo_particles(folder, n_images=n_images, box=BOX, pixel_size=3.0, n_files=n_files, seed=11)


def conversion(data: DemoData, out: Path, batch_size: int = 4, **options: Any) -> Conversion:
    particles = particles_from_star(str(data.star_file), str(data.folder_mrc))
    return Conversion(particles, data.params_file, folder_output=out, **({"batch_size": batch_size, "flag_plots": False} | options))


def stacks(out: Path) -> dict[str, Any]:
    """The content of every stack file of an output folder: tensors as a hash, archives as arrays. Hidden files are not allowed."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        assert "/." not in f"/{name}", f"{name} was left over"
        if path.suffix == ".pt":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found[name] = {key: (a.dtype.str, a.shape, a.tobytes()) for key in archive.files for a in [archive[key]]}
    assert found
    return found


@contextmanager
def threads_cluster(n_workers: int = 1, threads_per_worker: int = 1, **options: Any) -> Iterator[Client]:
    """Workers in this process."""
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=threads_per_worker, processes=False, dashboard_address="127.0.0.1:0", **options
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
