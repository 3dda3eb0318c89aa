"""Particles moved to the middle of their images, compared with the same objects drawn there, for every kind of conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import starfile
import torch
from click.testing import CliRunner

from cryolike_dask import (
    Conversion,
    OutputError,
    convert_particle_stacks_from_indexed_cryosparc_file,
    load_stack,
    open_store,
    particles_from_star,
    restack,
    verify_output,
)
from cryolike_dask.cli.main import main
from cryolike_dask.runs.deep_check import differences_from_source
from cryolike_dask.runs.manifest import read_manifest
from cryolike_dask.transform.gpu import TorchTransform
from tests.file_conversions.test_axes import (
    ORIENTATIONS,
    SIMULATED_BOX,
    SIMULATED_PIXEL,
    cryolike_template,
    likeness,
    relion_projection,
)
from tests.support.conversions import convert, refused
from tests.support.cs_files import particle_columns, write_cs
from tests.support.direct_transform import polar_grid, relative_error
from tests.support.independent_reader import WrittenStack, read_stacks
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import NO_PLOTS, ParticleSet, optics_table, params, write_particle_set, write_star
from tests.support.shifted_objects import PIXEL, shifted_set

BOX = 64
ORIGINS = np.array([[3.0, -1.5], [-0.37, 2.25], [0.0, 0.0], [1.0, 4.0], [-3.3, -3.1]])
"""rlnOriginX and rlnOriginY in pixels: nothing symmetric about them."""
TOLERANCE = {"single": 1e-6, "double": 5e-8}
"""The MRC files hold float32."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ParticleSet, ParticleSet]:
    return shifted_set(tmp_path_factory.mktemp("sets"), ORIGINS, width=5.0, box=128, radius=12.0)


def stacked(stacks: list[WrittenStack]) -> npt.NDArray[Any]:
    return np.concatenate([stack.fourier for stack in stacks])


DOWNSAMPLING: dict[str, dict[str, Any]] = {
    "as it is": {},
    "mean": {"downsample_factor": 2},
    "fourier": {"downsample_factor": 2, "downsample_type": "fourier"},
    "to 77": {"downsample_to": 77, "downsample_type": "fourier"},
}


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("axes", ["cryolike", "relion"])
@pytest.mark.parametrize("kind", DOWNSAMPLING)
def test_the_result_is_that_of_an_object_in_the_middle(
    sets: tuple[ParticleSet, ParticleSet], kind: str, axes: str, precision: str, tmp_path: Path
) -> None:
    there, in_middle = (ParticleSet(tmp_path / name, one.images, one.listed) for name, one in zip("ab", sets, strict=True))
    for one, original in zip((there, in_middle), sets, strict=True):
        one.folder.symlink_to(original.folder)
    options = {"axes": axes, "batch_size": 2, **DOWNSAMPLING[kind]}
    descriptor, out = params(128, PIXEL, precision=precision, resolution_factor=0.5), f"{kind}-{axes}-{precision}"
    centred_there = convert(there, descriptor, f"{out}-applied", apply_origins=True, **options)
    expected = convert(in_middle, descriptor, f"{out}-expected", **options)
    assert relative_error(stacked(centred_there), stacked(expected)) < TOLERANCE[precision]
    for ours, theirs in zip(centred_there, expected, strict=True):
        assert ours.physical is not None
        assert theirs.physical is not None
        for image, wanted in zip(ours.physical, theirs.physical, strict=True):
            scale = (image * wanted).sum() / (wanted * wanted).sum()  # each has its own brightest pixel
            np.testing.assert_allclose(image, scale * wanted, atol=2e-6)
    uncentred = convert(there, descriptor, f"{out}-not-applied", **options)
    assert relative_error(stacked(uncentred), stacked(expected)) > 0.1
    assert verify_output(there.folder / f"{out}-applied", deep=True) == []


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_the_sign_is_that_by_which_pyem_projects(sets: tuple[ParticleSet, ParticleSet], axes: str, tmp_path: Path) -> None:
    """pyem's `project.py` makes the image of a particle with an origin from the one in the middle by exp(-2 pi i (-x sx - y sy))."""
    _, in_middle = sets
    sx, sy = np.meshgrid(np.fft.rfftfreq(128), np.fft.fftfreq(128))
    origins = [(6, 10), (-2.5, 0.75)]
    projected = [
        np.fft.irfft2(np.fft.rfft2(in_middle.image(i)) * np.exp(-2 * np.pi * 1j * (-x * sx + -y * sy)))
        for i, (x, y) in enumerate(origins)
    ]
    # As ASPIRE's documentation has it: by the origin (6, 10) the particle lies 6 pixels to the left and 10 pixels up.
    np.testing.assert_allclose(projected[0], np.roll(in_middle.image(0), (-10, -6), axis=(0, 1)), atol=1e-5)
    (tmp_path / "mrc").mkdir()
    (tmp_path / "mrc" / "a.mrcs").write_bytes(pack_mrc(np.stack(projected).astype(np.float32), 2, pixel_size=PIXEL))
    columns = {f"rlnOrigin{axis}Angst": [str(origin[i] * PIXEL) for origin in origins] for i, axis in enumerate("XY")}
    listed = [("a.mrcs", 0), ("a.mrcs", 1)]
    write_star(tmp_path / "particles.star", listed, "mrc/", optics=optics_table(rlnImagePixelSize=[str(PIXEL)]), **columns)
    descriptor = params(128, PIXEL, resolution_factor=0.5)
    (centred,) = convert(ParticleSet(tmp_path, {}, tuple(listed)), descriptor, axes=axes, apply_origins=True)
    middle = ParticleSet(tmp_path / "middle", in_middle.images, in_middle.listed)
    middle.folder.symlink_to(in_middle.folder)
    (expected,) = convert(middle, descriptor, f"of-pyem-{axes}", axes=axes)
    assert relative_error(centred.fourier, expected.fourier[:2]) < 2e-6


def pose_of(angles: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """cryoSPARC's rotation vector for rot, tilt, psi in degrees: of Rz(rot) Ry(tilt) Rz(psi), from the image's frame to the structure's."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    about_z = [np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) for c, s in ((ca, sa), (cg, sg))]
    turn = about_z[0] @ np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]]) @ about_z[1]
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])  # 2 sin(angle) long
    return np.asarray(axis / np.linalg.norm(axis) * np.arctan2(np.linalg.norm(axis) / 2, (np.trace(turn) - 1) / 2))


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_poses_and_shifts_of_cryosparc_bring_projections_onto_cryolikes_templates(axes: str, tmp_path: Path) -> None:
    """A molecule about nothing symmetric, seen in known orientations and elsewhere than in the middle; shifts are in coarser pixels."""
    shifts = np.array([[1.5, -2.0], [-1.0, 0.25], [0.5, 1.75]])  # of 6 Å, those of the images being 3 Å
    sx, sy = np.meshgrid(np.fft.rfftfreq(SIMULATED_BOX), np.fft.fftfreq(SIMULATED_BOX))
    images = [
        np.fft.irfft2(np.fft.rfft2(relion_projection(angles)) * np.exp(-2j * np.pi * (-2 * x * sx - 2 * y * sy)))
        for angles, (x, y) in zip(ORIENTATIONS, shifts, strict=True)
    ]
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(np.stack(images).astype(np.float32), 2, pixel_size=SIMULATED_PIXEL))
    columns = particle_columns(["a.mrcs"] * 3, [0, 1, 2], SIMULATED_BOX)
    columns["blob/psize_A"] = np.full(3, SIMULATED_PIXEL)
    columns |= {
        "alignments3D/shift": shifts,
        "alignments3D/psize_A": np.full(3, 2 * SIMULATED_PIXEL),
        "alignments3D/pose": np.stack([pose_of(angles) for angles in ORIENTATIONS]),
    }
    table, descriptor = write_cs(tmp_path / "p.cs", columns), params(SIMULATED_BOX, SIMULATED_PIXEL, resolution_factor=0.9)
    for applied in (True, False):
        out = tmp_path / f"out{applied}"
        convert_particle_stacks_from_indexed_cryosparc_file(
            descriptor, table, tmp_path, out, axes=axes, apply_origins=applied, **NO_PLOTS
        )
        (stack,) = read_stacks(out)
        for i in range(3):
            rot, tilt, psi = (float(stack.metadata[key][i]) for key in ("poseRotation", "poseTilt", "posePsi"))
            if axes == "cryolike":
                rot, tilt, psi = rot + np.pi, np.pi - tilt, 1.5 * np.pi - psi
            found = likeness(stack, i, cryolike_template(stack, rot, tilt, psi))
            assert found > 0.999 if applied else found < 0.9


@pytest.fixture
def particles(tmp_path: Path) -> ParticleSet:
    """Noise, so that nothing is special about it."""
    return write_particle_set(
        tmp_path,
        {"a.mrcs": 3, "b.mrcs": 2},
        shuffle=True,
        rlnOriginXAngst=[3, -2.5, 0.25, 7, 1],
        rlnOriginYAngst=["-1", "4.125", "0", "2", "-6"],
        rlnOriginXPriorAngst="1",
        rlnMicrographName="m.mrc",
    )


def phases(stack: WrittenStack) -> npt.NDArray[np.complex128]:
    """exp(-i k s) on the polar grid of a stack with the default axes: x is the row index, which is RELION's y."""
    m = stack.metadata
    grid = polar_grid(float(m["radius_max"]), float(m["dist_radii"]), int(m["n_inplanes"]))
    radius, angle = np.meshgrid(grid.radii, grid.angles, indexing="ij")
    per_pixel = 4 * np.pi * radius / float(m["n_pixels"][0])
    shifts = np.stack([m["originY"], m["originX"]]) / float(m["pixel_size"][0])
    along = np.cos(angle) * shifts[0][:, None, None] + np.sin(angle) * shifts[1][:, None, None]
    return np.asarray(np.exp(-1j * per_pixel * along))


@pytest.mark.parametrize(
    "options",
    [{}, {"downsample_factor": 2, "downsample_type": "max"}, {"downsample_factor": 3}, {"contrast": "invert"}],
    ids=str,
)
def test_images_get_the_phase_of_their_origin(particles: ParticleSet, options: dict[str, Any]) -> None:
    small = params(resolution_factor=0.3)
    plain, applied = (convert(particles, small, f"out{on}", apply_origins=bool(on), batch_size=3, **options) for on in (0, 1))
    for before, after in zip(plain, applied, strict=True):
        assert after.metadata["originX"].tolist() == before.metadata["originX"].tolist()
        assert bool(after.metadata["apply_origins"])
        assert not bool(before.metadata["apply_origins"])
        assert relative_error(after.fourier, before.fourier * phases(after)) < 1e-6
        np.testing.assert_allclose(after.metadata["power_spectrum"], before.metadata["power_spectrum"], rtol=1e-12)
    assert verify_output(particles.folder / "out1", deep=True) == []


def test_each_stack_counts_in_pixels_of_its_own(tmp_path: Path) -> None:
    particles = write_particle_set(
        tmp_path,
        {"a.mrcs": 4},
        optics=optics_table(2, rlnImagePixelSize=["2", "4"]),
        groups=[1, 1, 2, 2],
        rlnOriginXAngst="2",
        rlnOriginYAngst="-4",
    )
    plain, applied = (convert(particles, out=f"out{on}", apply_origins=bool(on), mixed_optics="split") for on in (0, 1))
    assert [float(stack.metadata["pixel_size"][0]) for stack in applied] == [2, 4]
    for before, after in zip(plain, applied, strict=True):
        assert relative_error(after.fourier, before.fourier * phases(after)) < 1e-6


def test_the_option_is_part_of_the_identity_of_a_run(particles: ParticleSet) -> None:
    convert(particles, out="out", batch_size=3)
    with pytest.raises(OutputError, match=r"settings\.apply_origins: False there, True now"):
        convert(particles, out="out", batch_size=3, apply_origins=True, skip_exist=True)


def test_a_run_is_continued(particles: ParticleSet) -> None:
    convert(particles, out="whole", batch_size=2, apply_origins=True)
    convert(particles, out="parts", batch_size=2, apply_origins=True, n_stacks_max=1)
    convert(particles, out="parts", batch_size=2, apply_origins=True, skip_exist=True)
    for whole, parts in zip(read_stacks(particles.folder / "whole"), read_stacks(particles.folder / "parts"), strict=True):
        np.testing.assert_array_equal(whole.fourier, parts.fourier)


def test_it_is_recorded_in_the_manifest_and_on_the_page(particles: ParticleSet) -> None:
    convert(particles, apply_origins=True, flag_plots=True)
    manifest = read_manifest(particles.folder / "out")
    assert manifest is not None
    assert manifest["settings"]["apply_origins"] is True
    assert manifest["identity"]["settings"]["apply_origins"] is True
    page = (particles.folder / "out" / "report.html").read_text()
    assert '<th scope="row">apply origins</th><td>yes</td>' in page


def test_particles_star_is_that_of_the_centred_images(particles: ParticleSet) -> None:
    convert(particles, batch_size=3, apply_origins=True)
    written = starfile.read(particles.folder / "out" / "particles.star", always_dict=True)["particles"]
    assert set(written["rlnOriginXAngst"]) == {0}
    assert set(written["rlnOriginYAngst"]) == {0}
    assert written["cryolikeAppliedOriginXAngst"].tolist() == [3, -2.5, 0.25, 7, 1]
    assert written["cryolikeAppliedOriginYAngst"].tolist() == [-1, 4.125, 0, 2, -6]
    assert "rlnOriginXPriorAngst" not in written  # of the images as they were
    assert set(written["rlnMicrographName"]) == {"m.mrc"}


def test_converting_by_that_file_applies_the_same_origins_once_more(particles: ParticleSet) -> None:
    """The file names the source images, in which the particles have not moved."""
    first = convert(particles, batch_size=3, apply_origins=True)
    again = ParticleSet(particles.folder / "again", particles.images, particles.listed)
    again.folder.mkdir()
    again.mrc.symlink_to(particles.mrc)
    again.star.write_text((particles.folder / "out" / "particles.star").read_text())
    second = convert(again, batch_size=3, apply_origins=True)
    np.testing.assert_array_equal(stacked(first), stacked(second))
    convert(again, out="plain", batch_size=3)
    written = starfile.read(again.folder / "plain" / "particles.star", always_dict=True)["particles"]
    assert written["rlnOriginXAngst"].tolist() == [3, -2.5, 0.25, 7, 1]
    assert "cryolikeAppliedOriginXAngst" not in written


@pytest.mark.parametrize("output_format", ["pt", "zarr"])
def test_restacking_and_stores_keep_the_images_as_they_are(particles: ParticleSet, output_format: str) -> None:
    expected = convert(particles, out="expected", batch_size=5, apply_origins=True)
    table = particles_from_star(particles.star, particles.mrc)
    out = particles.folder / "first"
    Conversion(table, params(), folder_output=out, batch_size=2, apply_origins=True, output_format=output_format, **NO_PLOTS).run()
    if output_format == "zarr":
        np.testing.assert_array_equal(open_store(out).fourier.compute(), stacked(expected))
    restack(out, particles.folder / "again", batch_size=5, output_format="pt")
    again = read_stacks(particles.folder / "again")
    np.testing.assert_array_equal(stacked(again), stacked(expected))
    assert verify_output(particles.folder / "again", deep=True) == []
    stars = [(particles.folder / name / "particles.star").read_text() for name in ("expected", "again")]
    assert stars[0] == stars[1]


def test_arrays_and_graphs_are_what_is_written(particles: ParticleSet) -> None:
    expected = stacked(convert(particles, out="expected", batch_size=2, apply_origins=True))
    table = particles_from_star(particles.star, particles.mrc)
    options: dict[str, Any] = {"batch_size": 2, "apply_origins": True, **NO_PLOTS}
    array = Conversion(table, params(), **options).to_dask_array()
    np.testing.assert_array_equal(array.compute(scheduler="synchronous"), expected)
    plain = Conversion(table, params(), **(options | {"apply_origins": False})).to_dask_array()
    assert plain.name != array.name
    out = particles.folder / "graph"
    dask.compute(*Conversion(table, params(), folder_output=out, **options).to_delayed(), scheduler="synchronous")
    np.testing.assert_array_equal(stacked(read_stacks(out)), expected)


def test_the_device_path_gives_the_same(particles: ParticleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = stacked(convert(particles, out="expected", apply_origins=True))
    monkeypatch.setattr(
        "cryolike_dask.execution.chunks.make_transform",
        lambda descriptor, settings: TorchTransform(descriptor, settings.downsample_factor, settings.downsample_type, "cpu"),
    )
    on_device = stacked(convert(particles, out="device", apply_origins=True))
    assert relative_error(on_device, expected) < 3e-6


def test_bad_images_stay_zeros(tmp_path: Path) -> None:
    particles, _ = shifted_set(tmp_path, ORIGINS)
    with (particles.mrc / "a.mrcs").open("r+b") as file:
        file.seek(1024 + BOX * BOX * 4)
        file.write(np.ones(BOX * BOX, np.float32).tobytes())
    (stack,) = convert(particles, params(BOX, PIXEL), apply_origins=True, on_bad_image="zero")
    assert stack.metadata["zeroed"].tolist() == [1]
    assert not stack.fourier[1].any()
    assert verify_output(particles.folder / "out", deep=True) == []


def test_a_table_without_origins_is_refused(tmp_path: Path) -> None:
    message = refused(write_particle_set(tmp_path, {"a.mrcs": 3}), apply_origins=True)
    assert "apply_origins (--apply-origins)" in message
    assert "particle 1" in message
    assert "3 of 3 particles have none" in message


@pytest.mark.parametrize(("axis", "origin"), [("X", 12.5), ("Y", -24.0)])
def test_an_origin_outside_the_image_is_refused(axis: str, origin: float, tmp_path: Path) -> None:
    columns = {"rlnOriginXAngst": "0", "rlnOriginYAngst": "0"} | {f"rlnOrigin{axis}Angst": ["0", str(origin), "12"]}
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, **columns)
    message = refused(particles, "particle 2", f"origin of {origin:g} Å in {axis}", apply_origins=True)
    assert "24 Å wide in that direction (1 such particle)" in message
    convert(particles)  # without apply_origins, origins are not checked


def test_verification_notices_images_that_were_moved_differently(particles: ParticleSet) -> None:
    out = particles.folder / "out"
    convert(particles, apply_origins=True)
    path = out / "fft" / "particles_fourier_stack_000000.npz"
    with np.load(path) as metadata:
        changed = dict(metadata)
    changed["originX"] = -changed["originX"]
    np.savez(path, **changed)
    manifest = read_manifest(out)
    assert manifest is not None
    problems = list(differences_from_source(out, manifest, [0]))
    assert sum("in real space differs" in line for line in problems) == 5
    assert sum("(relative)" in line for line in problems) == 5


def test_verification_notices_another_image_in_real_space(particles: ParticleSet) -> None:
    out = particles.folder / "out"
    convert(particles, apply_origins=True)
    manifest = read_manifest(out)
    assert manifest is not None
    assert list(differences_from_source(out, manifest, [0])) == []
    stack = load_stack(out, 0)
    assert stack.physical is not None
    torch.save(torch.roll(stack.physical.clone(), 1, dims=2), out / "phys" / "particles_phys_stack_000000.pt")
    problems = list(differences_from_source(out, manifest, [0]))
    assert len(problems) == 5
    assert all("in real space differs" in line for line in problems)


def test_the_command_line_has_it(particles: ParticleSet) -> None:
    expected = stacked(convert(particles, out="expected", apply_origins=True))
    params_file = particles.folder / "params.npz"
    params().save(params_file)
    out = particles.folder / "cli"
    arguments = ["--params", params_file, "--mrc-folder", particles.mrc, "--out", out, "--no-plots", "--apply-origins", "--quiet"]
    result = CliRunner().invoke(main, ["convert", "star", str(particles.star), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(stacked(read_stacks(out)), expected)
    picture = ["--params", params_file, "--mrc-folder", particles.mrc, "--out", particles.folder / "p.png", "--apply-origins"]
    assert CliRunner().invoke(main, ["preview", str(particles.star), *map(str, picture)]).exit_code == 0
