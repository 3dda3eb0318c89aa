"""CryoLike's conversion functions: one call from files to stacks.

All of them take, by keyword: folder_output, batch_size, n_stacks_max, pixel_size, downsample_factor, downsample_type, flag_plots,
skip_exist, overwrite, device, save_phys, output_format, on_missing, on_bad_image, mixed_optics, order, ignore_manual_pixel_size,
hash_inputs (see `ConversionSettings`), and client and progress (see `Conversion.run`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryolike_dask.conversion import Conversion
from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import EdgeMode
from cryolike_dask.particles.cryosparc import particles_from_cryosparc
from cryolike_dask.particles.cryosparc_job import particles_of_cryosparc_job
from cryolike_dask.particles.star import particles_from_paired_star_and_mrc_files, particles_from_star
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.progress import Progress
from cryolike_dask.report import ConversionReport

Params = ImageDescriptor | str | Path


def convert_particle_stacks_from_indexed_star_file(
    params_input: Params, star_file: str | Path, folder_mrc: str | Path = "", **options: Any
) -> ConversionReport:
    """Convert the particles of a RELION STAR file that names its images as index@file.

    Args:
        params_input: image descriptor, or the path of a params `.npz`.
        star_file: RELION 3.0, or 3.1 and later.
        folder_mrc: where the image files are; only the file names recorded in the table count then. If '', the recorded paths are
            used, relative to the working directory.
        options: see the module's text.

    Raises:
        InputError, OutputError, ConversionError: see `Conversion`.
    """
    return _convert(particles_from_star(star_file, folder_mrc), params_input, options)


def convert_particle_stacks_from_paired_star_and_mrc_files(
    params_input: Params,
    particle_file_list: Sequence[str | Path],
    star_file_list: Sequence[str | Path],
    *,
    defocus_angle_is_degree: bool = True,
    phase_shift_is_degree: bool = True,
    **options: Any,
) -> ConversionReport:
    """Convert image files that have a STAR file each. Images of different files never share a stack.

    Args:
        params_input: image descriptor, or the path of a params `.npz`.
        particle_file_list, star_file_list: as many of the one as of the other; row k of a STAR file describes image k.
        defocus_angle_is_degree, phase_shift_is_degree: False where the tables hold radians.
        options: see the module's text.

    Raises:
        InputError, OutputError, ConversionError: see `Conversion`.
    """
    particles = particles_from_paired_star_and_mrc_files(
        particle_file_list,
        star_file_list,
        defocus_angle_is_degree=defocus_angle_is_degree,
        phase_shift_is_degree=phase_shift_is_degree,
    )
    return _convert(particles, params_input, options)


def convert_particle_stacks_from_indexed_cryosparc_file(
    params_input: Params, file_cs: str | Path, folder_cryosparc: str | Path = "", **options: Any
) -> ConversionReport:
    """Convert the particles of a cryoSPARC table that names its images by blob/path and blob/idx.

    Args:
        params_input: image descriptor, or the path of a params `.npz`.
        file_cs: the `.cs` file.
        folder_cryosparc: where the image files are; only the file names recorded in the table count then. If '', the recorded
            paths are used, relative to the working directory.
        options: see the module's text.

    Raises:
        InputError, OutputError, ConversionError: see `Conversion`.
    """
    return _convert(particles_from_cryosparc(file_cs, folder_cryosparc), params_input, options)


def convert_particle_stacks_from_cryosparc_job_directory(
    params_input: Params, folder_cryosparc: str | Path = "", job_number: int = 0, **options: Any
) -> ConversionReport:
    """Convert the restacked (or else downsampled) particles of a cryoSPARC job directory.

    Args:
        params_input: image descriptor, or the path of a params `.npz`.
        folder_cryosparc: the folder that holds the job directories.
        job_number: N of the directory JN.
        options: see the module's text.

    Raises:
        InputError, OutputError, ConversionError: see `Conversion`.
    """
    return _convert(particles_of_cryosparc_job(folder_cryosparc, job_number, _images_needed(options)), params_input, options)


def convert_particle_stacks_from_leopard_em(
    params_input: Params,
    dataframe_files: str | Path | Sequence[str | Path],
    box_size: int,
    *,
    template_size: int | None = None,
    edge: EdgeMode = "constant",
    invert: bool = False,
    use_refined: bool = True,
    folder_micrographs: str | Path = "",
    **options: Any,
) -> ConversionReport:
    """Convert boxes around Leopard-EM's picks, cut from their micrographs.

    Args:
        params_input: image descriptor, or the path of a params `.npz`.
        dataframe_files: match-template or refined tables.
        box_size, template_size, edge, invert, use_refined, folder_micrographs: see `particles_from_leopard_em`.
        options: see the module's text.

    Raises:
        InputError, OutputError, ConversionError: see `Conversion`.
    """
    particles = particles_from_leopard_em(
        dataframe_files,
        box_size,
        template_size=template_size,
        edge=edge,
        invert=invert,
        use_refined=use_refined,
        folder_micrographs=folder_micrographs,
    )
    return _convert(particles, params_input, options)


def _images_needed(options: dict[str, Any]) -> int | None:
    """How many images can be needed at most: None unless n_stacks_max stops early."""
    from cryolike_dask.settings import ConversionSettings

    settings = ConversionSettings.from_options({name: options[name] for name in ("batch_size", "n_stacks_max") if name in options})
    return settings.batch_size * settings.n_stacks_max if settings.n_stacks_max > 0 else None


def _convert(particles: ParticleTable, params_input: Params, options: dict[str, Any]) -> ConversionReport:
    client: Any = options.pop("client", None)
    progress: Progress | None = options.pop("progress", None)
    return Conversion(particles, params_input, **options).run(client, progress)
