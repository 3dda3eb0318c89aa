"""CryoLike's converter object: gather particles from several sources, then convert them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cryolike_dask.conversion import Conversion
from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import EdgeMode
from cryolike_dask.particles.cryosparc import particles_from_cryosparc
from cryolike_dask.particles.cryosparc_job import particles_from_cryosparc_job
from cryolike_dask.particles.star import particles_from_paired_star_and_mrc_files, particles_from_star
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.progress import Progress
from cryolike_dask.report import ConversionReport
from cryolike_dask.settings import ConversionSettings


class ParticleStackConverter:
    """Several `prepare_*` calls of any kinds, in any order, then one `convert_stacks`.

    Particles come out in the order in which they were prepared. Where the optics of two sources differ, a stack ends, so that each
    stack keeps its own source's.

    Args:
        image_descriptor: image descriptor, or the path of a params `.npz`. It is not changed.
        folder_output: where stacks go; '' is the current directory.
        client, progress: see `Conversion.run`.
        options: fields of `ConversionSettings`, such as pixel_size or downsample_factor.

    Raises:
        InputError: an option is wrong.
    """

    def __init__(
        self,
        image_descriptor: ImageDescriptor | str | Path,
        folder_output: str | Path = "",
        *,
        client: Any = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        for name in ("batch_size", "never_combine_input_files"):
            if name in options:
                raise InputError(f"{name} is an argument of convert_stacks, not of the converter: give it there.")
        ConversionSettings.from_options(options)
        self.image_descriptor = ImageDescriptor.ensure(image_descriptor)
        self.folder_output = folder_output
        self._client = client
        self._progress = progress
        self._options = options
        self._particles: list[ParticleTable] = []

    def prepare_star_files(
        self,
        particle_file_list: Sequence[str | Path],
        star_file_list: Sequence[str | Path],
        defocus_angle_is_degree: bool = True,
        phase_shift_is_degree: bool = True,
    ) -> None:
        """Add image files that have a STAR file each. See `particles_from_paired_star_and_mrc_files`."""
        self._particles.append(
            particles_from_paired_star_and_mrc_files(
                particle_file_list,
                star_file_list,
                defocus_angle_is_degree=defocus_angle_is_degree,
                phase_shift_is_degree=phase_shift_is_degree,
            )
        )

    def prepare_indexed_file(
        self, indexed_file: str | Path, filetype: Literal["starfile", "cryosparc"], folder: str | Path = ""
    ) -> None:
        """Add a table that names its images.

        Args:
            indexed_file: STAR or `.cs` file.
            filetype: 'starfile' or 'cryosparc'.
            folder: where the image files are; '' for the recorded paths.

        Raises:
            InputError: the table or `filetype` is wrong.
        """
        if filetype == "starfile":
            self._particles.append(particles_from_star(indexed_file, folder))
        elif filetype == "cryosparc":
            self._particles.append(particles_from_cryosparc(indexed_file, folder))
        else:
            raise InputError(f"filetype is {filetype!r}: choose 'starfile' or 'cryosparc'.")

    def prepare_sequential_cryosparc(self, folder_cryosparc: str | Path = "", job_number: int = 0) -> None:
        """Add a cryoSPARC job directory. See `particles_from_cryosparc_job`."""
        self._particles.append(particles_from_cryosparc_job(folder_cryosparc, job_number))

    def prepare_leopard_em(
        self,
        dataframe_files: str | Path | Sequence[str | Path],
        box_size: int,
        *,
        template_size: int | None = None,
        edge: EdgeMode = "constant",
        invert: bool = False,
        use_refined: bool = True,
        folder_micrographs: str | Path = "",
    ) -> None:
        """Add boxes around Leopard-EM's picks. See `particles_from_leopard_em`."""
        self._particles.append(
            particles_from_leopard_em(
                dataframe_files,
                box_size,
                template_size=template_size,
                edge=edge,
                invert=invert,
                use_refined=use_refined,
                folder_micrographs=folder_micrographs,
            )
        )

    def convert_stacks(self, batch_size: int = 1024, never_combine_input_files: bool = False) -> ConversionReport:
        """Convert all that was prepared; the converter is empty afterwards.

        Args:
            batch_size: images in a stack.
            never_combine_input_files: end a stack where the image file changes.

        Raises:
            InputError: nothing was prepared, or the sources do not fit the descriptor.
            OutputError, ConversionError: see `Conversion.run`.
        """
        if not self._particles:
            raise InputError("Nothing was prepared: call one of the prepare_ methods before convert_stacks.")
        conversion = Conversion(
            ParticleTable.concatenate(self._particles),
            self.image_descriptor,
            folder_output=self.folder_output,
            **(self._options | {"batch_size": batch_size, "never_combine_input_files": never_combine_input_files}),
        )
        report = conversion.run(self._client, self._progress)
        self._particles.clear()
        return report
