"""Scores, compared with a direct implementation of the formula."""

from __future__ import annotations

import numpy as np
import pytest

from cryolike_dask.ctf_check.jackknife import Jackknife
from cryolike_dask.ctf_check.model import Optics
from cryolike_dask.ctf_check.score import RIDGE, Sample, phase_scores, score, scores_without, shell_scores, shuffled_scores
from tests.ctf_check.test_model import optics


def random_pair(k: int = 7, n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=(k, n))
    deviations = rng.normal(size=(k, n)) + 0.5 * predicted * np.linspace(-1, 1, k)[:, None]
    return deviations - deviations.mean(axis=1, keepdims=True), predicted


def written_out(deviations: np.ndarray, predicted: np.ndarray) -> float:
    total = 0.0
    for p, c in zip(deviations, predicted, strict=True):
        covariance = np.cov(p, c, bias=True)[0, 1]
        total += len(p) * np.sign(covariance) * covariance**2 / (np.var(p) * (np.var(c) + RIDGE))
    return total


def test_score_is_the_formula() -> None:
    deviations, predicted = random_pair()
    assert score(deviations, predicted) == pytest.approx(written_out(deviations, predicted))
    assert shell_scores(deviations, predicted).sum() == pytest.approx(score(deviations, predicted))


def test_noise_has_a_score_near_zero_and_agreement_a_high_one() -> None:
    rng = np.random.default_rng(2)
    noise, predicted = rng.normal(size=(2, 50, 400))
    noise -= noise.mean(axis=1, keepdims=True)
    assert abs(score(noise, predicted)) < 4 * np.sqrt(3 * 50)
    assert score(noise + predicted - predicted.mean(axis=1, keepdims=True), predicted) > 50 * 400 / 3
    assert score(noise - predicted + predicted.mean(axis=1, keepdims=True), predicted) < -50 * 400 / 3


def test_scores_without_a_block_are_those_of_the_others() -> None:
    deviations, predicted = random_pair()
    blocks = np.random.default_rng(1).integers(0, 4, deviations.shape[1])
    left_out = [written_out(deviations[:, blocks != block], predicted[:, blocks != block]) for block in range(4)]
    np.testing.assert_allclose(scores_without(deviations, predicted, blocks), left_out, rtol=1e-9)


def test_shuffled_scores_are_those_of_exchanged_predictions() -> None:
    deviations, predicted = random_pair()
    orders = [np.random.default_rng(seed).permutation(deviations.shape[1]) for seed in range(3)]
    wanted = [written_out(deviations, predicted[:, order]) for order in orders]
    np.testing.assert_allclose(shuffled_scores(deviations, predicted, orders), wanted, rtol=1e-9)


def test_phase_scores_are_those_of_shifted_phases() -> None:
    deviations, cosine = random_pair()
    sine = random_pair(seed=3)[1]
    phases = np.radians([0.0, 35.0, 100.0])
    wanted = [written_out(deviations, cosine * np.cos(2 * phase) + sine * np.sin(2 * phase)) for phase in phases.tolist()]
    np.testing.assert_allclose(phase_scores(deviations, cosine, sine, phases), wanted, rtol=1e-9)


def test_a_shell_on_which_all_images_are_alike_has_score_zero() -> None:
    deviations, predicted = random_pair()
    alike = deviations.copy()
    alike[2] = 0
    kept = np.arange(7) != 2
    assert score(alike, predicted) == pytest.approx(score(deviations[kept], predicted[kept]))


def test_a_scan_finds_what_single_scores_find() -> None:
    rng = np.random.default_rng(4)
    n, frequencies, box_length = 80, np.linspace(0.005, 0.25, 60), 200.0
    of = optics().take(np.zeros(n, np.intp))
    of = Optics.from_rows(
        {name: getattr(of, name) for name in Optics.__dataclass_fields__} | {"defocus_v": rng.uniform(8e3, 18e3, n)}
    )
    truth = Sample.from_power(np.ones((n, 60)) + rng.normal(0, 1e-3, (n, 60)), frequencies, of, box_length).predicted(1.07)
    power = 1 + 0.5 * truth.T + rng.normal(0, 0.3, (n, 60))
    sample = Sample.from_power(power, frequencies, of, box_length)
    scales = np.linspace(0.8, 1.3, 51)
    single = np.array([score(sample.deviations, sample.predicted(scale)) for scale in scales.tolist()])
    scanned = sample.scan(scales)
    assert scales[np.argmax(single)] == pytest.approx(1.07, abs=0.011)
    assert scales[np.argmax(scanned)] == pytest.approx(1.07, abs=0.011)
    np.testing.assert_allclose(scanned, single, atol=0.1 * single.max())


def test_a_smooth_background_of_each_image_is_removed() -> None:
    rng = np.random.default_rng(5)
    n, frequencies = 40, np.linspace(0.01, 0.25, 50)
    of = optics().take(np.zeros(n, np.intp))
    rings = 1 + 0.2 * rng.normal(size=(n, 50))
    x = frequencies / frequencies[-1]
    background = rng.normal(0, 0.05, (n, 1)) + rng.normal(0, 0.05, (n, 1)) * x + rng.normal(0, 0.05, (n, 1)) * x**2
    plain, uneven = (Sample.from_power(power, frequencies, of, 200.0).deviations for power in (rings, rings + background))
    np.testing.assert_allclose(uneven, plain, atol=0.06)
    assert np.abs(background).max() > 0.15


def test_a_few_outliers_do_not_decide() -> None:
    power = 1 + 0.1 * np.random.default_rng(6).normal(size=(100, 20))
    power[3, 5] = 1e4
    sample = Sample.from_power(power, np.linspace(0.01, 0.2, 20), optics().take(np.zeros(100, np.intp)), 200.0)
    assert np.abs(sample.deviations[5]).max() < 4.5 * sample.deviations[5].std() * np.sqrt(100 / 16)


def test_jackknife_leaves_out_micrographs_and_even_parts() -> None:
    n = 90
    rows = {name: np.full(n, 1.0) for name in Optics.__dataclass_fields__} | {"defocus_v": np.zeros(n)}
    few = Jackknife.of(Optics.from_rows(rows | {"defocus_angle": np.arange(n) % 3.0}))
    many = Jackknife.of(Optics.from_rows(rows | {"defocus_angle": np.arange(n) // 2 * 0.1}))
    one = Jackknife.of(Optics.from_rows(rows))
    assert [int(blocks.max()) + 1 for blocks in few.partitions] == [16, 3]
    assert [int(blocks.max()) + 1 for blocks in many.partitions] == [16]
    assert [int(blocks.max()) + 1 for blocks in one.partitions] == [16]
    values = np.random.default_rng(7).normal(size=n)

    def means_without(blocks: np.ndarray) -> np.ndarray:
        return np.array([values[blocks != block].mean() for block in range(blocks.max() + 1)])

    # The jackknife of a mean estimates its standard error, here from 16 blocks.
    assert many.deviation([means_without(blocks) for blocks in many.partitions]) == pytest.approx(
        values.std() / np.sqrt(n), rel=0.5
    )
    assert many.is_certain(1.0, means_without)
    assert not many.is_certain(0.1, means_without)
