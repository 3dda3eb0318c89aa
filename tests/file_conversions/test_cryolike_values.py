"""CryoLike's values, names and rules."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cryolike_dask
from cryolike_dask import ConversionSettings, InputError, ParticleStackConverter, file_conversions
from cryolike_dask.file_conversions import particle_stacks_converter, particle_stacks_wrappers
from tests.file_conversions.test_cryolike_calls import CS, JOB, LISTS, PAIRED, STAR
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import ABC, assert_holds, in_sequence, params


def test_names_are_where_cryolike_has_them() -> None:
    for name in (STAR, PAIRED, CS, JOB):
        function = getattr(cryolike_dask, name)
        assert getattr(file_conversions, name) is function
        assert getattr(particle_stacks_wrappers, name) is function
    assert file_conversions.ParticleStackConverter is particle_stacks_converter.ParticleStackConverter is ParticleStackConverter


OLDER = [
    ("convert_particle_stacks_from_indexed_cryosparc", CS, "'params.npz', 'particles.cs'", [15]),
    ("convert_particle_stacks_from_star_files", PAIRED, f"'params.npz', {LISTS}", [7, 2, 6]),
    ("convert_particle_stacks_from_indexed_star_files", STAR, "'params.npz', star_file='particles.star', folder_mrc='.'", [15]),
    (
        "convert_particle_stacks_from_cryosparc",
        CS,
        "'params.npz', file_cs='particles.cs', folder_cryosparc='.', n_stacks_max=-1",
        [15],
    ),
    ("convert_particle_stacks_from_cryosparc_restack", JOB, "'params.npz', folder_cryosparc='cryosparc', job_number=4", [15]),
]


@pytest.mark.parametrize(("name", "today", "arguments", "sizes"), OLDER, ids=lambda value: str(value)[:60])
def test_older_names_work_and_tell_todays(name: str, today: str, arguments: str, sizes: list[int], work: dict[str, Any]) -> None:
    assert getattr(file_conversions, name) is getattr(cryolike_dask, name)
    text = f"from cryolike_dask import {name}\n{name}({arguments}, folder_output='out', flag_plots=False)"
    with pytest.warns(DeprecationWarning, match=rf"^{name} is an older name: use {today}\.$") as caught:
        exec(compile(text, "script.py", "exec"), {})
    assert caught[0].filename == "script.py"
    assert [len(stack.fourier) for stack in read_stacks(Path("out"))] == sizes


@pytest.mark.parametrize(
    ("chosen", "sizes"), [(None, [7, 2, 6, 10, 5]), (True, [7, 2, 6, 7, 2, 6]), (False, [10, 10, 10])], ids=str
)
def test_pairs_stay_apart_and_the_rest_is_restacked_when_both_are_converted_together(
    chosen: bool | None, sizes: list[int], work: dict[str, Any]
) -> None:
    converter = ParticleStackConverter("params.npz", "out", flag_plots=False)
    converter.prepare_star_files([*ABC], ["A.star", "B.star", "C.star"])
    converter.prepare_indexed_file("particles.star", "starfile")
    converter.convert_stacks(10, chosen)
    stacks = read_stacks(Path("out"))
    assert [len(stack.fourier) for stack in stacks] == sizes
    assert_holds(stacks, work, 2 * in_sequence(ABC))
    starts = [int(stack.metadata["stack_start"]) if "stack_start" in stack.metadata else None for stack in stacks]
    assert starts == {None: [0, 0, 0, None, None], True: [0] * 6, False: [None] * 3}[chosen]


def test_a_table_overrides_the_pixel_size_argument_only_if_asked_to(work: dict[str, Any]) -> None:
    converter = ParticleStackConverter("params.npz", "out", pixel_size=3.0, flag_plots=False)
    with pytest.raises(InputError, match=r"pixel size 3 Å given as an argument conflicts with 2 Å in .*particles.cs"):
        converter.prepare_indexed_file("particles.cs", "cryosparc")
    converter.prepare_indexed_file("particles.cs", "cryosparc", ignore_manual_pixel_size=True)
    with pytest.raises(InputError, match=r"pixel size 3 Å given as an argument conflicts with 2 Å in .*particles.star"):
        converter.prepare_indexed_file("particles.star", "starfile")
    report = converter.convert_stacks()
    assert report.n_images == 15
    assert any("is ignored: the table says 2" in line for line in report.warnings)


@pytest.mark.parametrize(
    ("option", "given", "kept"),
    [
        ("pixel_size", -1.0, None),
        ("pixel_size", -1, None),
        ("pixel_size", np.array(-1.0), None),
        ("pixel_size", None, None),
        ("pixel_size", np.array([1.5, 1.5], np.float32), 1.5),
        ("pixel_size", (1.5,), 1.5),
        ("pixel_size", np.float64(1.5), 1.5),
        ("n_stacks_max", 0, -1),
        ("n_stacks_max", -7, -1),
        ("n_stacks_max", np.int32(3), 3),
        ("downsample_factor", 0, 1),
        ("downsample_factor", -1, 1),
        ("downsample_factor", 2.0, 2),
        ("downsample_type", "Max", "max"),
        ("order", "FILE", "file"),
        ("device", torch.device("cuda", 0), "cuda"),
        ("device", torch.device("cuda"), "cuda"),
        ("device", torch.device("cpu"), "cpu"),
        ("device", "CUDA:0", "cuda"),
        ("device", "cpu:0", "cpu"),
        ("flag_plots", 0, False),
    ],
    ids=str,
)
def test_values_as_cryolikes_users_have_them(option: str, given: Any, kept: Any) -> None:
    settings = ConversionSettings.from_options({option: given})
    assert getattr(settings, option) == kept
    assert type(getattr(settings, option)) is type(kept)


def test_enums_are_taken_by_their_values() -> None:
    kind = Enum("DownsampleType", {"MAXIMUM": "MAX"})
    assert ConversionSettings.from_options({"downsample_type": kind.MAXIMUM}).downsample_type == "max"


def test_another_gpu_than_the_one_a_process_sees_first_is_refused_with_advice() -> None:
    with pytest.raises(InputError, match=r"device is 'cuda:1'.*CUDA_VISIBLE_DEVICES=1"):
        ParticleStackConverter(params(), device="cuda:1")
