"""Convert cryo-EM particle stacks into CryoLike's Fourier-polar stacks, distributed with Dask.

Names are imported when they are first used, so that importing the package is immediate.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Conversion": "conversion",
    "ConversionError": "errors",
    "ConversionReport": "report",
    "ConversionSettings": "settings",
    "CryolikeError": "errors",
    "ImageDescriptor": "image_descriptor",
    "InputError": "errors",
    "OutputError": "errors",
    "ParticleStackConverter": "converter",
    "ParticleTable": "particles",
    "convert_particle_stacks_from_cryosparc_job_directory": "wrappers",
    "convert_particle_stacks_from_indexed_cryosparc_file": "wrappers",
    "convert_particle_stacks_from_indexed_star_file": "wrappers",
    "convert_particle_stacks_from_leopard_em": "wrappers",
    "convert_particle_stacks_from_paired_star_and_mrc_files": "wrappers",
    "fourier_to_physical": "inverse",
    "load_stack": "stack_files",
    "local_cluster": "execution.cluster",
    "open_store": "zarr_store",
    "particles_from_cryosparc": "sources.cryosparc",
    "particles_from_cryosparc_job": "sources.cryosparc_job",
    "particles_from_leopard_em": "sources.leopard_em",
    "particles_from_paired_star_and_mrc_files": "sources.star",
    "particles_from_star": "sources.star",
    "preview_particles": "preview",
    "restack": "restacking",
    "verify_output": "verify",
}

__all__ = [*sorted(_WHERE), "__version__"]

if TYPE_CHECKING:
    from cryolike_dask.conversion import Conversion as Conversion
    from cryolike_dask.converter import ParticleStackConverter as ParticleStackConverter
    from cryolike_dask.errors import ConversionError as ConversionError
    from cryolike_dask.errors import CryolikeError as CryolikeError
    from cryolike_dask.errors import InputError as InputError
    from cryolike_dask.errors import OutputError as OutputError
    from cryolike_dask.execution.cluster import local_cluster as local_cluster
    from cryolike_dask.image_descriptor import ImageDescriptor as ImageDescriptor
    from cryolike_dask.inverse import fourier_to_physical as fourier_to_physical
    from cryolike_dask.particles import ParticleTable as ParticleTable
    from cryolike_dask.preview import preview_particles as preview_particles
    from cryolike_dask.report import ConversionReport as ConversionReport
    from cryolike_dask.restacking import restack as restack
    from cryolike_dask.settings import ConversionSettings as ConversionSettings
    from cryolike_dask.sources.cryosparc import particles_from_cryosparc as particles_from_cryosparc
    from cryolike_dask.sources.cryosparc_job import particles_from_cryosparc_job as particles_from_cryosparc_job
    from cryolike_dask.sources.leopard_em import particles_from_leopard_em as particles_from_leopard_em
    from cryolike_dask.sources.star import (
        particles_from_paired_star_and_mrc_files as particles_from_paired_star_and_mrc_files,
    )
    from cryolike_dask.sources.star import particles_from_star as particles_from_star
    from cryolike_dask.stack_files import load_stack as load_stack
    from cryolike_dask.verify import verify_output as verify_output
    from cryolike_dask.wrappers import (
        convert_particle_stacks_from_cryosparc_job_directory as convert_particle_stacks_from_cryosparc_job_directory,
    )
    from cryolike_dask.wrappers import (
        convert_particle_stacks_from_indexed_cryosparc_file as convert_particle_stacks_from_indexed_cryosparc_file,
    )
    from cryolike_dask.wrappers import (
        convert_particle_stacks_from_indexed_star_file as convert_particle_stacks_from_indexed_star_file,
    )
    from cryolike_dask.wrappers import (
        convert_particle_stacks_from_leopard_em as convert_particle_stacks_from_leopard_em,
    )
    from cryolike_dask.wrappers import (
        convert_particle_stacks_from_paired_star_and_mrc_files as convert_particle_stacks_from_paired_star_and_mrc_files,
    )
    from cryolike_dask.zarr_store import open_store as open_store


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
