"""Images of an object off their centre: Gaussians at known positions, so that it can be moved without changing pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import ParticleSet, optics_table, write_star

Floats = npt.NDArray[np.float64]

PIXEL = 1.5  # Å
N_BLOBS = 9


def render(box: int, places: Floats, weights: Floats, width: float) -> Floats:
    """(box, box) values at the pixels; columns are x and rows are y, in pixels from the middle pixel box // 2."""
    y, x = np.meshgrid(*2 * [np.arange(box) - box // 2], indexing="ij")
    squares = (x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2
    return np.asarray((weights[:, None, None] * np.exp(-squares / (2 * width**2))).sum(axis=0))


def blobs(seed: int, radius: float) -> tuple[Floats, Floats]:
    """Positions (x, y) in pixels and weights of an object without symmetry. The weights add up to 0, so the mean is 0."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=N_BLOBS)
    return rng.uniform(-radius, radius, size=(N_BLOBS, 2)), weights - weights.mean()


def shifted_set(
    folder: Path, origins: Floats, *, box: int = 64, width: float = 2.5, radius: float = 7.0, pixel: float = PIXEL, **columns: Any
) -> tuple[ParticleSet, ParticleSet]:
    """Two sets of the same objects.

    In the first set, each object is where RELION's origin says: it is in the centre of the image shifted by (rlnOriginX, rlnOriginY)
    pixels, so it is at minus the origin. In the second set, each object is in the centre, and there are no origins.

    Args:
        folder: folder for both sets.
        origins: (n, 2) rlnOriginX and rlnOriginY in pixels.
        columns: further columns of the first table.
    """
    objects = [blobs(seed, radius) for seed in range(len(origins))]
    images = [render(box, places - origin, weights, width) for (places, weights), origin in zip(objects, origins, strict=True)]
    in_middle = [render(box, places, weights, width) for places, weights in objects]
    in_angstrom = {f"rlnOrigin{axis}Angst": [repr(float(o)) for o in origins[:, i] * pixel] for i, axis in enumerate("XY")}
    return (
        _written(folder / "shifted", np.stack(images), pixel, **in_angstrom, **columns),
        _written(folder / "middle", np.stack(in_middle), pixel),
    )


def _written(folder: Path, images: Floats, pixel: float, **columns: Any) -> ParticleSet:
    (folder / "mrc").mkdir(parents=True)
    single = images.astype(np.float32)
    (folder / "mrc" / "a.mrcs").write_bytes(pack_mrc(single, 2, pixel_size=pixel))
    listed = [("a.mrcs", i) for i in range(len(images))]
    write_star(folder / "particles.star", listed, "mrc/", optics=optics_table(rlnImagePixelSize=[str(pixel)]), **columns)
    return ParticleSet(folder, {"a.mrcs": single}, tuple(listed))


def centre_of_mass(image: npt.NDArray[Any]) -> Floats:
    """(x, y) of an image without negative values, in pixels from the middle pixel."""
    y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in image.shape), indexing="ij")
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
