"""`verify --templates` finds out whether CryoLike can compare stacks with templates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryolike_dask import Conversion, ImageDescriptor, InputError, particles_from_star, verify_output
from cryolike_dask.errors import MissingFileError
from cryolike_dask.runs.templates import open_templates
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.support.particle_sets import ParticleSet, params

DISTANCE = 2.7
N_DIRECTIONS = 28


@pytest.fixture(scope="module")
def made(abc: ParticleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "stacks"
    descriptor = params(viewing_distance=DISTANCE)
    Conversion(particles_from_star(abc.star, abc.mrc), descriptor, folder_output=folder, batch_size=6, flag_plots=False).run()
    return folder


@pytest.fixture
def stacks(made: Path, tmp_path: Path) -> Path:
    """A copy of three stacks that a test may damage."""
    shutil.copytree(made, tmp_path / "stacks")
    return tmp_path / "stacks"


def write_templates(folder: Path, descriptor: ImageDescriptor, names: tuple[str, ...] = ("apo", "holo"), **change: Any) -> Path:
    """Templates as CryoLike leaves them: tensors, the list of their files, and the parameter file."""
    folder.mkdir()
    descriptor.save(folder / "parameters.npz")
    grid = descriptor.polar_grid
    shape = change.get("shape", (N_DIRECTIONS, grid.n_shells, grid.n_inplanes))
    files = [folder / f"templates_fourier_{name}.pt" for name in names]
    for file in files:
        torch.save(torch.ones(shape, dtype=change.get("dtype", torch.complex64)), file)
    np.save(folder / "template_file_list.npy", [str(file) for file in files])
    return folder


def test_templates_of_the_same_grids_fit(stacks: Path, tmp_path: Path) -> None:
    templates = write_templates(tmp_path / "templates", ImageDescriptor.load(stacks / "params.npz"))
    assert verify_output(stacks, templates=templates) == []
    assert verify_output(stacks, templates=templates / "parameters.npz") == []
    assert verify_output(stacks, deep=True, templates=stacks / "params.npz") == []


@pytest.mark.parametrize(
    ("name", "change", "both"),
    [
        ("n_pixels", {"n_pixels": (14, 14)}, ("12 pixels", "14 pixels")),
        ("pixel_size", {"pixel_size": (2.0000000000000004, 2.0000000000000004)}, ("2.0 Å", "2.0000000000000004 Å")),
        ("radius_max", {"radius_max": 2.5}, ("3.0", "2.5")),
        ("dist_radii", {"dist_radii": 0.5}, ("0.25", "0.5")),
        ("n_inplanes", {"n_inplanes": 20}, ("24", "20")),
        ("precision", {"precision": "double"}, ("single", "double")),
    ],
)
def test_differences_are_named_with_both_sides(
    name: str, change: dict[str, Any], both: tuple[str, str], stacks: Path, tmp_path: Path
) -> None:
    other = replace(ImageDescriptor.load(stacks / "params.npz"), **change)
    other.save(tmp_path / "other.npz")
    (problem,) = verify_output(stacks, templates=tmp_path / "other.npz")
    first = stacks / "fft" / "particles_fourier_stack_000000.npz"
    assert problem == f"{name}: {both[0]} in {first} and 2 more stacks, {both[1]} in the templates' {tmp_path / 'other.npz'}"


def test_every_stack_is_compared(stacks: Path) -> None:
    path = stacks / "fft" / "particles_fourier_stack_000001.npz"
    with np.load(path) as archive:
        np.savez(path, **(dict(archive) | {"pixel_size": np.array([2.5, 2.5])}))
    problems = verify_output(stacks, templates=stacks / "params.npz")
    assert f"pixel_size: 2.5 Å in {path}, 2.0 Å in the templates' {stacks / 'params.npz'}" in problems


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"shape": (27, 13, 24)}, "complex64 of shape (27, 13, 24)"),
        ({"dtype": torch.complex128}, "complex128 of shape (28, 13, 24)"),
    ],
)
def test_template_files_that_do_not_fit_their_parameters_are_named(
    change: dict[str, Any], found: str, stacks: Path, tmp_path: Path
) -> None:
    templates = write_templates(tmp_path / "templates", ImageDescriptor.load(stacks / "params.npz"), ("apo",), **change)
    (problem,) = verify_output(stacks, templates=templates)
    assert problem.startswith("template 0: ")
    assert found in problem
    assert "requires complex64 (28, 13, 24)" in problem


def test_missing_or_damaged_template_files_are_named(stacks: Path, tmp_path: Path) -> None:
    templates = write_templates(tmp_path / "templates", ImageDescriptor.load(stacks / "params.npz"))
    (templates / "templates_fourier_apo.pt").unlink()
    (templates / "templates_fourier_holo.pt").write_bytes(b"no tensor")
    missing, damaged = verify_output(stacks, templates=templates)
    assert missing.startswith("template 0: ")
    assert "does not exist" in missing
    assert damaged.startswith("template 1: ")
    assert "is damaged" in damaged
    (templates / "template_file_list.npy").unlink()
    (problem,) = verify_output(stacks, templates=templates)
    assert "template_file_list.npy is missing" in problem


def test_templates_that_were_moved_are_found_beside_their_list(stacks: Path, tmp_path: Path) -> None:
    write_templates(tmp_path / "first", ImageDescriptor.load(stacks / "params.npz")).rename(tmp_path / "moved")
    assert verify_output(stacks, templates=tmp_path / "moved") == []


def test_a_list_that_would_have_to_be_unpickled_is_never_read(stacks: Path, tmp_path: Path) -> None:
    templates = write_templates(tmp_path / "templates", ImageDescriptor.load(stacks / "params.npz"))
    np.save(templates / "template_file_list.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (problem,) = verify_output(stacks, templates=templates)
    assert "template_file_list.npy is damaged" in problem


def test_parameters_that_are_not_known_are_requested(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.npz file.*Give the parameter file itself"):
        open_templates(tmp_path)
    for name in ("first.npz", "second.npz"):
        params().save(tmp_path / name)
    with pytest.raises(InputError, match=r"first\.npz, second\.npz"):
        open_templates(tmp_path)
    params(pixel_size=3.0).save(tmp_path / "parameters.npz")
    assert open_templates(tmp_path).descriptor.pixel_size == (3.0, 3.0)
    with pytest.raises(InputError, match="does not exist"):
        open_templates(tmp_path / "nothing.npz")


def test_the_command_exits_with_1_where_they_do_not_fit(stacks: Path, tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    assert cli("verify", stacks, "--templates", stacks / "params.npz").exit_code == 0
    replace(ImageDescriptor.load(stacks / "params.npz"), n_inplanes=20).save(tmp_path / "other.npz")
    result = cli("verify", stacks, "--templates", tmp_path / "other.npz")
    assert result.exit_code == 1
    assert "n_inplanes: 24 in" in result.stderr
    told = json.loads(cli("verify", stacks, "--templates", tmp_path / "other.npz", "--json").stdout)
    assert len(told["problems"]) == 1
    assert cli("verify", stacks, "--templates", tmp_path / "nothing.npz").exit_code == 2


def test_a_missing_folder_of_templates_is_not_called_a_parameter_file(tmp_path: Path) -> None:
    with pytest.raises(
        MissingFileError, match=r"nope does not exist\. Give the folder of the templates, or the parameter file they"
    ):
        open_templates(tmp_path / "nope")
