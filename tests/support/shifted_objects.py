"""Images of an object that is not in their middle: Gaussians at known places, so that it can be moved without touching pixels."""

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
    """(box, box) values at the pixels: columns are x, rows are y, in pixels from the middle pixel box // 2."""
    y, x = np.meshgrid(*2 * [np.arange(box) - box // 2], indexing="ij")
    squares = (x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2
    return np.asarray((weights[:, None, None] * np.exp(-squares / (2 * width**2))).sum(axis=0))


def blobs(seed: int, radius: float) -> tuple[Floats, Floats]:
    """Places (x, y) in pixels and weights of an object about nothing symmetric. The weights add up to 0: no mean is lost."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=N_BLOBS)
    return rng.uniform(-radius, radius, size=(N_BLOBS, 2)), weights - weights.mean()


def shifted_set(
    folder: Path, origins: Floats, *, box: int = 64, width: float = 2.5, radius: float = 7.0, pixel: float = PIXEL, **columns: Any
) -> tuple[ParticleSet, ParticleSet]:
    """Two sets of the same objects.

    In the first, each lies where RELION's origin says: an image shifted by (rlnOriginX, rlnOriginY) pixels would have it in the middle, so
    it lies at minus the origin. In the second, each lies in the middle, and there are no origins.

    Args:
        folder: where both go.
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
    """(x, y) in pixels from the middle pixel, of an image of nothing negative."""
    y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in image.shape), indexing="ij")
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
