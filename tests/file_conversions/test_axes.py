"""The axes: astigmatism and viewing angles of RELION's tables, compared with CryoLike's formulas on simulated images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask import (
    Conversion,
    OutputError,
    convert_particle_stacks_from_indexed_star_file,
    open_store,
    restack,
    verify_output,
)
from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from tests.support.conversions import convert, plan_of, refused
from tests.support.direct_transform import converted, polar_grid, relative_error
from tests.support.independent_reader import WrittenStack, read_stacks
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import BOX, ParticleSet, params, write_particle_set, write_star

Array = npt.NDArray[Any]

VOLTAGE, ABERRATION, CONTRAST = 300.0, 2.7, 0.07  # of the optics table
SIMULATED_BOX, SIMULATED_PIXEL = 64, 3.0


def wavelength() -> float:
    return float(12.2643 / np.sqrt(VOLTAGE * 1e3 + 0.97845e-6 * (VOLTAGE * 1e3) ** 2))


def phase_of_ctf(frequency: Array, angle: Array, u: float, v: float, axis: float) -> Array:
    """The phase of RELION's CTF. Frequencies are in 1/Å, angles in radians from the axis of the table's angles."""
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (angle - axis))
    return np.asarray(
        np.pi * wavelength() * defocus * frequency**2
        - np.pi / 2 * ABERRATION * 1e7 * wavelength() ** 3 * frequency**4
        + np.arcsin(CONTRAST)
    )


def relion_noise_images(n: int, u: float, v: float, degrees: float) -> npt.NDArray[np.float32]:
    """White noise with the CTF of a RELION table. The angle is measured from x, the column index, towards y, the row index."""
    y, x = np.meshgrid(*2 * [np.fft.fftfreq(SIMULATED_BOX, SIMULATED_PIXEL)], indexing="ij")
    ctf = np.sin(phase_of_ctf(np.hypot(x, y), np.arctan2(y, x), u, v, np.radians(degrees)))
    noise = np.random.default_rng(1).normal(size=(n, SIMULATED_BOX, SIMULATED_BOX))
    return np.fft.ifft2(np.fft.fft2(noise) * ctf).real.astype(np.float32)


def simulated_set(folder: Path, images: npt.NDArray[np.float32], **columns: Any) -> ParticleSet:
    (folder / "mrc").mkdir()
    (folder / "mrc" / "a.mrcs").write_bytes(pack_mrc(images, 2, pixel_size=SIMULATED_PIXEL))
    listed = [("a.mrcs", i) for i in range(len(images))]
    optics = {
        "rlnOpticsGroup": ["1"],
        "rlnVoltage": [str(VOLTAGE)],
        "rlnSphericalAberration": [str(ABERRATION)],
        "rlnAmplitudeContrast": [str(CONTRAST)],
        "rlnImagePixelSize": [str(SIMULATED_PIXEL)],
    }
    write_star(folder / "particles.star", listed, "mrc/", optics=optics, rlnPhaseShift="0", **columns)
    return ParticleSet(folder, {"a.mrcs": images}, tuple(listed))


def cryolike_ctf(stack: WrittenStack, degrees: float | None = None) -> Array:
    """CryoLike's CTF² on the polar grid of a stack for its first image. It uses |U - V|, and measures the angle from theta = 0.

    Args:
        stack: with the values of the CTF.
        degrees: another angle of astigmatism than the stack's.
    """
    m = stack.metadata
    grid = polar_grid(float(m["radius_max"]), float(m["dist_radii"]), int(m["n_inplanes"]))
    box = float(m["n_pixels"][0] * m["pixel_size"][0])
    u, v = float(m["defocusU"][0]), float(m["defocusV"][0])
    mean, half = (u + v) / 2, abs(u - v) / 2
    axis = float(m["defocusAngle"][0]) if degrees is None else np.radians(degrees)
    frequency = np.asarray(grid.radii)[:, None] * 2 / box
    phase = phase_of_ctf(frequency, np.asarray(grid.angles)[None, :], mean + half, mean - half, axis)
    return np.asarray(np.sin(phase) ** 2)


def correlation(stack: WrittenStack, expected: Array) -> float:
    """Correlation of the mean power of the images with the expected one, over the disc."""
    m = stack.metadata
    grid = polar_grid(float(m["radius_max"]), float(m["dist_radii"]), int(m["n_inplanes"]))
    power = (np.abs(stack.fourier.astype(np.complex128)) ** 2).mean(axis=0)
    weight = np.broadcast_to(np.asarray(grid.weights)[:, None], power.shape)
    a, b = (values - np.average(values, weights=weight) for values in (power, expected))
    return float((weight * a * b).sum() / np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))


ASTIGMATIC = {"u": 16000.0, "v": 14000.0, "degrees": 20.0}


@pytest.fixture
def astigmatic(tmp_path: Path) -> ParticleSet:
    images = relion_noise_images(200, **ASTIGMATIC)
    return simulated_set(tmp_path, images, rlnDefocusU="16000", rlnDefocusV="14000", rlnDefocusAngle="20")


def simulated_params() -> Any:
    return params(SIMULATED_BOX, SIMULATED_PIXEL, resolution_factor=0.9)


def test_with_relion_axes_the_stated_astigmatism_holds(astigmatic: ParticleSet) -> None:
    (stack,) = convert(astigmatic, simulated_params(), axes="relion")
    assert correlation(stack, cryolike_ctf(stack)) > 0.85
    assert correlation(stack, cryolike_ctf(stack, 90 - 20)) < 0.4


def test_with_cryolike_axes_it_holds_at_90_degrees_minus_the_angle(astigmatic: ParticleSet) -> None:
    (stack,) = convert(astigmatic, simulated_params())
    assert correlation(stack, cryolike_ctf(stack)) < 0.4
    assert correlation(stack, cryolike_ctf(stack, 90 - 20)) > 0.85


def test_rows_with_u_below_v_keep_their_ctf(tmp_path: Path) -> None:
    images = relion_noise_images(200, **ASTIGMATIC)
    # The same CTF, with U and V exchanged.
    particles = simulated_set(tmp_path, images, rlnDefocusU="14000", rlnDefocusV="16000", rlnDefocusAngle="110")
    (stack,) = convert(particles, simulated_params(), axes="relion")
    assert correlation(stack, cryolike_ctf(stack)) > 0.85
    assert stack.metadata["defocusU"][0] == 16000
    assert stack.metadata["defocusV"][0] == 14000
    np.testing.assert_allclose(np.degrees(stack.metadata["defocusAngle"]), 200)
    assert stack.metadata["defocusExchanged"].all()


# CryoLike's templates: F(k, theta) of an object at the azimuthal, polar and in-plane angle (its `_fourier_circles`).


def random_blobs() -> tuple[Array, Array]:
    """(k, 3) centres in Å and (k,) weights, without symmetry. The weights add up to 0, so that centring does not change the image."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=12)
    return rng.uniform(-1, 1, size=(12, 3)) * [55, 40, 25], weights - weights.mean()


WIDTH = 7.0  # Å, of each blob


def relion_projection(angles: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """A projection as in RELION: y is the row index, x the column index; angles are rot, tilt, psi in degrees."""
    centres, weights = random_blobs()
    (ca, cb, cg), (sa, sb, sg) = (wave(np.radians(angles)) for wave in (np.cos, np.sin))
    matrix = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
    ]  # RELION's Euler_angles2matrix, its first two rows
    x0, y0 = np.array(matrix) @ centres.T
    position = (np.arange(SIMULATED_BOX) - SIMULATED_BOX // 2) * SIMULATED_PIXEL
    image = np.zeros((SIMULATED_BOX, SIMULATED_BOX))
    for x, y, weight in zip(x0, y0, weights, strict=True):
        along_x, along_y = (np.exp(-((position - at) ** 2) / (2 * WIDTH**2)) for at in (x, y))
        image += weight * np.outer(along_y, along_x)
    return image.astype(np.float32)


def cryolike_template(stack: WrittenStack, azimuthal: float, polar: float, inplane: float) -> Array:
    """F of the blobs on the polar grid of a stack; angles in radians."""
    m = stack.metadata
    grid = polar_grid(float(m["radius_max"]), float(m["dist_radii"]), int(m["n_inplanes"]))
    theta = np.asarray(grid.angles) + inplane
    points = np.stack(
        [
            np.cos(azimuthal) * np.cos(theta) * np.cos(polar) - np.sin(theta) * np.sin(azimuthal),
            np.sin(azimuthal) * np.cos(theta) * np.cos(polar) + np.sin(theta) * np.cos(azimuthal),
            -np.sin(polar) * np.cos(theta),
        ],
        axis=1,
    )
    centres, weights = random_blobs()
    box = float(m["n_pixels"][0] * m["pixel_size"][0])
    k = np.asarray(grid.radii)[:, None, None] * 2 / box
    waves = np.exp(-2j * np.pi * k * (points @ centres.T)[None]) @ weights
    return np.asarray(waves * np.exp(-2 * (np.pi * WIDTH * k[:, :, 0]) ** 2))


def likeness(stack: WrittenStack, i: int, template: Array) -> float:
    """Normalised cross-correlation of an image and a template."""
    m = stack.metadata
    grid = polar_grid(float(m["radius_max"]), float(m["dist_radii"]), int(m["n_inplanes"]))
    weight = np.asarray(grid.weights)[:, None]
    image = stack.fourier[i].astype(np.complex128)
    inner = (weight * image.conj() * template).sum().real
    return float(inner / np.sqrt((weight * np.abs(image) ** 2).sum() * (weight * np.abs(template) ** 2).sum()))


ORIENTATIONS = [(30.0, 40.0, 50.0), (-100.0, 75.0, 10.0), (170.0, 120.0, -140.0)]


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_viewing_angles_hold_as_documented(tmp_path: Path, axes: str) -> None:
    images = np.stack([relion_projection(angles) for angles in ORIENTATIONS])
    columns = dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), zip(*ORIENTATIONS, strict=True), strict=True))
    particles = simulated_set(tmp_path, images, **columns)
    (stack,) = convert(particles, simulated_params(), axes=axes)
    for i in range(len(images)):
        rot, tilt, psi = (float(stack.metadata[key][i]) for key in ("angleRotation", "angleTilt", "anglePsi"))
        as_stated = likeness(stack, i, cryolike_template(stack, rot, tilt, psi))
        mapped = likeness(stack, i, cryolike_template(stack, rot + np.pi, np.pi - tilt, 1.5 * np.pi - psi))
        right, wrong = (as_stated, mapped) if axes == "relion" else (mapped, as_stated)
        assert right > 0.999
        assert wrong < 0.9


# Transposing, and records of it.


@pytest.mark.parametrize("options", [{}, {"downsample_factor": 2}, {"downsample_factor": 2, "downsample_type": "max"}], ids=str)
def test_relion_axes_transpose_the_pixels_first(tmp_path: Path, options: dict[str, Any]) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 5, "b.mrcs": 2}, box=(12, 20), shuffle=True)
    factor = options.get("downsample_factor", 1)
    descriptor = params((20 // factor, 12 // factor), 2.0 * factor)
    (stack,) = convert(particles, descriptor, axes="relion", **options)
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    transposed = [np.ascontiguousarray(particles.image(i).T) for i in range(7)]
    exact = [converted(image, grid, factor, options.get("downsample_type", "mean")) for image in transposed]
    assert relative_error(stack.fourier, np.stack(exact)) < 1.5e-6
    assert stack.physical.shape == (7, 20 // factor, 12 // factor)
    assert str(stack.metadata["axes"]) == "relion"


def test_a_box_is_transposed_too(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=(12, 20))
    refused(particles, "images are 20 × 12", descriptor=params((12, 20)), axes="relion")


def test_boxes_of_micrographs_are_transposed_too(tmp_path: Path) -> None:
    write_mrc(tmp_path / "mic.mrc", np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32))
    table = write_rows(tmp_path / "picks.csv", rows_of_page(3, micrograph=str(tmp_path / "mic.mrc"), template_size=BOX))
    particles = particles_from_leopard_em(table, BOX)
    descriptor = params(pixel_size=float(particles["pixel_size"][0]))
    stacks = {}
    for axes in ("cryolike", "relion"):
        Conversion(particles, descriptor, folder_output=tmp_path / axes, flag_plots=False, axes=axes).run()
        (stacks[axes],) = read_stacks(tmp_path / axes)
        assert verify_output(tmp_path / axes, deep=True) == []
    np.testing.assert_array_equal(stacks["relion"].physical, stacks["cryolike"].physical.transpose(0, 2, 1))


def test_other_axes_are_another_run(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 4})
    convert(particles)
    with pytest.raises(OutputError, match="axes"):
        convert(particles, axes="relion", skip_exist=True)
    convert(particles, axes="relion", overwrite=True)
    assert verify_output(tmp_path / "out", deep=True) == []


def test_strong_astigmatism_with_default_axes_is_warned_about(tmp_path: Path) -> None:
    strong = write_particle_set(tmp_path / "strong", {"a.mrcs": 3}, rlnDefocusV=["9000", "9000", "10000"])
    (warning,) = plan_of(strong).warnings
    assert "axes='relion' (--axes relion)" in warning
    assert str(strong.star) in warning
    assert plan_of(strong, axes="relion").warnings == ()
    weak = write_particle_set(tmp_path / "weak", {"a.mrcs": 3}, rlnDefocusV=["9000", "9900", "9901"])
    assert plan_of(weak).warnings == ()


# U below V.


@pytest.fixture
def exchanged(tmp_path: Path) -> ParticleSet:
    """Rows 0 and 2 have U below V."""
    columns = {"rlnDefocusU": ["9000", "9100", "9000"], "rlnDefocusV": ["9100", "9000", "9150"]}
    return write_particle_set(tmp_path, {"a.mrcs": 3}, rlnDefocusAngle=["10", "20", "160"], **columns)


def star_columns(path: Path) -> Array:
    import starfile

    particles = starfile.read(path, always_dict=True)["particles"]
    return particles[["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"]].to_numpy(dtype=float)


AS_READ = [[9000, 9100, 10], [9100, 9000, 20], [9000, 9150, 160]]
FOR_CTF = [[9100, 9000, 100], [9100, 9000, 20], [9150, 9000, 250]]


def test_u_below_v_is_exchanged_in_the_metadata_and_counted(exchanged: ParticleSet) -> None:
    (warning,) = plan_of(exchanged).warnings
    assert "2 of 3 particles" in warning
    assert "particle 1" in warning
    (stack,) = convert(exchanged)
    m = stack.metadata
    np.testing.assert_allclose(np.stack([m["defocusU"], m["defocusV"], np.degrees(m["defocusAngle"])], axis=1), FOR_CTF)
    assert m["defocusExchanged"].tolist() == [True, False, True]
    np.testing.assert_allclose(star_columns(exchanged.folder / "out" / "particles.star"), AS_READ)


@pytest.mark.parametrize("output_format", ["pt", "zarr"])
def test_restacking_keeps_both_ways_of_writing_u_and_v(exchanged: ParticleSet, output_format: str) -> None:
    out = exchanged.folder / "out"
    convert_particle_stacks_from_indexed_star_file(
        params(), exchanged.star, exchanged.mrc, folder_output=out, flag_plots=False, output_format=output_format
    )
    restack(out, exchanged.folder / "again", batch_size=2, output_format="pt")
    stacks = read_stacks(exchanged.folder / "again")
    m = {key: np.concatenate([stack.metadata[key] for stack in stacks]) for key in ("defocusU", "defocusV", "defocusAngle")}
    np.testing.assert_allclose(np.stack([m["defocusU"], m["defocusV"], np.degrees(m["defocusAngle"])], axis=1), FOR_CTF)
    np.testing.assert_allclose(star_columns(exchanged.folder / "again" / "particles.star"), AS_READ)


def test_a_store_has_u_and_v_as_the_metadata_have(exchanged: ParticleSet) -> None:
    out = exchanged.folder / "out"
    convert_particle_stacks_from_indexed_star_file(
        params(), exchanged.star, exchanged.mrc, folder_output=out, flag_plots=False, output_format="zarr"
    )
    columns = open_store(out).columns
    values = [columns[name].compute() for name in ("defocusU", "defocusV", "defocusAngle")]
    np.testing.assert_allclose(np.stack([values[0], values[1], np.degrees(values[2])], axis=1), FOR_CTF)


def test_tables_without_such_rows_get_no_new_key(tmp_path: Path) -> None:
    (stack,) = convert(write_particle_set(tmp_path, {"a.mrcs": 2}))
    assert "defocusExchanged" not in stack.metadata
