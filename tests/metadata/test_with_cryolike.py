"""Params files and descriptors exchanged with CryoLike, if CryoLike can be imported."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.metadata import ImageDescriptor
from tests.support.cryolike import import_cryolike

cryolike = import_cryolike()
Theirs = cryolike.ImageDescriptor
AtomShape, Precision = cryolike.AtomShape, cryolike.Precision

CHOICES: dict[str, list[Any]] = {
    "n_pixels": [32, 133],
    "pixel_size": [1.346, 0.1 + 0.2],
    "precision": ["single", "Double", "default", Precision.SINGLE, Precision.DOUBLE],
    "resolution_factor": [1.0, 0.7],
    "viewing_distance": [0.61],
    "n_inplanes": [None, 61],
    "atom_radii": [None, 1.5],
    "atom_selection": ["name CA", None],
    "use_protein_residue_model": [True, False],
    "atom_shape": ["hard", "hard_sphere", "Gauss", "gaussian", "hard-sphere", *AtomShape],
}


def variants() -> list[dict[str, Any]]:
    """Every pair of choices at least once, and some hundred random combinations."""
    combinations = list(itertools.product(*CHOICES.values()))
    chosen = np.random.default_rng(14).choice(len(combinations), 150, replace=False)
    names = list(CHOICES)
    base = [values[0] for values in CHOICES.values()]
    pairs = [
        [*base[:i], first, *base[i + 1 : j], second, *base[j + 1 :]]
        for i, j in itertools.combinations(range(len(names)), 2)
        for first in CHOICES[names[i]]
        for second in CHOICES[names[j]]
    ]
    return [dict(zip(names, values, strict=True)) for values in [*pairs, *(combinations[k] for k in chosen)]]


def both(values: dict[str, Any]) -> tuple[ImageDescriptor, Any]:
    return ImageDescriptor.from_individual_values(**values), Theirs.from_individual_values(**values)


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal to the last bit, with the same types; CryoLike's default precision is single here."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        if key == "precision" and value == "default":
            assert found[key] == "single"
        else:
            assert type(found[key]) is type(value), key
            assert np.array_equal(found[key], value), key


def test_cryolike_loads_what_we_save_and_we_load_what_it_saves(tmp_path: Path) -> None:
    for number, values in enumerate(variants()):
        ours, theirs = both(values)
        ours.save(tmp_path / f"ours-{number}.npz")
        theirs.save(str(tmp_path / f"theirs-{number}.npz"))
        assert_equal(Theirs.load(str(tmp_path / f"ours-{number}.npz")).to_dict(), theirs.to_dict())
        assert ImageDescriptor.load(tmp_path / f"theirs-{number}.npz") == ours


def test_dictionaries_and_objects_go_both_ways() -> None:
    for values in variants():
        ours, theirs = both(values)
        assert_equal(ours.to_dict(), theirs.to_dict())
        assert ImageDescriptor.from_dict(theirs.to_dict()) == ImageDescriptor.ensure(theirs) == ours
        for given in (ours.to_dict(), ours.serialize()):
            assert_equal(Theirs.from_dict(given).to_dict(), theirs.to_dict())
        assert ours.is_compatible_with(theirs)
        assert theirs.is_compatible_with(ours)


@pytest.mark.parametrize("resolution_factor", [1.0, 0.7, 0.5, 0.123])
@pytest.mark.parametrize("n_pixels", [96, 133])
def test_the_default_viewing_distance_is_the_same_to_the_last_bit(n_pixels: int, resolution_factor: float) -> None:
    ours, theirs = both({"n_pixels": n_pixels, "pixel_size": 1.5, "resolution_factor": resolution_factor})
    assert_equal(ours.to_dict(), theirs.to_dict())


def test_cryolike_loads_what_was_absent(tmp_path: Path) -> None:
    whole = ImageDescriptor.from_individual_values(48, 1.5, resolution_factor=0.5)
    absent = dict.fromkeys(("viewing_distance", "use_protein_residue_model", "atom_shape", "atom_radii", "atom_selection"))
    ImageDescriptor.from_dict({**whole.to_dict(), **absent}).save(tmp_path / "params.npz")
    loaded = Theirs.load(str(tmp_path / "params.npz")).to_dict()
    assert_equal(loaded, Theirs.from_individual_values(48, 1.5, resolution_factor=0.5, atom_selection=None).to_dict())


def test_what_a_params_file_cannot_hold_is_refused_by_name() -> None:
    theirs = Theirs.from_individual_values(32, 1.5)
    angles = cryolike.ViewingAngles(np.array([0.1]), np.array([0.2]), None)
    explicit = Theirs(theirs.precision, theirs.cartesian_grid, theirs.polar_grid, angles, None)
    with pytest.raises(InputError, match="explicit viewing_angles"):
        ImageDescriptor.ensure(explicit)
    assert ImageDescriptor.ensure(theirs).is_compatible_with(explicit)
    for kind, named in (
        ({"uniform": False}, "not uniform"),
        ({"n_inplanes": 64, "half_space": True}, "in-plane angles"),
        ({"n_inplanes": 64, "quadrature": cryolike.QuadratureType.GAUSS_LEGENDRE}, "radii of the shells"),
    ):
        grid = cryolike.PolarGrid(radius_max=8.0, dist_radii=0.25, **kind)
        with pytest.raises(InputError, match=named):
            ImageDescriptor.ensure(Theirs(theirs.precision, theirs.cartesian_grid, grid, None, 0.5))
