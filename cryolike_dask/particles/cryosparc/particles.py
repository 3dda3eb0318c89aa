"""Particles of a cryoSPARC table that names the image file and index of each particle."""

from __future__ import annotations

import os

import numpy as np

from cryolike_dask.errors import InputError
from cryolike_dask.options import described_by
from cryolike_dask.particles.cryosparc.alignments import fill_alignments
from cryolike_dask.particles.cryosparc.columns import (
    BLOB,
    BLOB_REQUIRED,
    COLUMNS,
    fill_ctf,
    fill_image_size,
    fill_images,
    fill_pixel_size,
    fill_sign,
    with_ctf,
)
from cryolike_dask.particles.cryosparc.table import join_columns_by_uid, read_cs
from cryolike_dask.particles.inputs import CryosparcInput
from cryolike_dask.particles.table import ParticleTable, Source, new_rows


@described_by(CryosparcInput)
def particles_from_cryosparc(file_cs: str | os.PathLike[str], folder_cryosparc: str | os.PathLike[str] = "") -> ParticleTable:
    """Read the particles of an indexed cryoSPARC table, in the order of its rows. No image file is opened.

    Angles are in radians and lengths in Å, as cryoSPARC stores them; `blob/idx` counts from 0. Voltage, Cs and amplitude contrast
    are kept for each row, and `ctf/exp_group_id` names the optics groups. If the table has no `blob/*` or no `ctf/*` columns, they
    are looked up by uid in the job's other tables beside it, with a warning. Without a column of phase shifts, they are 0, with a
    warning. All other CTF columns are required, including amplitude contrast, because a guess would give a wrong CTF. Images with a
    `blob/sign` of -1 are not inverted here; `contrast='auto'` of a conversion does that.

    Raises:
        InputError: the table or a value in it cannot be used; the message names the particle, counted from 1.

    Example:
        >>> len(particles_from_cryosparc("particles.cs", "mrc"))
        12
    """
    if file_cs == "":
        raise InputError("file_cs is empty: give the path of a cryoSPARC .cs file.")
    table = with_ctf(read_cs(file_cs, COLUMNS))
    if not any(name in table for name in BLOB_REQUIRED):
        table = join_columns_by_uid(table, BLOB, BLOB_REQUIRED, "the image columns")
    rows = new_rows(len(table))
    groups, warnings = fill_ctf(rows, table)
    files, notes = fill_images(rows, table, folder_cryosparc)
    warnings += fill_pixel_size(rows, table)
    fill_image_size(rows, table)
    warnings += fill_alignments(rows, table)
    rows["row"] = np.arange(len(rows))
    sign_notes, mixed = fill_sign(rows, table)
    warnings += mixed
    source = Source("cryosparc", table.path, notes=sign_notes + notes)
    return ParticleTable(rows, files, (source,), groups, tuple(warnings))
