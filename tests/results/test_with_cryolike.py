"""Results of CryoLike's likelihood, with CryoLike's templates, give the poses that the particles were made with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cryolike_dask import (
    ImageDescriptor,
    InputError,
    collect_results,
    convert_particle_stacks_from_indexed_star_file,
    verify_output,
)
from cryolike_dask.grids.viewing_sphere import viewing_directions
from cryolike_dask.results.files import read_results
from cryolike_dask.simulation.ctf import contrast_transfer
from cryolike_dask.simulation.phantom import Phantom, euler_matrices, random_orientations
from tests.support.cryolike import import_cryolike
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import NO_PLOTS, optics_table, write_star

cryolike = import_cryolike()

BOX, PIXEL_SIZE = 24, 4.0
WIDTH = 5.0  # of the blobs, Å
N_IMAGES, N_STACKS = 7, 3
DISTANCE = 0.25  # of the directions, radians
STEP = 2 * PIXEL_SIZE  # of the displacements


@pytest.mark.parametrize("distance", [1.0, 0.15, 1 / (4 * np.pi), 2.7])
def test_directions_are_those_of_its_templates(distance: float) -> None:
    theirs = cryolike.metadata.ViewingAngles.from_viewing_distance(distance)
    azimuth, polar = viewing_directions(distance).T
    np.testing.assert_allclose(azimuth, theirs.azimus.numpy(), atol=3e-7)
    np.testing.assert_allclose(polar, theirs.polars.numpy(), atol=3e-7)


@pytest.fixture(scope="module")
def structures() -> list[Phantom]:
    """The molecule and another one. Each is a few blobs that are far apart, so that no two views are similar."""
    centres = [0.26 * BOX * PIXEL_SIZE * np.random.default_rng(seed).uniform(-1, 1, (9, 3)) for seed in (8, 9)]
    return [Phantom(places, np.full(len(places), WIDTH), np.ones(len(places))) for places in centres]


@pytest.fixture
def truth() -> dict[str, npt.NDArray[np.float64]]:
    """(n, 3) RELION's angles, and (n, 2) origins that are among the searched displacements if nothing rotates them."""
    rng = np.random.default_rng(2)
    return {"angles": random_orientations(N_IMAGES, rng), "origins": STEP * rng.integers(-1, 2, (N_IMAGES, 2))}


@pytest.fixture(params=["cryolike", "relion"])
def axes(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["", "apply_origins"])
def applied(request: pytest.FixtureRequest) -> npt.NDArray[np.float64]:
    """(n, 2) origins that the table states and the conversion applies; 0 if it states none."""
    return np.random.default_rng(4).uniform(-7, 7, (N_IMAGES, 2)) * float(request.param)


@pytest.fixture
def stacks(
    structures: list[Phantom],
    truth: dict[str, npt.NDArray[np.float64]],
    axes: str,
    applied: npt.NDArray[np.float64],
    tmp_path: Path,
) -> Path:
    """Converted projections with CTF; the table lists them from the last to the first."""
    molecule, matrices = structures[0], euler_matrices(truth["angles"])
    # A shift in the plane of the image is a shift of the molecule along the axes of the image.
    images = np.concatenate(
        [
            Phantom(molecule.centres - np.append(origin, 0) @ matrix, molecule.widths, molecule.weights).project(
                matrix[None], BOX, PIXEL_SIZE
            )
            for matrix, origin in zip(matrices, truth["origins"] + applied, strict=True)
        ]
    )
    defocus = 9000.0 + 10.0 * np.arange(N_IMAGES)[::-1]
    transfer = contrast_transfer(
        *(BOX, PIXEL_SIZE, defocus, defocus, np.zeros(N_IMAGES)),
        voltage=300.0,
        spherical_aberration=2.7,
        amplitude_contrast=0.07,
    )
    (tmp_path / "mrc").mkdir()
    filtered = np.fft.irfft2(np.fft.rfft2(images) * transfer, s=(BOX, BOX)).astype(np.float32)
    (tmp_path / "mrc" / "a.mrcs").write_bytes(pack_mrc(filtered, 2, pixel_size=PIXEL_SIZE))
    star = write_star(
        tmp_path / "particles.star",
        [("a.mrcs", i) for i in reversed(range(N_IMAGES))],
        optics=optics_table(rlnImagePixelSize=[str(PIXEL_SIZE)]),
        rlnDefocusU=[str(value) for value in defocus[::-1]],
        rlnDefocusV=[str(value) for value in defocus[::-1]],
        rlnPhaseShift="0",
        rlnOriginXAngst=applied[::-1, 0].tolist(),
        rlnOriginYAngst=applied[::-1, 1].tolist(),
    )
    convert_particle_stacks_from_indexed_star_file(
        ImageDescriptor.from_individual_values(BOX, PIXEL_SIZE, viewing_distance=DISTANCE),
        *(star, tmp_path / "mrc", tmp_path / "stacks", 3),
        axes=axes,
        apply_origins=bool(applied.any()),
        **NO_PLOTS,
    )
    return tmp_path / "stacks"


def make_templates(source: str, structures: list[Phantom], stacks: Path, folder: Path) -> None:
    """CryoLike's templates, from atoms or from maps."""
    folder.mkdir()
    descriptor = cryolike.ImageDescriptor.load(str(stacks / "params.npz"))
    descriptor.save(str(folder / "parameters.npz"))
    if source == "map":
        maps = [str(folder / name) for name in ("a.mrc", "b.mrc")]
        for path, structure in zip(maps, structures, strict=True):
            Path(path).write_bytes(pack_mrc(density(structure.centres), 2, pixel_size=PIXEL_SIZE))
        cryolike.make_templates_from_inputs(maps, str(folder / "parameters.npz"), output_plots=False, folder_output=str(folder))
        return
    files = []
    for number, structure in enumerate(structures):
        atoms = cryolike.util.AtomicModel(structure.centres, WIDTH, BOX * PIXEL_SIZE)
        templates = cryolike.Templates.generate_from_positions(
            *(atoms, descriptor.viewing_angles, descriptor.polar_grid, descriptor.cartesian_grid.box_size),
            device="cpu",
            atom_shape=cryolike.util.AtomShape.GAUSSIAN,
            precision=descriptor.precision,
        )
        templates.normalize_images_fourier(ord=2, use_max=False)
        files.append(str(folder / f"templates_fourier_{number}.pt"))
        torch.save(templates.images_fourier, files[-1])
    np.save(folder / "template_file_list.npy", files)


def density(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(z, y, x) density of blobs, as in an MRC map."""
    position = (np.arange(BOX) - BOX // 2) * PIXEL_SIZE
    x, y, z = (np.exp(-((position - place[:, None]) ** 2) / (2 * WIDTH**2)) for place in centres.T)
    return np.einsum("kz,ky,kx->zyx", z, y, x).astype(np.float32)


@pytest.mark.parametrize("source", ["pdb", "map"])
def test_poses_and_structures_come_back(
    source: Any,
    structures: list[Phantom],
    truth: dict[str, npt.NDArray[np.float64]],
    stacks: Path,
    applied: npt.NDArray[np.float64],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    templates, results = tmp_path / "templates", tmp_path / "likelihood"
    make_templates(source, structures, stacks, templates)
    assert verify_output(stacks, templates=templates) == []
    monkeypatch.setattr(cryolike.run_likelihood, "device", lambda _: torch.device("cpu"))
    for number in (0, 1):
        cryolike.run_likelihood_optimal_pose(
            cryolike.configure_likelihood_files(str(templates), str(stacks), str(results), N_STACKS, number),
            *(str(templates / "parameters.npz"), cryolike.configure_displacement(2.0, 3, 3), number, N_STACKS),
            n_templates_per_batch=32,
            return_likelihood_optimal_pose_fourier=True,
            return_likelihood_integrated_pose_fourier=True,
        )
    df = collect_results(stacks, results, templates=templates, template_source=source)
    assert [int(name.partition("@")[0]) for name in df["rlnImageName"]] == list(range(N_IMAGES, 0, -1))
    # CryoLike writes an integrated likelihood, but does not compute it.
    assert df["cryolikeLogLikelihoodIntegratedFourierTemplate0"].nunique() == 1
    assert set(df["cryolikeBestBy"]) == {"optimal_fourier"}
    assert df["cryolikeBestTemplate"].tolist() == [0] * N_IMAGES
    found = df[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()[::-1]
    assert np.median(turned_by(found, truth["angles"])) < np.degrees(DISTANCE)
    origins = df[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy()[::-1]
    assert np.median(abs(origins - truth["origins"] - applied)) < STEP / 2
    other = collect_results(stacks, results, templates=templates, template_source="map" if source == "pdb" else "pdb")
    found = other[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()[::-1]
    assert np.median(turned_by(found, truth["angles"])) > 45
    monkeypatch.setattr(cryolike.util.post_process_output, "Pool", Serial)
    cryolike.util.post_process_output.stitch_log_likelihood_matrices(
        2, N_STACKS, str(tmp_path), str(results), str(templates), integrated=True, cc=True
    )
    with pytest.raises(InputError, match="were not computed"):
        collect_results(stacks, tmp_path / "likelihood_matrix")
    (tmp_path / "likelihood_matrix" / "integrated_fourier_log_likelihood_matrix.pt").rename(tmp_path / "aside.pt")
    stitched = read_results(tmp_path / "likelihood_matrix", [3, 3, 1]).scores["cross_correlation"]
    for number, values in stitched.items():
        assert values.tolist() == df[f"cryolikeCrossCorrelationTemplate{number}"].tolist()


class Serial:
    """Replaces a pool of processes."""

    def __init__(self, _: int) -> None: ...

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function: Callable[[Path], torch.Tensor], paths: Iterable[Path]) -> list[torch.Tensor]:
        """Call the function for each path, one after the other."""
        return [function(path) for path in paths]


def turned_by(found: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) degrees between two orientations."""
    trace = np.einsum("nij,nij->n", euler_matrices(found), euler_matrices(true))
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
