"""The kinds of input, and the meaning of their arguments.

The functions that read inputs, CryoLike's functions, the converter and the command line take their descriptions from here. This module
reads nothing and imports nothing large, because the help of the command line needs it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.mrc.boxes import EdgeMode


@dataclass(frozen=True)
class StarInput:
    """A RELION STAR file that names its images as index@file.

    Args:
        star_file: the STAR file, of RELION 3.0, 3.1 or later.
        folder_mrc: folder that holds the image files (recorded folders are then ignored), or from which the recorded paths start. By
            default the recorded paths are relative to the working directory, or the files are beside the table.
    """

    star_file: str | Path
    folder_mrc: str | Path = ""


@dataclass(frozen=True)
class PairedInput:
    """Image files that have a STAR file each: row k of the table describes image k.

    Args:
        particle_file_list: the image files (MRC).
        star_file_list: the STAR file of each of them, in the same order.
        defocus_angle_is_degree: whether the tables give the defocus angle in degrees rather than in radians.
        phase_shift_is_degree: whether the tables give the phase shift in degrees rather than in radians.
    """

    particle_file_list: Sequence[str | Path]
    star_file_list: Sequence[str | Path]
    defocus_angle_is_degree: bool = True
    phase_shift_is_degree: bool = True


@dataclass(frozen=True)
class CryosparcInput:
    """A cryoSPARC table that names its images by blob/path and blob/idx.

    Args:
        file_cs: the .cs file, as numpy array or, with `cryosparc-tools` installed, in cryoSPARC's compressed format.
        folder_cryosparc: folder that holds the image files (recorded folders are then ignored), or from which the recorded paths
            start. By default the recorded paths are relative to the working directory, or the files are beside the table.
    """

    file_cs: str | Path
    folder_cryosparc: str | Path = ""


@dataclass(frozen=True)
class CryosparcJobInput:
    """The restacked images of a cryoSPARC job directory, or the downsampled ones if there are none.

    Args:
        folder_cryosparc: folder that holds the job directories; '' for the working directory.
        job_number: N of the job directory JN.
    """

    folder_cryosparc: str | Path = ""
    job_number: int = 0


@dataclass(frozen=True)
class LeopardEMInput:
    """Boxes of micrographs around the positions in Leopard-EM's tables.

    Args:
        dataframe_files: one match-template or refined table (CSV), or several in output order, each of one or many micrographs.
        box_size: edge of the boxes in pixels.
        template_size: edge of the template in pixels. By default it follows from the table, as twice pos_y_img - pos_y.
        edge: how to fill boxes beyond the micrograph: 'constant' (zeros), 'reflect' or 'replicate'; or 'error' to refuse such boxes.
        invert: multiply the boxes by -1, because protein is dark in micrographs.
        use_refined: use refined positions, angles, defocus and pixel sizes if the table has them.
        folder_micrographs: folder that holds the micrographs (recorded folders are then ignored), or from which the recorded paths
            start. By default the recorded paths are relative to the working directory, or the files are beside the table.
    """

    dataframe_files: str | Path | Sequence[str | Path]
    box_size: int
    _: KW_ONLY
    template_size: int | None = None
    edge: EdgeMode = "constant"
    invert: bool = False
    use_refined: bool = True
    folder_micrographs: str | Path = ""


def job_of(directory: str | Path) -> CryosparcJobInput | None:
    """The job whose directory this is, such as P3/J42; None if it does not have the name of one."""
    path = input_path(directory)
    number = re.fullmatch(r"J(\d+)", path.name)
    return CryosparcJobInput(path.parent, int(number[1])) if number else None


ParticleInput = StarInput | PairedInput | CryosparcInput | CryosparcJobInput | LeopardEMInput
