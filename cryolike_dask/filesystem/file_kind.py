"""Recognises files of another kind than expected, by their first bytes, or by the names in a STAR file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_BY_BLOCK = {
    "model_general": "a model of a RELION refinement (_model.star)",
    "model_classes": "a model of a RELION refinement (_model.star)",
    "sampling_general": "the angular sampling of a RELION refinement (_sampling.star)",
    "sampling_directions": "the angular sampling of a RELION refinement (_sampling.star)",
    "optimiser_general": "the optimiser of a RELION refinement (_optimiser.star)",
    "fsc": "a resolution curve of RELION (such as postprocess.star)",
    "guinier": "a resolution curve of RELION (such as postprocess.star)",
    "pipeline_general": "the job list of a RELION project (_pipeline.star)",
    "pipeline_processes": "the job list of a RELION project (_pipeline.star)",
    "job": "the settings of a RELION job (job.star)",
    "joboptions_values": "the settings of a RELION job (job.star)",
}
_PARTICLES_OF_JOB = "Give the table of the particles, such as run_data.star or particles.star of that job"

_LISTS = {"micrographs": "a list of micrographs", "movies": "a list of movies", "coordinate_files": "a list of coordinate files"}
_EXTRACT = "Give the particles.star that the extraction of particles wrote"

_TOMOGRAPHY = ("Tomo", "CoordinateZ", "CenteredCoordinateZ")
"""Beginnings of the names of columns that only tomography projects have: those of RELION 4 and 5, WarpTools, Warp and M."""

Blocks = Mapping[str, Iterable[str]]
"""The columns of each block, by its name without 'data_'; the columns may begin with 'rln'."""

STAR, CRYOSPARC, LEOPARD_EM = "a STAR file", "a cryoSPARC table (.cs)", "a CSV table of Leopard-EM"
_IMAGES = "an image file (MRC)"
_INSTEAD = {
    STAR: "use `convert star` (particles_from_star)",
    CRYOSPARC: "use `convert cryosparc` (particles_from_cryosparc)",
    LEOPARD_EM: "use `convert leopard-em` (particles_from_leopard_em)",
    _IMAGES: "check the order of the paths",
}
"""What to do with each kind of file."""
_BEGINNINGS = {
    STAR: re.compile(rb"(?:\xef\xbb\xbf)?(?:[ \t]*(?:#[^\n]*)?\r?\n)*data_"),
    CRYOSPARC: re.compile(rb"\x93NUMPY|\x95CSDAT"),
    LEOPARD_EM: re.compile(rb"[^\n]*,pos_x,[^\n]*,defocus_u,"),
    _IMAGES: re.compile(rb".{208}MAP[ \x00]", re.DOTALL),
}

_HTML = (b"<!doctype html", b"<html", b"<head")


def foreign_content(first_bytes: bytes) -> str | None:
    """The kind of a file that certainly holds no data, as a phrase that completes 'the file is ...'; None for other files.

    Args:
        first_bytes: the beginning of the file: at least 64 bytes, or all if it is shorter.
    """
    if not first_bytes:
        return "empty (zero bytes): copy it again from its source"
    if first_bytes.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the data itself: fetch the data with `git lfs pull`"
    if first_bytes.startswith(b"PK\x03\x04"):
        return "an archive (such as .npz or .zip), not a table or image file: check the path"
    if first_bytes.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        return "an HTML page, not data (perhaps a log-in page, or the error of a failed download): download it again"
    return None


def other_input(first_bytes: bytes, expected: str, instead: str = "") -> str | None:
    """The kind of a file that another conversion reads, as a phrase that completes 'the file is ...'; None for other files.

    Args:
        first_bytes: the beginning of the file, of which 4096 bytes are looked at.
        expected: `STAR`, `CRYOSPARC` or `LEOPARD_EM`.
        instead: what to do; by default, the command that converts the file.
    """
    kind = next((kind for kind, beginning in _BEGINNINGS.items() if beginning.match(first_bytes[:4096])), expected)
    return None if kind == expected else f"{kind}, not {expected}: {instead or _INSTEAD[kind]}"


def utf16_advice(first_bytes: bytes) -> str | None:
    """Advice about a UTF-16 file, as a phrase that completes 'the file is ...'; None for other files.

    Args:
        first_bytes: the beginning of the file: at least 64 bytes, or all if it is shorter.
    """
    by_mark = first_bytes.startswith((b"\xff\xfe", b"\xfe\xff"))
    # Without a byte-order mark, every second byte of plain English is zero.
    halves = first_bytes[: len(first_bytes) // 2 * 2]
    by_zeros = len(halves) >= 4 and sorted((any(halves[0::2]), any(halves[1::2]))) == [False, True]
    if not (by_mark or by_zeros):
        return None
    return "UTF-16 text, as some Windows programs write: convert it with `iconv -f utf-16 -t utf-8`"


def cryosparc_group(content: bytes) -> tuple[str, ...] | None:
    """The tables that a cryoSPARC result group (.csg) names; None if the content is not that of such a file.

    Args:
        content: of the file.
    """
    if b"results:" not in content or b"metafile:" not in content:
        return None
    tables = re.findall(rb"^ +metafile: *['\"]?>?([^'\"\r\n]+)", content, re.MULTILINE)
    return tuple(dict.fromkeys(table.decode(errors="replace").strip() for table in tables)) or None


def tomography_columns(columns: Iterable[str]) -> list[str]:
    """The columns that only tables of tomography projects have."""
    return [column for column in columns if column.removeprefix("rln").startswith(_TOMOGRAPHY)]


def other_kind_of_file(path: object, blocks: Blocks) -> str | None:
    """The error message about a STAR file whose blocks hold no particles, recognised by their names; None if they may hold particles.

    Args:
        path: the STAR file.
        blocks: all of its blocks.
    """
    if "particles" in blocks:
        return None
    known = next((_BY_BLOCK[name] for name in blocks if name in _BY_BLOCK), None)
    if known is not None:
        return f"{path} holds no particles: it is {known}. {_PARTICLES_OF_JOB}."
    listed = next((_LISTS[name] for name in blocks if name in _LISTS), None)
    if listed is not None:
        return f"{path} holds no particles: it is {listed}. {_EXTRACT}."
    columns = [column for names in blocks.values() for column in names]
    if len(blocks) > 1 and not any(column.removeprefix("rln") == "ImageName" for column in columns):
        return _tomography_project(path, columns)
    return None


def other_kind_of_table(path: object, columns: Iterable[str]) -> str | None:
    """The error message about a table without the columns that particles need; None if its kind is not recognised.

    Args:
        path: the STAR file.
        columns: all columns of the table.
    """
    columns = list(columns)
    plain = {column.removeprefix("rln") for column in columns}
    if any(column.startswith("cisTEM") for column in columns):
        return (
            f"{path} is a particle table of cisTEM, whose columns ({', '.join(columns[:3])}, ...) are not read. Export the refinement "
            "package from cisTEM for RELION, and give that STAR file."
        )
    tomography = _tomography_project(path, columns)
    if tomography is not None or "ImageName" in plain:
        return tomography
    if "MicrographName" in plain and not plain & {"CoordinateX", "CoordinateY"}:
        return f"{path} holds no particles: it lists micrographs, without rlnImageName. {_EXTRACT}."
    return None


def _tomography_project(path: object, columns: Iterable[str]) -> str | None:
    found = tomography_columns(columns)
    if not found:
        return None
    return (
        f"{path} is a table of a tomography project (it has {', '.join(found[:3])}), not of single particles: it names no 2D image "
        "with a defocus for each row. Give a STAR file of single particles."
    )
