"""Conversions compared with the output of CryoLike's converter for the same input, and with exact values."""

from __future__ import annotations

import itertools
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from cryolike_dask import (
    ImageDescriptor,
    InputError,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
)
from tests.support.direct_transform import relative_error
from tests.support.independent_reader import WrittenStack, read_arrays, read_stacks
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import NO_PLOTS, assert_holds
from tests.support.reference import DATA, INPUT, REFERENCE, exact, needs_data, params_file, published, write_job

PER_IMAGE = ("defocusU", "defocusV", "defocusAngle", "phaseShift", "angleRotation", "angleTilt", "anglePsi")
SCALARS = ("voltage", "sphericalAberration", "amplitudeContrast", "radius_max", "dist_radii", "n_inplanes")
AS_PUBLISHED = 4e-6
EXACT = {"single": 1.5e-6, "double": 1e-11}

CASES: dict[str, dict[str, Any]] = {
    "single": {},
    "double": {},
    "ds2mean": {"downsample_factor": 2, "downsample_type": "mean"},
    "ds2max": {"downsample_factor": 2, "downsample_type": "max"},
    "res05_inpl61": {},
}
SUMMED = ("double", "ds2mean", "res05_inpl61")
"""The cases whose direct sum was computed."""


def joined(stacks: list[WrittenStack], key: str) -> np.ndarray:
    return np.concatenate([stack.metadata[key] for stack in stacks])


def compare_with_published(stacks: list[WrittenStack], case: str, name: str) -> None:
    wanted = published(case, name)
    assert [len(stack.fourier) for stack in stacks] == wanted["stack_sizes"].tolist()
    fourier = np.concatenate([stack.fourier for stack in stacks])
    assert fourier.dtype == wanted["fourier"].dtype
    assert relative_error(fourier, wanted["fourier"]) < AS_PUBLISHED
    for key in PER_IMAGE:
        if key in wanted:
            np.testing.assert_allclose(joined(stacks, key), wanted[key], rtol=1e-14)
        else:
            assert all(stack.metadata[key].size == 0 for stack in stacks)
    for stack in stacks:
        for key in SCALARS:
            assert stack.metadata[key] == wanted[key]
    if "phys" in wanted:
        np.testing.assert_allclose(np.concatenate([stack.physical for stack in stacks]), wanted["phys"], atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_indexed_star_file(tmp_path: Path, case: str) -> None:
    report = convert_particle_stacks_from_indexed_star_file(
        params_file(case), INPUT / "particles.star", INPUT / "mrc", folder_output=tmp_path, batch_size=10, **CASES[case], **NO_PLOTS
    )
    assert [stack.n_images for stack in report.stacks] == [10, 5]
    stacks = read_stacks(tmp_path)
    compare_with_published(stacks, case, "indexed_star")
    if case in SUMMED:
        fourier = np.concatenate([stack.fourier for stack in stacks])
        assert relative_error(fourier, exact(case)) < EXACT[str(stacks[0].metadata["precision"])]


def test_recorded_paths_are_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(INPUT)
    convert_particle_stacks_from_indexed_star_file(
        params_file("single"), "particles.star", folder_output=tmp_path, batch_size=10, **NO_PLOTS
    )
    compare_with_published(read_stacks(tmp_path), "single", "indexed_star")


def test_paired_star_and_mrc_files(tmp_path: Path) -> None:
    names = ("A", "B", "C")
    convert_particle_stacks_from_paired_star_and_mrc_files(
        params_file("single"),
        [INPUT / "mrc" / f"{name}.mrcs" for name in names],
        [INPUT / f"{name}.star" for name in names],
        folder_output=tmp_path,
        batch_size=5,
        **NO_PLOTS,
    )
    compare_with_published(read_stacks(tmp_path), "single", "paired")


def test_indexed_cryosparc_file(tmp_path: Path) -> None:
    convert_particle_stacks_from_indexed_cryosparc_file(
        params_file("single"),
        INPUT / "particles.cs",
        INPUT / "mrc",
        folder_output=tmp_path,
        batch_size=10,
        **NO_PLOTS,
    )
    stacks = read_stacks(tmp_path)
    compare_with_published(stacks, "single", "indexed_cs")
    np.testing.assert_array_equal(joined(stacks, "uid"), np.load(INPUT / "particles.cs")["uid"])


def test_cryosparc_job_directory(tmp_path: Path) -> None:
    convert_particle_stacks_from_cryosparc_job_directory(
        params_file("single"),
        write_job(tmp_path / "job"),
        2,
        folder_output=tmp_path / "out",
        batch_size=4,
        n_stacks_max=2,
        **NO_PLOTS,
    )
    compare_with_published(read_stacks(tmp_path / "out"), "single", "job")


@pytest.fixture
def empiar_params() -> ImageDescriptor:
    return ImageDescriptor.from_individual_values(320, 1.31, resolution_factor=0.25, n_inplanes=64)


@needs_data
@pytest.mark.parametrize("source", ["star", "cs"])
def test_real_particles_of_empiar_10076(tmp_path: Path, source: str, empiar_params: ImageDescriptor) -> None:
    if source == "star":
        table = DATA / "empiar_10076_7.star"
        convert_particle_stacks_from_indexed_star_file(empiar_params, table, DATA, folder_output=tmp_path, **NO_PLOTS)
    else:
        table = DATA / "empiar_10076_7.cs"
        convert_particle_stacks_from_indexed_cryosparc_file(empiar_params, table, DATA, folder_output=tmp_path, **NO_PLOTS)
    published = read_arrays(REFERENCE / "empiar_10076_7" / "indexed_cs.npz")
    (stack,) = read_stacks(tmp_path)
    assert relative_error(stack.fourier, published["fourier"]) < AS_PUBLISHED
    assert len(stack.fourier) == published["stack_sizes"][0]


@needs_data
def test_star_and_cs_of_the_same_particles_give_the_same_stacks(tmp_path: Path, empiar_params: ImageDescriptor) -> None:
    convert_particle_stacks_from_indexed_star_file(
        empiar_params, DATA / "empiar_10076_7.star", DATA, folder_output=tmp_path / "star", **NO_PLOTS
    )
    convert_particle_stacks_from_indexed_cryosparc_file(
        empiar_params, DATA / "empiar_10076_7.cs", DATA, folder_output=tmp_path / "cs", **NO_PLOTS
    )
    (from_star,), (from_cs,) = read_stacks(tmp_path / "star"), read_stacks(tmp_path / "cs")
    np.testing.assert_array_equal(from_star.fourier, from_cs.fourier)
    np.testing.assert_array_equal(from_star.metadata["idxs"], from_cs.metadata["idxs"])
    for key in ("defocusU", "defocusV", "defocusAngle", *SCALARS):
        # cryoSPARC stores single precision, STAR a few decimals.
        np.testing.assert_allclose(from_star.metadata[key], from_cs.metadata[key], rtol=1e-5, atol=1e-5)


@needs_data
def test_blocks_in_either_order_give_the_same_stacks(tmp_path: Path) -> None:
    params = ImageDescriptor.from_individual_values(256, 2.806, resolution_factor=0.25, n_inplanes=64)
    for name in ("relion31", "relion31.v2"):
        convert_particle_stacks_from_indexed_star_file(
            params, DATA / f"{name}.star", DATA, folder_output=tmp_path / name, **NO_PLOTS
        )
    (first,), (second,) = read_stacks(tmp_path / "relion31"), read_stacks(tmp_path / "relion31.v2")
    np.testing.assert_array_equal(first.fourier, second.fourier)
    assert len(first.fourier) == 5
    different = {key for key, value in first.metadata.items() if not np.array_equal(value, second.metadata[key])}
    assert different == {"source_table", "fingerprint"}


@needs_data
def test_exported_cryosparc_sets_prefix_their_paths(tmp_path: Path) -> None:
    table = np.load(DATA / "cryosparc_J2_particles_exported.cs")
    recorded = sorted({path.decode() for path in table["blob/path"]})
    assert all(path.startswith(">") for path in recorded)
    # The images themselves are not published. These substitutes have the box size of the table, and one pixel that is not zero.
    images = {}
    box = int(table["blob/shape"][0][0])
    for name in (Path(path).name for path in recorded):
        n = int(table["blob/idx"].max()) + 1
        images[name] = np.random.default_rng(n).normal(size=(n, box, box)).astype(np.float32)
        (tmp_path / name).write_bytes(pack_mrc(images[name], 2))
    params = ImageDescriptor.from_individual_values(box // 25, float(table["blob/psize_A"][0]) * 25)
    convert_particle_stacks_from_indexed_cryosparc_file(
        params,
        DATA / "cryosparc_J2_particles_exported.cs",
        tmp_path,
        folder_output=tmp_path / "out",
        downsample_factor=25,
        **NO_PLOTS,
    )
    listed = [(Path(row["blob/path"].decode()).name, int(row["blob/idx"])) for row in table]
    assert_holds(read_stacks(tmp_path / "out"), images, listed, 25)


SIX_GROUPS = DATA / "relion31.6opticsgroups.star"


@pytest.fixture(scope="session")
def six_groups(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[tuple[str, int, int]]]:
    """A folder with images for the published table of six optics groups: (file, index, optics group) of its rows."""
    rows = [line.split() for line in SIX_GROUPS.read_text().splitlines() if "_shiny.mrcs" in line]
    listed = []
    for row in rows:
        number, _, path = row[9].partition("@")
        listed.append((Path(path).name, int(number) - 1, int(row[10])))
    folder = tmp_path_factory.mktemp("six_groups")
    random = np.random.default_rng(6)
    images: dict[str, Any] = {}
    for name, index, _ in listed:
        if name not in images:
            n = 1 + max(other for file, other, _ in listed if file == name)
            header = bytearray(pack_mrc(np.empty((0, 196, 196), np.float32), 2, pixel_size=0))
            struct.pack_into("<i", header, 8, n)
            (folder / name).write_bytes(header)
            os.truncate(folder / name, 1024 + n * 4 * 196 * 196)  # images that the table does not name stay holes
            images[name] = {}
        images[name][index] = np.kron(random.normal(size=(14, 14)), np.ones((14, 14))).astype(np.float32)
        with (folder / name).open("r+b") as file:
            file.seek(1024 + index * 4 * 196 * 196)
            file.write(images[name][index].tobytes())
    return folder, images, listed


@needs_data
def test_six_optics_groups_are_an_error_that_names_them(six_groups: Any, tmp_path: Path) -> None:
    params = ImageDescriptor.from_individual_values(196, 1.25, resolution_factor=0.1, n_inplanes=8)
    with pytest.raises(InputError, match="mixed_optics='split'") as caught:
        convert_particle_stacks_from_indexed_star_file(params, SIX_GROUPS, six_groups[0], folder_output=tmp_path / "out")
    # Voltage and contrast are the same in all six groups; there are three pairs of pixel size and Cs.
    assert "1.25 Å per pixel" in str(caught.value)
    assert "1.24 Å per pixel" in str(caught.value)
    assert "Cs 2.6 mm" in str(caught.value)
    assert set(re.findall(r"opticsGroup\d", str(caught.value))) == {f"opticsGroup{number}" for number in range(1, 7)}
    assert not (tmp_path / "out").exists()


@needs_data
def test_six_optics_groups_are_split_on_request(six_groups: Any, tmp_path: Path) -> None:
    folder, images, listed = six_groups
    params = ImageDescriptor.from_individual_values(14, 17.5)
    report = convert_particle_stacks_from_indexed_star_file(
        params, SIX_GROUPS, folder, folder_output=tmp_path, mixed_optics="split", downsample_factor=14, **NO_PLOTS
    )
    stacks = read_stacks(tmp_path)
    assert_holds(stacks, images, [(name, index) for name, index, _ in listed], 14)
    optics = starfile.read(SIX_GROUPS, always_dict=True)["optics"].set_index("rlnOpticsGroup")
    wanted = [optics.loc[group, ["rlnImagePixelSize", "rlnSphericalAberration"]].tolist() for _, _, group in listed]
    found = [
        [stack.metadata["pixel_size"][0] / 14, float(stack.metadata["sphericalAberration"])]
        for stack in stacks
        for _ in range(len(stack.fourier))
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    # As few stacks as the order of the table allows: one per run of rows with equal optics.
    assert len(stacks) == 1 + sum(before != after for before, after in itertools.pairwise(wanted))
    assert any("different pixel sizes" in line for line in report.warnings)
    exported = starfile.read(tmp_path / "particles.star", always_dict=True)
    groups = exported["optics"].set_index("rlnOpticsGroup")
    back = [
        groups.loc[group, ["rlnImagePixelSize", "rlnSphericalAberration"]].tolist()
        for group in exported["particles"]["rlnOpticsGroup"]
    ]
    np.testing.assert_allclose(back, wanted, rtol=1e-12)
