"""A damaged STAR file gives exactly the rows that its lines still contain, or an InputError: never fewer rows, never wrong values.

The truth is a slow reader, which reads the damaged text line by line and does not support blanks in values.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from cryolike_dask.errors import InputError
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.particles.table import ParticleTable
from tests.support.star_files import OPTICS, loop, text

N_ROWS = 9
PARTICLES = {
    "rlnDefocusU": [f"{13000 + 7 * i}.082418" for i in range(N_ROWS)],
    "rlnDefocusV": [f"{12800 + 5 * i}.5" for i in range(N_ROWS)],
    "rlnDefocusAngle": [f"{-160 + 31 * i}.39" for i in range(N_ROWS)],
    "rlnPhaseShift": [str(10 * i) for i in range(N_ROWS)],
    "rlnAnglePsi": [f"{i * 17 - 60}.25" for i in range(N_ROWS)],
    "rlnMicrographName": [f"mics/m{i}.mrc" for i in range(N_ROWS)],
    "rlnImageName": [f"{i // 2 + 1:06d}@/data/{'ab'[i % 2]}.mrcs" for i in range(N_ROWS)],
    "rlnOpticsGroup": [str(i % 2 + 1) for i in range(N_ROWS)],
}
WHOLE = text(loop("optics", OPTICS), loop("particles", PARTICLES)).encode()
LINES = WHOLE.split(b"\n")
FIRST_ROW = next(i for i, line in enumerate(LINES) if b"@" in line)
ROW_LINES = st.integers(FIRST_ROW, FIRST_ROW + N_ROWS - 1)
ANY_LINE = st.integers(0, len(LINES) - 1)
TOKENS = [
    b"None",
    b"nan",
    b"-inf",
    b"abc",
    b"1e999",
    b'""',
    b"True",
    b"7",
    b"-3.5",
    b"1,5",
    b"#",
    b"'",
    b"data_",
    b"1@/data/a.mrcs",
]

Rows = list[tuple[Any, ...]]


def joined(lines: list[bytes]) -> bytes:
    return b"\n".join(lines)


@st.composite
def truncated(draw: st.DrawFn) -> bytes:
    return WHOLE[: draw(st.integers(0, len(WHOLE)))]


@st.composite
def with_other_bytes(draw: st.DrawFn) -> bytes:
    content = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content) - 1))
        content[at] = draw(st.one_of(st.integers(0, 255), st.sampled_from(b"#'\"@_ \t\n\r0.-"), st.just(content[at] ^ 1)))
    return bytes(content)


@st.composite
def with_bytes_cut_or_put_in(draw: st.DrawFn) -> bytes:
    start = draw(st.integers(0, len(WHOLE)))
    end = min(start + draw(st.integers(0, 60)), len(WHOLE))
    return WHOLE[:start] + draw(st.binary(max_size=3)) + WHOLE[end:]


@st.composite
def with_another_token(draw: st.DrawFn) -> bytes:
    lines = list(LINES)
    at = draw(st.one_of(ROW_LINES, ANY_LINE))
    words = lines[at].split(b" ")
    words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(TOKENS))
    lines[at] = b" ".join(words)
    return joined(lines)


@st.composite
def with_a_column_dropped(draw: st.DrawFn) -> bytes:
    lines = list(LINES)
    column = draw(st.integers(0, len(PARTICLES) - 1))
    if draw(st.booleans()):
        for at in range(draw(ROW_LINES), FIRST_ROW + N_ROWS):
            lines[at] = b" ".join(word for i, word in enumerate(lines[at].split(b" ")) if i != column)
    if draw(st.booleans()):
        del lines[FIRST_ROW - len(PARTICLES) + column]
    return joined(lines)


@st.composite
def with_a_block_repeated(draw: st.DrawFn) -> bytes:
    particles = LINES.index(b"data_particles")
    whole = [(LINES.index(b"data_optics"), particles), (particles, len(LINES) - 1)]
    start, end = draw(st.one_of(st.sampled_from(whole), st.tuples(ANY_LINE, ANY_LINE).map(lambda both: (min(both), max(both)))))
    return joined([*LINES[:end], *LINES[start:end], *LINES[end:]])


@st.composite
def with_lines_moved(draw: st.DrawFn) -> bytes:
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 2))):
        first, second = draw(ANY_LINE), draw(ANY_LINE)
        how = draw(st.sampled_from(["swap", "insert", "join", "remove", "junk"]))
        if how == "swap":
            lines[first], lines[second] = lines[second], lines[first]
        elif how == "insert":
            lines.insert(first, LINES[second])
        elif how == "join":
            lines[first] += lines[second]
        elif how == "remove":
            lines[first] = b""
        else:
            lines.insert(
                first, draw(st.sampled_from([b"loop_", b"data_", b"_rlnDefocusU #1", b"junk", b"save_", b";", b"data_optics"]))
            )
    return joined(lines)


DAMAGED = st.one_of(
    truncated(),
    with_other_bytes(),
    with_bytes_cut_or_put_in(),
    with_another_token(),
    with_a_column_dropped(),
    with_a_block_repeated(),
    with_lines_moved(),
)


def slow_reading(content: bytes) -> Rows:
    """The rows that the lines contain; raises ValueError, KeyError or IndexError if they make no sense."""
    blocks: dict[str, tuple[list[str], list[list[str]]]] = {}
    name = ""
    for line in content.decode().removeprefix("\ufeff").replace("\r\n", "\n").split("\n"):
        words = line.split()
        words = words[: next((i for i, word in enumerate(words) if word.startswith("#")), None)]
        if words and words[0].startswith("data_"):
            name = words[0].removeprefix("data_")
            if name in blocks:
                raise ValueError("repeated block")
            blocks[name] = ([], [])
        elif words and words[0].startswith("_"):
            blocks[name][0].append(words[0].removeprefix("_").removeprefix("rln"))
        elif words and words[0] != "loop_":
            blocks[name][1].append(words)
    records = {block: [dict(zip(columns, row, strict=True)) for row in rows] for block, (columns, rows) in blocks.items()}
    if "particles" not in records:
        (records["particles"],) = (rows for block, rows in records.items() if block != "optics")
    groups = {float(record["OpticsGroup"]): record for record in records["optics"]} if "optics" in records else {}
    if len(groups) != len(records.get("optics", [])):
        raise ValueError("repeated optics group")
    rows: Rows = []
    for record in records["particles"]:
        if groups and "OpticsGroup" not in record and len(groups) > 1:
            raise KeyError("OpticsGroup")
        optics = groups[float(record["OpticsGroup"])] if "OpticsGroup" in record and groups else next(iter(groups.values()), {})
        values = {**optics, **record}
        number, _, file = values["ImageName"].partition("@")
        stated = [
            float(values[column]) for column in ("DefocusU", "DefocusV", "DefocusAngle", "Voltage", "SphericalAberration")
        ] + [
            float(values.get(column, default))
            for column, default in (("PhaseShift", 0), ("AnglePsi", "nan"), ("AmplitudeContrast", 0.1), ("ImagePixelSize", "nan"))
        ]
        rows.append((os.path.abspath(file), int(number) - 1, *stated))
    return rows


def as_rows(table: ParticleTable) -> Rows:
    return [
        (
            table.files[row["file"]],
            int(row["index"]),
            row["defocus_u"],
            row["defocus_v"],
            math.degrees(row["defocus_angle"]),
            row["voltage"],
            row["spherical_aberration"],
            math.degrees(row["phase_shift"]),
            math.degrees(row["angle_psi"]),
            row["amplitude_contrast"],
            row["pixel_size"],
        )
        for row in table.rows
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / "particles.star"


def test_the_slow_reading_agrees_on_the_whole_file(path: Path) -> None:
    path.write_bytes(WHOLE)
    check(particles_from_star(path), slow_reading(WHOLE))


def check(table: ParticleTable, expected: Rows) -> None:
    found = as_rows(table)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2:] for row in found], [row[2:] for row in expected], rtol=1e-12, atol=1e-12)


@settings(max_examples=750, deadline=None, derandomize=True)
@given(content=DAMAGED)
def test_damage_gives_what_the_lines_say_or_a_refusal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    table = None
    with contextlib.suppress(InputError):
        table = particles_from_star(path)
    event("refused" if table is None else "accepted")
    if table is None:
        return
    check(table, slow_reading(content))
    image_lines = [line for line in content.split(b"\n") if b"@/data/" in line.split(b"#")[0]]
    assert len(table) >= len(image_lines)
    if content != WHOLE and not content.endswith(b"\n"):
        assert "may have been cut off" in table.warnings[0]
