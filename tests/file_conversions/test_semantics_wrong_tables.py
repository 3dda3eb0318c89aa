"""Tables that do not belong to their images, or state something twice or only in part, are reported before the first pixel is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import (
    Conversion,
    ImageDescriptor,
    InputError,
    ParticleTable,
    particles_from_cryosparc,
    particles_from_cryosparc_job,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
)
from tests.support.conversions import plan_of, refused, set_without_pixel_size
from tests.support.cs_files import Columns, blob_columns, ctf_columns, particle_columns, uids, write_batches, write_cs
from tests.support.particle_sets import ctf_table, optics_table, params, write_images, write_particle_set
from tests.support.star_files import SINGLE, Table, loop, text, with_column, without_column, write

CS_BOX, CS_PIXEL = 8, 1.5  # of tests.support.cs_files


def planned(particles: ParticleTable, descriptor: ImageDescriptor | None = None, **options: Any) -> Any:
    return Conversion(particles, descriptor or params(CS_BOX, CS_PIXEL), **options).plan


def refused_plan(particles: ParticleTable, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        planned(particles, **options)
    return str(caught.value)


def cryosparc(folder: Path, **changes: Any) -> ParticleTable:
    """Four images of 8 x 8 pixels; `__` in a name stands for `/`."""
    write_batches(folder, {"a.mrc": 4})
    columns = particle_columns([str(folder / "a.mrc")] * 4, range(4))
    columns |= {name.replace("__", "/"): np.asarray(column) for name, column in changes.items()}
    return particles_from_cryosparc(write_cs(folder / "particles.cs", columns))


# The size of the images


def test_image_size_of_the_optics_table_is_compared_with_the_files(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics_table(rlnImageSize=["400"]))
    message = refused(particles, f"{particles.star}, particle 1 (image 1 of {particles.mrc / 'a.mrcs'})")
    assert "according to rlnImageSize its image has 400 × 400 pixels, but the file has images of 12 × 12" in message
    assert "(the same for 2 more particles)" in message
    assert "those before binning" in message


def test_image_size_of_particles_and_of_unused_groups(tmp_path: Path) -> None:
    optics = optics_table(2, rlnImageSize=["12", "400"])
    assert plan_of(write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics)).n_images == 3
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, rlnImageSize=["12", "24", "12"])
    refused(
        particles,
        "particle 2 (image 2 of",
        "according to rlnImageSize its image has 24 × 24 pixels, but the file has images of 12 × 12.",
    )


def test_image_size_is_that_before_downsampling(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics_table(rlnImageSize=["12"]))
    assert plan_of(particles, params(6, 4.0), downsample_factor=2).n_images == 3


@pytest.mark.parametrize("size", ["0", "-12", "12.5", "1e9"])
def test_an_image_size_of_no_image_is_named_where_it_is(size: str, tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics_table(rlnImageSize=[size]))
    refused(
        particles,
        f"{particles.star}: rlnImageSize in line 13 (row 1) of 'data_optics' is {float(size):g}, which is not a number of pixels",
    )


def test_image_size_of_a_paired_table(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.mrcs": 4})
    star = write(tmp_path, text(loop("", with_column(without_column(SINGLE, "rlnImageName"), "rlnImageSize", "24"))))
    particles = particles_from_paired_star_and_mrc_files([tmp_path / "a.mrcs"], [star])
    assert "according to rlnImageSize its image has 24 × 24 pixels, but the file has images of 12 × 12" in refused_plan(
        particles, descriptor=params()
    )


def test_blob_shape_is_compared_with_the_files(tmp_path: Path) -> None:
    shape = np.full((4, 2), CS_BOX, np.uint32)
    shape[2] = (300, 300)
    message = refused_plan(cryosparc(tmp_path, blob__shape=shape))
    assert f"{tmp_path / 'particles.cs'}, particle 3 (image 2, counted from 0, of {tmp_path / 'a.mrc'})" in message
    assert "according to blob/shape its image has 300 × 300 pixels, but the file has images of 8 × 8." in message


def test_blob_shape_of_zeros_states_nothing(tmp_path: Path) -> None:
    assert planned(cryosparc(tmp_path, blob__shape=np.zeros((4, 2), np.uint32))).n_images == 4


@pytest.mark.parametrize("shape", [np.full(4, 8, np.uint32), np.full((4, 2), 8.0), np.full((4, 3), 8, np.uint32)])
def test_a_blob_shape_of_another_form_is_refused(shape: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The column blob/shape of .*particles.cs holds"):
        cryosparc(tmp_path, blob__shape=shape)


def job(folder: Path, blob: Columns) -> ParticleTable:
    """A restack job of three images, whose passthrough table has these image columns."""
    write_batches(folder / "J4" / "restack", {"batch_0_restacked.mrc": 3})
    write_cs(folder / "J4" / "J4_passthrough_particles.cs", {"uid": uids(3), **ctf_columns(3), **blob})
    return particles_from_cryosparc_job(folder, 4)


def test_blob_shape_of_a_job_counts_where_it_speaks_of_these_files(tmp_path: Path) -> None:
    other = blob_columns(["J2/extract/a.mrc"] * 3, range(3)) | {"blob/shape": np.full((3, 2), 300, np.uint32)}
    assert planned(job(tmp_path / "passed", other)).n_images == 3
    own = blob_columns(["J4/restack/batch_0_restacked.mrc"] * 3, range(3)) | {"blob/shape": np.full((3, 2), 300, np.uint32)}
    assert "according to blob/shape its image has 300 × 300 pixels, but the file has images of 8 × 8" in refused_plan(
        job(tmp_path / "own", own)
    )


# The pixel size


def test_rln_pixel_size_is_read(tmp_path: Path) -> None:
    particles = set_without_pixel_size(tmp_path)
    optics = without_column(optics_table(), "rlnImagePixelSize")
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics, rlnPixelSize="2.0")
    assert plan_of(particles).pixel_size_from == "table"
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics, rlnPixelSize="3.5")
    refused(particles, "The descriptor says 2 Å per pixel, but the table says 3.5 Å")
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics, rlnPixelSize="0")
    refused(particles, "rlnPixelSize must be positive, but is 0")


def test_rln_pixel_size_wins_over_magnification_and_not_over_that_of_the_images(tmp_path: Path) -> None:
    optics = without_column(optics_table(), "rlnImagePixelSize")
    other = {"rlnDetectorPixelSize": "5", "rlnMagnification": "10000"}
    assert (
        plan_of(write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics, rlnPixelSize="2.0", **other)).descriptor.pixel_size[0]
        == 2
    )
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, rlnPixelSize=["2.0", "1.0", "2.0"])
    (warning,) = plan_of(particles).warnings
    assert "rlnImagePixelSize 2 is used, not rlnPixelSize 1, in line 32 (row 2)" in warning


@pytest.mark.parametrize("unstated", [0.0, np.nan])
def test_a_pixel_size_that_is_not_stated_for_one_particle_names_it(unstated: float, tmp_path: Path) -> None:
    table = cryosparc(tmp_path, blob__psize_A=np.array([1.5, 1.5, unstated, 1.5], np.float32))
    message = refused_plan(table)
    assert message.startswith(f"{tmp_path / 'particles.cs'}, particle 3 (image 2, counted from 0, of {tmp_path / 'a.mrc'})")
    assert "states no pixel size for this particle, but 1.5 Å for others" in message
    assert "pixel_size (--pixel-size)" in message
    path = tmp_path / "particles.cs"
    told = f"{path}, particle 3: blob/psize_A is {unstated:g}: the table states no pixel size for 1 particle."
    assert told in planned(table, pixel_size=1.5).warnings


# Particles twice


def test_repeated_particles_are_counted(tmp_path: Path) -> None:
    images = {"a.mrcs": 3, "b.mrcs": 2}
    particles = write_particle_set(tmp_path, images)
    rows = [line for line in particles.star.read_text().splitlines() if "@" in line]
    particles.star.write_text(particles.star.read_text().rstrip() + "\n" + "\n".join([rows[1], rows[4], rows[1]]) + "\n")
    plan = plan_of(particles)
    assert plan.n_images == 8
    assert plan.warnings == (
        f"{particles.star} lists particles more than once, in 3 repeated rows from particle 6 on. All of them are converted. Remove the "
        "repeated rows if they are a mistake.",
    )
    assert plan_of(particles, batch_size=5, n_stacks_max=1).warnings == ()


def test_the_same_image_in_two_tables_is_no_repetition(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    table = particles_from_star(particles.star, particles.mrc)
    assert planned(ParticleTable.concatenate([table, table]), params()).warnings == ()


# Words


def test_groups_of_one_block_are_named_once(tmp_path: Path) -> None:
    table: Table = {"rlnImageName": [f"{i + 1}@a.mrcs" for i in range(3)], **ctf_table(3)}
    table |= {"rlnVoltage": ["300", "300", "200"], "rlnSphericalAberration": ["2.7"] * 3}
    write_images(tmp_path, {"a.mrcs": 3})
    message = refused_plan(particles_from_star(write(tmp_path, text(loop("", table))), tmp_path), descriptor=params())
    assert "group 1, first in row 1: 300 kV, Cs 2.7 mm, contrast 0.1 (2 images); group 2, first in row 3: 200 kV" in message
    assert "(1 image)" in message
    assert message.count("300 kV") == 1


def test_headers_are_spoken_of_in_the_plural(tmp_path: Path) -> None:
    refused(set_without_pixel_size(tmp_path, header=3.5), "The descriptor says 2 Å per pixel, but the image headers say 3.5 Å")


def test_boxes_that_are_not_square_come_with_advice_that_works(tmp_path: Path) -> None:
    write_images(tmp_path / "mrc", {"a.mrcs": 2}, box=(16, 24))
    particles = write_particle_set(tmp_path, {"b.mrcs": 2})
    particles.star.write_text(particles.star.read_text().replace("b.mrcs", "a.mrcs"))
    advice = "Make one for images that are not square in Python: ImageDescriptor.from_individual_values((16, 24), PIXEL_SIZE)."
    message = refused(particles, advice)
    code = message[message.index("ImageDescriptor.") :].rstrip(".").replace("PIXEL_SIZE", "2.0")
    assert plan_of(particles, eval(code)).n_images == 2
