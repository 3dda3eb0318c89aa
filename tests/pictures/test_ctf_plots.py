"""Pictures of the check of the CTF."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cryolike_dask.ctf_check.rings import Rings
from cryolike_dask.ctf_check.verdict import CtfCheck
from cryolike_dask.pictures.ctf_plots import HEIGHT, WIDTH, plot_ctf_check


@pytest.mark.parametrize("phase", [(0.3, 0.4, 0.5), (0.75, 0.85), (0.1, 7.9), (-3.0, 60.0)], ids=str)
def test_rings_of_any_range_of_phases_are_drawn(phase: tuple[float, ...]) -> None:
    values = np.linspace(0.2, 0.9, len(phase))
    check = CtfCheck(
        verdict="fits",
        reason="The CTF fits.",
        n_particles=40,
        n_micrographs=4,
        recorded_pixel_size=1.5,
        best_pixel_size=1.5,
        uncertainty=0.003,
        accuracy=0.02,
        significance=9.0,
        pixel_sizes=np.linspace(0.6, 3.75, 50),
        scores=np.linspace(-1, 1, 50),
        rings=Rings(np.array(phase), values, values + 0.05),
    )
    picture = np.asarray(Image.open(io.BytesIO(plot_ctf_check(check))).convert("L"))
    assert picture.shape == (HEIGHT, WIDTH)
    right = picture[:, WIDTH // 2 :]
    assert (right < 128).sum() > 500  # axes, curves and text
