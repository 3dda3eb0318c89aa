"""Demonstration particles: what the STAR file says is what the images hold."""

from __future__ import annotations

import math
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from cryolike_dask.demo.particles import DemoData, run_demo, write_demo_particles
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.simulation.ctf import contrast_transfer, ctf_zero_resolutions, electron_wavelength
from cryolike_dask.simulation.phantom import Phantom, euler_matrices, random_phantom

BOX, PIXEL_SIZE, SEED = 48, 2.5, 7


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    folder = tmp_path_factory.mktemp("demo")
    return write_demo_particles(folder, n_images=60, box=BOX, pixel_size=PIXEL_SIZE, n_files=3, seed=SEED)


@pytest.fixture(scope="module")
def particles(data: DemoData) -> pd.DataFrame:
    return starfile.read(data.star_file, always_dict=True)["particles"]


def stacks(data: DemoData) -> dict[str, np.ndarray]:
    return {path.name: np.array(mrcfile.read(path)) for path in sorted(data.folder_mrc.iterdir())}


def locations(particles: pd.DataFrame) -> list[tuple[str, int]]:
    return [(Path(name.split("@")[1]).name, int(name.split("@")[0])) for name in particles["rlnImageName"]]


def test_star_file_lists_every_image_of_every_file_once_in_shuffled_order(data: DemoData, particles: pd.DataFrame) -> None:
    every = [(name, number) for name, images in stacks(data).items() for number in range(1, len(images) + 1)]
    listed = locations(particles)
    assert len(every) == 60
    assert sorted(listed) == every
    assert listed != every


def test_optics_table_gives_what_the_headers_and_the_descriptor_say(data: DemoData) -> None:
    optics = starfile.read(data.star_file, always_dict=True)["optics"]
    descriptor = ImageDescriptor.load(data.params_file)
    assert float(optics["rlnImagePixelSize"][0]) == PIXEL_SIZE
    assert descriptor.n_pixels == (BOX, BOX)
    assert descriptor.pixel_size == (PIXEL_SIZE, PIXEL_SIZE)
    for path in data.folder_mrc.iterdir():
        assert mrcfile.validate(path)
        with mrcfile.open(path) as mrc:
            assert mrc.is_image_stack()
            assert mrc.data.shape[1:] == (BOX, BOX)
            assert float(mrc.voxel_size.x) == PIXEL_SIZE


def test_equal_seeds_give_equal_particles_and_other_seeds_others(data: DemoData, tmp_path: Path) -> None:
    again = write_demo_particles(tmp_path / "again", n_images=60, box=BOX, pixel_size=PIXEL_SIZE, n_files=3, seed=SEED)
    other = write_demo_particles(tmp_path / "other", n_images=60, box=BOX, pixel_size=PIXEL_SIZE, n_files=3, seed=SEED + 1)
    for name, images in stacks(data).items():
        np.testing.assert_array_equal(stacks(again)[name], images)
    pd.testing.assert_frame_equal(
        starfile.read(again.star_file, always_dict=True)["particles"], starfile.read(data.star_file, always_dict=True)["particles"]
    )
    assert not np.array_equal(stacks(other)["particles_01.mrcs"][0], stacks(data)["particles_01.mrcs"][0])


def test_each_image_shows_the_molecule_as_its_row_describes_it(data: DemoData, particles: pd.DataFrame) -> None:
    phantom = random_phantom(0.42 * BOX * PIXEL_SIZE, np.random.default_rng(SEED))
    angles = particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(dtype=float)
    projections = np.fft.rfft2(phantom.project(euler_matrices(angles), BOX, PIXEL_SIZE))
    ctf = contrast_transfer(
        BOX,
        PIXEL_SIZE,
        particles["rlnDefocusU"].to_numpy(dtype=float),
        particles["rlnDefocusV"].to_numpy(dtype=float),
        np.radians(particles["rlnDefocusAngle"].to_numpy(dtype=float)),
        voltage=300.0,
        spherical_aberration=2.7,
        amplitude_contrast=0.1,
    )
    expected = np.fft.irfft2(projections * ctf, s=(BOX, BOX)).reshape(len(particles), -1)
    images = stacks(data)
    seen = np.array([images[name][number - 1] for name, number in locations(particles)]).reshape(len(particles), -1)
    match = np.corrcoef(seen, expected)[: len(particles), len(particles) :]
    # A noisy image resembles its own description most; a mean signal-to-noise of 0.075 gives a correlation of about 0.26.
    assert 0.2 < np.mean(np.diag(match)) < 0.35
    assert np.mean(match.argmax(axis=1) == np.arange(len(particles))) > 0.8


def test_background_has_mean_zero_and_deviation_one(data: DemoData) -> None:
    corners = np.concatenate([images[:, :6, :6].ravel() for images in stacks(data).values()])
    assert abs(corners.mean()) < 0.1
    assert 0.95 < corners.std() < 1.1


def test_more_files_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 images cannot fill 3 files"):
        write_demo_particles(tmp_path, n_images=2, n_files=3)
    assert not list(tmp_path.iterdir())


def test_demo_refuses_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_projection_is_the_integral_along_z() -> None:
    phantom = Phantom(centres=np.array([[6.0, -4.0, 9.0]]), widths=np.array([3.0]), weights=np.array([2.0]))
    image = phantom.project(np.eye(3)[None], box=32, pixel_size=1.5)[0]
    x, y = (20 - 16) * 1.5, (13 - 16) * 1.5
    z = np.linspace(-40, 60, 20001)
    density = 2.0 / (2 * np.pi * 9) ** 1.5 * np.exp(-((x - 6) ** 2 + (y + 4) ** 2 + (z - 9) ** 2) / 18)
    assert image[13, 20] == pytest.approx(np.trapezoid(density, z), rel=1e-5)
    assert image.sum() * 1.5**2 == pytest.approx(2.0, rel=1e-5)


def test_euler_matrices_are_relions() -> None:
    rot, tilt, psi = 40.0, 65.0, -110.0
    a, b, g = np.radians([rot, tilt, psi])
    ca, cb, cg, sa, sb, sg = np.cos(a), np.cos(b), np.cos(g), np.sin(a), np.sin(b), np.sin(g)
    written_out = np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )
    np.testing.assert_allclose(euler_matrices(np.array([[rot, tilt, psi]]))[0], written_out, atol=1e-12)


def test_wavelength_is_the_textbook_one() -> None:
    assert electron_wavelength(300.0) == pytest.approx(0.019687, rel=1e-4)
    assert electron_wavelength(200.0) == pytest.approx(0.025079, rel=1e-4)


def test_ctf_takes_defocus_u_along_the_stated_azimuth() -> None:
    box, pixel_size, wavelength = 64, 2.0, electron_wavelength(300.0)
    ctf = contrast_transfer(
        box,
        pixel_size,
        np.array([15_000.0]),
        np.array([9_000.0]),
        np.radians([90.0]),
        voltage=300.0,
        spherical_aberration=2.7,
        amplitude_contrast=0.07,
        phase_shift=np.radians([30.0]),
    )[0]
    s = 11 / (box * pixel_size)
    for defocus, value in ((15_000.0, ctf[11, 0]), (9_000.0, ctf[0, 11])):
        aberration = math.pi * wavelength * defocus * s**2 - math.pi / 2 * 2.7e7 * wavelength**3 * s**4
        assert value == pytest.approx(math.sin(aberration + math.radians(30) + math.asin(0.07)), abs=1e-12)
    assert ctf[0, 0] == pytest.approx(math.sin(math.radians(30) + math.asin(0.07)))


@pytest.mark.parametrize("phase_shift", [0.0, 1.2])
@pytest.mark.parametrize("cs", [0.0, 2.7])
@pytest.mark.parametrize("defocus", [12_000.0, 700.0, -5_000.0])
def test_ctf_is_zero_at_its_zeros_and_changes_sign_nowhere_else(defocus: float, cs: float, phase_shift: float) -> None:
    zeros = ctf_zero_resolutions(defocus, 300.0, cs, 0.1, phase_shift, finest=2.0)
    s = np.linspace(1e-4, 0.5, 400_001)
    wavelength = electron_wavelength(300.0)
    values = np.sin(
        np.pi * wavelength * defocus * s**2 - np.pi / 2 * cs * 1e7 * wavelength**3 * s**4 + phase_shift + math.asin(0.1)
    )
    crossings = s[:-1][np.sign(values[:-1]) != np.sign(values[1:])]
    np.testing.assert_allclose(zeros, 1 / crossings, rtol=1e-2 if defocus == 700.0 else 1e-4)


def test_ctf_zeros_of_unknown_values_are_none() -> None:
    assert len(ctf_zero_resolutions(math.nan, 300.0, 2.7, 0.1)) == 0
