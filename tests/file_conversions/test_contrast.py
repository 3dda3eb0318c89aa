"""The sign of the images: as they are, inverted, or as cryoSPARC's `blob/sign` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import Conversion, InputError, convert_particle_stacks_from_indexed_cryosparc_file, restack, verify_output
from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from tests.support.conversions import convert, refused
from tests.support.cs_files import particle_columns, write_cs
from tests.support.independent_reader import WrittenStack, read_stacks
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows
from tests.support.particle_sets import BOX, NO_PLOTS, PIXEL_SIZE, params, write_images, write_particle_set

SIGNS = [-1, 1, 1, -1]


def table_with_signs(folder: Path, signs: list[float] | None) -> Path:
    """Four images in `a.mrcs`, listed with these signs."""
    write_images(folder, {"a.mrcs": 4})
    columns = particle_columns(["a.mrcs"] * 4, range(4))
    columns["blob/psize_A"] = np.full(4, PIXEL_SIZE, np.float32)
    columns["blob/shape"] = np.full((4, 2), BOX, np.uint32)
    del columns["blob/sign"]
    if signs is not None:
        columns["blob/sign"] = np.array(signs, np.float32)
    return write_cs(folder / "a.cs", columns)


def converted_table(table: Path, out: str, **options: Any) -> WrittenStack:
    folder = table.parent / out
    convert_particle_stacks_from_indexed_cryosparc_file(params(), table, table.parent, folder_output=folder, **(NO_PLOTS | options))
    (stack,) = read_stacks(folder)
    return stack


@pytest.mark.parametrize("options", [{}, {"downsample_factor": 2, "downsample_type": "max"}], ids=["whole", "max"])
def test_invert_multiplies_before_downsampling(tmp_path: Path, options: dict[str, Any]) -> None:
    particles = write_particle_set(tmp_path / "as-is", {"a.mrcs": 3})
    (inverted,) = convert(particles, contrast="invert", **options)
    # Files of -1 times the pixels, converted as they are, must give the same.
    negative = write_particle_set(tmp_path / "negative", {"a.mrcs": 3})
    file = negative.mrc / "a.mrcs"
    content = file.read_bytes()
    file.write_bytes(content[:1024] + (-np.frombuffer(content[1024:], "<f4")).tobytes())
    (expected,) = convert(negative, **options)
    np.testing.assert_array_equal(inverted.fourier, expected.fourier)
    np.testing.assert_array_equal(inverted.physical, expected.physical)
    assert str(inverted.metadata["contrast"]) == "invert"
    assert verify_output(particles.folder / "out", deep=True) == []


def test_auto_multiplies_each_image_by_its_sign(tmp_path: Path) -> None:
    table = table_with_signs(tmp_path, SIGNS)
    as_is, auto = converted_table(table, "as-is"), converted_table(table, "auto", contrast="auto")
    factors = np.array(SIGNS, np.float32)[:, None, None]
    np.testing.assert_allclose(auto.physical, factors * as_is.physical, atol=1e-6)
    np.testing.assert_allclose(auto.fourier, factors * as_is.fourier, atol=1e-6)
    assert auto.metadata["sign"].tolist() == as_is.metadata["sign"].tolist() == SIGNS
    assert verify_output(tmp_path / "auto", deep=True) == []


def test_signs_survive_restacking(tmp_path: Path) -> None:
    converted_table(table_with_signs(tmp_path, SIGNS), "out", contrast="auto")
    restack(tmp_path / "out", tmp_path / "again", batch_size=3)
    stacks = read_stacks(tmp_path / "again")
    assert [stack.metadata["sign"].tolist() for stack in stacks] == [SIGNS[:3], SIGNS[3:]]


def test_mixed_signs_in_a_table_are_warned_about(tmp_path: Path) -> None:
    (warning,) = particles_from_cryosparc(table_with_signs(tmp_path, SIGNS), tmp_path).warnings
    assert "blob/sign is -1 (dark particles) for 2 of 4 particles" in warning
    assert "--contrast auto" in warning
    assert particles_from_cryosparc(table_with_signs(tmp_path, [-1] * 4), tmp_path).warnings == ()


@pytest.mark.parametrize("signs", [None, [1, 1, 0, 1]], ids=["no column", "no sign"])
def test_auto_without_a_sign_is_refused(tmp_path: Path, signs: list[float] | None) -> None:
    table = table_with_signs(tmp_path, signs)
    with pytest.raises(InputError, match="contrast='auto'") as caught:
        converted_table(table, "out", contrast="auto")
    assert f"{table}, particle {1 if signs is None else 3}" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_auto_is_refused_for_a_star_file(tmp_path: Path) -> None:
    refused(write_particle_set(tmp_path, {"a.mrcs": 2}), "particles.star, particle 1", "blob/sign", contrast="auto")


def test_leopard_ems_invert_is_the_same_switch(tmp_path: Path) -> None:
    write_mrc(tmp_path / "mic.mrc", np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32))
    table = write_rows(tmp_path / "picks.csv", rows_of_page(3, micrograph=str(tmp_path / "mic.mrc"), template_size=BOX))
    stacks = []
    for invert, contrast in ((True, "as-is"), (False, "invert")):
        particles = particles_from_leopard_em(table, BOX, invert=invert)
        descriptor = params(pixel_size=float(particles["pixel_size"][0]))
        Conversion(particles, descriptor, folder_output=tmp_path / contrast, flag_plots=False, contrast=contrast).run()
        stacks += read_stacks(tmp_path / contrast)
    np.testing.assert_array_equal(stacks[0].fourier, stacks[1].fourier)
    np.testing.assert_array_equal(stacks[0].physical, stacks[1].physical)
    with pytest.raises(InputError, match=r"picks\.csv.*Give only one of them"):
        Conversion(particles_from_leopard_em(table, BOX, invert=True), descriptor, contrast="invert")
