"""Calls as CryoLike's users write them, with only the import changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.file_conversions.conftest import BATCHES
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import ABC, assert_holds, in_sequence

IMPORTS = """
import numpy as np
import torch
from pathlib import Path
from cryolike_dask import (
    ImageDescriptor,
    ParticleStackConverter,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
)
"""


@dataclass(frozen=True)
class Call:
    """A call that a user types, and its result.

    Args:
        text: as typed.
        sizes: images of each stack.
        folder: with the stacks.
        factor, kind: of the downsampling.
    """

    text: str
    sizes: list[int]
    folder: str = "out"
    factor: int = 1
    kind: str = "mean"


STAR = "convert_particle_stacks_from_indexed_star_file"
PAIRED = "convert_particle_stacks_from_paired_star_and_mrc_files"
CS = "convert_particle_stacks_from_indexed_cryosparc_file"
JOB = "convert_particle_stacks_from_cryosparc_job_directory"
LISTS = "['A.mrcs', 'B.mrcs', 'C.mrcs'], ['A.star', 'B.star', 'C.star']"

CALLS = [
    # Indexed STAR files.
    Call(f"{STAR}('params.npz', 'particles.star')", [15], folder="."),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, 1, 'mean', None, False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '.', 'out', 5, 2, 'max', 2.0, False)", [5, 5, 5], factor=2, kind="max"),
    Call(f"{STAR}('params.npz', 'particles.star', 'elsewhere/', 'out/', 1024, 1, 'mean', 2.0)", [15]),
    Call(
        f"{STAR}(params_input='params.npz', star_file='particles.star', folder_mrc='', folder_output='./out/', batch_size=7,"
        " downsample_factor=2, downsample_type='mean', pixel_size=2.0, flag_plots=False)",
        [7, 7, 1],
        factor=2,
    ),
    Call(f"{STAR}(flag_plots=False, folder_output='out', star_file='particles.star', params_input='params.npz')", [15]),
    Call(f"{STAR}(ImageDescriptor.load('params.npz'), 'particles.star', folder_output='out', flag_plots=False)", [15]),
    Call(
        f"{STAR}(ImageDescriptor.from_individual_values(n_pixels=12, pixel_size=2.0), 'particles.star', '', 'out', flag_plots=False)",
        [15],
    ),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, pixel_size=np.array([2.0, 2.0]), flag_plots=False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, pixel_size=np.array([2.0]), flag_plots=False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, pixel_size=[2.0, 2.0], flag_plots=False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, pixel_size=torch.tensor(2.0), flag_plots=False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, pixel_size=np.float32(2), flag_plots=False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', np.int64(10), 0, flag_plots=False)", [10, 5]),
    Call(f"{STAR}('params.npz', 'particles.star', '', 'out', 10, -1, 'MEAN', flag_plots=np.bool_(False))", [10, 5]),
    Call(f"{STAR}(Path('params.npz'), Path('particles.star'), Path('.'), Path('out'), flag_plots=False)", [15]),
    # Files in pairs.
    Call(f"{PAIRED}('params.npz', {LISTS})", [7, 2, 6], folder="."),
    Call(f"{PAIRED}('params.npz', {LISTS}, 'out', 100, flag_plots=False)", [7, 2, 6]),
    Call(f"{PAIRED}('params.npz', {LISTS}, 'out', 5, 2.0, True, True, 1, 'mean', False, False, False)", [5, 2, 2, 5, 1]),
    Call(
        f"{PAIRED}('params.npz', {LISTS}, 'out', 1024, None, True, True, 2, 'max', False, False)", [7, 2, 6], factor=2, kind="max"
    ),
    Call(
        f"{PAIRED}(params_input='params.npz', folder_output='./out/', particle_file_list=['./A.mrcs'], star_file_list=['./A.star'],"
        " pixel_size=2.0, defocus_angle_is_degree=True, phase_shift_is_degree=True, skip_exist=False, flag_plots=True)",
        [7],
    ),
    Call(f"for _ in range(2): {PAIRED}('params.npz', {LISTS}, 'out', flag_plots=False, overwrite=True)", [7, 2, 6]),
    Call(f"for _ in range(2): {PAIRED}('params.npz', {LISTS}, 'out', flag_plots=False, skip_exist=True)", [7, 2, 6]),
    Call(f"{PAIRED}('params.npz', {LISTS}, 'out', 5, np.array([2.0, 2.0]), flag_plots=False)", [5, 2, 2, 5, 1]),
    # Indexed cryoSPARC files.
    Call(f"{CS}('params.npz', 'particles.cs')", [15], folder="."),
    Call(f"{CS}('params.npz', 'particles.cs', '', 'out', 4, 2, 2.0, 1, 'mean', False, False)", [4, 4]),
    Call(f"{CS}('params.npz', 'particles.cs', './elsewhere', 'out', 10, -1, None, 2, 'mean', False, False)", [10, 5], factor=2),
    Call(
        f"{CS}(params_input='params.npz', file_cs='particles.cs', folder_cryosparc='', folder_output='out', batch_size=6,"
        " n_stacks_max=-1, pixel_size=None, downsample_factor=1, downsample_type='mean', skip_exist=False, flag_plots=False)",
        [6, 6, 3],
    ),
    Call(f"{CS}('params.npz', 'particles.cs', folder_output='out', batch_size=6, n_stacks_max=0, flag_plots=False)", [6, 6, 3]),
    Call(f"{CS}('params.npz', 'particles.cs', folder_output='out', batch_size=6, n_stacks_max=-5, flag_plots=False)", [6, 6, 3]),
    Call(f"{CS}('params.npz', 'particles.cs', '.', 'out', batch_size=8, n_stacks_max=1, flag_plots=False)", [8]),
    # Job directories.
    Call(f"{JOB}('params.npz', 'cryosparc', 4)", [15], folder="."),
    Call(f"{JOB}('params.npz', 'cryosparc', 4, 'out', 4, 2, -1., 1, 'mean', False, False)", [4, 4]),
    Call(
        f"{JOB}('params.npz', './cryosparc/', np.int64(4), 'out', 10, -1, 2.0, 2, 'max', False, False)",
        [10, 5],
        factor=2,
        kind="max",
    ),
    Call(
        f"{JOB}(params_input='params.npz', folder_cryosparc='cryosparc', job_number=4, folder_output='out', batch_size=1024,"
        " n_stacks_max=-1, pixel_size=-1., downsample_factor=-1, downsample_type='mean', skip_exist=False, flag_plots=False)",
        [15],
    ),
    Call(f"{JOB}('params.npz', folder_output='out', flag_plots=False)", [15]),  # ./J0
    # The converter.
    Call(
        "converter = ParticleStackConverter('params.npz', 'out', flag_plots=False)\n"
        f"converter.prepare_star_files({LISTS})\n"
        "converter.convert_stacks(100)",
        [7, 2, 6],
    ),
    Call(
        "converter = ParticleStackConverter('params.npz', 'out', -1, None, 1, 'mean', False, False, False, 'cpu')\n"
        f"converter.prepare_star_files({LISTS}, True, True)\n"
        "converter.convert_stacks(5)",
        [5, 2, 2, 5, 1],
    ),
    Call(
        "converter = ParticleStackConverter('params.npz', 'out', 2, 2.0, 1, 'mean', False, True, False, torch.device('cpu'))\n"
        "converter.prepare_indexed_file('particles.star', 'starfile')\n"
        "converter.convert_stacks(5)",
        [5, 5],
    ),
    Call(
        "converter = ParticleStackConverter(image_descriptor='params.npz', folder_output='out', n_stacks_max=-1, pixel_size=2.0,"
        " downsample_factor=2, downsample_type='mean', skip_exist=False, overwrite=True, flag_plots=False, device='cpu')\n"
        "converter.prepare_indexed_file(src_file='particles.star', filetype='starfile', mrc_folder='elsewhere',"
        " ignore_manual_pixel_size=False)\n"
        "converter.convert_stacks(batch_size=10, never_combine_input_files=False)",
        [10, 5],
        factor=2,
    ),
    Call(
        "converter = ParticleStackConverter('params.npz', 'out', pixel_size=3.0, flag_plots=False)\n"
        "converter.prepare_indexed_file('particles.cs', 'cryosparc', '', True)\n"
        "converter.convert_stacks()",
        [15],
    ),
    Call(
        "converter = ParticleStackConverter(ImageDescriptor.load('params.npz'), folder_output='out', flag_plots=False)\n"
        "converter.prepare_indexed_file(src_file='particles.cs', filetype='cryosparc', mrc_folder='')\n"
        "converter.convert_stacks(100, True)",
        [7, 2, 6],
    ),
    Call(
        "converter = ParticleStackConverter('params.npz', 'out', flag_plots=False)\n"
        "converter.prepare_star_files(particle_file_list=['A.mrcs', 'B.mrcs', 'C.mrcs'], star_file_list=['A.star', 'B.star', 'C.star'],"
        " defocus_angle_is_degree=True, phase_shift_is_degree=True)\n"
        "converter.convert_stacks(never_combine_input_files=False)",
        [15],
    ),
    Call(
        "converter = ParticleStackConverter('params.npz', 'out', flag_plots=False)\n"
        "converter.prepare_sequential_cryosparc('cryosparc', 4)\n"
        "converter.convert_stacks(batch_size=8)",
        [8, 7],
    ),
    Call(
        "converter = ParticleStackConverter('params.npz', folder_output='out', n_stacks_max=0, pixel_size=-1., flag_plots=False)\n"
        "converter.prepare_sequential_cryosparc('.')\n"
        "converter.convert_stacks(8, never_combine_input_files=True)",
        [7, 2, 6],
    ),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.text.replace("convert_particle_stacks_from_", "")[:70])
def test_calls_as_users_write_them(call: Call, work: dict[str, Any]) -> None:
    exec(IMPORTS + call.text, {})
    stacks = read_stacks(Path(call.folder))
    assert [len(stack.fourier) for stack in stacks] == call.sizes
    listed = in_sequence(BATCHES if JOB in call.text or "prepare_sequential" in call.text else ABC)[: sum(call.sizes)]
    assert_holds(stacks, work, listed, call.factor, call.kind)


def test_at_least_forty_calls_are_tried() -> None:
    assert len(CALLS) >= 40
    assert len({call.text for call in CALLS}) == len(CALLS)
