"""The guide's three image files, described in every way that can be converted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cs_files import ctf_columns, particle_columns, uids, write_cs
from tests.support.particle_sets import ABC, BOX, PIXEL_SIZE, in_sequence, params, write_images, write_star

BATCHES = dict(zip((f"batch_{number:06d}_restacked.mrc" for number in range(3)), ABC.values(), strict=True))
"""The same three files as the batches of a cryoSPARC job."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The guide's A, B and C in the working directory, described in every way; as images of jobs 0 and 4, too."""
    images = write_images(tmp_path, ABC)
    for name, n in ABC.items():
        write_star(tmp_path / name.replace(".mrcs", ".star"), [(name, i) for i in range(n)])
    listed = in_sequence(ABC)
    (tmp_path / "elsewhere").mkdir()
    for name in ABC:
        shutil.copy(tmp_path / name, tmp_path / "elsewhere")
    write_star(tmp_path / "particles.star", listed)
    columns = particle_columns([name for name, _ in listed], [index for _, index in listed], BOX)
    columns["blob/psize_A"][:] = PIXEL_SIZE
    write_cs(tmp_path / "particles.cs", columns)
    for folder in (tmp_path / "J0", tmp_path / "cryosparc" / "J4"):
        (folder / "restack").mkdir(parents=True)
        for batch, name in zip(BATCHES, ABC, strict=True):
            shutil.copy(tmp_path / name, folder / "restack" / batch)
            images[batch] = images[name]
        write_cs(folder / f"{folder.name}_passthrough_particles.cs", {"uid": uids(15), **ctf_columns(15)})
    params().save(tmp_path / "params.npz")
    monkeypatch.chdir(tmp_path)
    return images
