"""Makes particles, converts them on a Dask cluster of this machine, and verifies the stacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.errors import OutputError
from cryolike_dask.formatting import plural
from cryolike_dask.progress import ProgressOption
from cryolike_dask.progress_bars import showing

if TYPE_CHECKING:
    from cryolike_dask.report import ConversionReport

logger = logging.getLogger(__name__)

_MARK = ".cryolike-dask-demo"
"""The file by which a folder is recognised that a demo may replace. Names such as particles/particles.star are those of users, too."""


@dataclass(frozen=True)
class DemoResult:
    """What `run_demo` made.

    Args:
        data: the input.
        report: report of the conversion.
        problems: problems that the verification found; empty if there are none.
    """

    data: DemoData
    report: ConversionReport
    problems: tuple[str, ...]


def run_demo(
    folder: str | Path,
    *,
    n_images: int = 600,
    box: int = 64,
    n_workers: int = 2,
    progress: ProgressOption = None,
) -> DemoResult:
    """Write demonstration particles, convert them on a local Dask cluster of processes, and verify the stacks.

    Args:
        folder: new, empty, or from an earlier demo, which is replaced. Particles are written to `particles` in it, stacks to `stacks`.
        n_images, box: number of images and their edge in pixels.
        n_workers: number of worker processes, with one thread each.
        progress: as for `Conversion.run`.

    Raises:
        OutputError: the folder contains something else.
    """
    from distributed import Client

    from cryolike_dask.file_conversions.particle_stacks_wrappers import convert_particle_stacks_from_indexed_star_file
    from cryolike_dask.runs.verify import verify_output

    root = _demo_folder(folder)
    data = write_demo_particles(root / "particles", n_images=n_images, box=box, progress=progress)
    with _local_cluster(n_workers, progress) as cluster, Client(cluster) as client:
        report = convert_particle_stacks_from_indexed_star_file(
            data.params_file,
            data.star_file,
            data.folder_mrc,
            folder_output=root / "stacks",
            batch_size=max(1, n_images // 4),
            overwrite=True,
            client=client,
            progress=progress,
        )
    return DemoResult(data=data, report=report, problems=tuple(verify_output(root / "stacks", deep=True, progress=progress)))


@contextmanager
def _local_cluster(n_workers: int, progress: ProgressOption) -> Iterator[Any]:
    """A cluster on this machine. Starting and closing it take seconds, and are shown as steps."""
    from cryolike_dask.execution.cluster import local_cluster

    with showing(progress) as shown:
        shown.step(f"Starting {plural(n_workers, 'worker')}")
        cluster = local_cluster("cpu", n_workers, threads_per_worker=1)
    logger.info("Dask's dashboard shows what the workers do: %s", cluster.dashboard_link)
    try:
        yield cluster
    finally:
        with showing(progress) as shown:
            shown.step("Closing the workers")
            cluster.close()


def _demo_folder(folder: str | Path) -> Path:
    root = Path(folder).expanduser().resolve()
    if root.is_file():
        raise OutputError(f"{root} is a file: give a folder for the demo.")
    mark = root / _MARK
    if any(map(Path.is_file, root.rglob("*"))) and not mark.exists():
        raise OutputError(f"{root} is not empty and was not written by an earlier demo: give another folder.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise OutputError(f"{root} cannot be written: {error.strerror or error}. Choose another folder.") from error
    return root
