"""Damaged cryoSPARC tables give the same particles or an InputError, and never other or fewer particles."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from cryolike_dask.particles.table import ParticleTable
from tests.support.cs_files import particle_columns, write_cs

N_ROWS = 6
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "particles.cs"
    return write_cs(path, particle_columns([f">J1/imported/{i % 2}.mrcs" for i in range(N_ROWS)], list(range(N_ROWS))))


@pytest.fixture(scope="module")
def content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(path: Path, content: bytes) -> ParticleTable:
    path.write_bytes(content)
    return particles_from_cryosparc(path)


def particles_or_none(path: Path, content: bytes) -> ParticleTable | None:
    path.write_bytes(content)
    refusal = ""
    try:
        particles = particles_from_cryosparc(path)
    except InputError as error:
        refusal = str(error)
    assert not refusal or (str(path) in refusal and "\n" not in refusal)
    return None if refusal else particles


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def same(particles: ParticleTable, whole: ParticleTable) -> bool:
    if particles.warnings:  # a warning names a column that is no longer recognised
        return len(particles) == N_ROWS
    return particles.rows.tobytes() == whole.rows.tobytes() and particles.files == whole.files


def test_flipped_bits_of_the_header(path: Path, content: bytes, whole: ParticleTable) -> None:
    """Every seventh of about ten thousand bits, so that each position in a byte is tested."""
    n_header = content.index(b"\n") + 1
    wrong = []
    for bit in range(0, 8 * n_header, 7):
        particles = particles_or_none(path, flipped(content, bit))
        if particles is not None and not same(particles, whole):
            wrong.append((bit, content[max(0, bit // 8 - 20) : bit // 8 + 5], flipped(content, bit)[bit // 8]))
    assert not wrong


@given(bit=st.integers(0))
@settings(FUZZ, max_examples=300)
def test_flipped_bit_in_the_rows_loses_none(path: Path, content: bytes, bit: int) -> None:
    n_header = content.index(b"\n") + 1
    particles = particles_or_none(path, flipped(content, 8 * n_header + bit % (8 * (len(content) - n_header))))
    assert particles is None or len(particles) == N_ROWS


@given(cut=st.integers(0, 2000), rest=st.binary(max_size=200))
@settings(FUZZ, max_examples=400)
def test_cut_off_or_overwritten_end(path: Path, content: bytes, cut: int, rest: bytes) -> None:
    damaged = content[:cut] + rest
    particles = particles_or_none(path, damaged)
    assert particles is None or (len(particles) == N_ROWS and len(damaged) == len(content))


@given(at=st.integers(0, 2000), piece=st.binary(min_size=1, max_size=60))
@settings(FUZZ, max_examples=300)
def test_inserted_bytes(path: Path, content: bytes, at: int, piece: bytes) -> None:
    damaged = content[:at] + piece + content[at:]
    particles = particles_or_none(path, damaged)
    assert particles is None


@given(header=st.text(st.characters(codec="latin-1"), max_size=200), rows=st.binary(max_size=100))
@settings(FUZZ, max_examples=300)
def test_arbitrary_header(path: Path, header: str, rows: bytes) -> None:
    text = header.encode("latin-1")
    assert particles_or_none(path, b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rows) is None


HEADERS = [
    "{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (99999999999999999999,)}",
    "{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (True,)}",
    "{'descr': [('uid', '<u8')], 'fortran_order': 7, 'shape': 3}",
    "{'descr': [('uid', '<u8', 99999999999)], 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [('uid', '|S0')], 'fortran_order': False, 'shape': (9,)}",
    "{'descr': [('uid', '<u8'), ('uid', '<u8')], 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [], 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<M8[xx]', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': " + "[" * 5000 + ", 'fortran_order': False, 'shape': (1,)}",
    "{'descr': " + "-" * 9000 + "1, 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '\\ud800\\q', 'fortran_order': False, 'shape': (1,)}",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_header_made_to_break_the_reader(path: Path, header: str) -> None:
    text = header.encode("latin-1")
    assert particles_or_none(path, b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bytes(64)) is None
