"""CryoLike's converter object: gather particles from several sources, then convert them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from cryolike_dask.conversion import Conversion
from cryolike_dask.errors import FileTypeError, InputError
from cryolike_dask.file_conversions.inputs import read_particles
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import EdgeMode
from cryolike_dask.options import ConverterOptions, described_by, takes_options
from cryolike_dask.particles.inputs import (
    CryosparcInput,
    CryosparcJobInput,
    LeopardEMInput,
    PairedInput,
    ParticleInput,
    StarInput,
)
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.pixel_sizes import check_pixel_size_argument
from cryolike_dask.progress import ProgressOption
from cryolike_dask.report import ConversionReport
from cryolike_dask.settings import ConversionSettings, DownsampleType, PixelSize, TorchDevice

_ELSEWHERE = dict.fromkeys(("batch_size", "never_combine_input_files"), "convert_stacks")


@takes_options(Conversion, Conversion.run, elsewhere=_ELSEWHERE, image_descriptor="params")
class ParticleStackConverter:
    """Converts particles from several sources: call `prepare_*` methods of any kind, in any order, then `convert_stacks`.

    Particles are converted in the order in which they were prepared. If the optics of two sources differ, a stack ends between them.

    Args:

    Raises:
        TypeError: there is no such option.
        InputError: an option or the descriptor is wrong.

    Example:
        >>> converter = ParticleStackConverter("params.npz", folder_output="stacks")
        >>> converter.prepare_indexed_file("particles.star", "starfile", "mrc")
        >>> converter.convert_stacks(batch_size=5).n_images
        12
    """

    def __init__(
        self,
        image_descriptor: ImageDescriptor | str | Path | None,
        folder_output: str | Path = "",
        n_stacks_max: int = -1,
        pixel_size: PixelSize | None = None,
        downsample_factor: int = 1,
        downsample_type: DownsampleType = "mean",
        skip_exist: bool = False,
        overwrite: bool = False,
        flag_plots: bool = True,
        device: str | TorchDevice = "auto",
        *,
        client: Any = None,
        progress: ProgressOption = None,
        **options: Unpack[ConverterOptions],
    ) -> None:
        self._settings = ConversionSettings.from_options(
            {
                "n_stacks_max": n_stacks_max,
                "pixel_size": pixel_size,
                "downsample_factor": downsample_factor,
                "downsample_type": downsample_type,
                "skip_exist": skip_exist,
                "overwrite": overwrite,
                "flag_plots": flag_plots,
                "device": device,
                **options,
            }
        )
        self.image_descriptor = None if image_descriptor is None else ImageDescriptor.ensure(image_descriptor)
        self.folder_output = folder_output
        self._client = client
        self._progress = progress
        self._particles: list[ParticleTable] = []
        self._table_wins = self._settings.ignore_manual_pixel_size

    @described_by(PairedInput)
    def prepare_star_files(
        self,
        particle_file_list: Sequence[str | Path],
        star_file_list: Sequence[str | Path],
        defocus_angle_is_degree: bool = True,
        phase_shift_is_degree: bool = True,
    ) -> None:
        """Add image files that have a STAR file each.

        Raises:
            InputError: see `particles_from_paired_star_and_mrc_files`.
        """
        self._add(PairedInput(particle_file_list, star_file_list, defocus_angle_is_degree, phase_shift_is_degree))

    @described_by(StarInput, mrc_folder="folder_mrc")
    def prepare_indexed_file(
        self,
        src_file: str | Path,
        filetype: Literal["cryosparc", "starfile"],
        mrc_folder: str | Path = "",
        ignore_manual_pixel_size: bool = False,
    ) -> None:
        """Add a table that names its images.

        Args:
            src_file: STAR or `.cs` file.
            filetype: 'starfile' or 'cryosparc'.
            ignore_manual_pixel_size: use the pixel size of this table if the converter's `pixel_size` differs from it.

        Raises:
            InputError: the table or `filetype` is wrong, or the table's pixel size differs from the converter's.
        """
        kinds: dict[str, type[StarInput | CryosparcInput]] = {"starfile": StarInput, "cryosparc": CryosparcInput}
        kind = kinds.get(str(filetype).lower())
        if kind is None:
            raise FileTypeError(f"filetype is {filetype!r}: choose 'starfile' or 'cryosparc'.")
        self._add(kind(src_file, mrc_folder), ignore_manual_pixel_size)

    @described_by(CryosparcJobInput)
    def prepare_sequential_cryosparc(self, folder_cryosparc: str | Path = "", job_number: int = 0) -> None:
        """Add a cryoSPARC job directory.

        Raises:
            InputError: see `particles_from_cryosparc_job`.
        """
        self._add(CryosparcJobInput(folder_cryosparc, job_number))

    @described_by(LeopardEMInput)
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
        """Add boxes around Leopard-EM's picks.

        Raises:
            InputError: see `particles_from_leopard_em`.
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
        self._add(source)

    @described_by(ConversionSettings)
    def convert_stacks(self, batch_size: int = 1024, never_combine_input_files: bool | None = None) -> ConversionReport:
        """Convert everything that was prepared. The converter is empty afterwards.

        Raises:
            InputError: nothing was prepared, or the sources do not fit the descriptor.
            OutputError, ConversionError: see `Conversion.run`.
        """
        if not self._particles:
            raise InputError("Nothing was prepared: call one of the prepare_ methods before convert_stacks.")
        chosen = {
            "batch_size": batch_size,
            "never_combine_input_files": never_combine_input_files,
            "ignore_manual_pixel_size": self._table_wins,
        }
        conversion = Conversion(
            ParticleTable.concatenate(self._particles),
            self.image_descriptor,
            folder_output=self.folder_output,
            **(vars(self._settings) | chosen),
        )
        report = conversion.run(self._client, self._progress)
        self._particles.clear()
        return report

    def _add(self, source: ParticleInput, table_wins: bool = False) -> None:
        particles = read_particles(source)
        # Each table is compared with the argument here, because the plan has only one `ignore_manual_pixel_size` for all tables.
        if not (table_wins or self._settings.ignore_manual_pixel_size):
            check_pixel_size_argument(particles, self._settings)
        self._table_wins |= bool(table_wins)
        self._particles.append(particles)
