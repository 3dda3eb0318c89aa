"""Collected results belong to the right particles, in the order of their table."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from scipy.special import softmax

from cryolike_dask import (
    InputError,
    OutputError,
    collect_results,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_paired_star_and_mrc_files,
)
from tests.results.conftest import Collected
from tests.support import cs_files
from tests.support.conversions import convert
from tests.support.cryolike_results import (
    ALL,
    LIKELIHOODS,
    N_DIRECTIONS,
    POSE,
    VIEWING_DISTANCE,
    numbers,
    result_file,
    save,
    write_matrices,
    write_results,
)
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    NO_PLOTS,
    in_sequence,
    params,
    write_images,
    write_particle_set,
    write_star,
)
from tests.support.recorded_progress import Recorded
from tests.support.star_files import column_of

COLUMN = {
    "integrated_fourier": "cryolikeLogLikelihoodIntegratedFourier",
    "optimal_fourier": "cryolikeLogLikelihoodOptimalFourier",
    "optimal_physical": "cryolikeLogLikelihoodOptimalPhysical",
    "cross_correlation": "cryolikeCrossCorrelation",
}
Image = tuple[str, int]


def images_of(df: pd.DataFrame) -> list[Image]:
    """The file name and the index, counted from 0, that RELION reads in each row."""
    names = (name.split("@") for name in df["rlnImageName"])
    return [(Path(file).name, int(index) - 1) for index, file in names]


def assert_holds(df: pd.DataFrame, listed: Sequence[Image], structures: Sequence[int] = (0, 1)) -> None:
    """The rows are these images in this order, each with its own results."""
    assert images_of(df) == list(listed)
    for quantity, name in COLUMN.items():
        for structure in structures:
            np.testing.assert_array_equal(df[f"{name}Template{structure}"], numbers(quantity, structure, listed))


def test_rows_are_in_the_order_of_the_table(found: Collected) -> None:
    df = collect_results(found.stacks, found.results)
    assert_holds(df, found.particles.listed)
    assert df["cryolikeSourceRow"].tolist() == list(range(31))
    assert set(df["cryolikeSourceTable"]) == {str(found.particles.star)}
    assert "cryolikeUid" not in df
    assert df["cryolikeStack"].tolist() == [row // 7 for row in range(31)]
    assert df["cryolikeStackPosition"].tolist() == [row % 7 for row in range(31)]
    assert not df["cryolikeZeroed"].any()


def test_the_ctf_is_that_of_the_table(found: Collected) -> None:
    df = collect_results(found.stacks, found.results)
    star = found.particles.star
    for name in ("DefocusU", "DefocusV", "DefocusAngle", "PhaseShift", "CtfBfactor", "CtfScalefactor"):
        values = [float(value) for value in column_of(star, f"rln{name}")]
        assert len(set(values)) > 1
        np.testing.assert_allclose(df[f"rln{name}"], values, rtol=1e-12, err_msg=name)
    for name, value in (("rlnVoltage", 300.0), ("rlnSphericalAberration", 2.7), ("rlnAmplitudeContrast", 0.07)):
        assert df[name].tolist() == [value] * 31


@pytest.mark.parametrize(
    "options",
    [
        {"order": "file"},
        {"never_combine_input_files": True},
        {"batch_size": 1},
        {"batch_size": 100},
        {"order": "file", "batch_size": 3},
    ],
    ids=str,
)
def test_the_order_of_the_stacks_does_not_matter(options: dict[str, Any], tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"d.mrcs": 4, "a.mrcs": 5, "b.mrcs": 3}, shuffle=True)
    written = convert(particles, **({"batch_size": 4} | options))
    df = collect_results(tmp_path / "out", write_results(tmp_path / "likelihood", written))
    assert_holds(df, particles.listed)
    assert df["cryolikeSourceRow"].tolist() == list(range(12))


def test_n_stacks_max_leaves_the_first_rows(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"b.mrcs": 9, "a.mrcs": 6}, shuffle=True)
    written = convert(particles, batch_size=4, n_stacks_max=2)
    assert_holds(collect_results(tmp_path / "out", write_results(tmp_path / "likelihood", written)), particles.listed[:8])


def test_skipped_images_are_left_out_and_the_others_keep_their_rows(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 5, "b.mrcs": 4, "c.mrcs": 6}, shuffle=True)
    (particles.mrc / "b.mrcs").unlink()
    written = convert(particles, batch_size=4, on_missing="skip")
    df = collect_results(tmp_path / "out", write_results(tmp_path / "likelihood", written))
    left = [(row, image) for row, image in enumerate(particles.listed) if image[0] != "b.mrcs"]
    assert_holds(df, [image for _, image in left])
    assert df["cryolikeSourceRow"].tolist() == [row for row, _ in left]


def test_images_of_zeros_keep_their_rows_and_have_no_best_structure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 7, "b.mrcs": 5}, shuffle=True)
    images = particles.images["a.mrcs"].copy()
    images[3] = 1.5
    header = (particles.mrc / "a.mrcs").read_bytes()[:1024]
    (particles.mrc / "a.mrcs").write_bytes(header + images.tobytes())
    bad = particles.listed.index(("a.mrcs", 3))
    written = convert(particles, params(viewing_distance=VIEWING_DISTANCE), batch_size=5, on_bad_image="zero")
    results = write_results(tmp_path / "likelihood", written)
    with caplog.at_level(logging.WARNING):
        df = collect_results(tmp_path / "out", results, templates=tmp_path / "out" / "params.npz", out=tmp_path / "r.star")
    assert_holds(df, particles.listed)
    assert np.flatnonzero(df["cryolikeZeroed"]).tolist() == [bad]
    for name in ("cryolikeBestTemplate", "cryolikePosteriorTemplate0", "cryolikeViewingAngle", "rlnAngleRot", "rlnOriginXAngst"):
        assert np.flatnonzero(df[name].isna()).tolist() == [bad], name
    assert "No pose for 1 particle of 12" in caplog.text


def test_paired_tables_come_back_one_after_the_other(tmp_path: Path) -> None:
    counts = {"B.mrcs": 4, "A.mrcs": 7}
    write_images(tmp_path, counts)
    for name, n in counts.items():
        write_star(tmp_path / f"{name[0]}.star", in_sequence({name: n}))
    convert_particle_stacks_from_paired_star_and_mrc_files(
        params(),
        [tmp_path / name for name in counts],
        [tmp_path / f"{name[0]}.star" for name in counts],
        folder_output=tmp_path / "out",
        batch_size=5,
        pixel_size=2.0,
        **NO_PLOTS,
    )
    df = collect_results(tmp_path / "out", write_results(tmp_path / "likelihood", read_stacks(tmp_path / "out")))
    assert_holds(df, in_sequence(counts))
    assert [Path(table).name for table in df["cryolikeSourceTable"]] == ["B.star"] * 4 + ["A.star"] * 7
    assert df["cryolikeSourceRow"].tolist() == [*range(4), *range(7)]


def test_identities_of_cryosparc_come_back(tmp_path: Path) -> None:
    job = tmp_path / "P1" / "J7"
    counts = {"batch_000000_restacked.mrc": 3, "batch_000001_restacked.mrc": 2}
    write_images(job / "restack", counts)
    uids = cs_files.uids(5)
    cs_files.write_cs(job / "J7_passthrough_particles.cs", cs_files.ctf_columns(5) | {"uid": uids})
    convert_particle_stacks_from_cryosparc_job_directory(
        params(), tmp_path / "P1", 7, folder_output=tmp_path / "out", batch_size=2, pixel_size=2.0, **NO_PLOTS
    )
    df = collect_results(tmp_path / "out", write_results(tmp_path / "likelihood", read_stacks(tmp_path / "out")))
    assert_holds(df, in_sequence(counts))
    assert df["cryolikeUid"].tolist() == uids.tolist()


@pytest.mark.parametrize("absent", [(), ("integrated_fourier",), ("integrated_fourier", "optimal_fourier")], ids=str)
def test_the_best_structure_is_by_the_first_likelihood_that_all_have(
    absent: tuple[str, ...], found: Collected, tmp_path: Path
) -> None:
    # Structure 1 has all likelihoods; structures 0 and 4 lack some.
    write_results(tmp_path, found.written, (1,))
    write_results(tmp_path, found.written, (0, 4), [name for name in ALL if name not in absent])
    df = collect_results(found.stacks, tmp_path)
    by = LIKELIHOODS[len(absent)]
    assert set(df["cryolikeBestBy"]) == {by}
    values = np.stack([numbers(by, structure, found.particles.listed) for structure in (0, 1, 4)], axis=1)
    assert df["cryolikeBestTemplate"].tolist() == np.array([0, 1, 4])[values.argmax(axis=1)].tolist()
    posterior = df[[f"cryolikePosteriorTemplate{structure}" for structure in (0, 1, 4)]].to_numpy()
    np.testing.assert_allclose(posterior, softmax(values, axis=1), rtol=1e-12)
    assert not any(f"{COLUMN[name]}Template0" in df for name in absent)
    assert all(f"{COLUMN[name]}Template1" in df for name in absent)


def test_the_pose_is_that_on_the_best_structure(found: Collected) -> None:
    df = collect_results(found.stacks, found.results)
    listed = found.particles.listed
    best = df["cryolikeBestTemplate"].to_numpy(dtype=int)
    pose = {name: np.where(best == 0, *(numbers(name, structure, listed) for structure in (0, 1))) for name in POSE}
    assert df["cryolikeViewingAngle"].tolist() == pose["template"].tolist()
    np.testing.assert_array_equal(df["cryolikeDisplacementXAngst"], pose["displacement_x"])
    np.testing.assert_array_equal(df["cryolikeDisplacementYAngst"], pose["displacement_y"])
    np.testing.assert_allclose(df["cryolikeInplaneRotation"], pose["inplane_rotation"] * 180 / np.pi)
    assert not any(name.startswith(("rlnAngle", "rlnOrigin")) for name in df)


def test_with_templates_poses_are_relions(found: Collected) -> None:
    df = collect_results(found.stacks, found.results, templates=found.stacks / "params.npz")
    # According to the guide, (rot, tilt, psi) are CryoLike's (rot + 180, 180 - tilt, 270 - psi), and a displacement is rotated with the
    # template.
    inplane = np.radians(df["cryolikeInplaneRotation"])
    assert np.cos(np.radians(270 - df["rlnAnglePsi"]) - inplane).min() == pytest.approx(1, abs=1e-12)
    x, y = df["cryolikeDisplacementXAngst"], df["cryolikeDisplacementYAngst"]
    np.testing.assert_allclose(df["rlnOriginYAngst"], -(np.cos(inplane) * x + np.sin(inplane) * y), atol=1e-12)
    np.testing.assert_allclose(df["rlnOriginXAngst"], -(np.cos(inplane) * y - np.sin(inplane) * x), atol=1e-12)
    # Directions of templates are on circles about z, starting at its negative end; the last ones are at its positive end.
    tilt = df.set_index("cryolikeViewingAngle")["rlnAngleTilt"].sort_index().round(6)
    assert tilt.is_monotonic_increasing
    assert tilt.iloc[0] < 60
    assert tilt.iloc[-1] > 120


def test_axes_of_the_run_decide(found: Collected, tmp_path: Path) -> None:
    poses = {}
    for axes in ("cryolike", "relion"):
        folder = tmp_path / axes
        written = convert(found.particles, params(viewing_distance=VIEWING_DISTANCE), axes, axes=axes)
        stacks = found.particles.folder / axes
        poses[axes] = collect_results(stacks, write_results(folder, written), templates=stacks / "params.npz")
    inplane = np.radians(poses["relion"]["cryolikeInplaneRotation"])
    assert np.cos(np.radians(poses["relion"]["rlnAnglePsi"]) - inplane).min() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(poses["relion"]["rlnAngleTilt"], 180 - poses["cryolike"]["rlnAngleTilt"], atol=1e-9)
    np.testing.assert_array_equal(poses["relion"]["rlnOriginXAngst"], poses["cryolike"]["rlnOriginYAngst"])


def test_the_source_of_the_templates_decides(found: Collected) -> None:
    params_file = found.stacks / "params.npz"
    pdb, volume = (
        collect_results(found.stacks, found.results, templates=params_file, template_source=source) for source in ("pdb", "map")
    )
    assert (abs(pdb["rlnAngleTilt"] - volume["rlnAngleTilt"]) > 1).any()
    pd.testing.assert_series_equal(pdb["rlnOriginXAngst"], volume["rlnOriginXAngst"])


@pytest.mark.parametrize(("kind", "off_centre"), [("mean", 1.0), ("max", 1.0), ("fourier", 0.0)])
def test_origins_are_those_of_the_images_before_downsampling(kind: str, off_centre: float, tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, box=24)
    origins = []
    for factor, descriptor in ((1, params(24)), (2, params(12, 4.0))):
        written = convert(
            particles, replace(descriptor, viewing_distance=VIEWING_DISTANCE), f"out{factor}", **downsampling(factor, kind)
        )
        results = write_results(tmp_path / f"r{factor}", written, (0,))
        df = collect_results(tmp_path / f"out{factor}", results, templates=tmp_path / f"out{factor}" / "params.npz")
        origins.append(df[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy())
    # The centre of two pixels of 2 Å is 1 Å from that of the first one; cropping the Fourier transform does not shift the image.
    np.testing.assert_allclose(origins[1], origins[0] - off_centre, atol=1e-9)


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_origins_found_in_centred_images_are_added_to_those_applied(axes: str, tmp_path: Path) -> None:
    """A particle at d from the centre of an image that was moved by o is at d - o in the original image."""
    particles = write_particle_set(tmp_path, {"a.mrcs": 4}, rlnOriginXAngst=[1, -2, 0.5, 8], rlnOriginYAngst=[4, 4, -3, 0.25])
    found = []
    for applied in (False, True):
        out = f"out{int(applied)}"
        descriptor = params(viewing_distance=VIEWING_DISTANCE)
        written = convert(particles, descriptor, out, axes=axes, apply_origins=applied, order="file", batch_size=3)
        results = write_results(tmp_path / f"r{out}", written, (0,))
        star = tmp_path / f"{out}.star"
        df = collect_results(tmp_path / out, results, templates=tmp_path / out / "params.npz", out=star)
        found.append(df[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy())
        columns = starfile.read(star, always_dict=True)["particles"]
        np.testing.assert_allclose(columns[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(), found[-1], rtol=1e-12)
        assert not any(name.startswith("cryolikeApplied") for name in columns)
    np.testing.assert_allclose(found[1] - found[0], [[1, 4], [-2, 4], [0.5, -3], [8, 0.25]], atol=1e-9)


def test_without_templates_a_star_file_says_what_was_applied(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, rlnOriginXAngst=[1, -2], rlnOriginYAngst=[4, 4])
    written = convert(particles, params(viewing_distance=VIEWING_DISTANCE), apply_origins=True)
    collect_results(tmp_path / "out", write_results(tmp_path / "r", written, (0,)), out=tmp_path / "out.star")
    columns = starfile.read(tmp_path / "out.star", always_dict=True)["particles"]
    assert columns["cryolikeAppliedOriginXAngst"].tolist() == [1, -2]
    assert "rlnOriginXAngst" not in columns


def downsampling(factor: int, kind: str) -> dict[str, Any]:
    return {"downsample_factor": factor, "downsample_type": kind}


def test_progress_shows_what_is_read_and_written(found: Collected, tmp_path: Path) -> None:
    progress = Recorded()
    results = write_results(tmp_path / "results", found.written, (0, 1))
    collect_results(found.stacks, results, out=tmp_path / "all.csv", progress=progress)
    n_quantities = 4 + len(POSE)  # likelihoods and cross-correlation, and the pose
    assert progress.steps[0] == ("Reading the particles", 0, 0)
    assert progress.parts("Reading results") == [*range(2 * n_quantities)]
    assert progress.steps[-1] == ("Writing all.csv", 0, 0)
    assert progress.ends == [None]


def test_progress_ends_with_the_error(found: Collected, tmp_path: Path) -> None:
    progress = Recorded()
    with pytest.raises(InputError) as told:
        collect_results(found.stacks, tmp_path, progress=progress)
    assert progress.ends == [told.value]


def test_one_structure_needs_no_choice(found: Collected, tmp_path: Path) -> None:
    df = collect_results(found.stacks, write_results(tmp_path, found.written, (3,)))
    assert_holds(df, found.particles.listed, (3,))
    assert not any(name.startswith(("cryolikeBest", "cryolikePosterior")) for name in df)
    assert df["cryolikeViewingAngle"].tolist() == numbers("template", 3, found.particles.listed).tolist()


def test_poses_are_optional_and_so_are_likelihoods(found: Collected, tmp_path: Path) -> None:
    df = collect_results(found.stacks, write_results(tmp_path / "a", found.written, (0, 1), LIKELIHOODS))
    assert "cryolikeBestTemplate" in df
    assert "cryolikeViewingAngle" not in df
    df = collect_results(found.stacks, write_results(tmp_path / "b", found.written, (0,), ("cross_correlation", *POSE)))
    assert "cryolikeViewingAngle" in df
    assert not any("LogLikelihood" in name for name in df)
    with pytest.raises(InputError, match=r"holds no poses .* Leave out templates"):
        collect_results(found.stacks, tmp_path / "a", templates=found.stacks / "params.npz")


def test_poses_of_some_structures_only_are_those_of_their_particles(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written, (0,))
    write_results(tmp_path, found.written, (1,), LIKELIHOODS)
    df = collect_results(found.stacks, tmp_path)
    assert (df["cryolikeViewingAngle"].isna() == (df["cryolikeBestTemplate"] == 1)).all()
    assert df["cryolikeViewingAngle"].notna().any()


def test_a_likelihood_that_was_not_computed_is_not_used(found: Collected, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_results(tmp_path, found.written)
    for structure in (0, 1):
        for stack in found.written:
            # CryoLike's run_likelihood_optimal_pose writes the same number for all particles.
            values = np.full(len(stack.fourier), -0.7)
            save(result_file(tmp_path, structure, "integrated_fourier", stack.counter), values)
    with caplog.at_level(logging.WARNING):
        df = collect_results(found.stacks, tmp_path)
    assert set(df["cryolikeBestBy"]) == {"optimal_fourier"}
    assert "integrated_fourier is -0.7 for all particles and structures" in caplog.text
    for structure in (0, 1):
        for quantity in ("optimal_fourier", "optimal_physical"):
            for stack in found.written:
                result_file(tmp_path, structure, quantity, stack.counter).unlink()
    with pytest.raises(InputError, match=r"cannot be compared .* were not computed.*return_likelihood_optimal_pose_fourier=True"):
        collect_results(found.stacks, tmp_path)


def test_a_particle_whose_likelihood_is_not_a_number_has_no_structure(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written)
    values = numbers("integrated_fourier", 0, found.particles.listed[:7])
    values[[2, 4, 5]] = [np.nan, -np.inf, np.inf]
    save(result_file(tmp_path, 0, "integrated_fourier", 0), values)
    df = collect_results(found.stacks, tmp_path)
    assert np.flatnonzero(df["cryolikeBestTemplate"].isna()).tolist() == [2, 5]
    assert np.flatnonzero(df["cryolikeViewingAngle"].isna()).tolist() == [2, 5]
    assert df[["cryolikePosteriorTemplate0", "cryolikePosteriorTemplate1"]].iloc[4].tolist() == [0.0, 1.0]


def test_structures_without_a_common_likelihood_are_not_compared(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written, (0,), ("integrated_fourier",))
    write_results(tmp_path, found.written, (1,), ("optimal_fourier",))
    with pytest.raises(InputError, match=r"template0: integrated_fourier; template1: optimal_fourier"):
        collect_results(found.stacks, tmp_path)


def test_the_folder_above_the_results_is_accepted(found: Collected) -> None:
    above = collect_results(found.stacks, found.results.parent)
    pd.testing.assert_frame_equal(above, collect_results(found.stacks, found.results))


def test_stitched_matrices_say_the_same(found: Collected, tmp_path: Path) -> None:
    write_matrices(tmp_path, found.written)
    expected = collect_results(found.stacks, write_results(tmp_path / "r", found.written, (0, 1), ALL[:4]))
    pd.testing.assert_frame_equal(collect_results(found.stacks, tmp_path), expected)
    pd.testing.assert_frame_equal(collect_results(found.stacks, tmp_path / "likelihood_matrix"), expected)
    # Poses are never stitched; they are in the files of the stacks beside the matrices.
    write_results(tmp_path / "likelihood", found.written, (0, 1), POSE)
    whole = collect_results(found.stacks, tmp_path)
    pd.testing.assert_frame_equal(whole[list(expected)], expected)
    assert "cryolikeViewingAngle" in whole


def test_results_of_each_stack_win_over_a_matrix(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path / "likelihood", found.written)
    save(tmp_path / "likelihood_matrix" / "optimal_fourier_log_likelihood_matrix.pt", np.zeros((2, 3)))
    assert_holds(collect_results(found.stacks, tmp_path), found.particles.listed)


def test_a_matrix_of_other_stacks_is_refused(found: Collected, tmp_path: Path) -> None:
    save(tmp_path / "likelihood_matrix" / "optimal_fourier_log_likelihood_matrix.pt", np.zeros((2, 30)))
    with pytest.raises(
        InputError, match=r"matrix\.pt holds float32 of shape \(2, 30\), but 2 structures with all stacks are \(2, 31\)"
    ):
        collect_results(found.stacks, tmp_path)


def test_all_that_is_missing_is_named_at_once(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written)
    for counter in (1, 2, 4):
        result_file(tmp_path, 1, "optimal_fourier", counter).unlink()
    result_file(tmp_path, 0, "inplane_rotation", 3).unlink()
    save(result_file(tmp_path, 0, "integrated_fourier", 2), np.zeros(6))
    result_file(tmp_path, 1, "template", 0).write_bytes(b"PK damaged")
    with pytest.raises(InputError) as caught:
        collect_results(found.stacks, tmp_path)
    message = str(caught.value)
    for text in (
        "(5 stacks, 31 images)",
        "template1: log_likelihood/log_likelihood_optimal_fourier_stack_*.pt of stacks 000001 to 000002, 000004 are missing",
        "template0: optimal_pose/optimal_inplane_rotation_stack_*.pt of stack 000003 is missing",
        "log_likelihood_integrated_fourier_stack_000002.pt holds float32 of shape (6,), but stack 000002 has 7 images",
        "optimal_template_stack_000000.pt is damaged",
        "n_stacks=5",
    ):
        assert text in message


def test_results_of_fewer_stacks_are_one_line(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written[:1], (0,))
    with pytest.raises(InputError) as caught:
        collect_results(found.stacks, tmp_path)
    assert len(str(caught.value).splitlines()) == 3
    assert "stacks 000001 to 000004 are missing" in str(caught.value)


def test_results_of_more_stacks_are_refused(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written, (0,), ("optimal_fourier",))
    save(result_file(tmp_path, 0, "optimal_fourier", 5), np.zeros(7))
    with pytest.raises(InputError, match=r"stack_000005\.pt: there is no stack 000005"):
        collect_results(found.stacks, tmp_path)


def test_half_a_pose_is_refused(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written, (0,), ("optimal_fourier", "template", "displacement_x", "displacement_y"))
    with pytest.raises(InputError, match=r"but not inplane_rotation"):
        collect_results(found.stacks, tmp_path)


def test_tensors_of_the_wrong_kind_are_refused(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written, (0,))
    torch.save(torch.zeros(7, dtype=torch.complex64), result_file(tmp_path, 0, "optimal_fourier", 0))
    save(result_file(tmp_path, 0, "template", 1), np.zeros(7))
    torch.save([1.0, 2.0], result_file(tmp_path, 0, "optimal_fourier", 2))
    with pytest.raises(InputError) as caught:
        collect_results(found.stacks, tmp_path)
    for text in ("holds complex64 of shape (7,)", "optimal_template_stack_000001.pt holds float32", "holds a list, not a tensor"):
        assert text in str(caught.value)


def test_nothing_in_a_tensor_file_is_ever_run(found: Collected, tmp_path: Path) -> None:
    write_results(tmp_path, found.written, (0,))
    torch.save({"payload": Payload(tmp_path / "was_here")}, result_file(tmp_path, 0, "optimal_fourier", 0))
    with pytest.raises(InputError, match=r"optimal_fourier_stack_000000\.pt is damaged"):
        collect_results(found.stacks, tmp_path)
    assert not (tmp_path / "was_here").exists()


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_folders_that_hold_something_else_are_refused(found: Collected, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results of CryoLike"):
        collect_results(found.stacks, tmp_path)
    with pytest.raises(InputError, match=r"holds no conversion"):
        collect_results(found.results, found.results)
    stacks = copy_of(found.stacks, tmp_path / "stacks")
    manifest = json.loads((stacks / "manifest.json").read_text()) | {"status": "incomplete"}
    (stacks / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"is incomplete: finish it first"):
        collect_results(stacks, found.results)


def test_templates_of_other_directions_are_refused(found: Collected, tmp_path: Path) -> None:
    assert max(numbers("template", 0, found.particles.listed)) < N_DIRECTIONS
    params(viewing_distance=20.0).save(tmp_path / "few.npz")
    with pytest.raises(InputError, match=r"few\.npz describes \d+ templates, but particles were matched with template \d+"):
        collect_results(found.stacks, found.results, templates=tmp_path / "few.npz")


def test_output_that_cannot_be_is_refused_before_any_work(found: Collected, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InputError, match=r"results\.txt: the suffix determines the format"):
        collect_results(nowhere, nowhere, out=tmp_path / "results.txt")
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"already exists.*--overwrite"):
        collect_results(nowhere, nowhere, out=tmp_path / "results.csv")
    with pytest.raises(OutputError, match=r"is not a folder: make it first"):
        collect_results(nowhere, nowhere, out=tmp_path / "no" / "results.csv")
    collect_results(found.stacks, found.results, out=tmp_path / "results.csv", overwrite=True)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 31


def copy_of(folder: Path, target: Path) -> Path:
    """The small files of an output folder; its images are not needed."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pt":
            (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(folder)).write_bytes(path.read_bytes())
    return target
