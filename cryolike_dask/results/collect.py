"""Joins a folder of stacks and a folder of CryoLike's results in one table of particles."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.output_file import output_file
from cryolike_dask.formatting import plural
from cryolike_dask.particles.star.export import OPTICS, POSITION_COLUMN, STACK_COLUMN, ctf_columns, image_columns
from cryolike_dask.particles.star.tables import read_star_tables
from cryolike_dask.progress import Progress, ProgressOption
from cryolike_dask.progress_bars import showing
from cryolike_dask.results.files import CROSS_CORRELATION, LIKELIHOODS, POSE, Results, read_results
from cryolike_dask.results.likelihoods import NO_STRUCTURE, choose_structure, constant_likelihoods
from cryolike_dask.results.poses import TemplateSource, relion_angles, relion_origins
from cryolike_dask.results.writing import SUFFIXES, write_results
from cryolike_dask.runs.stored_particles import StoredParticles, open_particles
from cryolike_dask.runs.templates import Templates, open_templates
from cryolike_dask.stacks.files import STAR_FILE, conversion_folder

logger = logging.getLogger(__name__)

_NAMES = {
    "integrated_fourier": "cryolikeLogLikelihoodIntegratedFourier",
    "optimal_fourier": "cryolikeLogLikelihoodOptimalFourier",
    "optimal_physical": "cryolikeLogLikelihoodOptimalPhysical",
    CROSS_CORRELATION: "cryolikeCrossCorrelation",
}
_DEFAULT_AXES = "cryolike"

Columns = dict[str, Any]
Pose = dict[str, npt.NDArray[np.float64]]


def collect_results(
    stacks: str | Path,
    results: str | Path,
    *,
    templates: str | Path | None = None,
    template_source: TemplateSource = "pdb",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressOption = None,
) -> pd.DataFrame:
    """Join the results of CryoLike's likelihood with the particles: one row per particle, in the order of the source table.

    Columns are named as in a STAR file. The image and its CTF have RELION's columns, `rlnImageName`, `rlnDefocusU`, ... (Å, degrees, kV,
    mm). The names of all others begin with `cryolike`; N is the number of a structure, CryoLike's `templateN`:

    - SourceTable, SourceRow (from 0), Uid (if there is one), Stack and StackPosition (from 0), Zeroed (a bad image);
    - LogLikelihoodIntegratedFourierTemplateN, LogLikelihoodOptimalFourierTemplateN, LogLikelihoodOptimalPhysicalTemplateN and
      CrossCorrelationTemplateN, if they were computed;
    - with several structures: BestTemplate, chosen by the first of these likelihoods that all structures have; BestBy, its name; and
      PosteriorTemplateN, the probability of each structure with equal priors;
    - the pose on the best structure, if poses were written: ViewingAngle (number of the template, from 0), DisplacementXAngst and
      DisplacementYAngst as CryoLike writes them, InplaneRotation in degrees. With `templates` also `rlnAngleRot`, `rlnAngleTilt`,
      `rlnAnglePsi`, `rlnOriginXAngst` and `rlnOriginYAngst`.

    Particles whose image was written as zeros, or whose likelihood is not a number, have no best structure and no pose.

    Args:
        stacks: output folder of the conversion.
        results: CryoLike's folder_output, the folder above it, or the folder of its stitched matrices.
        templates: CryoLike's folder of templates, or the parameter file that they were made with, for poses in RELION's convention.
        template_source: source of the templates: 'pdb' for atoms (also for an array with the axes x, y, z), 'map' for an MRC map.
            CryoLike uses a different order of axes for the two.
        out: also write the table to this file, in the format of its suffix: `.star` for RELION, `.csv` or `.parquet`.
        overwrite: replace the file if it exists.
        progress: as for `Conversion.run`.

    Returns:
        One row per particle.

    Raises:
        InputError: the conversion is not complete, results are missing or do not fit the stacks, or an argument is wrong.
        OutputError: the file exists, or cannot be written.

    Example:
        >>> df = collect_results("converted", "likelihood")
        >>> len(df)
        12
    """
    with showing(progress) as shown:
        target = None if out is None else output_file(out, SUFFIXES, overwrite)
        return _collect(stacks, results, templates, template_source, target, shown)


def _collect(
    stacks: str | Path,
    results: str | Path,
    templates: str | Path | None,
    template_source: TemplateSource,
    target: Path | None,
    progress: Progress,
) -> pd.DataFrame:
    root = conversion_folder(stacks).resolve()
    made_from = None if templates is None else open_templates(templates)
    progress.step("Reading the particles")
    stored = open_particles(root)
    found = read_results(results, np.diff(stored.stack_ends, prepend=0).tolist(), progress)
    for name, value in constant_likelihoods(found).items():
        logger.warning(
            f"The log-likelihood {name} is {value:g} for all particles and structures: CryoLike did not compute it. It is not used."
        )
    columns = _particle_columns(stored) | _score_columns(found)
    assert stored.zeroed is not None  # every output folder records which images are zeros
    best, chosen = _best(found, stored.zeroed)
    columns |= chosen
    if found.poses:
        pose = _best_pose(found, best)
        columns |= _pose_columns(pose)
        if made_from is not None:
            columns |= _relion_columns(pose, made_from, template_source, stored, root)
    elif made_from is not None:
        raise InputError(
            f"{found.folder} holds no poses (templateN/optimal_pose), and only poses need the templates. Leave out templates, or run "
            "CryoLike's run_likelihood_optimal_pose."
        )
    df = pd.DataFrame(columns).iloc[np.lexsort((stored.table["row"], stored.table["source"]))].reset_index(drop=True)
    if target is not None:
        progress.step(f"Writing {target.name}")
        write_results(df, target, root)
    return df


def _particle_columns(stored: StoredParticles) -> Columns:
    table = stored.table
    sizes = np.diff(stored.stack_ends, prepend=0)
    stack = np.repeat(np.arange(len(sizes)), sizes)
    columns: Columns = {
        "cryolikeSourceTable": np.array([source.table for source in table.sources], dtype=object)[table["source"]],
        "cryolikeSourceRow": table["row"],
    }
    if table["uid"].any():
        columns["cryolikeUid"] = table["uid"]
    columns |= image_columns(table) | ctf_columns(table) | {name: table[column] for name, column in OPTICS.items()}
    columns |= {STACK_COLUMN: stack, POSITION_COLUMN: np.arange(len(table)) - (stored.stack_ends - sizes)[stack]}
    return columns | {"cryolikeZeroed": stored.zeroed}


def _score_columns(found: Results) -> Columns:
    return {
        f"{_NAMES[name]}Template{number}": values
        for name, of_structure in found.scores.items()
        for number, values in of_structure.items()
    }


def _best(found: Results, zeroed: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], Columns]:
    """(n,) position of each particle's best structure, NO_STRUCTURE if it has none, and columns about the choice."""
    if len(found.structures) == 1:
        likelihoods = [found.scores[name][found.structures[0]] for name in LIKELIHOODS if name in found.scores]
        known = np.isfinite(np.sum(likelihoods, axis=0)) if likelihoods else np.True_
        return np.where(known & ~zeroed, 0, NO_STRUCTURE), {}
    choice = choose_structure(found)
    best = np.where(zeroed, NO_STRUCTURE, choice.best)
    posterior = np.where(best[:, None] == NO_STRUCTURE, np.nan, choice.posterior)
    numbers = pd.arrays.IntegerArray(np.array(found.structures)[best], best == NO_STRUCTURE)
    columns: Columns = {"cryolikeBestTemplate": numbers, "cryolikeBestBy": choice.by}
    return best, columns | {
        f"cryolikePosteriorTemplate{number}": values for number, values in zip(found.structures, posterior.T, strict=True)
    }


def _best_pose(found: Results, best: npt.NDArray[np.int64]) -> Pose:
    """The parts of the pose on the best structure, (n,) each; NaN if there is no pose."""
    pose = {name: np.full(len(best), np.nan) for name in POSE}
    for position, number in enumerate(found.structures):
        if number in found.poses:
            of_this = best == position
            for name, values in found.poses[number].items():
                pose[name][of_this] = values[of_this]
    n_without = int(np.isnan(pose["template"]).sum())
    if n_without:
        logger.warning(
            f"No pose for {plural(n_without, 'particle')} of {len(best):,}: the image was written as zeros (cryolikeZeroed), a "
            "likelihood is not a number, or CryoLike wrote no poses for the best structure. Leave them out before you continue in RELION."
        )
    return pose


def _pose_columns(pose: Pose) -> Columns:
    number = pose["template"]
    return {
        "cryolikeViewingAngle": pd.arrays.IntegerArray(np.nan_to_num(number).astype(np.int64), np.isnan(number)),
        "cryolikeDisplacementXAngst": pose["displacement_x"],
        "cryolikeDisplacementYAngst": pose["displacement_y"],
        "cryolikeInplaneRotation": np.degrees(pose["inplane_rotation"]),
    }


def _relion_columns(
    pose: Pose, templates: Templates, template_source: TemplateSource, stored: StoredParticles, root: Path
) -> Columns:
    directions = templates.directions()
    number = np.nan_to_num(pose["template"]).astype(np.int64)
    if number.max(initial=0) >= len(directions):
        raise InputError(
            f"{templates.params} describes {len(directions):,} templates, but particles were matched with template {number.max():,}, "
            "counted from 0. Give the parameter file that the templates were made with."
        )
    axes = stored.identity["settings"].get("axes", _DEFAULT_AXES)
    inplane = pose["inplane_rotation"]
    angles = relion_angles(directions[number], inplane, axes, template_source)
    displacement = np.stack([pose["displacement_x"], pose["displacement_y"]], axis=1)
    origins = relion_origins(displacement, inplane, axes, _centre_offset(stored, root)) + _applied_origins(stored)
    logger.info(
        f"RELION's angles assume templates made from a {'PDB file' if template_source == 'pdb' else 'map'} (template_source), and "
        f"use the axes of the run, {axes!r}."
    )
    return dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), angles.T, strict=True)) | dict(
        zip(("rlnOriginXAngst", "rlnOriginYAngst"), origins.T, strict=True)
    )


def _applied_origins(stored: StoredParticles) -> npt.NDArray[np.float64]:
    """(n, 2) shifts of the stacks' images along RELION's x and y, in Å; the poses are relative to the moved images."""
    if not stored.identity["settings"].get("apply_origins", False):
        return np.zeros((len(stored.table), 2))
    return np.stack([stored.table["origin_x"], stored.table["origin_y"]], axis=1)


def _centre_offset(stored: StoredParticles, root: Path) -> npt.NDArray[np.float64]:
    """(n,) shift of the centre of the stacks' images from the centre of the source images, in Å.

    In downsampling by blocks, the central block is not centred on the central pixel of the source image.
    """
    settings = stored.identity["settings"]
    factor = settings["downsample_factor"]
    if factor == 1 or settings["downsample_type"] not in ("mean", "max"):
        return np.zeros(len(stored.table))
    _, optics, _ = read_star_tables(root / STAR_FILE, ("ImageName", "MicrographName", "ImageSize"))
    if optics is None or "ImageSize" not in optics:
        raise InputError(f"{root / STAR_FILE} has no rlnImageSize in its optics table, where a conversion writes it.")
    source_box = int(optics.numbers("ImageSize")[0])
    pixels = factor * (stored.descriptor.n_pixels[0] // 2) + (factor - 1) / 2 - source_box // 2
    return np.asarray(pixels * stored.pixel_size / factor)
