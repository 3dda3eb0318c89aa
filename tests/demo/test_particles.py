"""Demonstration particles: the images are as the STAR file describes them."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.demo.run import run_demo
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.progress import NoProgress
from cryolike_dask.simulation.ctf import contrast_transfer
from cryolike_dask.simulation.phantom import euler_matrices, random_phantom

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
    # A noisy image is most similar to the one in its own row; a mean signal-to-noise ratio of 0.075 gives a correlation of about 0.26.
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


def test_an_interrupted_demo_can_be_repeated(data: DemoData, tmp_path: Path) -> None:
    class Interrupting(NoProgress):
        def step(self, what: str, done: int = 0, total: int = 0) -> None:
            if what.startswith(step):
                raise KeyboardInterrupt

    step = "Simulating"
    (tmp_path / "demo" / "particles" / "mrc").mkdir(parents=True)  # of an even earlier interrupt
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "demo", n_images=60, box=BOX, progress=Interrupting())
    step = "Starting"  # the workers: the second attempt came past the folder and the images
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "demo", n_images=6, box=16, progress=Interrupting())
    assert (tmp_path / "demo" / "particles" / "mrc" / "particles_03.mrcs").exists()


def test_a_demo_with_another_table_keeps_no_image_of_the_one_before(tmp_path: Path) -> None:
    class Interrupting(NoProgress):
        def step(self, what: str, done: int = 0, total: int = 0) -> None:
            raise KeyboardInterrupt

    write_demo_particles(tmp_path, n_images=8, box=16)
    with pytest.raises(KeyboardInterrupt):
        write_demo_particles(tmp_path, n_images=9, box=16, progress=Interrupting())
    table = particles_from_star(tmp_path / "particles.star", tmp_path / "mrc")
    assert len(table) == 9
    assert list((tmp_path / "mrc").iterdir()) == []


def test_demo_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_the_user_is_not_taken_for_that_of_a_demo(tmp_path: Path) -> None:
    table = tmp_path / "project" / "particles" / "particles.star"
    table.parent.mkdir(parents=True)
    table.write_text("months of work", encoding="utf-8")
    with pytest.raises(OutputError, match="was not written by an earlier demo"):
        run_demo(tmp_path / "project", n_images=6, box=16)
    assert table.read_text(encoding="utf-8") == "months of work"
