"""cryoSPARC's compressed tables, through the optional package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryosparc.dataset import CSDAT_FORMAT, Dataset

from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc import csdat as csdat
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from tests.support.cs_files import particle_columns, write_cs


def write_compressed(tmp_path: Path) -> tuple[Path, Path]:
    """The same table in both formats, by cryoSPARC's own package."""
    paths = [f">J1/imported/ä{i % 3}.mrcs" for i in range(50)]
    plain = write_cs(tmp_path / "plain.cs", particle_columns(paths, list(range(50))))
    compressed = tmp_path / "compressed.cs"
    Dataset.load(plain).save(compressed, format=CSDAT_FORMAT)
    return plain, compressed


def test_compressed_table_equals_the_plain_one(tmp_path: Path) -> None:
    plain, compressed = write_compressed(tmp_path)
    assert compressed.read_bytes().startswith(b"\x95CSDAT")
    expected, particles = particles_from_cryosparc(plain), particles_from_cryosparc(compressed)
    assert particles.files == expected.files
    assert particles.rows.tobytes() == expected.rows.tobytes()


def test_damage_that_crashes_the_decoder_is_an_error(tmp_path: Path) -> None:
    _, compressed = write_compressed(tmp_path)
    content = compressed.read_bytes()
    body = content.index(b"]}", 20) + 2
    damages = [content[:cut] for cut in (8, 100, body + 30, len(content) * 3 // 4, len(content) - 2)]
    damages += [content[:body] + bytes([x ^ 0xA5 for x in content[body:]]), content.replace(b'"length": 50', b'"length": -1')]
    damages += [content.replace(b'"length": 50', b'"length": 60'), content.replace(b'"length": 50', b'"length": 10')]
    for damaged in damages:
        compressed.write_bytes(damaged)
        with pytest.raises(InputError, match=r"compressed.cs"):
            particles_from_cryosparc(compressed)


def test_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b'{"length": 1, "dtype": [["uid", "<u8"]], "compression": null, "compressed_fields": []}'
    (tmp_path / "a.cs").write_bytes(b"\x95CSDAT" + len(header).to_bytes(4, "little") + header + np.uint64(1).tobytes())
    monkeypatch.setattr(csdat.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install cryolike-dask\[cryosparc\]"):
        particles_from_cryosparc(tmp_path / "a.cs")
