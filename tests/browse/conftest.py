"""A set of two thousand particles, and its page."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask import browse_particles, particles_from_star
from tests.support.particle_sets import PIXEL_SIZE, ParticleSet, write_particle_set

BOX, N, CONSTANT_ROW = 20, 2000, 1234
LOW_PASS = 15.0


@dataclass(frozen=True)
class Page:
    """A page and the particles on it.

    Args:
        path: path of the page.
        particles: the particle set of the page; one of its image files has a constant image.
    """

    path: Path
    particles: ParticleSet

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    """The data for the script of the page."""
    (text,) = re.findall(r'<script type="application/json" id="particles">(.*?)</script>', page, flags=re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


def filtered(
    image: npt.NDArray[np.floating], pixel_size: float = PIXEL_SIZE, low_pass: float = LOW_PASS
) -> npt.NDArray[np.float64]:
    """The low-pass filter as a formula: 1 up to 0.75 / cutoff, 0 from 1.25 / cutoff on, half a cosine between."""
    x, y = (np.fft.fftfreq(n, pixel_size) for n in image.shape)
    ramp = np.clip((np.sqrt(x[:, None] ** 2 + y[None, :] ** 2) * low_pass - 0.75) * 2, 0, 1)
    return np.fft.ifft2(np.fft.fft2(image.astype(np.float64)) * (1 + np.cos(np.pi * ramp)) / 2).real


def power_of(image: npt.NDArray[np.floating]) -> float:
    """The fraction of the variance that the filter leaves; 0 for a constant image."""
    return float(filtered(image).var() / image.astype(np.float64).var()) if np.ptp(image) else 0.0


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("browse")
    counts = {"b.mrcs": 900, "a.mrcs": 1080, "ab.mrcs": 20}
    particles = write_particle_set(folder, counts, shuffle=True, box=BOX, rlnAngleTilt="10", rlnAngleRot="20", rlnAnglePsi="30")
    name, index = particles.listed[CONSTANT_ROW]
    particles.images[name][index] = 7
    with mrcfile.mmap(particles.mrc / name, mode="r+") as file:
        file.data[index] = 7
    table = particles_from_star(particles.star, particles.mrc)
    made = browse_particles(table, folder / "contact.html", low_pass=LOW_PASS, progress=False)
    assert (made.n_shown, made.n_chosen) == (N, N)
    return Page(made.path, particles)
