"""Particles from RELION STAR files: indexed ones, which name an image in every row, and ones that are paired with an MRC file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.file_kind import other_kind_of_table, tomography_columns
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.formatting import first_few, is_or_are, plural
from cryolike_dask.mrc.reader import read_header
from cryolike_dask.options import described_by
from cryolike_dask.particles.image_paths import resolve_image_paths
from cryolike_dask.particles.inputs import PairedInput, StarInput
from cryolike_dask.particles.star.columns import COLUMNS, particles_from_tables
from cryolike_dask.particles.star.tables import StarTable, read_star_tables
from cryolike_dask.particles.star.text import decode
from cryolike_dask.particles.table import ParticleTable, Source

_FORMAT_SUFFIX = re.compile(r":(mrcs?|st)$")
_MAX_DIGITS = 18  # of an image number, so that it fits into int64


@described_by(StarInput)
def particles_from_star(star_file: str | Path, folder_mrc: str | Path = "") -> ParticleTable:
    """Read the particles of an indexed STAR file (RELION 3.0, 3.1 and later), in the order of its rows.

    The function looks for the image files, but does not open them.

    Returns:
        One row per image, with angles in radians and image numbers counted from 0.

    Raises:
        InputError: the file is unreadable, damaged or inconsistent, or a required value is missing.

    Example:
        >>> particles = particles_from_star("particles.star", "mrc")
        >>> len(particles)
        12
    """
    path = input_path(star_file)
    particles, optics, warnings = read_star_tables(path, COLUMNS)
    star = particles_from_tables(particles, optics)
    rows = star.rows
    files, rows["file"], rows["index"], notes = _images(particles, folder_mrc)
    return ParticleTable(
        rows=rows,
        files=files,
        sources=(Source("star", str(path), notes=star.notes + notes),),
        optics_groups=star.optics_groups,
        warnings=warnings + star.warnings,
    )


@described_by(PairedInput)
def particles_from_paired_star_and_mrc_files(
    particle_file_list: Sequence[str | Path],
    star_file_list: Sequence[str | Path],
    *,
    defocus_angle_is_degree: bool = True,
    phase_shift_is_degree: bool = True,
) -> ParticleTable:
    """Read the particles of MRC files that are each described by a STAR file: row i of the table is image i of the file.

    Viewing angles and pixel sizes of these tables are not used; there is a warning if they exist. MRC files may be missing here;
    planning a conversion lists all that are.

    Returns:
        One row per image, one source per pair.

    Raises:
        InputError: the lists are empty or of different length, a table is unreadable or inconsistent, a table and its MRC file
            disagree about the number of images, or a table names its images in another order.

    Example:
        >>> mrc, star = ["A.mrcs", "B.mrcs"], ["A.star", "B.star"]
        >>> len(particles_from_paired_star_and_mrc_files(mrc, star))
        12
    """
    for name, paths in (("particle_file_list", particle_file_list), ("star_file_list", star_file_list)):
        if isinstance(paths, str | os.PathLike) or not hasattr(paths, "__len__"):
            raise InputError(f"{name} is one path, {paths!s}: give a list of paths.")
        if not len(paths):
            raise InputError(f"{name} is empty: give at least one MRC file and its STAR file.")
    if len(particle_file_list) != len(star_file_list):
        raise InputError(
            f"particle_file_list (--mrc) has {plural(len(particle_file_list), 'file')} and star_file_list (--star) has "
            f"{len(star_file_list)}: each MRC file needs its own STAR file, in the same order."
        )
    unused: dict[str, str] = {}
    others: list[str] = []
    table = ParticleTable.concatenate(
        [
            _pair(input_path(mrc_file), input_path(star_file), defocus_angle_is_degree, phase_shift_is_degree, unused, others)
            for mrc_file, star_file in zip(particle_file_list, star_file_list, strict=True)
        ]
    )
    warnings = list(table.warnings)
    times = Counter(str(input_path(path)) for path in particle_file_list)
    if repeated := [path for path, n in times.items() if n > 1]:
        warnings.append(
            f"{first_few(repeated, 5)} {is_or_are(len(repeated))} given more than once in particle_file_list (--mrc): all images of each "
            "pair are converted. Remove the repeated pairs if they are a mistake."
        )
    if unused:
        warnings.append(
            f"A paired conversion does not use these columns of the tables ({next(iter(unused.values()))} is the first): "
            f"{', '.join(unused)}. `convert star` uses them if the tables name their images."
        )
    if others:
        more = f" (the same holds for {plural(len(others) - 1, 'more table')})" if len(others) > 1 else ""
        warnings.append(f"{others[0]}{more}: check that each table belongs to its images.")
    return replace(table, warnings=tuple(warnings))


def _pair(
    mrc_file: Path,
    star_file: Path,
    defocus_angle_is_degree: bool,
    phase_shift_is_degree: bool,
    unused: dict[str, str],
    others: list[str],
) -> ParticleTable:
    """Read one pair. Adds columns that are not used to `unused`, with their table, and warnings about other image files to `others`."""
    particles, optics, warnings = read_star_tables(star_file, COLUMNS)
    star = particles_from_tables(
        particles,
        optics,
        defocus_angle_is_degree=defocus_angle_is_degree,
        phase_shift_is_degree=phase_shift_is_degree,
        geometry=False,
    )
    for column in star.unused:
        unused.setdefault(column, str(star_file))
    if "ImageName" in particles:
        others += _check_image_names(particles, mrc_file)
    n_rows = len(particles)
    if mrc_file.exists() and (n_images := read_header(mrc_file).n_images) != n_rows:
        raise InputError(
            f"{star_file} has {plural(n_rows, 'row')} and {mrc_file} has {plural(n_images, 'image')}, but row i must describe image "
            "i. Check that the two lists are in the same order and that both files are complete."
        )
    star.rows["index"] = np.arange(n_rows)
    return ParticleTable(
        rows=star.rows,
        files=(str(mrc_file),),
        sources=(Source("paired", str(star_file), notes=star.notes),),
        optics_groups=star.optics_groups,
        warnings=warnings + star.warnings,
    )


def _check_image_names(particles: StarTable, mrc_file: Path) -> list[str]:
    """Refuse rows that name images in another order than that of the file. Returns a warning if they name another file."""
    names = particles.text("ImageName")
    numbers, at_signs, paths = zip(*(name.rpartition("@") for name in names), strict=True)
    wrong = [row for row, number in enumerate(numbers) if not _is_number(number) or int(number) != row + 1]
    if any(at_signs) and wrong:
        raise InputError(
            f"{particles.path}: rlnImageName is {decode(names[wrong[0]])} in {particles.where(wrong)} of 'data_{particles.block}', but "
            f"in a paired conversion row {wrong[0] + 1} describes image {wrong[0] + 1} of {mrc_file}: images would get the CTF of others. "
            "Convert the images that the table names (`convert star`), or remove rlnImageName if the order of the rows is right."
        )
    name_of = {os.path.basename(_FORMAT_SUFFIX.sub("", decode(path))) for path in set(paths)}
    foreign = sorted(name_of - {mrc_file.name, mrc_file.name.removesuffix(".gz").removesuffix(".bz2")})
    if not foreign:
        return []
    more = f" and {plural(len(foreign) - 1, 'more file')}" if len(foreign) > 1 else ""
    return [f"{particles.path} names images of {foreign[0]}{more}, but the images are read from {mrc_file}"]


def _images(
    particles: StarTable, folder_mrc: str | Path
) -> tuple[tuple[str, ...], npt.NDArray[np.intp], npt.NDArray[np.int64], tuple[str, ...]]:
    """Image files, the position of each particle's file among them, its index in the file, counted from 0, and notes."""
    if "ImageName" not in particles:
        if {"MicrographName", "CoordinateX"} <= {column.removeprefix("rln") for column in particles.columns}:
            advice = (
                "The table says where particles are in micrographs: give the particles.star of their extraction, or, for picks of "
                "Leopard-EM, the CSV table (`convert leopard-em`)."
            )
        else:
            advice = "Give an indexed STAR file, or convert it paired with its MRC file."
        raise InputError(
            other_kind_of_table(particles.path, particles.columns)
            or f"{particles.path}: rlnImageName is missing in 'data_{particles.block}', so rows cannot be matched with images. {advice}"
        )
    names = particles.text("ImageName")
    numbers = [name.partition("@")[0] for name in names]
    recorded, paths = pd.factorize(np.array([name.partition("@")[2] for name in names], dtype=object))
    bad = np.flatnonzero(~np.array([_is_number(number) for number in numbers]) | np.array([not path for path in paths])[recorded])
    if len(bad):
        raise InputError(_about_image_name(particles, bad, decode(names[bad[0]])))
    index = np.fromiter(map(int, numbers), np.int64, len(numbers)) - 1
    bad = np.flatnonzero(index < 0)
    if len(bad):
        raise InputError(
            f"{particles.path}: rlnImageName is {decode(names[bad[0]])} in {particles.where(bad)} of 'data_{particles.block}', but "
            "images are counted from 1: there is no image 0. Correct the numbers, or write the file again."
        )
    plain = [os.path.expanduser(_FORMAT_SUFFIX.sub("", decode(path))) for path in paths]
    files: dict[str, int] = {}
    resolved, notes = resolve_image_paths(plain, folder_mrc, particles.path)
    position = np.array([files.setdefault(file, len(files)) for file in resolved])
    return tuple(files), position[recorded], index, notes


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= _MAX_DIGITS


def _about_image_name(particles: StarTable, bad: npt.NDArray[np.intp], name: str) -> str:
    where = f"{particles.path}: rlnImageName is {name or 'empty'} in {particles.where(bad)} of 'data_{particles.block}'"
    if "@" not in name and tomography_columns(particles.columns):
        return f"{where}: these are particles of a tomography project, not single images. Give a single-particle STAR file."
    if "@" not in name:
        return f"{where}, without the number of the image before '@' (as in 000001@stack.mrcs). Add the numbers."
    return f"{where}, which is not NUMBER@FILE (as in 000001@stack.mrcs, counted from 1). Correct these rows."
