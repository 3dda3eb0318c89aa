"""Small particle sets: distinct images in MRC files, and a STAR table that names them in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from tests.support.direct_transform import centred, converted, downsampled, polar_grid, relative_error
from tests.support.independent_reader import WrittenStack
from tests.support.mrc_files import pack_mrc
from tests.support.star_files import Table, loop, text

BOX, PIXEL_SIZE = 12, 2.0
NO_PLOTS: dict[str, Any] = {"flag_plots": False}
ABC = {"A.mrcs": 7, "B.mrcs": 2, "C.mrcs": 6}
"""The example in the guide: number of images in each file."""

Images = Mapping[str, npt.NDArray[np.float32]]
Listed = Sequence[tuple[str, int]]
"""File name and index, counted from 0, of each particle of a table."""


def params(box: int = BOX, pixel_size: float = PIXEL_SIZE, **options: Any) -> ImageDescriptor:
    return ImageDescriptor.from_individual_values(box, pixel_size, **options)


def write_images(
    folder: Path, counts: Mapping[str, int], box: int | tuple[int, int] = BOX, pixel_size: float = 0.0, seed: int = 0
) -> dict[str, npt.NDArray[np.float32]]:
    """Write files of random images, and return the images by file name. A pixel size of 0 in the header means unknown."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (box, box) if isinstance(box, int) else box
    images = {}
    for number, (name, n) in enumerate(counts.items()):
        images[name] = np.random.default_rng([seed, number]).normal(5, 2, (n, *shape)).astype(np.float32)
        (folder / name).write_bytes(pack_mrc(images[name], 2, pixel_size=pixel_size))
    return images


def in_sequence(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, i) for name, n in counts.items() for i in range(n)]


def shuffled(listed: Listed, seed: int = 0) -> list[tuple[str, int]]:
    return [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]


def ctf_table(n: int) -> Table:
    """CTF columns that are different in every row."""
    return {
        "rlnDefocusU": [f"{10000 + 10 * i}.5" for i in range(n)],
        "rlnDefocusV": [f"{9900 + 10 * i}.25" for i in range(n)],
        "rlnDefocusAngle": [str(i % 180) for i in range(n)],
        "rlnPhaseShift": [str(i % 90) for i in range(n)],
        "rlnAngleRot": [str(i - 20) for i in range(n)],
        "rlnAngleTilt": [str(i) for i in range(n)],
        "rlnAnglePsi": [str(2 * i) for i in range(n)],
        "rlnCtfBfactor": [str(i / 4) for i in range(n)],
        "rlnCtfScalefactor": [str(1 + i / 8) for i in range(n)],
    }


def optics_table(n_groups: int = 1, **columns: Sequence[str]) -> Table:
    """An optics table: `columns` replace those of the same name."""
    return {
        "rlnOpticsGroup": [str(i + 1) for i in range(n_groups)],
        "rlnOpticsGroupName": [f"group{i + 1}" for i in range(n_groups)],
        "rlnVoltage": ["300.0"] * n_groups,
        "rlnSphericalAberration": ["2.7"] * n_groups,
        "rlnAmplitudeContrast": ["0.07"] * n_groups,
        "rlnImagePixelSize": [str(PIXEL_SIZE)] * n_groups,
        **{name: list(values) for name, values in columns.items() if values},
    }


def write_star(
    path: Path, listed: Listed, prefix: str = "", optics: Table | None = None, groups: Sequence[int] | None = None, **columns: Any
) -> Path:
    """A RELION 3.1 STAR file that lists these images.

    Args:
        prefix: put before each file name, such as 'stacks/'.
        groups: optics group of each row, from 1.
        columns: further particle columns, one value for all rows or one for each.
    """
    n = len(listed)
    table: Table = {"rlnImageName": [f"{index + 1:06d}@{prefix}{name}" for name, index in listed], **ctf_table(n)}
    table["rlnOpticsGroup"] = [str(group) for group in groups or [1] * n]
    for name, values in columns.items():
        table[name] = [values] * n if isinstance(values, str) else [str(value) for value in values]
    path.write_text(text(loop("optics", optics or optics_table()), loop("particles", table)))
    return path


@dataclass(frozen=True)
class ParticleSet:
    """Images in files, and their table.

    Args:
        folder: contains `particles.star`, `params.npz` and the folder `mrc`.
        images: the images by file name.
        listed: the images in the order of the table.
    """

    folder: Path
    images: Images
    listed: tuple[tuple[str, int], ...]

    @property
    def star(self) -> Path:
        return self.folder / "particles.star"

    @property
    def mrc(self) -> Path:
        return self.folder / "mrc"

    def image(self, number: int) -> npt.NDArray[np.float32]:
        """The image of a row of the table."""
        name, index = self.listed[number]
        return self.images[name][index]


def write_particle_set(
    folder: Path, counts: Mapping[str, int], *, shuffle: bool = False, box: int = BOX, pixel_size: float = 0.0, **star: Any
) -> ParticleSet:
    """Write a complete particle set; see `write_images` and `write_star`."""
    images = write_images(folder / "mrc", counts, box, pixel_size)
    listed = shuffled(in_sequence(counts)) if shuffle else in_sequence(counts)
    write_star(folder / "particles.star", listed, "mrc/", **star)
    return ParticleSet(folder, images, tuple(listed))


def traced(stacks: Sequence[WrittenStack]) -> list[tuple[str, int]]:
    """File name and index of every image, stack after stack, according to the metadata."""
    return [
        (Path(str(file)).name, int(index))
        for stack in stacks
        for file, index in zip(stack.metadata["files"], stack.metadata["idxs"], strict=True)
    ]


def assert_holds(
    stacks: Sequence[WrittenStack], images: Images, listed: Listed, factor: int = 1, kind: str = "mean", tolerance: float = 1.5e-6
) -> None:
    """Assert that the stacks hold these images in this order, by their metadata and by the direct sum over each image."""
    assert traced(stacks) == list(listed)
    sources = [images[name][index] for name, index in listed]
    first = 0
    for stack in stacks:
        part = sources[first : first + len(stack.fourier)]
        first += len(part)
        grid = polar_grid(*(stack.metadata[key].item() for key in ("radius_max", "dist_radii", "n_inplanes")))
        exact = np.stack([converted(image, grid, factor, kind) for image in part])
        assert relative_error(stack.fourier, exact) < tolerance
        if stack.physical is not None:
            small = np.stack([centred(downsampled(image.astype(np.float64), factor, kind)) for image in part])
            np.testing.assert_allclose(stack.physical, small, atol=1e-6)
