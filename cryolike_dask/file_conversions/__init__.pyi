"""The names of CryoLike's `file_conversions`, imported when they are first used."""

from .older_names import (
    convert_particle_stacks_from_cryosparc as convert_particle_stacks_from_cryosparc,
)
from .older_names import (
    convert_particle_stacks_from_cryosparc_restack as convert_particle_stacks_from_cryosparc_restack,
)
from .older_names import (
    convert_particle_stacks_from_indexed_cryosparc as convert_particle_stacks_from_indexed_cryosparc,
)
from .older_names import (
    convert_particle_stacks_from_indexed_star_files as convert_particle_stacks_from_indexed_star_files,
)
from .older_names import (
    convert_particle_stacks_from_star_files as convert_particle_stacks_from_star_files,
)
from .particle_stacks_converter import ParticleStackConverter as ParticleStackConverter
from .particle_stacks_wrappers import (
    convert_particle_stacks_from_cryosparc_job_directory as convert_particle_stacks_from_cryosparc_job_directory,
)
from .particle_stacks_wrappers import (
    convert_particle_stacks_from_indexed_cryosparc_file as convert_particle_stacks_from_indexed_cryosparc_file,
)
from .particle_stacks_wrappers import (
    convert_particle_stacks_from_indexed_star_file as convert_particle_stacks_from_indexed_star_file,
)
from .particle_stacks_wrappers import (
    convert_particle_stacks_from_leopard_em as convert_particle_stacks_from_leopard_em,
)
from .particle_stacks_wrappers import (
    convert_particle_stacks_from_paired_star_and_mrc_files as convert_particle_stacks_from_paired_star_and_mrc_files,
)
