"""Recognising STAR files that hold something else than single particles, so that a refusal says what they are and where to go."""

from __future__ import annotations

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
"""How the names of columns begin that only tomography projects have: of RELION 4 and 5, WarpTools, Warp and M."""

Blocks = Mapping[str, Iterable[str]]
"""The columns of each block, by its name without 'data_'; the columns may begin with 'rln'."""


def tomography_columns(columns: Iterable[str]) -> list[str]:
    """The columns that only tables of tomography projects have."""
    return [column for column in columns if column.removeprefix("rln").startswith(_TOMOGRAPHY)]


def other_kind_of_file(path: object, blocks: Blocks) -> str | None:
    """The refusal of a STAR file by the names of its blocks; None if they may well hold particles.

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
    """The refusal of a table that lacks what particles need; None if it cannot be told what else it is.

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
        return f"{path} holds no particles: it lists micrographs, and no rlnImageName. {_EXTRACT}."
    return None


def _tomography_project(path: object, columns: Iterable[str]) -> str | None:
    found = tomography_columns(columns)
    if not found:
        return None
    return (
        f"{path} is a table of a tomography project (it has {', '.join(found[:3])}), not of single particles: it names no 2D image "
        "with a defocus for each row. Give a STAR file of single particles."
    )
