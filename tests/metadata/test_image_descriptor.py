"""The image descriptor: its defaults, and the params file that CryoLike writes and reads."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.metadata.image_descriptor import OPTIONAL_KEYS, REQUIRED_KEYS, ImageDescriptor
from tests.support.reference import params_file


def test_defaults_are_cryolikes() -> None:
    descriptor = ImageDescriptor.from_individual_values(256, 1.06)
    assert descriptor.n_pixels == (256, 256)
    assert descriptor.pixel_size == (1.06, 1.06)
    assert (descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes) == (64.0, 0.25, 512)
    assert descriptor.precision == "single"
    assert descriptor.viewing_distance == 1 / (4 * math.pi)
    assert descriptor.atom_radii is None
    assert descriptor.atom_selection == "name CA"
    assert descriptor.use_protein_residue_model is True
    assert descriptor.atom_shape == "gaussian"
    assert (descriptor.polar_grid.n_shells, descriptor.polar_grid.n_points) == (257, 257 * 512)


def test_resolution_factor_scales_radius_and_viewing_distance() -> None:
    descriptor = ImageDescriptor.from_individual_values(48, 2.5, resolution_factor=0.5, n_inplanes=61)
    assert descriptor.radius_max == 6.0
    assert descriptor.viewing_distance == 1 / (4 * math.pi * 0.5)
    assert descriptor.n_inplanes == 61


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_pixels": 1}, "n_pixels"),
        ({"n_pixels": 32.5}, "n_pixels"),
        ({"n_pixels": (32, 32, 32)}, "n_pixels"),
        ({"n_pixels": "32"}, "n_pixels"),
        ({"pixel_size": 0.0}, "pixel_size"),
        ({"pixel_size": -1.0}, "pixel_size"),
        ({"pixel_size": math.nan}, "pixel_size"),
        ({"resolution_factor": 0.0}, "resolution_factor"),
        ({"resolution_factor": 1.01}, "resolution_factor"),
        ({"resolution_factor": math.nan}, "resolution_factor"),
        ({"n_inplanes": 0}, "n_inplanes"),
        ({"precision": "half"}, "precision is 'half': choose 'single' or 'double'"),
        ({"precision": None}, "precision"),
        ({"atom_shape": "sphere"}, "atom_shape is 'sphere': choose 'hard-sphere' or 'gaussian' or 'default'"),
        ({"viewing_distance": 0.0}, "viewing_distance"),
        ({"viewing_distance": math.nan}, "viewing_distance"),
        ({"atom_radii": "small"}, "atom_radii"),
        ({"atom_selection": 3}, "atom_selection"),
        ({"use_protein_residue_model": "no"}, "use_protein_residue_model"),
    ],
    ids=str,
)
def test_values_out_of_range_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ImageDescriptor.from_individual_values(**({"n_pixels": 32, "pixel_size": 1.5} | change))


@pytest.mark.parametrize("case", ["single", "double", "ds2mean", "ds2max", "res05_inpl61"])
def test_cryolikes_params_files_are_read(case: str) -> None:
    path = params_file(case)
    descriptor = ImageDescriptor.load(path)
    with np.load(path, allow_pickle=True) as archive:
        for key in ("n_pixels", "pixel_size"):
            assert getattr(descriptor, key) == tuple(archive[key].tolist())
        for key in set(REQUIRED_KEYS + OPTIONAL_KEYS) - {"n_pixels", "pixel_size"}:
            assert getattr(descriptor, key) == archive[key].item(), key
    assert descriptor.atom_radii is None


@pytest.mark.parametrize("name", ["params.npz", "params"])
def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path, name: str) -> None:
    descriptor = ImageDescriptor(
        n_pixels=(48, 36),
        pixel_size=(0.1 + 0.2, 1 / 3),
        radius_max=math.pi,
        dist_radii=math.nextafter(0.25, 1),
        n_inplanes=77,
        precision="double",
        viewing_distance=math.e / 7,
        atom_radii=1.1,
        atom_selection=None,
        use_protein_residue_model=False,
        atom_shape="hard-sphere",
    )
    descriptor.save(tmp_path / name)
    assert ImageDescriptor.load(tmp_path / "params.npz") == descriptor
    assert ImageDescriptor.from_dict(descriptor.to_dict()) == descriptor


def test_saved_files_hold_cryolikes_types_without_pickle(tmp_path: Path) -> None:
    ImageDescriptor.from_individual_values(32, 1.5).save(tmp_path / "params.npz")
    with np.load(tmp_path / "params.npz", allow_pickle=False) as archive:
        values = {key: archive[key] for key in archive.files}
    assert set(values) == {*REQUIRED_KEYS, *OPTIONAL_KEYS}
    assert (values["n_pixels"].dtype, values["n_pixels"].tolist()) == (np.int64, [32, 32])
    assert (values["pixel_size"].dtype, values["pixel_size"].tolist()) == (np.float64, [1.5, 1.5])
    assert values["radius_max"].dtype == values["dist_radii"].dtype == np.float64
    assert values["n_inplanes"].dtype == np.int64
    assert str(values["precision"]) == "single"
    assert values["atom_radii"].size == 0


def test_a_file_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    first, second = (ImageDescriptor.from_individual_values(32, pixel_size) for pixel_size in (1.5, 1.6))
    first.save(str(tmp_path / "params"))
    for name in ("params", "params.npz"):
        with pytest.raises(OutputError, match=r"params\.npz already exists.*overwrite=True") as told:
            second.save(str(tmp_path / name))
        assert isinstance(told.value, (ValueError, FileExistsError))
        assert ImageDescriptor.load(tmp_path / "params.npz") == first
    second.save(str(tmp_path / "params"), True)
    assert ImageDescriptor.load(tmp_path / "params.npz") == second


def test_the_home_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    descriptor = ImageDescriptor.from_individual_values(32, 1.5)
    descriptor.save("~/params.npz")
    assert ImageDescriptor.ensure("~/params.npz") == descriptor


def params_with(tmp_path: Path, **members: Any) -> Path:
    """A params file whose members are arrays or raw bytes."""
    values = ImageDescriptor.from_individual_values(32, 1.5).to_arrays() | members
    path = tmp_path / "params.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in values.items():
            if isinstance(value, bytes):
                archive.writestr(f"{key}.npy", value)
            else:
                buffer = io.BytesIO()
                np.save(buffer, value, allow_pickle=True)
                archive.writestr(f"{key}.npy", buffer.getvalue())
    return path


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("key", ["atom_radii", "n_pixels", "viewing_distance"])
@pytest.mark.parametrize("protocol", range(6))
def test_no_object_in_a_params_file_is_ever_unpickled(tmp_path: Path, key: str, protocol: int) -> None:
    marker = tmp_path / "unpickled"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    for content in (_Payload(marker), [_Payload(marker)], [None, _Payload(marker)]):
        path = params_with(tmp_path, **{key: header.getvalue() + pickle.dumps(content, protocol)})
        with pytest.raises(InputError, match=r"params\.npz"):
            ImageDescriptor.load(path)
    assert not marker.exists()


def test_a_pickled_none_is_an_absent_value(tmp_path: Path) -> None:
    descriptor = ImageDescriptor.load(params_with(tmp_path, atom_radii=np.array(None), atom_selection=np.array(None)))
    assert (descriptor.atom_radii, descriptor.atom_selection) == (None, None)


@pytest.mark.parametrize("absent", [np.array(None), np.empty(0)], ids=["None", "size 0"])
@pytest.mark.parametrize("resolution_factor", [1.0, 0.7])
def test_an_absent_value_that_cryolike_cannot_load_becomes_its_default(
    absent: np.ndarray, resolution_factor: float, tmp_path: Path
) -> None:
    keys = ("viewing_distance", "use_protein_residue_model", "atom_shape")
    whole = ImageDescriptor.from_individual_values(32, 1.5, resolution_factor=resolution_factor)
    path = params_with(tmp_path, **(whole.to_arrays() | dict.fromkeys(keys, absent)))
    assert ImageDescriptor.load(path) == whole
    assert replace(whole, **dict.fromkeys(keys)) == whole
    assert all(array.size for key, array in ImageDescriptor.load(path).to_arrays().items() if key != "atom_radii")


@pytest.mark.parametrize("key", REQUIRED_KEYS)
def test_a_missing_required_value_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=f"lacks {key}"):
        ImageDescriptor.load(params_with(tmp_path, **{key: np.array(None)}))


@pytest.mark.parametrize(
    "members",
    [
        {"n_pixels": np.array("many")},
        {"n_pixels": np.array([32.5, 32.5])},
        {"n_inplanes": np.array([1, 2, 3])},
        {"radius_max": np.array("far")},
        {"radius_max": np.array(np.inf)},
        {"precision": np.array("half")},
        {"pixel_size": np.array([1.0, np.nan])},
        {"viewing_distance": np.array(0.0)},
        {"atom_radii": np.array([1.0, 2.0])},
        {"atom_shape": np.array("sphere")},
        {"use_protein_residue_model": np.array("no")},
    ],
    ids=lambda members: next(iter(members)),
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"params\.npz"):
        ImageDescriptor.load(params_with(tmp_path, **members))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_params_file_is_an_input_error_or_harmless(tmp_path: Path, compressed: bool) -> None:
    descriptor = ImageDescriptor.from_individual_values(32, 1.5)
    path = tmp_path / "params.npz"
    (np.savez_compressed if compressed else np.savez)(path, **descriptor.to_arrays())
    whole, random, unnamed = path.read_bytes(), np.random.default_rng(0), 0
    for case in range(400):
        damaged = bytearray(whole)
        if case % 4 == 0:
            damaged = damaged[: random.integers(len(whole))]
        else:
            damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = ImageDescriptor.load(path)
        except InputError as error:
            unnamed += "params.npz" not in str(error)
        else:
            assert all(getattr(loaded, key) == getattr(descriptor, key) for key in REQUIRED_KEYS)
            assert all(getattr(loaded, key) in (getattr(descriptor, key), None) for key in OPTIONAL_KEYS)
    assert not unnamed


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"PK\x03\x04", bytes(1000)])
def test_a_file_that_is_not_a_params_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"params\.npz is not a readable"):
        ImageDescriptor.load(path)


def test_a_missing_params_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.npz does not exist") as told:
        ImageDescriptor.load(tmp_path / "nowhere.npz")
    assert isinstance(told.value, FileNotFoundError)
    with pytest.raises(InputError, match="ImageDescriptor or the path"):
        ImageDescriptor.ensure(3)  # type: ignore[arg-type]
