"""Malicious files."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from cryolike_dask.errors import InputError
from cryolike_dask.execution.restacking import restack
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.reader import ImageFileReader, read_header
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.stacks.files import read_metadata
from cryolike_dask.stacks.loading import load_stack, load_tensor
from cryolike_dask.stacks.object_store import open_object_store
from tests.support.clusters import conversion, make_particles
from tests.support.mrc_files import pack_mrc


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def harm(tmp_path: Path) -> Harm:
    return Harm(tmp_path / "harm was done")


def test_a_tensor_file_that_would_run_code_is_refused(tmp_path: Path, harm: Harm) -> None:
    torch.save(harm, tmp_path / "stack.pt")
    with pytest.raises(InputError, match=r"stack\.pt"):
        load_tensor(tmp_path / "stack.pt")
    assert not harm.folder.exists()


def test_metadata_that_would_run_code_are_refused(tmp_path: Path, harm: Harm) -> None:
    np.savez(tmp_path / "stack.npz", n_images=np.array([harm], dtype=object))
    with pytest.raises(InputError, match=r"stack\.npz"):
        read_metadata(tmp_path / "stack.npz")
    assert not harm.folder.exists()


def test_parameters_that_would_run_code_are_refused(tmp_path: Path, harm: Harm) -> None:
    values = ImageDescriptor.from_individual_values(n_pixels=16, pixel_size=3.0).to_arrays()
    np.savez(tmp_path / "params.npz", **(values | {"atom_radii": np.array([harm], dtype=object)}))
    with pytest.raises(InputError, match=r"params\.npz"):
        ImageDescriptor.load(tmp_path / "params.npz")
    assert not harm.folder.exists()


def test_a_cryosparc_table_that_would_run_code_is_refused(tmp_path: Path, harm: Harm) -> None:
    with (tmp_path / "table.cs").open("wb") as file:
        np.save(file, np.array([harm], dtype=object))
    with pytest.raises(InputError, match=r"table\.cs"):
        particles_from_cryosparc(str(tmp_path / "table.cs"))
    assert not harm.folder.exists()


def test_an_archive_of_endless_zeros_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mrcs"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(pack_mrc(np.ones((2, 16, 16)), 2))
        for _ in range(256):
            file.write(bytes(1 << 20))
    header = read_header(path)
    images = np.empty((2, 16, 16), dtype=np.float32)
    tracemalloc.start()
    with ImageFileReader(header) as reader, pytest.raises(InputError, match="more data than its header states"):
        reader.read(np.arange(2), images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="contains a password") as told:
        ConversionSettings(output_format="zarr", zarr_store="ftp://me:geheim@example.org/particles.zarr")
    assert "geheim" not in str(told.value)
    for url in ("s3://[bucket/particles.zarr", "s3://bucket/a@b:c"):  # neither a password nor a traceback
        assert ConversionSettings(output_format="zarr", zarr_store=url).zarr_store == url
    azure = "abfs://container@account.dfs.core.windows.net/particles.zarr"  # no user, though it looks like one
    assert ConversionSettings(output_format="zarr", zarr_store=azure).zarr_store == azure


def stacks_that_name(store: str, tmp_path: Path) -> Path:
    """A complete conversion whose stacks and manifest name this Zarr store."""
    out = tmp_path / "out"
    conversion(make_particles(tmp_path / "particles", n_images=8), out, output_format="zarr").run()
    for file in (out / "fft").glob("*.npz"):
        with np.load(file) as archive:
            np.savez(file, **(dict(archive) | {"zarr_store": np.str_(store)}))
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["identity"]["settings"]["zarr_store"] = store
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


@pytest.mark.parametrize(
    "store", ["reference://harm.json", "http://127.0.0.1:9/particles.zarr", "{tmp}/elsewhere", "..", "other.zarr"]
)
def test_a_place_that_only_a_file_names_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    store = store.format(tmp=tmp_path)
    out = stacks_that_name(store, tmp_path)
    opened: list[str] = []
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url, *_: opened.append(url))
    monkeypatch.setattr("cryolike_dask.stacks.zarr_store.open_object_store", lambda location: opened.append(location))
    for ask in (lambda: load_stack(out, 0), lambda: verify_output(out), lambda: restack(out, tmp_path / "smaller")):
        with pytest.raises(InputError, match="opened only if you name it") as told:
            ask()
        assert store in str(told.value)
    assert opened == []
    result = CliRunner().invoke(main, ["verify", str(out)])
    assert result.exit_code == 2
    assert "--zarr-store" in result.output


def test_a_store_outside_the_folder_is_opened_when_it_is_named(tmp_path: Path) -> None:
    data, store = make_particles(tmp_path / "particles", n_images=8), tmp_path / "store" / "particles.zarr"
    out = tmp_path / "out"
    conversion(data, out, output_format="zarr", zarr_store=str(store), flag_plots=True).run()
    assert len(list((out / "plots").glob("*.png"))) == 6
    conversion(data, tmp_path / "pt").run()
    loaded = load_stack(out, 1, zarr_store=str(store))
    assert torch.equal(loaded.fourier, load_stack(tmp_path / "pt", 1).fourier)
    assert verify_output(out, deep=True, zarr_store=str(store)) == []
    result = CliRunner().invoke(main, ["verify", str(out), "--zarr-store", str(store)])
    assert (result.exit_code, "complete and undamaged" in result.output) == (0, True)


@pytest.mark.parametrize(
    "url",
    [
        "reference://",
        "reference://spec.json",
        "simplecache::s3://bucket/x",
        "s3://bucket/x::file:///y",
        "ssh://host/x",
        "ftp://host/x",
    ],
)
def test_addresses_that_lead_elsewhere_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(InputError, match="not an address at which a Zarr store can be"):
        open_object_store(url)
