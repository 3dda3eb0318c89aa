"""Faults of CryoLike's converter, which this package does not have. The numbers are those of the project's list."""

from __future__ import annotations

import shutil
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch

import cryolike_dask.file_conversions.particle_stacks_wrappers as wrappers
from cryolike_dask import (
    Conversion,
    ConversionError,
    ImageDescriptor,
    InputError,
    OutputError,
    ParticleStackConverter,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    particles_from_star,
)
from cryolike_dask.cli.convert import convert as convert_command
from cryolike_dask.mrc.reader import ImageFileReader
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.interface import TransformedImages
from tests.support.conversions import convert, files_of
from tests.support.cs_files import ctf_columns, particle_columns, uids, write_cs
from tests.support.independent_reader import read_stacks, read_tensor
from tests.support.mrc_files import MODES, example_images, pack_mrc
from tests.support.particle_sets import (
    ABC,
    BOX,
    NO_PLOTS,
    ParticleSet,
    assert_holds,
    ctf_table,
    in_sequence,
    optics_table,
    params,
    write_images,
    write_particle_set,
    write_star,
)
from tests.support.reference import DATA, needs_data
from tests.support.star_files import loop, text, without_column


def write_pairs(folder: Path, counts: dict[str, int]) -> dict[str, Any]:
    """Images, and a STAR file beside each of their files; the arguments of the paired conversion."""
    write_images(folder, counts)
    stars = [write_star(folder / f"{name}.star", [(name, i) for i in range(n)]) for name, n in counts.items()]
    return {"particle_file_list": [folder / name for name in counts], "star_file_list": stars, "folder_output": folder / "out"}


def test_fault_01_output_follows_the_table_and_every_image_is_traced_to_its_row(scattered: ParticleSet, tmp_path: Path) -> None:
    convert_particle_stacks_from_indexed_star_file(
        params(), scattered.star, scattered.mrc, folder_output=tmp_path, batch_size=7, **NO_PLOTS
    )
    stacks = read_stacks(tmp_path)
    assert_holds(stacks, scattered.images, scattered.listed)
    for stack in stacks:
        assert len(stack.metadata["files"]) == len(stack.metadata["idxs"]) == len(stack.fourier)


def test_fault_02_recorded_paths_count_and_equal_names_do_not_collapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_images(tmp_path / "one", {"a.mrcs": 2})["a.mrcs"]
    second = write_images(tmp_path / "two", {"a.mrcs": 2}, seed=1)["a.mrcs"]
    star = write_star(tmp_path / "p.star", [("one/a.mrcs", 0), ("two/a.mrcs", 0), ("one/a.mrcs", 1), ("two/a.mrcs", 1)])
    monkeypatch.chdir(tmp_path)
    convert_particle_stacks_from_indexed_star_file(params(), star, folder_output="out", **NO_PLOTS)
    (stack,) = read_stacks(Path("out"))
    listed = [
        (str(file.parent.name), int(i)) for file, i in zip(map(Path, stack.metadata["files"]), stack.metadata["idxs"], strict=True)
    ]
    assert listed == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]
    assert stack.physical is not None
    for image, source in zip(stack.physical, (first[0], second[0], first[1], second[1]), strict=True):
        assert np.corrcoef(image.ravel(), source.ravel())[0, 1] > 0.999999
    with pytest.raises(InputError, match=r"names both one/a\.mrcs and two/a\.mrcs"):
        particles_from_star(star, tmp_path / "one")


def test_fault_03_missing_files_are_an_error_that_lists_them(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    for name in ("A.mrcs", "B.mrcs"):
        (particles.mrc / name).unlink()
    with pytest.raises(InputError, match="2 image files named there cannot be found") as caught:
        convert(particles)
    assert all(str(particles.mrc / name) in str(caught.value) for name in ("A.mrcs", "B.mrcs"))
    assert not (tmp_path / "out").exists()


def test_fault_04_a_file_with_a_single_row_is_converted(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3, "one.mrcs": 1, "b.mrcs": 2})
    assert_holds(convert(particles), particles.images, particles.listed)


def test_fault_05_index_0_and_an_index_too_large_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_images(tmp_path / "mrc", {"a.mrcs": 3})
    for index, named in ((-1, "there is no image 0"), (3, "holds 3 images")):
        star = write_star(tmp_path / "p.star", [("a.mrcs", 0), ("a.mrcs", index)])
        with pytest.raises(InputError, match=named):
            convert_particle_stacks_from_indexed_star_file(params(), star, tmp_path / "mrc", folder_output=tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("column", ["ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast"])
def test_fault_06_all_rows_of_a_cs_file_count_for_voltage_cs_and_contrast(tmp_path: Path, column: str) -> None:
    images = write_images(tmp_path, {"a.mrcs": 5})
    columns = particle_columns(["a.mrcs"] * 5, list(range(5)), BOX)
    columns[column][3:] *= np.float32(1.5)
    file = write_cs(tmp_path / "p.cs", columns)
    options: dict[str, Any] = {"folder_output": tmp_path / "out", **NO_PLOTS}
    with pytest.raises(InputError, match="mixed_optics='split'"):
        convert_particle_stacks_from_indexed_cryosparc_file(params(pixel_size=1.5), file, tmp_path, **options)
    convert_particle_stacks_from_indexed_cryosparc_file(params(pixel_size=1.5), file, tmp_path, mixed_optics="split", **options)
    stacks = read_stacks(tmp_path / "out")
    assert_holds(stacks, images, in_sequence({"a.mrcs": 5}))
    key = {"ctf/accel_kv": "voltage", "ctf/cs_mm": "sphericalAberration", "ctf/amp_contrast": "amplitudeContrast"}[column]
    assert [float(stack.metadata[key]) for stack in stacks] == [float(columns[column][0]), float(columns[column][3])]


def test_fault_07_all_pixel_sizes_are_compared(tmp_path: Path) -> None:
    optics = optics_table(2, rlnImagePixelSize=["2.0", "2.5"])
    particles = write_particle_set(tmp_path, {"a.mrcs": 4}, optics=optics, groups=[1, 1, 1, 2])
    with pytest.raises(InputError, match=r"2 Å per pixel.*2\.5 Å per pixel"):
        convert(particles)


def test_fault_07_rows_of_an_unknown_optics_group_are_refused(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 4}, groups=[1, 1, 7, 1])
    with pytest.raises(InputError, match=r"optics group 7 is not in .* \(row 3\)"):
        convert(particles)


def test_fault_07_a_third_block_is_no_obstacle(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 4})
    general = "data_general\n\n_rlnCurrentIteration 25\n\n"
    particles.star.write_text(general + particles.star.read_text() + "\ndata_model\n\nloop_\n_rlnClass\n1\n2\n")
    assert_holds(convert(particles), particles.images, particles.listed)


def test_fault_08_headers_of_cs_files_may_be_longer_than_10_kb(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 2})
    columns = particle_columns(["a.mrcs"] * 2, [1, 0], BOX)
    columns |= {f"alignments_class_{k}/class_posterior": np.zeros(2, np.float32) for k in range(300)}
    file = write_cs(tmp_path / "p.cs", columns)
    with pytest.raises(ValueError, match="max_header_size"):
        np.load(file)
    convert_particle_stacks_from_indexed_cryosparc_file(
        params(pixel_size=1.5), file, tmp_path, folder_output=tmp_path / "out", **NO_PLOTS
    )
    assert_holds(read_stacks(tmp_path / "out"), images, [("a.mrcs", 1), ("a.mrcs", 0)])


def test_fault_09_paired_and_job_conversions_run_without_a_pixel_size(tmp_path: Path) -> None:
    arguments = write_pairs(tmp_path, {"a.mrcs": 2})
    convert_particle_stacks_from_paired_star_and_mrc_files(params(), **arguments, **NO_PLOTS)
    assert read_stacks(tmp_path / "out")[0].metadata["pixel_size"].tolist() == [2.0, 2.0]
    write_images(tmp_path / "J1" / "restack", {"batch_000000_restacked.mrc": 2})
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(2), **ctf_columns(2)})
    convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, folder_output=tmp_path / "job", **NO_PLOTS)
    assert read_stacks(tmp_path / "job")[0].metadata["pixel_size"].tolist() == [2.0, 2.0]


@needs_data
def test_fault_09_the_guides_calls_on_real_particles_need_no_pixel_size(tmp_path: Path) -> None:
    """These images have no believable header. Their table states the pixel size by detector and magnification, which pairs ignore."""
    shutil.copy(DATA / "empiar_10076_7.mrc", tmp_path)
    convert_particle_stacks_from_paired_star_and_mrc_files(
        ImageDescriptor.from_individual_values(320, 1.31, resolution_factor=0.1, n_inplanes=16),
        [tmp_path / "empiar_10076_7.mrc"],
        [DATA / "empiar_10076_7.star"],
        folder_output=tmp_path / "out",
        **NO_PLOTS,
    )
    (stack,) = read_stacks(tmp_path / "out")
    assert stack.metadata["pixel_size"].tolist() == [1.31, 1.31]
    assert len(stack.fourier) == 7


def test_fault_09_a_recorded_pixel_size_that_differs_from_the_descriptors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"descriptor says 1\.9 Å.*table says 2 Å"):
        convert(write_particle_set(tmp_path, {"a.mrcs": 2}), params(pixel_size=1.9))


def test_fault_09_a_manual_pixel_size_leaves_the_callers_descriptor_alone(tmp_path: Path) -> None:
    descriptor = params(pixel_size=1.9)
    stacks = convert(write_particle_set(tmp_path, {"a.mrcs": 2}), descriptor, pixel_size=2.0)
    assert stacks[0].metadata["pixel_size"].tolist() == [2.0, 2.0]
    assert descriptor.pixel_size == (1.9, 1.9)


def test_fault_09_the_box_is_compared_with_the_descriptors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images of 16 × 16 pixels, but the images are 12 × 12"):
        convert(write_particle_set(tmp_path, {"a.mrcs": 2}), params(16))


def test_fault_10_odd_factors_work_and_fractions_are_refused(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=21)
    assert_holds(convert(particles, params(21), downsample_factor=3), particles.images, particles.listed, 3)
    for factor in (0.5, 2.5):
        with pytest.raises(InputError, match="downsample_factor"):
            convert(particles, params(21), downsample_factor=factor)


def test_fault_10_the_written_descriptor_is_that_of_the_images_and_holds_no_aliases(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=24)
    (stack,) = convert(particles, params(24), downsample_factor=2)
    assert stack.physical is not None
    assert stack.metadata["n_pixels"].tolist() == [12, 12] == list(stack.physical.shape[1:])
    assert stack.metadata["pixel_size"].tolist() == [4.0, 4.0]
    assert stack.metadata["radius_max"] == 3.0
    assert_holds([stack], particles.images, particles.listed, 2)


def test_fault_11_a_stacks_file_holds_that_stack_and_no_more(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 20})
    convert(particles, batch_size=4, save_phys=False)
    image_bytes = 13 * 24 * 8
    for counter in range(5):
        path = tmp_path / "out" / "fft" / f"particles_fourier_stack_{counter:06d}.pt"
        assert path.stat().st_size < 4 * image_bytes + 2000
        read_tensor(path, torch.complex64)  # which checks the storage


def test_fault_12_memory_does_not_grow_with_the_largest_file(tmp_path: Path) -> None:
    n, box = 3000, 64
    content = pack_mrc(np.zeros((1, box, box), np.float32), 2)
    header = bytearray(content[:1024])
    header[8:12] = np.array([n], "<i4").tobytes()
    path = tmp_path / "mrc" / "large.mrcs"
    path.parent.mkdir()
    path.write_bytes(header + bytes(n * 4 * box * box))  # 49 MB, of which one image is wanted
    wanted = np.random.default_rng(0).normal(size=(box, box)).astype(np.float32)
    with path.open("r+b") as file:
        file.seek(1024 + 2000 * 4 * box * box)
        file.write(wanted.tobytes())
    star = write_star(tmp_path / "p.star", [("large.mrcs", 2000)])
    conversion = Conversion(
        particles_from_star(star, path.parent), params(box, resolution_factor=0.2), folder_output=tmp_path / "out", **NO_PLOTS
    )
    tracemalloc.start()
    try:
        conversion.run_serially()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert_holds(read_stacks(tmp_path / "out"), {"large.mrcs": {2000: wanted}}, [("large.mrcs", 2000)])  # type: ignore[dict-item]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mode", MODES)
def test_fault_13_every_number_type_and_byte_order_is_read(tmp_path: Path, mode: int, order: str) -> None:
    images = example_images(mode, (3, BOX, BOX))
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(images, mode, order, pixel_size=0))
    star = write_star(tmp_path / "p.star", in_sequence({"a.mrcs": 3}))
    convert_particle_stacks_from_indexed_star_file(params(), star, tmp_path, folder_output=tmp_path / "out", **NO_PLOTS)
    assert_holds(read_stacks(tmp_path / "out"), {"a.mrcs": images}, in_sequence({"a.mrcs": 3}))


def test_fault_14_a_constant_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, BOX, BOX)).astype(np.float32)
    images[1] = 2.5
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(images, 2, pixel_size=0))
    star = write_star(tmp_path / "p.star", in_sequence({"a.mrcs": 3}))
    options: dict[str, Any] = {"folder_output": tmp_path / "out", **NO_PLOTS}
    with pytest.raises(ConversionError, match=r"particle 2 .*a\.mrcs.*is constant"):
        convert_particle_stacks_from_indexed_star_file(params(), star, tmp_path, **options)
    report = convert_particle_stacks_from_indexed_star_file(
        params(), star, tmp_path, on_bad_image="zero", overwrite=True, **options
    )
    (stack,) = read_stacks(tmp_path / "out")
    assert np.isfinite(stack.fourier).all()
    assert not stack.fourier[1].any()
    assert any("particle 2" in line for line in report.warnings)


def test_fault_15_existing_output_is_left_alone_or_replaced_whole(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=2, flag_plots=True)
    before = files_of(tmp_path / "out")
    with pytest.raises(OutputError, match="already holds"):
        convert(particles, batch_size=10, flag_plots=True)
    assert files_of(tmp_path / "out") == before
    assert len(convert(particles, batch_size=10, overwrite=True)) == 2
    assert not [name for name in files_of(tmp_path / "out") if "stack_000002" in name or name.startswith("plots/")]


def test_fault_16_counts_are_compared_before_anything_is_written(tmp_path: Path) -> None:
    arguments = write_pairs(tmp_path, {"a.mrcs": 3, "b.mrcs": 3})
    for n in (2, 4):
        write_images(tmp_path, {"b.mrcs": n})
        with pytest.raises(InputError, match=rf"b\.mrcs\.star has 3 rows and .*b\.mrcs has {n} images"):
            convert_particle_stacks_from_paired_star_and_mrc_files(params(), **arguments, **NO_PLOTS)
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(5), **ctf_columns(5)})
    write_images(tmp_path / "J1" / "restack", {"batch_000000_restacked.mrc": 6})
    with pytest.raises(InputError, match=r"describes 5 images, .* hold 6"):
        convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, folder_output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fault_17_lists_of_unequal_length_and_empty_ones_are_refused(tmp_path: Path) -> None:
    arguments = write_pairs(tmp_path, {"a.mrcs": 3, "b.mrcs": 3})
    with pytest.raises(InputError, match=r"has 2 files and star_file_list \(--star\) has 1"):
        convert_particle_stacks_from_paired_star_and_mrc_files(
            params(), arguments["particle_file_list"], arguments["star_file_list"][:1]
        )
    with pytest.raises(InputError, match="is empty"):
        convert_particle_stacks_from_paired_star_and_mrc_files(params(), [], [])


def test_fault_17_an_empty_restack_does_not_hide_downsample(tmp_path: Path) -> None:
    (tmp_path / "J1" / "restack").mkdir(parents=True)
    images = write_images(tmp_path / "J1" / "downsample", {"batch_0_downsample.mrc": 3})
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(3), **ctf_columns(3)})
    convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, folder_output=tmp_path / "out", **NO_PLOTS)
    assert_holds(read_stacks(tmp_path / "out"), images, in_sequence({"batch_0_downsample.mrc": 3}))


def test_fault_18_each_source_of_a_converter_keeps_its_voltage(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.mrcs": 2, "b.mrcs": 2})
    converter = ParticleStackConverter(params(), tmp_path / "out", **NO_PLOTS)
    for name, voltage in (("a", "300"), ("b", "200")):
        listed = in_sequence({f"{name}.mrcs": 2})
        converter.prepare_indexed_file(
            write_star(tmp_path / f"{name}.star", listed, optics=optics_table(rlnVoltage=[voltage])), "starfile", tmp_path
        )
    converter.convert_stacks()
    stacks = read_stacks(tmp_path / "out")
    assert [float(stack.metadata["voltage"]) for stack in stacks] == [300, 200]


def test_fault_19_b_and_scale_factors_are_those_of_the_stack(abc: ParticleSet, tmp_path: Path) -> None:
    convert_particle_stacks_from_indexed_star_file(params(), abc.star, abc.mrc, folder_output=tmp_path, batch_size=4, **NO_PLOTS)
    rows = 0
    for stack in read_stacks(tmp_path):
        i = rows + np.arange(len(stack.fourier))
        rows += len(stack.fourier)
        assert stack.metadata["ctfBfactor"].tolist() == (i / 4).tolist()
        assert stack.metadata["ctfScalefactor"].tolist() == (1 + i / 8).tolist()


@pytest.mark.parametrize("present", [("Rot",), ("Tilt", "Psi"), ()])
def test_fault_20_each_viewing_angle_is_optional_on_its_own(tmp_path: Path, present: tuple[str, ...]) -> None:
    images = write_images(tmp_path, {"a.mrcs": 3})
    table = {"rlnImageName": [f"{i + 1}@a.mrcs" for i in range(3)], **ctf_table(3), "rlnOpticsGroup": ["1"] * 3}
    for angle in {"Rot", "Tilt", "Psi"} - set(present):
        table = without_column(table, f"rlnAngle{angle}")
    (tmp_path / "p.star").write_text(text(loop("optics", optics_table()), loop("particles", table)))
    convert_particle_stacks_from_indexed_star_file(
        params(), tmp_path / "p.star", tmp_path, folder_output=tmp_path / "out", **NO_PLOTS
    )
    stacks = read_stacks(tmp_path / "out")
    assert_holds(stacks, images, in_sequence({"a.mrcs": 3}))
    keys = {"angleRotation": "Rot", "angleTilt": "Tilt", "anglePsi": "Psi"}
    assert {name for key, name in keys.items() if stacks[0].metadata[key].size} == set(present)


ALL_OPTIONS = {
    "batch_size": 2,
    "n_stacks_max": 1,
    "pixel_size": 2.0,
    "downsample_factor": 1,
    "downsample_type": "mean",
    "flag_plots": False,
    "skip_exist": False,
    "overwrite": True,
    "device": "cpu",
    "client": None,
    "save_phys": True,
    "output_format": "pt",
    "on_missing": "raise",
    "on_bad_image": "raise",
    "mixed_optics": "raise",
    "order": "metadata",
    "ignore_manual_pixel_size": False,
    "progress": None,
}


@pytest.mark.parametrize("function", ["star", "paired", "cs", "job"])
def test_fault_21_every_function_takes_every_option(tmp_path: Path, function: str) -> None:
    arguments = write_pairs(tmp_path, {"a.mrcs": 3})
    write_images(tmp_path / "J1" / "restack", {"batch_0_restacked.mrc": 3})
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(3), **ctf_columns(3)})
    columns = particle_columns(["a.mrcs"] * 3, [0, 1, 2], BOX)
    columns["blob/psize_A"][:] = 2
    options: dict[str, Any] = {"folder_output": tmp_path / "out", **ALL_OPTIONS}
    for _ in range(2):
        if function == "star":
            report = convert_particle_stacks_from_indexed_star_file(params(), tmp_path / "a.mrcs.star", tmp_path, **options)
        elif function == "paired":
            report = convert_particle_stacks_from_paired_star_and_mrc_files(params(), **(arguments | options))
        elif function == "cs":
            file = write_cs(tmp_path / "p.cs", columns)
            report = convert_particle_stacks_from_indexed_cryosparc_file(params(), file, tmp_path, **options)
        else:
            report = convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, **options)
        assert (len(report.stacks), report.n_images) == (1, 2)
        assert report.n_kept == (0 if options["overwrite"] else 1)
        options |= {"overwrite": False, "skip_exist": True}


def test_fault_21_the_command_line_takes_every_option_too() -> None:
    for name, command in convert_command.commands.items():
        taken = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
        assert {*ConversionSettings.__dataclass_fields__} <= taken, name
    assert len(wrappers.convert_particle_stacks_from_indexed_star_file.__doc__ or "") > 100


def test_fault_22_images_go_through_the_transform_many_at_a_time_in_the_precision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 40})
    calls: list[int] = []
    transform = CompiledTransform.__call__

    def counted(self: CompiledTransform, images: np.ndarray, results: TransformedImages, shifts: Any = None) -> None:
        calls.append(len(images))
        assert results.fourier.dtype == np.complex64
        transform(self, images, results, shifts)

    monkeypatch.setattr(CompiledTransform, "__call__", counted)
    monkeypatch.setattr(
        "torch.fft.fft",
        _only(torch.complex64, torch.fft.fft),
    )
    assert_holds(convert(particles, device="cpu"), particles.images, particles.listed)
    # The first call prepares the process, with an image of its own.
    assert calls[0] == 1
    assert sum(calls[1:]) == 40
    assert len(calls) < 5


def _only(dtype: torch.dtype, function: Any) -> Any:
    def checked(tensor: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        assert tensor.dtype == dtype
        result: torch.Tensor = function(tensor, *arguments, **options)
        return result

    return checked


def test_fault_22_neighbouring_images_are_read_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 20, "b.mrcs": 20}, shuffle=True)
    reads: list[tuple[str, list[int]]] = []
    lock, read = threading.Lock(), ImageFileReader.read

    def recorded(self: ImageFileReader, indexes: Any, out: Any) -> None:
        with lock:
            reads.append((Path(self.file.path).name, np.asarray(indexes).tolist()))
        read(self, indexes, out)

    monkeypatch.setattr(ImageFileReader, "read", recorded)
    convert(particles)
    assert reads == [("a.mrcs", list(range(20))), ("b.mrcs", list(range(20)))]
