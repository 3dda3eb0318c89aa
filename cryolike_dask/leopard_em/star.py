"""Writes picks as a STAR file for RELION, and reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.refined import choose_columns
from cryolike_dask.leopard_em.tables import check_columns, numbers, write_text_atomic
from cryolike_dask.particles.star.tables import StarTable, read_star_tables
from cryolike_dask.particles.star.text import decode

_OPTICS = {
    "pixel_size": "rlnMicrographPixelSize",
    "voltage": "rlnVoltage",
    "spherical_aberration": "rlnSphericalAberration",
    "amplitude_contrast_ratio": "rlnAmplitudeContrast",
}
_PARTICLES = {
    "pos_x_img": "rlnCoordinateX",
    "pos_y_img": "rlnCoordinateY",
    "phi": "rlnAngleRot",
    "theta": "rlnAngleTilt",
    "psi": "rlnAnglePsi",
    "defocus_u": "rlnDefocusU",
    "defocus_v": "rlnDefocusV",
    "astigmatism_angle": "rlnDefocusAngle",
    "phase_shift": "rlnPhaseShift",
    "ctf_B_factor": "rlnCtfBfactor",
    "scaled_mip": "rlnAutopickFigureOfMerit",
}
_MICROGRAPH, _GROUP = "rlnMicrographName", "rlnOpticsGroup"


def write_star(df: pd.DataFrame, path: str | Path, *, use_refined: bool = True) -> None:
    """Write picks as a RELION 3.1 STAR file: an optics table, and one particle per row with its micrograph and coordinates.

    Coordinates are centres in pixels of the micrograph. Angles are unchanged, because both programs use the same convention. The
    relative defocus is added to that of the micrograph. RELION extracts such particles with 're-extract refined particles'.

    Args:
        df: match-template or refined table.
        path: STAR file to write; an existing one is replaced when the new one is complete.
        use_refined: False for positions, angles and defocus before refinement.

    Raises:
        InputError: a column is missing, a cell is not a finite number, there is no particle, or STAR cannot hold the path of a
            micrograph.
        OutputError: the file cannot be written.
    """
    check_columns(df, (*_OPTICS, *_PARTICLES, "relative_defocus", "micrograph_path"), path)
    if not len(df):
        raise InputError(f"There is no particle to write to {path}: RELION refuses an empty table. Pick with a lower cutoff.")
    column, _ = choose_columns(df, path, use_refined=use_refined)
    optics = np.stack([numbers(df, column.get(name, name), path) for name in _OPTICS], axis=1)
    groups, group = np.unique(optics, axis=0, return_inverse=True)
    particles = {name: numbers(df, column.get(name, name), path) for name in _PARTICLES}
    relative = numbers(df, column["relative_defocus"], path)
    particles["defocus_u"] = particles["defocus_u"] + relative
    particles["defocus_v"] = particles["defocus_v"] + relative

    lines = ["# version 30001", "", "data_optics", "", "loop_"]
    # RELION also needs the pixel size of the movies; the search used that of the micrograph.
    lines += _labels(("rlnOpticsGroupName", _GROUP, "rlnMicrographOriginalPixelSize", *_OPTICS.values()))
    lines += [f"opticsGroup{k + 1} {k + 1} {_format_numbers([values[0], *values])}" for k, values in enumerate(groups.tolist())]
    lines += ["", "# version 30001", "", "data_particles", "", "loop_"]
    lines += _labels((_MICROGRAPH, _GROUP, *_PARTICLES.values()))
    names = [_quoted(str(name), path) for name in df["micrograph_path"]]
    cells = np.stack(list(particles.values()), axis=1).tolist()
    lines += [
        f"{name} {k + 1} {_format_numbers(values)}"
        for name, k, values in zip(names, group.reshape(-1).tolist(), cells, strict=True)
    ]
    write_text_atomic(path, "\n".join([*lines, "", ""]))


def read_star(path: str | Path) -> pd.DataFrame:
    """Read picks that `write_star` wrote.

    Returns:
        One row per particle, with those columns of a match-template table that the STAR file has. The defocus is absolute, so
        relative_defocus is 0.

    Raises:
        InputError: the file is missing or damaged, or lacks a column.
    """
    labels = {label.removeprefix("rln") for label in (_MICROGRAPH, _GROUP, *_OPTICS.values(), *_PARTICLES.values())}
    particles, optics, _ = read_star_tables(Path(path).expanduser(), labels)
    if optics is None:
        raise InputError(f"{path} has no optics table. Give a STAR file of picks, as write_star writes it.")
    _check_star_columns(particles, (_MICROGRAPH, _GROUP, *_PARTICLES.values()))
    _check_star_columns(optics, (_GROUP, *_OPTICS.values()))
    row_of_group = {number: row for row, number in enumerate(optics.numbers("OpticsGroup").tolist())}
    groups = particles.numbers("OpticsGroup").tolist()
    unknown = [row for row, number in enumerate(groups) if number not in row_of_group]
    if unknown:
        raise InputError(f"{path}: the optics group in {particles.where(unknown)} is not in the optics table. Add it there.")
    rows = [row_of_group[number] for number in groups]
    columns: dict[str, object] = {"micrograph_path": [decode(name) for name in particles.text("MicrographName")]}
    columns |= {name: particles.numbers(label.removeprefix("rln")) for name, label in _PARTICLES.items()}
    columns |= {name: optics.numbers(label.removeprefix("rln"))[rows] for name, label in _OPTICS.items()}
    return pd.DataFrame(columns).assign(relative_defocus=0.0)


def _check_star_columns(table: StarTable, labels: tuple[str, ...]) -> None:
    missing = [label for label in labels if label.removeprefix("rln") not in table]
    if missing:
        raise InputError(
            f"{table.path}: block 'data_{table.block}' lacks {', '.join(missing)}. Give a STAR file of picks, as write_star "
            "writes it."
        )


def _labels(names: tuple[str, ...]) -> list[str]:
    return [f"_{name} #{k}" for k, name in enumerate(names, start=1)]


def _format_numbers(values: list[float]) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _quoted(name: str, path: str | Path) -> str:
    if '"' in name or not name.strip() or not name.isprintable():
        raise InputError(f"The micrograph path {name!r} cannot be written in the STAR file {path}. Rename the micrograph.")
    return f'"{name}"' if " " in name or "#" in name or "'" in name else name
