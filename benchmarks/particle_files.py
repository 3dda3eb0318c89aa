"""Particle sets of any size for measurements: images of noise, and a STAR file that may name each image several times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from cryolike_dask.metadata.image_descriptor import ImageDescriptor

_HEAD = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
1 group1 300.0 2.7 0.1 1.5


data_particles

loop_
_rlnImageName #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
_rlnOpticsGroup #5
"""


@dataclass(frozen=True)
class ParticleSet:
    """The files of a particle set.

    Args:
        star_file: RELION 3.1 table.
        folder: of the MRC files.
        descriptor: of the images.
        n_images: number of rows of the table.
    """

    star_file: Path
    folder: Path
    descriptor: ImageDescriptor
    n_images: int


def write_particles(
    folder: Path,
    n_images: int,
    box: int,
    *,
    n_files: int = 4,
    n_distinct: int | None = None,
    shuffled: bool = False,
    precision: str = "single",
) -> ParticleSet:
    """Write images of noise, and a table that names them.

    Args:
        folder: where the files are written.
        n_images: number of rows of the table.
        box: edge of the images in pixels.
        n_files: number of MRC files.
        n_distinct: number of images on disk, which the table names repeatedly; by default one per row.
        shuffled: rows in random order instead of the order of the files.
        precision: of the descriptor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    n_distinct = min(n_images, n_distinct or n_images)
    sizes = np.full(n_files, n_distinct // n_files)
    sizes[: n_distinct % n_files] += 1
    noise = rng.standard_normal((min(64, int(sizes.max())), box, box), dtype=np.float32)
    for number, size in enumerate(sizes.tolist()):
        with mrcfile.new(folder / f"stack{number:04d}.mrcs", overwrite=True) as mrc:
            mrc.set_data(np.resize(noise, (size, box, box)))
            mrc.voxel_size = 1.5
    file = np.repeat(np.arange(n_files), sizes)
    index = np.concatenate([np.arange(1, size + 1) for size in sizes.tolist()])
    row = np.arange(n_images) % n_distinct
    if shuffled:
        rng.shuffle(row)
    defocus = rng.uniform(8000, 20000, n_images)
    lines = [
        f"{index[r]:06d}@stack{file[r]:04d}.mrcs {u:.2f} {u - 200:.2f} 31.5 1\n"
        for r, u in zip(row.tolist(), defocus.tolist(), strict=True)
    ]
    star_file = folder / "particles.star"
    star_file.write_text(_HEAD + "".join(lines))
    return ParticleSet(star_file, folder, ImageDescriptor.from_individual_values(box, 1.5, precision), n_images)
