"""The files of an output folder, read with numpy and torch alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from cryolike_dask import (
    ImageDescriptor,
    __version__,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    load_stack,
)
from tests.support.conversions import files_of
from tests.support.cs_files import particle_columns, write_cs
from tests.support.independent_reader import DESCRIPTOR, MAY_BE_ABSENT, PER_IMAGE, SCALARS, WrittenStack, read_arrays, read_stacks
from tests.support.particle_sets import (
    BOX,
    NO_PLOTS,
    PIXEL_SIZE,
    ParticleSet,
    assert_holds,
    params,
    write_images,
    write_particle_set,
    write_star,
)
from tests.support.star_files import SINGLE, loop, text, without_column

REQUIRED = {*DESCRIPTOR, *PER_IMAGE, *SCALARS, "ref_pixel_size", "files", "idxs", "n_images"}


def convert(particles: ParticleSet, folder: Path, **options: Any) -> list[WrittenStack]:
    convert_particle_stacks_from_indexed_star_file(
        options.pop("params_input", particles.folder / "params.npz"),
        particles.star,
        particles.mrc,
        folder_output=folder,
        **{"batch_size": 10, **NO_PLOTS, **options},
    )
    return read_stacks(folder)


def test_every_file_of_a_run_has_its_name_and_no_other_is_left(abc: ParticleSet, tmp_path: Path) -> None:
    convert(abc, tmp_path, flag_plots=True)
    counters = ("000000", "000001")
    assert set(files_of(tmp_path)) == {
        *(f"fft/particles_fourier_stack_{counter}.{end}" for counter in counters for end in ("pt", "npz")),
        *(f"phys/particles_phys_stack_{counter}.pt" for counter in counters),
        *(
            f"plots/{kind}_stack_{counter}.png"
            for counter in counters
            for kind in ("particles_phys", "particles_fourier", "power_spectrum")
        ),
        *("params.npz", "manifest.json", "particles.star", "report.html"),
    }


def test_every_required_key_is_there(abc: ParticleSet, tmp_path: Path) -> None:
    for stack in convert(abc, tmp_path):
        assert set(stack.metadata) >= REQUIRED
        assert not {"stack_start", "stack_end"} & set(stack.metadata)


def test_columns_are_those_of_the_table_in_radians_and_angstrom(abc: ParticleSet, tmp_path: Path) -> None:
    stacks = convert(abc, tmp_path)
    columns = {key: np.concatenate([stack.metadata[key] for stack in stacks]) for key in PER_IMAGE}
    i = np.arange(15)
    np.testing.assert_array_equal(columns["defocusU"], 10000.5 + 10 * i)
    np.testing.assert_array_equal(columns["defocusV"], 9900.25 + 10 * i)
    for key, degrees in (
        ("defocusAngle", i % 180),
        ("phaseShift", i % 90),
        ("angleRotation", i - 20),
        ("angleTilt", i),
        ("anglePsi", 2 * i),
    ):
        np.testing.assert_allclose(columns[key], np.pi * degrees / 180, rtol=1e-14, err_msg=key)
    np.testing.assert_array_equal(columns["ctfBfactor"], i / 4)
    np.testing.assert_array_equal(columns["ctfScalefactor"], 1 + i / 8)
    for stack in stacks:
        assert stack.metadata["voltage"] == 300
        assert stack.metadata["sphericalAberration"] == 2.7
        assert stack.metadata["amplitudeContrast"] == 0.07
        assert stack.metadata["ref_pixel_size"].tolist() == [PIXEL_SIZE, PIXEL_SIZE]
        assert all(Path(str(file)).is_absolute() and Path(str(file)).is_file() for file in stack.metadata["files"])


def test_images_have_unit_norm_and_lie_where_the_metadata_say(abc: ParticleSet, tmp_path: Path) -> None:
    assert_holds(convert(abc, tmp_path), abc.images, abc.listed)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_precision_asked_for_is_the_precision_written(abc: ParticleSet, tmp_path: Path, precision: str) -> None:
    stacks = convert(abc, tmp_path, params_input=params(precision=precision))
    assert {stack.fourier.dtype for stack in stacks} == {np.dtype("c8" if precision == "single" else "c16")}
    assert {stack.physical.dtype for stack in stacks if stack.physical is not None} == {np.dtype("f4")}
    assert_holds(stacks, abc.images, abc.listed, tolerance=1.5e-6 if precision == "single" else 1e-11)


def test_absent_values_are_empty_arrays(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.mrcs": 3})
    table = {**SINGLE, "rlnImageName": ["1@a.mrcs", "2@a.mrcs", "3@a.mrcs", "1@a.mrcs"]}
    (tmp_path / "p.star").write_text(text(loop("", table)))
    descriptor = ImageDescriptor.from_individual_values(12, 2.0, atom_selection=None)
    convert_particle_stacks_from_indexed_star_file(
        descriptor, tmp_path / "p.star", tmp_path, folder_output=tmp_path / "out", **NO_PLOTS
    )
    (stack,) = read_stacks(tmp_path / "out")
    absent = {key for key in REQUIRED if stack.metadata[key].shape == (0,)}
    assert absent == {"angleRotation", "angleTilt", "anglePsi", "ref_pixel_size", "atom_radii", "atom_selection"}
    assert absent <= MAY_BE_ABSENT
    # The format page's defaults.
    np.testing.assert_array_equal(stack.metadata["phaseShift"], np.zeros(4))
    np.testing.assert_array_equal(stack.metadata["ctfBfactor"], np.zeros(4))
    np.testing.assert_array_equal(stack.metadata["ctfScalefactor"], np.ones(4))
    assert stack.metadata["amplitudeContrast"] == 0.1


def test_default_amplitude_contrast_is_a_tenth(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.mrcs": 3})
    table = without_column({**SINGLE, "rlnImageName": ["1@a.mrcs"] * 4}, "rlnAmplitudeContrast")
    (tmp_path / "p.star").write_text(text(loop("particles", table)))
    convert_particle_stacks_from_indexed_star_file(
        params(), tmp_path / "p.star", tmp_path, folder_output=tmp_path / "out", **NO_PLOTS
    )
    assert read_stacks(tmp_path / "out")[0].metadata["amplitudeContrast"] == 0.1


def test_descriptor_is_copied_to_the_last_bit(abc: ParticleSet, tmp_path: Path) -> None:
    descriptor = ImageDescriptor(
        n_pixels=(12, 12),
        pixel_size=(2.0 + 2**-40, 2.0 + 2**-40),
        radius_max=2.9999999999999996,
        dist_radii=0.25000000000000006,
        n_inplanes=25,
        viewing_distance=0.1 + 0.2,
        atom_radii=1 / 3,
    )
    for stack in convert(abc, tmp_path, params_input=descriptor):
        for key in DESCRIPTOR:
            np.testing.assert_array_equal(stack.metadata[key], np.asarray(getattr(descriptor, key)), err_msg=key)
    saved = read_arrays(tmp_path / "params.npz")
    assert set(saved) == set(DESCRIPTOR)
    assert ImageDescriptor.load(tmp_path / "params.npz") == descriptor


def test_without_physical_images(abc: ParticleSet, tmp_path: Path) -> None:
    with_them, without = convert(abc, tmp_path / "with"), convert(abc, tmp_path / "without", save_phys=False)
    assert not list((tmp_path / "without").rglob("*phys*"))
    for ours, theirs in zip(without, with_them, strict=True):
        assert ours.physical is None
        np.testing.assert_array_equal(ours.fourier, theirs.fourier)


def test_uids_of_cryosparc_are_kept(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 4}, pixel_size=1.5)
    columns = particle_columns(["a.mrcs"] * 4, [3, 1, 0, 2], BOX)
    write_cs(tmp_path / "p.cs", columns)
    convert_particle_stacks_from_indexed_cryosparc_file(
        params(pixel_size=1.5), tmp_path / "p.cs", tmp_path, folder_output=tmp_path / "out", batch_size=3, **NO_PLOTS
    )
    stacks = read_stacks(tmp_path / "out")
    assert_holds(stacks, images, [("a.mrcs", i) for i in (3, 1, 0, 2)])
    assert [stack.metadata["uid"].dtype for stack in stacks] == [np.uint64] * 2
    np.testing.assert_array_equal(np.concatenate([stack.metadata["uid"] for stack in stacks]), columns["uid"])


def test_never_combined_stacks_tell_their_place_in_their_file(tmp_path: Path) -> None:
    counts = {"A.mrcs": 7, "B.mrcs": 2, "C.mrcs": 6}
    images = write_images(tmp_path, counts)
    for name, n in counts.items():
        write_star(tmp_path / f"{name}.star", [(name, i) for i in range(n)])
    convert_particle_stacks_from_paired_star_and_mrc_files(
        params(),
        [tmp_path / name for name in counts],
        [tmp_path / f"{name}.star" for name in counts],
        folder_output=tmp_path / "out",
        batch_size=5,
        **NO_PLOTS,
    )
    stacks = read_stacks(tmp_path / "out")
    assert_holds(stacks, images, [(name, i) for name, n in counts.items() for i in range(n)])
    offsets = [(int(stack.metadata["stack_start"]), int(stack.metadata["stack_end"])) for stack in stacks]
    assert offsets == [(0, 5), (5, 7), (0, 2), (0, 5), (5, 6)]
    for stack in stacks:
        assert {stack.metadata[key].dtype for key in ("stack_start", "stack_end")} == {np.dtype(np.int64)}
        assert len(set(stack.metadata["files"].tolist())) == 1


def test_the_manifest_records_what_was_done(abc: ParticleSet, tmp_path: Path) -> None:
    stacks = convert(abc, tmp_path, downsample_factor=1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["version"] == __version__
    assert manifest["status"] == "complete"
    assert (manifest["n_stacks"], manifest["n_images"]) == (2, 15)
    assert manifest["pixel_size_from"] == "table"
    assert [stack["n_images"] for stack in manifest["stacks"]] == [10, 5]
    assert manifest["identity"]["settings"]["batch_size"] == 10
    assert manifest["identity"]["descriptor"]["n_pixels"] == [12, 12]
    assert manifest["identity"]["sources"][0]["table"] == str(abc.star)
    assert {str(stack.metadata["fingerprint"]) for stack in stacks} == {manifest["fingerprint"]}


def test_exported_star_file_finds_every_image_of_the_stacks(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "set", {"a.mrcs": 5, "b.mrcs": 6}, shuffle=True)
    stacks = convert(particles, tmp_path / "out", params_input=params(), batch_size=4)
    exported = starfile.read(tmp_path / "out" / "particles.star", always_dict=True)
    rows = exported["particles"]
    images = []
    for _, row in rows.iterrows():
        stack = stacks[row["cryolikeStack"]]
        position = row["cryolikeStackPosition"]
        number, _, path = row["rlnImageName"].partition("@")
        assert str(stack.metadata["files"][position]) == path
        assert stack.metadata["idxs"][position] == int(number) - 1
        assert stack.metadata["defocusU"][position] == row["rlnDefocusU"]
        images.append((Path(path).name, int(number) - 1))
    assert images == list(particles.listed)
    assert exported["optics"]["rlnImagePixelSize"].tolist() == [PIXEL_SIZE]
    assert exported["optics"]["rlnImageSize"].tolist() == [12]


def test_load_stack_gives_what_lies_on_disk(abc: ParticleSet, tmp_path: Path) -> None:
    for stack in convert(abc, tmp_path):
        loaded = load_stack(tmp_path, stack.counter)
        np.testing.assert_array_equal(loaded.fourier.numpy(), stack.fourier)
        assert loaded.physical is not None
        assert stack.physical is not None
        np.testing.assert_array_equal(loaded.physical.numpy(), stack.physical)
        assert set(loaded.metadata) == set(stack.metadata)
