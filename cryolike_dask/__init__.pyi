"""The public names: what `__init__.py` imports when it is first used, and what type checkers see."""

from .browse.page import browse_particles as browse_particles
from .conversion import Conversion as Conversion
from .errors import ConversionError as ConversionError
from .errors import CryolikeError as CryolikeError
from .errors import InputError as InputError
from .errors import OutputError as OutputError
from .execution.cluster import local_cluster as local_cluster
from .execution.restacking import restack as restack
from .file_conversions.older_names import (
    convert_particle_stacks_from_cryosparc as convert_particle_stacks_from_cryosparc,
)
from .file_conversions.older_names import (
    convert_particle_stacks_from_cryosparc_restack as convert_particle_stacks_from_cryosparc_restack,
)
from .file_conversions.older_names import (
    convert_particle_stacks_from_indexed_cryosparc as convert_particle_stacks_from_indexed_cryosparc,
)
from .file_conversions.older_names import (
    convert_particle_stacks_from_indexed_star_files as convert_particle_stacks_from_indexed_star_files,
)
from .file_conversions.older_names import (
    convert_particle_stacks_from_star_files as convert_particle_stacks_from_star_files,
)
from .file_conversions.particle_stacks_converter import ParticleStackConverter as ParticleStackConverter
from .file_conversions.particle_stacks_wrappers import (
    convert_particle_stacks_from_cryosparc_job_directory as convert_particle_stacks_from_cryosparc_job_directory,
)
from .file_conversions.particle_stacks_wrappers import (
    convert_particle_stacks_from_indexed_cryosparc_file as convert_particle_stacks_from_indexed_cryosparc_file,
)
from .file_conversions.particle_stacks_wrappers import (
    convert_particle_stacks_from_indexed_star_file as convert_particle_stacks_from_indexed_star_file,
)
from .file_conversions.particle_stacks_wrappers import (
    convert_particle_stacks_from_leopard_em as convert_particle_stacks_from_leopard_em,
)
from .file_conversions.particle_stacks_wrappers import (
    convert_particle_stacks_from_paired_star_and_mrc_files as convert_particle_stacks_from_paired_star_and_mrc_files,
)
from .grids.cartesian_grid import CartesianGrid2D as CartesianGrid2D
from .grids.polar_grid import PolarGrid as PolarGrid
from .leopard_em.particles import particles_from_leopard_em as particles_from_leopard_em
from .metadata.image_descriptor import ImageDescriptor as ImageDescriptor
from .particles.cryosparc.job import particles_from_cryosparc_job as particles_from_cryosparc_job
from .particles.cryosparc.particles import particles_from_cryosparc as particles_from_cryosparc
from .particles.star.particles import particles_from_paired_star_and_mrc_files as particles_from_paired_star_and_mrc_files
from .particles.star.particles import particles_from_star as particles_from_star
from .particles.table import ParticleTable as ParticleTable
from .preview import preview_particles as preview_particles
from .report import ConversionReport as ConversionReport
from .results.collect import collect_results as collect_results
from .runs.verify import verify_output as verify_output
from .settings import ConversionSettings as ConversionSettings
from .stacks.loading import load_stack as load_stack
from .stacks.particle_store import open_store as open_store
from .transform.inverse import fourier_to_physical as fourier_to_physical

__version__: str
