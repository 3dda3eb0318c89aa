"""Verdicts for simulated sets with known CTFs, and cases without a verdict. `make verdicts` runs many more seeds."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cryolike_dask.ctf_check.check import LEAST_ACCURACY, check_ctf
from cryolike_dask.ctf_check.model import Optics, shell_means
from cryolike_dask.ctf_check.of_stacks import check_particles, check_stacks, evenly
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.pictures.ctf_plots import plot_ctf_check
from tests.ctf_check.simulated import CASES, DOWNSAMPLED, FINE, USUAL, Case, Kind, Simulated, simulate

cached = cache(simulate)


@pytest.fixture(scope="module")
def usual() -> Simulated:
    return cached(0, USUAL)


def id_of(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", [case for case in CASES if case.kind == USUAL], ids=id_of)
def test_verdict(case: Case, seed: int) -> None:
    check = cached(seed, case.kind).check(**case.stated)
    assert check.verdict in case.right, check
    if check.verdict == "does not fit":
        assert any(suspect.startswith(case.suspect) for suspect in check.suspects), check
        assert all(suspect in check.reason for suspect in check.suspects)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind not in (USUAL, FINE)], ids=id_of)
def test_verdict_of_other_sets(case: Case) -> None:
    test_verdict(case, 0)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == FINE], ids=id_of)
def test_verdict_where_the_aberration_shows(case: Case) -> None:
    test_verdict(case, 0)


def test_images_with_only_two_rings_are_no_reason_to_warn() -> None:
    """What is subtracted as background then looks like a ring, and moves the best pixel size by more than its noise."""
    check = cached(3, DOWNSAMPLED).check()
    assert check.verdict == "cannot tell", check
    assert check.uncertainty is not None
    assert check.accuracy is not None
    assert check.accuracy > max(LEAST_ACCURACY, 4 * check.uncertainty)


def test_the_reason_says_in_numbers_what_is_wrong(usual: Simulated) -> None:
    check = usual.check(scale=1.1)
    assert check.recorded_pixel_size == pytest.approx(1.65)
    assert check.best_pixel_size == pytest.approx(1.5, rel=0.01)
    assert "at 1." in check.reason
    assert "instead of 1.65 Å" in check.reason
    assert check.accuracy is not None
    assert 0.018 <= check.accuracy < 0.03
    assert check.pixel_sizes[np.argmax(check.scores)] == pytest.approx(1.5, rel=0.01)


def test_the_stated_uncertainty_is_that_of_other_sets() -> None:
    checks = [cached(seed, replace(USUAL, n=128, box=64, pixel_size=2.0)).check() for seed in range(8)]
    found = np.array([check.best_pixel_size for check in checks]) / 2.0
    stated = np.array([check.uncertainty for check in checks])
    assert 0.4 < np.std(found) / np.median(stated) < 2.0
    assert abs(found.mean() - 1) < 0.006


def test_rings_follow_ctf_squared_only_where_it_fits(usual: Simulated) -> None:
    def correlation(scale: float) -> float:
        rings = usual.check(scale=scale).rings
        assert rings is not None
        assert len(rings.phase) >= 8
        np.testing.assert_allclose(np.diff(rings.phase), 0.1)
        return float(np.corrcoef(rings.power, rings.expected)[0, 1])

    assert correlation(1.0) > 0.95
    assert correlation(1.25) < 0.8


def test_a_stated_axis_is_checked_only_with_quadrupoles() -> None:
    case = next(case for case in CASES if case.suspect == "the axis")
    made = cached(0, case.kind)
    blind = replace(made, quadrupoles=np.zeros_like(made.quadrupoles))
    assert blind.check(**case.stated).verdict == "fits"


def test_images_that_were_written_as_zeros_are_left_out(usual: Simulated) -> None:
    power = usual.power.copy()
    power[::5] = 0
    check = check_particles(power, usual.optics, usual.descriptor)
    assert check.verdict == "fits"
    assert check.n_particles == len(power) - len(power[::5])


def test_too_few_particles_give_no_verdict(usual: Simulated) -> None:
    check = check_particles(usual.power[:7], usual.optics.take(slice(7)), usual.descriptor)
    assert (check.verdict, check.n_particles) == ("cannot tell", 7)
    assert "7 particles are too few" in check.reason
    assert check_particles(usual.power[:0], usual.optics.take(slice(0)), usual.descriptor).verdict == "cannot tell"


def test_particles_of_one_defocus_give_no_verdict(usual: Simulated) -> None:
    same = usual.optics.take(np.zeros(len(usual.optics), np.intp))
    check = check_particles(usual.power, same, usual.descriptor)
    assert check.verdict == "cannot tell"
    assert "nearly the same CTF" in check.reason


def test_identical_images_give_no_verdict(usual: Simulated) -> None:
    check = check_particles(np.repeat(usual.power[:1], len(usual.power), axis=0), usual.optics, usual.descriptor)
    assert check.verdict == "cannot tell"


def test_images_that_are_not_square_give_no_verdict(usual: Simulated) -> None:
    wide = ImageDescriptor.from_individual_values(n_pixels=(64, 96), pixel_size=1.5)
    power = np.ones((len(usual.optics), wide.polar_grid.n_shells))
    assert "not square" in check_particles(power, usual.optics, wide).reason


def test_the_order_of_the_particles_does_not_matter(usual: Simulated) -> None:
    order = np.random.default_rng(8).permutation(len(usual.optics))
    shuffled = check_particles(usual.power[order], usual.optics.take(order), usual.descriptor)
    assert shuffled.verdict == "fits"
    assert shuffled.best_pixel_size == pytest.approx(usual.check().best_pixel_size)


def test_everything_but_the_curves_is_json(usual: Simulated) -> None:
    for check in (usual.check(), usual.check(scale=1.1), usual.check(phase_shift=np.pi / 2)):
        content = json.loads(json.dumps(check.to_dict(), allow_nan=False))
        assert content["verdict"] == check.verdict
        assert content["suspects"] == list(check.suspects)


def metadata_of(made: Simulated, rows: slice, **others: object) -> dict[str, np.ndarray]:
    of = made.optics.take(rows)
    keys = {"defocusU": of.defocus_u, "defocusV": of.defocus_v, "defocusAngle": of.defocus_angle, "phaseShift": of.phase_shift}
    scalars = {"sphericalAberration": 2.7, "voltage": made.optics.voltage[0], "amplitudeContrast": 0.1, "n_images": len(of)}
    values = {**made.descriptor.to_arrays(), **keys, **scalars, "power": made.power[rows].astype(np.float32), **others}
    return {key: np.asarray(value) for key, value in values.items()}


def test_stacks_are_checked_as_their_metadata_describe_them(usual: Simulated) -> None:
    parts = [slice(0, 100), slice(100, 230), slice(230, None)]
    check = check_stacks(metadata_of(usual, part) for part in parts)
    assert check is not None
    assert (check.verdict, check.n_particles) == ("fits", 256)
    assert check.best_pixel_size == pytest.approx(usual.check().best_pixel_size, rel=1e-4)
    # Stacks with another pixel size, or without the power of their images, are left out.
    old = metadata_of(usual, slice(0, 20))
    del old["power"]
    other = metadata_of(usual, slice(100, 230), pixel_size=np.array([1.7, 1.7]))
    fewer = check_stacks([old, metadata_of(usual, parts[0]), other, metadata_of(usual, parts[2])])
    assert fewer is not None
    assert fewer.n_particles == 126
    assert check_stacks([old]) is None


def test_particles_are_taken_evenly() -> None:
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(1000, 4).tolist() == [0, 250, 500, 750]


def test_chance_does_not_decide_without_signal() -> None:
    rng = np.random.default_rng(9)
    n, frequencies = 128, np.linspace(0.004, 0.25, 64)
    for _ in range(20):
        u = rng.uniform(8e3, 18e3, n)
        rows = {"defocus_u": u, "defocus_v": u - 100, "defocus_angle": rng.uniform(0, 3, n), "phase_shift": np.zeros(n)}
        of = Optics.from_rows(
            rows | {"spherical_aberration": 2.7 + 0 * u, "voltage": 300 + 0 * u, "amplitude_contrast": 0.1 + 0 * u}
        )
        check = check_ctf(rng.chisquare(40, (n, 64)), of, frequencies, 128.0, 2.0)
        assert check.verdict == "cannot tell"
        assert "too little" in check.reason


def test_the_largest_sample_needs_little_memory() -> None:
    rng = np.random.default_rng(10)
    n, k = 512, 128
    u = rng.uniform(8e3, 18e3, n)
    rows = {"defocus_u": u, "defocus_v": u - rng.uniform(50, 200, n), "defocus_angle": rng.uniform(0, 3, n)}
    of = Optics.from_rows(
        rows
        | {"phase_shift": 0 * u, "spherical_aberration": 2.7 + 0 * u, "voltage": 300 + 0 * u, "amplitude_contrast": 0.1 + 0 * u}
    )
    frequencies = np.linspace(0.004, 0.5, k)
    power = rng.gamma(20, 1 / 20, (n, k)) * (1 + shell_means(of, frequencies, 128.0).T)
    assert check_ctf(power, of, frequencies, 128.0, 1.0).verdict == "fits"
    tracemalloc.start()
    try:
        check_ctf(power, of, frequencies, 128.0, 1.0)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_kinds_of_sets_differ() -> None:
    assert len({case.kind for case in CASES}) > 3
    assert isinstance(USUAL, Kind)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_compared_ends_in_a_verdict(seed: int) -> None:
    """Impossible powers and optics must not raise an error, because it would end a conversion whose stacks are complete."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 40)), int(rng.integers(1, 40))
    power = rng.gamma(2, 1, (n, k)).astype(np.float32)
    power = (
        power,
        np.ones_like(power),
        np.where(rng.random((n, 1)) < 0.7, 0, power),
        np.where(rng.random(k) < 0.7, 0, power),
        np.repeat(power[:1], n, axis=0) * np.where(np.arange(n) == 0, 2, 1)[:, None],
        power * np.float32(10) ** rng.integers(-30, 30),
        np.where(rng.random((n, k)) < 0.9, 0, power),
        np.where(np.arange(k) == 0, 1e38, power),
    )[seed % 8]
    defocus = rng.choice([0.0, 1e-3, 5000.0, -2000.0, 1e6], n) + rng.random(n) * rng.choice([0, 1, 1000])
    optics = Optics.from_rows(
        {
            "defocus_u": defocus,
            "defocus_v": defocus - rng.choice([0, 100, 1e5]),
            "defocus_angle": 7 * rng.random(n),
            "phase_shift": rng.choice([0.0, 1.5], n),
            "spherical_aberration": np.full(n, rng.choice([0, 0.01, 2.7, 20])),
            "voltage": np.full(n, rng.choice([10.0, 300.0, 1500.0])),
            "amplitude_contrast": np.full(n, rng.choice([0.0, 0.1, 1.0])),
        }
    )
    frequencies = np.linspace(rng.choice([0, 0.01]), 0.5, k)
    quadrupoles = None if seed % 2 else power * np.exp(2j * np.pi * rng.random((n, k)))
    check = check_ctf(power, optics, frequencies, 64.0, 1.0, quadrupoles)
    assert check.verdict != "fits"
    json.dumps(check.to_dict())
    if len(check.scores):
        assert plot_ctf_check(check).startswith(b"\x89PNG")
