"""Errors are caught by the `except` clauses of CryoLike's users."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask import (
    ImageDescriptor,
    ParticleStackConverter,
    load_stack,
)
from cryolike_dask import convert_particle_stacks_from_cryosparc_job_directory as job
from cryolike_dask import convert_particle_stacks_from_indexed_cryosparc_file as cs
from cryolike_dask import convert_particle_stacks_from_indexed_star_file as star
from cryolike_dask import convert_particle_stacks_from_leopard_em as leopard_em
from cryolike_dask import convert_particle_stacks_from_paired_star_and_mrc_files as paired
from cryolike_dask.errors import CryolikeError, FileTypeError, InputError, MissingFileError, OutputError, OutputExistsError

Work = dict[str, Any]


def missing_batches() -> None:
    shutil.rmtree("cryosparc/J4/restack")
    job("params.npz", "cryosparc", 4)


def missing_first_batch() -> None:
    Path("cryosparc/J4/restack/batch_000000_restacked.mrc").unlink()
    job("params.npz", "cryosparc", 4)


def missing_job_table() -> None:
    Path("cryosparc/J4/J4_passthrough_particles.cs").unlink()
    job("params.npz", "cryosparc", 4)


def missing_images(**options: Any) -> None:
    Path("B.mrcs").unlink()
    star("params.npz", "particles.star", **options)


def all_images_missing() -> None:
    for path in Path().glob("*.mrcs"):
        path.unlink()
    star("params.npz", "particles.star", on_missing="skip")


MISSING: dict[str, Callable[[], Any]] = {
    "STAR file": lambda: star("params.npz", "none.star"),
    "STAR file of a pair": lambda: paired("params.npz", ["A.mrcs"], ["none.star"]),
    "image file of a pair": lambda: paired("params.npz", ["none.mrcs"], ["A.star"]),
    "cryoSPARC table": lambda: cs("params.npz", "none.cs"),
    "params file": lambda: star("none.npz", "particles.star"),
    "params file of the converter": lambda: ParticleStackConverter("none.npz"),
    "params file that is loaded": lambda: ImageDescriptor.load("none.npz"),
    "folder of the images": lambda: star("params.npz", "particles.star", "nowhere"),
    "image file": missing_images,
    "all image files": all_images_missing,
    "job directory": lambda: job("params.npz", "cryosparc", 5),
    "table of a job": missing_job_table,
    "batches of a job": missing_batches,
    "first batch of a job": missing_first_batch,
    "Leopard-EM table": lambda: leopard_em("params.npz", "none.csv", 12),
    "stack": lambda: load_stack(".", 0),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_is_a_file_not_found_error_and_a_value_error(name: str, work: Work) -> None:
    for caught in (FileNotFoundError, ValueError, InputError):
        with pytest.raises(caught) as found:
            MISSING[name]()
        shutil.rmtree("cryosparc")
        shutil.copytree("copy", "cryosparc")
        for path in Path("elsewhere").iterdir():
            shutil.copy(path, ".")
    assert type(found.value) is MissingFileError
    there = pickle.loads(pickle.dumps(found.value))  # noqa: S301
    assert (type(there), str(there)) == (MissingFileError, str(found.value))
    assert not Path("fft").exists()


@pytest.fixture(autouse=True)
def _copy_of_the_job(work: Work) -> None:
    shutil.copytree("cryosparc", "copy")


def test_an_unknown_file_type_is_a_not_implemented_error_and_a_value_error(work: Work) -> None:
    converter = ParticleStackConverter("params.npz")
    for caught in (NotImplementedError, ValueError, InputError):
        with pytest.raises(caught, match="filetype is 'relion': choose 'starfile' or 'cryosparc'") as found:
            converter.prepare_indexed_file("particles.star", "relion")  # type: ignore[arg-type]
    assert type(found.value) is FileTypeError
    converter.prepare_indexed_file("particles.star", "STARFILE")  # type: ignore[arg-type]


def more_stacks() -> None:
    star("params.npz", "particles.star", "", "out", 5, flag_plots=False, n_stacks_max=2, skip_exist=True)


EXISTING: dict[str, Callable[[], Any]] = {
    "again": lambda: star("params.npz", "particles.star", "", "out", 5, flag_plots=False),
    "with another table": lambda: cs("params.npz", "particles.cs", "", "out", 5, flag_plots=False, skip_exist=True),
    "with other settings": lambda: star("params.npz", "particles.star", "", "out", 6, flag_plots=False, skip_exist=True),
    "with fewer stacks": more_stacks,
    "of stacks whose origin is unknown": lambda: (
        Path("out/manifest.json").unlink(missing_ok=True),
        star("params.npz", "particles.star", "", "out", 5, flag_plots=False, skip_exist=True),
    ),
}


@pytest.mark.parametrize("name", EXISTING)
def test_existing_output_is_a_file_exists_error_and_a_value_error(name: str, work: Work) -> None:
    star("params.npz", "particles.star", "", "out", 5, flag_plots=False)
    for caught in (FileExistsError, ValueError, OutputError):
        with pytest.raises(caught) as found:
            EXISTING[name]()
    assert type(found.value) is OutputExistsError
    assert isinstance(found.value, CryolikeError)
    there = pickle.loads(pickle.dumps(found.value))  # noqa: S301
    assert (type(there), str(there)) == (OutputExistsError, str(found.value))


def test_an_existing_store_is_a_file_exists_error(work: Work) -> None:
    options: dict[str, Any] = {"output_format": "zarr", "zarr_store": "store.zarr", "flag_plots": False}
    star("params.npz", "particles.star", "", "out", **options)
    with pytest.raises(FileExistsError, match=r"store\.zarr holds a conversion already"):
        star("params.npz", "particles.star", "", "other", **options)


def test_a_missing_table_has_its_own_message(work: Work) -> None:
    """The error is also an OSError, but must not be taken for one of the temporary files or of the output folder."""
    with pytest.raises(FileNotFoundError, match=r"^/.*none\.star does not exist: check the path of the STAR file\.$"):
        star("params.npz", "none.star", folder_output="out")
