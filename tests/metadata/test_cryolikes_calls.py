"""The image descriptor as CryoLike's users use it: methods, values and CryoLike's own objects, without importing CryoLike."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.metadata import ImageDescriptor


class Precision(Enum):
    """The values of CryoLike's enumeration."""

    SINGLE = "single"
    DOUBLE = "double"
    DEFAULT = "default"


class AtomShape(Enum):
    """The values of CryoLike's enumeration."""

    HARD_SPHERE = "hard-sphere"
    GAUSSIAN = "gaussian"
    DEFAULT = "default"


def cryolikes(**changes: Any) -> Any:
    """An object with the attributes of CryoLike's ImageDescriptor for 32 pixels of 1.5 Å."""
    grid = ImageDescriptor.from_individual_values(32, 1.5).polar_grid
    polar = {"uniform": True, "radius_max": 8.0, "dist_radii": 0.25, "n_inplanes": 64}
    polar |= {"radius_shells": grid.radii, "theta_shell": grid.angles}
    values = {
        "cartesian_grid": SimpleNamespace(n_pixels=np.array([32, 32]), pixel_size=np.array([1.5, 1.5])),
        "polar_grid": SimpleNamespace(**(polar | changes.pop("polar", {}))),
        "viewing_angles": object(),
        "precision": Precision.SINGLE,
        "viewing_distance": 0.3,
        "atom_radii": None,
        "atom_selection": "name CA",
        "use_protein_residue_model": True,
        "atom_shape": AtomShape.HARD_SPHERE,
    }
    return SimpleNamespace(**(values | changes))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *[(name, "single") for name in ("single", "Single", "SINGLE", "default", "", Precision.SINGLE, Precision.DEFAULT)],
        *[(name, "double") for name in ("double", "DOUBLE", Precision.DOUBLE, np.array("double"))],
    ],
)
def test_precision_is_taken_as_cryolike_takes_it(given: Any, kept: str) -> None:
    descriptor = ImageDescriptor.from_individual_values(32, 1.5, given)
    assert descriptor.precision == kept
    assert descriptor.complex_dtype == {"single": np.complex64, "double": np.complex128}[kept]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *[(name, "hard-sphere") for name in ("hard-sphere", "hard_sphere", "Hard", "HARD-SPHERE", AtomShape.HARD_SPHERE)],
        *[(name, "gaussian") for name in ("gaussian", "Gauss", AtomShape.GAUSSIAN, np.array(["gaussian"]))],
        *[(name, "default") for name in ("default", AtomShape.DEFAULT)],
    ],
)
def test_atom_shapes_are_stored_under_the_name_that_cryolike_loads(given: Any, kept: str, tmp_path: Path) -> None:
    descriptor = ImageDescriptor.from_individual_values(32, 1.5, atom_shape=given)
    assert descriptor.atom_shape == kept
    descriptor.save(tmp_path / "params.npz")
    with np.load(tmp_path / "params.npz", allow_pickle=False) as archive:
        assert str(archive["atom_shape"]) == kept


def test_numbers_are_taken_as_arrays_and_lists_too() -> None:
    plain = ImageDescriptor.from_individual_values(32, 1.5, atom_radii=2.0)
    for n_pixels, pixel_size, atom_radii in (
        (np.array([32, 32]), [1.5], np.array([2.0, 2.0])),
        ([32], np.array(1.5), np.array(2)),
        (np.int64(32), np.float64(1.5), np.float64(2)),
    ):
        assert ImageDescriptor.from_individual_values(n_pixels, pixel_size, atom_radii=atom_radii) == plain  # type: ignore[arg-type]


def test_to_dict_holds_what_cryolike_validates() -> None:
    descriptor = ImageDescriptor.from_individual_values(32, 1.5, Precision.DOUBLE, atom_selection=None)
    values = descriptor.to_dict()
    assert type(values) is dict
    assert (values["n_pixels"].dtype, values["n_pixels"].tolist()) == (np.int64, [32, 32])
    assert (values["pixel_size"].dtype, values["pixel_size"].tolist()) == (np.float64, [1.5, 1.5])
    del values["n_pixels"], values["pixel_size"]
    assert values == {
        "radius_max": 8.0,
        "dist_radii": 0.25,
        "n_inplanes": 64,
        "precision": "double",
        "viewing_distance": descriptor.viewing_distance,
        "atom_radii": None,
        "atom_selection": None,
        "use_protein_residue_model": True,
        "atom_shape": "gaussian",
    }
    serialized = descriptor.serialize()
    assert serialized.n_inplanes == serialized["n_inplanes"] == serialized.model_dump()["n_inplanes"] == 64
    assert ImageDescriptor.from_dict(serialized) == ImageDescriptor.from_dict(descriptor.to_dict()) == descriptor
    with pytest.raises(AttributeError, match="n_shells"):
        _ = serialized.n_shells


def test_print_writes_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    ImageDescriptor.from_individual_values(132, 1.346, n_inplanes=256, atom_shape="hard").print()
    printed = capsys.readouterr().out
    lines = ("n_pixels: (132, 132)", "pixel_size: (1.346, 1.346)", "n_inplanes: 256", "atom_shape: hard-sphere", "atom_radii: None")
    assert [line for line in lines if line not in printed] == []


def test_grids_describe_the_images() -> None:
    descriptor = ImageDescriptor.from_individual_values((32, 24), (1.5, 2.0))
    assert descriptor.cartesian_grid.n_pixels.tolist() == [32, 24]
    assert descriptor.cartesian_grid.box_size.tolist() == [48.0, 48.0]
    assert (descriptor.polar_grid.radius_max, descriptor.polar_grid.n_inplanes, descriptor.polar_grid.uniform) == (6.0, 64, True)
    assert descriptor.viewing_angles is None


@pytest.mark.parametrize("pixel_size", [2.0, [2.0], (2.0, 2.0), np.array([2.0, 2.0])])
def test_update_pixel_size_returns_a_copy(pixel_size: Any) -> None:
    descriptor = ImageDescriptor.from_individual_values(32, 1.5)
    changed = descriptor.update_pixel_size(pixel_size)
    assert (changed.pixel_size, descriptor.pixel_size) == ((2.0, 2.0), (1.5, 1.5))
    assert changed.update_pixel_size(1.5) == descriptor
    with pytest.raises(InputError, match="pixel_size"):
        descriptor.update_pixel_size(0)
    with pytest.raises(FrozenInstanceError):
        descriptor.pixel_size = (2.0, 2.0)  # type: ignore[misc]


def test_descriptors_are_compatible_if_their_grids_are_exactly_equal(tmp_path: Path) -> None:
    descriptor = ImageDescriptor.from_individual_values(32, 1.5)
    other_templates = ImageDescriptor.from_individual_values(32, 1.5, "double", viewing_distance=1.0, atom_shape="hard")
    other_templates.save(tmp_path / "params.npz")
    for other in (descriptor, other_templates, tmp_path / "params.npz", cryolikes(), cryolikes(viewing_distance=None)):
        assert descriptor.is_compatible_with(other)
    for other in (
        ImageDescriptor.from_individual_values(33, 1.5),
        ImageDescriptor.from_individual_values(32, 1.5 + 1e-15),
        ImageDescriptor.from_individual_values(32, 1.5, n_inplanes=65),
        ImageDescriptor.from_individual_values(32, 1.5, resolution_factor=0.5),
        cryolikes(polar={"dist_radii": 0.2}),
    ):
        assert not descriptor.is_compatible_with(other)
    with pytest.raises(InputError, match="ImageDescriptor"):
        descriptor.is_compatible_with(3)


def test_cryolikes_descriptor_is_taken_and_left_alone() -> None:
    theirs = cryolikes()
    ours = ImageDescriptor.ensure(theirs)
    assert ours == ImageDescriptor.from_individual_values(32, 1.5, viewing_distance=0.3, atom_shape="hard-sphere")
    assert str(theirs) == str(cryolikes(viewing_angles=theirs.viewing_angles))
    theirs.cartesian_grid.pixel_size[:] = 2
    assert ours.pixel_size == (1.5, 1.5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"viewing_distance": None}, "explicit viewing_angles"),
        ({"polar": {"uniform": False}}, "polar_grid of the image descriptor is not uniform"),
        ({"polar": {"radius_shells": np.linspace(0.1, 7.9, 33)}}, "radii of the shells"),
        ({"polar": {"radius_shells": np.linspace(0.1, 7.9, 32)}}, "radii of the shells"),
        ({"polar": {"theta_shell": np.linspace(0, np.pi, 64, endpoint=False)}}, "in-plane angles"),
        ({"atom_shape": "sphere"}, "atom_shape"),
    ],
    ids=str,
)
def test_what_a_params_file_cannot_hold_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ImageDescriptor.ensure(cryolikes(**changes))
