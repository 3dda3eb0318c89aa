"""CryoLike's conversion functions: one call from files to stacks.

Names, order of arguments and defaults are CryoLike's. Options that CryoLike does not have follow as keywords, the same ones for all
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from cryolike_dask.conversion import Conversion
from cryolike_dask.file_conversions.inputs import read_particles
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import EdgeMode
from cryolike_dask.options import (
    ConversionOptions,
    CryosparcOptions,
    LeopardEMOptions,
    PairedOptions,
    StarOptions,
    takes_options,
)
from cryolike_dask.particles.inputs import (
    CryosparcInput,
    CryosparcJobInput,
    LeopardEMInput,
    PairedInput,
    ParticleInput,
    StarInput,
)
from cryolike_dask.progress import ProgressOption
from cryolike_dask.report import ConversionReport
from cryolike_dask.settings import ConversionSettings, DownsampleType, PixelSize

Params = ImageDescriptor | str | Path | None


def _convert(
    source: ParticleInput,
    params_input: Params,
    folder_output: str | Path,
    client: Any,
    progress: ProgressOption,
    **options: Unpack[ConversionOptions],
) -> ConversionReport:
    """Convert the particles of any input."""
    ConversionSettings.from_options(options)  # a wrong one is found before a long table is read
    return Conversion(read_particles(source), params_input, folder_output=folder_output, **options).run(client, progress)


@takes_options(StarInput, Conversion, Conversion.run, params_input="params")
def convert_particle_stacks_from_indexed_star_file(
    params_input: Params,
    star_file: str | Path,
    folder_mrc: str | Path = "",
    folder_output: str | Path = "",
    batch_size: int = 1024,
    downsample_factor: int = 1,
    downsample_type: DownsampleType = "mean",
    pixel_size: PixelSize | None = None,
    flag_plots: bool = True,
    *,
    client: Any = None,
    progress: ProgressOption = None,
    **options: Unpack[StarOptions],
) -> ConversionReport:
    """Convert the particles of a RELION STAR file that names its images as index@file.

    Raises:
        TypeError: there is no such option.
        InputError, OutputError, ConversionError: see `Conversion`.

    Example:
        >>> report = convert_particle_stacks_from_indexed_star_file(
        ...     "params.npz", "particles.star", "mrc", folder_output="stacks"
        ... )
        >>> report.n_images
        12
    """
    return _convert(
        StarInput(star_file, folder_mrc),
        params_input,
        folder_output,
        client,
        progress,
        batch_size=batch_size,
        downsample_factor=downsample_factor,
        downsample_type=downsample_type,
        pixel_size=pixel_size,
        flag_plots=flag_plots,
        **options,
    )


@takes_options(PairedInput, Conversion, Conversion.run, params_input="params")
def convert_particle_stacks_from_paired_star_and_mrc_files(
    params_input: Params,
    particle_file_list: Sequence[str | Path],
    star_file_list: Sequence[str | Path],
    folder_output: str | Path = "",
    batch_size: int = 1024,
    pixel_size: PixelSize | None = None,
    defocus_angle_is_degree: bool = True,
    phase_shift_is_degree: bool = True,
    downsample_factor: int = 1,
    downsample_type: DownsampleType = "mean",
    skip_exist: bool = False,
    flag_plots: bool = True,
    overwrite: bool = False,
    *,
    client: Any = None,
    progress: ProgressOption = None,
    **options: Unpack[PairedOptions],
) -> ConversionReport:
    """Convert image files that have a STAR file each. Images of different files never share a stack.

    Raises:
        TypeError: there is no such option.
        InputError, OutputError, ConversionError: see `Conversion`.

    Example:
        >>> report = convert_particle_stacks_from_paired_star_and_mrc_files(
        ...     "params.npz", ["A.mrcs", "B.mrcs"], ["A.star", "B.star"], "stacks"
        ... )
        >>> len(report.stacks)
        2
    """
    return _convert(
        PairedInput(particle_file_list, star_file_list, defocus_angle_is_degree, phase_shift_is_degree),
        params_input,
        folder_output,
        client,
        progress,
        batch_size=batch_size,
        pixel_size=pixel_size,
        downsample_factor=downsample_factor,
        downsample_type=downsample_type,
        skip_exist=skip_exist,
        flag_plots=flag_plots,
        overwrite=overwrite,
        **options,
    )


@takes_options(CryosparcInput, Conversion, Conversion.run, params_input="params")
def convert_particle_stacks_from_indexed_cryosparc_file(
    params_input: Params,
    file_cs: str | Path,
    folder_cryosparc: str | Path = "",
    folder_output: str | Path = "",
    batch_size: int = 1024,
    n_stacks_max: int = -1,
    pixel_size: PixelSize | None = None,
    downsample_factor: int = 1,
    downsample_type: DownsampleType = "mean",
    skip_exist: bool = False,
    flag_plots: bool = True,
    *,
    client: Any = None,
    progress: ProgressOption = None,
    **options: Unpack[CryosparcOptions],
) -> ConversionReport:
    """Convert the particles of a cryoSPARC table that names its images by blob/path and blob/idx.

    Raises:
        TypeError: there is no such option.
        InputError, OutputError, ConversionError: see `Conversion`.

    Example:
        >>> report = convert_particle_stacks_from_indexed_cryosparc_file(
        ...     "params.npz", "particles.cs", "mrc", folder_output="stacks"
        ... )
        >>> report.n_images
        12
    """
    return _convert(
        CryosparcInput(file_cs, folder_cryosparc),
        params_input,
        folder_output,
        client,
        progress,
        batch_size=batch_size,
        n_stacks_max=n_stacks_max,
        pixel_size=pixel_size,
        downsample_factor=downsample_factor,
        downsample_type=downsample_type,
        skip_exist=skip_exist,
        flag_plots=flag_plots,
        **options,
    )


@takes_options(CryosparcJobInput, Conversion, Conversion.run, params_input="params")
def convert_particle_stacks_from_cryosparc_job_directory(
    params_input: Params,
    folder_cryosparc: str | Path = "",
    job_number: int = 0,
    folder_output: str | Path = "",
    batch_size: int = 1024,
    n_stacks_max: int = -1,
    pixel_size: PixelSize | None = None,
    downsample_factor: int = 1,
    downsample_type: DownsampleType = "mean",
    skip_exist: bool = False,
    flag_plots: bool = True,
    *,
    client: Any = None,
    progress: ProgressOption = None,
    **options: Unpack[CryosparcOptions],
) -> ConversionReport:
    """Convert the particles of a cryoSPARC job directory: those of Restack Particles, or else those of Downsample Particles.

    Raises:
        TypeError: there is no such option.
        InputError, OutputError, ConversionError: see `Conversion`.

    Example:
        >>> report = convert_particle_stacks_from_cryosparc_job_directory(
        ...     "params.npz", "P3", 42, folder_output="stacks"
        ... )
        >>> report.n_images
        12
    """
    return _convert(
        CryosparcJobInput(folder_cryosparc, job_number),
        params_input,
        folder_output,
        client,
        progress,
        batch_size=batch_size,
        n_stacks_max=n_stacks_max,
        pixel_size=pixel_size,
        downsample_factor=downsample_factor,
        downsample_type=downsample_type,
        skip_exist=skip_exist,
        flag_plots=flag_plots,
        **options,
    )


@takes_options(LeopardEMInput, Conversion, Conversion.run, params_input="params")
def convert_particle_stacks_from_leopard_em(
    params_input: Params,
    dataframe_files: str | Path | Sequence[str | Path],
    box_size: int,
    folder_output: str | Path = "",
    batch_size: int = 1024,
    *,
    template_size: int | None = None,
    edge: EdgeMode = "constant",
    invert: bool = False,
    use_refined: bool = True,
    folder_micrographs: str | Path = "",
    client: Any = None,
    progress: ProgressOption = None,
    **options: Unpack[LeopardEMOptions],
) -> ConversionReport:
    """Convert boxes around Leopard-EM's picks, cut from their micrographs.

    Raises:
        TypeError: there is no such option.
        InputError, OutputError, ConversionError: see `Conversion`.

    Example:
        >>> params = ImageDescriptor.from_individual_values(n_pixels=16, pixel_size=1.1)
        >>> report = convert_particle_stacks_from_leopard_em(
        ...     params, "results.csv", box_size=16, invert=True, folder_output="stacks"
        ... )
        >>> report.n_images
        3
    """
    source = LeopardEMInput(
        dataframe_files,
        box_size,
        template_size=template_size,
        edge=edge,
        invert=invert,
        use_refined=use_refined,
        folder_micrographs=folder_micrographs,
    )
    return _convert(source, params_input, folder_output, client, progress, batch_size=batch_size, **options)
