"""Reads the particles of an input from its description."""

from __future__ import annotations

from cryolike_dask.particles.inputs import (
    CryosparcInput,
    CryosparcJobInput,
    LeopardEMInput,
    PairedInput,
    ParticleInput,
    StarInput,
)
from cryolike_dask.particles.table import ParticleTable


def read_particles(source: ParticleInput) -> ParticleTable:
    """Read the particles of an input of any kind.

    Raises:
        InputError: see the function that reads this kind.
    """
    # Each reader is imported only when it is needed, because the help of the command line must not wait for pandas.
    match source:
        case StarInput():
            from cryolike_dask.particles.star.particles import particles_from_star

            return particles_from_star(source.star_file, source.folder_mrc)
        case PairedInput():
            from cryolike_dask.particles.star.particles import particles_from_paired_star_and_mrc_files

            return particles_from_paired_star_and_mrc_files(**vars(source))
        case CryosparcInput():
            from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc

            return particles_from_cryosparc(source.file_cs, source.folder_cryosparc)
        case CryosparcJobInput():
            from cryolike_dask.particles.cryosparc.job import particles_from_cryosparc_job

            return particles_from_cryosparc_job(source.folder_cryosparc, source.job_number)
        case LeopardEMInput():
            from cryolike_dask.leopard_em.particles import particles_from_leopard_em

            return particles_from_leopard_em(**vars(source))
