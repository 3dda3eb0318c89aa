"""Box and pixel size from the table, or else from the image headers, for every input and with downsampling."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import (
    Conversion,
    ImageDescriptor,
    InputError,
    ParticleStackConverter,
    convert_particle_stacks_from_indexed_star_file,
    particles_from_cryosparc,
    particles_from_leopard_em,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
    preview_particles,
)
from tests.support.cs_files import particle_columns, write_batches, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows
from tests.support.particle_sets import (
    BOX,
    NO_PLOTS,
    PIXEL_SIZE,
    ParticleSet,
    assert_holds,
    in_sequence,
    optics_table,
    params,
    write_images,
    write_particle_set,
    write_star,
)


def with_sizes(folder: Path, sizes: list[str], boxes: list[str] | None = None, **options: Any) -> ParticleSet:
    """Six particles. With two sizes, a third of them are in another optics group."""
    optics = optics_table(len(sizes), rlnImagePixelSize=sizes, rlnImageSize=boxes or [str(BOX)] * len(sizes))
    groups = [1, 1, 1, 1, 2, 2] if len(sizes) > 1 else [1] * 6
    return write_particle_set(folder, {"a.mrcs": 6}, optics=optics, groups=groups, **options)


def test_from_the_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    particles = with_sizes(tmp_path, ["1.06"])
    table = particles_from_star(particles.star, particles.mrc)
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        descriptor = Conversion(table, None).plan.descriptor
    assert descriptor == ImageDescriptor.from_individual_values(BOX, 1.06)
    assert caplog.messages == [f"Box {BOX} pixels and pixel size 1.06 Å from particles.star."]
    assert ImageDescriptor.from_particles(table) == descriptor
    # Works without images if the table has all values.
    (particles.mrc / "a.mrcs").unlink()
    fine = ImageDescriptor.from_particles(table, precision="double", resolution_factor=0.5, n_inplanes=30)
    assert fine == ImageDescriptor.from_individual_values(BOX, 1.06, "double", resolution_factor=0.5, n_inplanes=30)


def test_from_the_headers_where_the_table_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, pixel_size=1.06, optics=optics_table(rlnImagePixelSize=["2.0"]))
    star = particles.star.read_text()
    columns = [line for line in star.splitlines() if not line.startswith("_rlnImagePixelSize")]
    particles.star.write_text("\n".join(line.removesuffix(" 2.0") for line in columns) + "\n")
    table = particles_from_star(particles.star, particles.mrc)
    assert np.isnan(table["pixel_size"]).all()
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        assert ImageDescriptor.from_particles(table).pixel_size == (1.06, 1.06)
        assert Conversion(table, None).plan.descriptor.pixel_size == (1.06, 1.06)
    assert caplog.messages[0] == f"Box {BOX} pixels and pixel size 1.06 Å from the image headers."
    write_images(particles.mrc, {"a.mrcs": 3})
    table = particles_from_star(particles.star, particles.mrc)
    for make in (ImageDescriptor.from_particles, lambda table: Conversion(table, None)):
        with pytest.raises(
            InputError, match=r"Neither the table nor the image headers state a pixel size\. Give it \(--pixel-size\)"
        ):
            make(table)
    given = Conversion(table, None, pixel_size=1.5).plan.descriptor
    assert given == ImageDescriptor.from_individual_values(BOX, 1.5)
    (particles.mrc / "a.mrcs").unlink()
    with pytest.raises(InputError, match=r"a\.mrcs"):
        ImageDescriptor.from_particles(table)


def test_stacks_are_those_of_the_same_parameters_given(tmp_path: Path) -> None:
    particles = with_sizes(tmp_path, [str(PIXEL_SIZE)])
    for number, descriptor in enumerate((None, params())):
        out = tmp_path / f"out{number}"
        convert_particle_stacks_from_indexed_star_file(descriptor, particles.star, particles.mrc, folder_output=out, **NO_PLOTS)
        assert_holds(read_stacks(out), particles.images, particles.listed)
    first, second = (tmp_path / f"out{number}" / "fft" / "particles_fourier_stack_000000.pt" for number in (0, 1))
    assert first.read_bytes() == second.read_bytes()
    assert ImageDescriptor.load(tmp_path / "out0" / "params.npz") == params()
    again = convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=tmp_path / "out0", skip_exist=True, **NO_PLOTS
    )
    assert again.n_kept == 1
    converter = ParticleStackConverter(None, tmp_path / "out2", **NO_PLOTS)
    converter.prepare_indexed_file(particles.star, "starfile", particles.mrc)
    converter.convert_stacks()
    assert_holds(read_stacks(tmp_path / "out2"), particles.images, particles.listed)


@pytest.mark.parametrize(
    ("options", "box", "pixel_size"),
    [
        ({"downsample_factor": 2}, 6, 2.12),
        ({"downsample_factor": 5}, 2, 5.3),
        ({"downsample_factor": 2, "downsample_type": "fourier"}, 6, 2.12),
        ({"downsample_to": 8, "downsample_type": "fourier"}, 8, 1.06 * 12 / 8),
    ],
)
def test_of_the_downsampled_images(
    options: dict[str, Any], box: int, pixel_size: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    particles = with_sizes(tmp_path, ["1.06"])
    table = particles_from_star(particles.star, particles.mrc)
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        descriptor = Conversion(table, None, **options).plan.descriptor
    assert descriptor.n_pixels == (box, box)
    assert descriptor.pixel_size[0] == pytest.approx(pixel_size, rel=1e-12)
    assert descriptor.radius_max == box / 4
    assert descriptor == ImageDescriptor.from_particles(table, **options)
    origin = "from particles.star (those on disk have 12 pixels and 1.06 Å)"
    assert caplog.messages[0] == f"Box {box} pixels and pixel size {pixel_size:g} Å {origin}."


def test_several_kinds_of_images_are_named_with_a_way_out(tmp_path: Path) -> None:
    particles = with_sizes(tmp_path, ["1.06", "1.31"])
    table = particles_from_star(particles.star, particles.mrc)
    advice = """where="optics_group == 'group1'" (--where)"""
    for make in (
        ImageDescriptor.from_particles,
        lambda table: Conversion(table, None),
        lambda table: Conversion(table, None, mixed_optics="split"),
        lambda table: preview_particles(table, None, n_images=1),
    ):
        with pytest.raises(InputError, match=re.escape(advice)) as caught:
            make(table)
        assert "12 pixels of 1.06 Å in group1 (4 particles), 12 pixels of 1.31 Å in group2 (2 particles)" in str(caught.value)
    one = Conversion(table, None, where="optics_group == 'group1'")
    assert one.plan.descriptor == ImageDescriptor.from_individual_values(BOX, 1.06)
    assert one.plan.n_images == 4
    # Sizes that differ only by rounding are one size.
    rounded = with_sizes(tmp_path / "rounded", ["1.06", "1.06003"])
    assert Conversion(particles_from_star(rounded.star, rounded.mrc), None).plan.descriptor.pixel_size == (1.06, 1.06)


@pytest.mark.parametrize("sizes", [[1.05, 1.06], [1.06, 1.07, 1.08], [1.06, 1.060_05, 1.060_15]])
def test_the_recommended_condition_chooses_one_size(sizes: list[float], tmp_path: Path) -> None:
    """In one optics group, with the pixel sizes in single precision."""
    columns = particle_columns(["a.mrc"] * 12, list(range(12)))
    columns["blob/psize_A"] = np.array(sizes * (12 // len(sizes)), np.float32)
    write_batches(tmp_path, {"a.mrc": 12})
    table = particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns), tmp_path)
    with pytest.raises(InputError) as caught:
        Conversion(table, None)
    condition = re.search(r"where=\"(pixel_size < .*?)\"", str(caught.value))
    assert condition
    smallest = [size for size in sizes if size <= sizes[0] * 1.0001]
    assert Conversion(table, None, where=condition[1]).plan.n_images == 12 // len(sizes) * len(smallest)


def test_several_boxes_are_named_too(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 2}) | write_images(tmp_path, {"b.mrcs": 3}, box=16)
    listed = in_sequence({name: len(values) for name, values in images.items()})
    table = particles_from_star(write_star(tmp_path / "p.star", listed), tmp_path)
    with pytest.raises(InputError, match=r"12 pixels of 2 Å in group1 \(2 particles\), 16 pixels of 2 Å in group1 \(3 particles\)"):
        Conversion(table, None)
    assert Conversion(table, None, ind=[0, 1]).plan.descriptor.n_pixels == (12, 12)


def test_cryosparc_states_single_precision(tmp_path: Path) -> None:
    columns = particle_columns(["a.mrc"] * 4, list(range(4)))
    columns["blob/psize_A"] = np.full(4, 1.06, np.float32)
    write_batches(tmp_path, {"a.mrc": 4})
    table = particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns), tmp_path)
    assert table["pixel_size"][0] != 1.06
    # As a user would type it, so that templates of the same number fit exactly.
    assert Conversion(table, None).plan.descriptor == ImageDescriptor.from_individual_values(8, 1.06)


def test_boxes_of_micrographs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_mrc(tmp_path / "mic.mrc", np.zeros((80, 90), np.float32))
    table = particles_from_leopard_em(write_rows(tmp_path / "t.csv", rows_of_page()), 16, folder_micrographs=tmp_path)
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        assert Conversion(table, None).plan.descriptor == ImageDescriptor.from_individual_values(16, 1.1)
    assert caplog.messages[0] == "Box 16 pixels from --box-size and pixel size 1.1 Å from t.csv."


def test_pairs_have_their_headers_pixel_size(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.mrcs": 3}, pixel_size=1.7)
    star = write_star(tmp_path / "a.star", in_sequence({"a.mrcs": 3}))
    table = particles_from_paired_star_and_mrc_files([tmp_path / "a.mrcs"], [star])
    assert Conversion(table, None).plan.descriptor == ImageDescriptor.from_individual_values(BOX, 1.7)


@pytest.mark.parametrize(("axes", "box"), [("cryolike", (10, 12)), ("relion", (12, 10))])
def test_images_that_are_not_square(axes: Any, box: tuple[int, int], tmp_path: Path) -> None:
    write_images(tmp_path, {"a.mrcs": 3}, box=(10, 12))
    table = particles_from_star(write_star(tmp_path / "p.star", in_sequence({"a.mrcs": 3})), tmp_path)
    assert Conversion(table, None, axes=axes).plan.descriptor.n_pixels == box
    assert ImageDescriptor.from_particles(table, axes=axes).n_pixels == box


@pytest.mark.parametrize(
    ("options", "pixel_size"),
    [
        ({"pixel_size": 2.0}, None),
        ({"pixel_size": 2.0, "ignore_manual_pixel_size": True}, 1.06),
        ({"pixel_size": 2.0, "override_pixel_size": True}, 2.0),
        ({"pixel_size": 1.06}, 1.06),
    ],
)
def test_the_argument_counts_as_it_does_with_parameters(options: dict[str, Any], pixel_size: float | None, tmp_path: Path) -> None:
    particles = with_sizes(tmp_path, ["1.06"])
    table = particles_from_star(particles.star, particles.mrc)
    if pixel_size is None:
        with pytest.raises(InputError, match=r"2 Å given as an argument conflicts with 1\.06 Å"):
            Conversion(table, None, **options)
    else:
        assert Conversion(table, None, **options).plan.descriptor == ImageDescriptor.from_individual_values(BOX, pixel_size)


def test_a_preview_needs_no_parameters_either(tmp_path: Path) -> None:
    particles = with_sizes(tmp_path, ["1.06"])
    preview = preview_particles(particles_from_star(particles.star, particles.mrc), None, n_images=2)
    assert preview.descriptor == ImageDescriptor.from_individual_values(BOX, 1.06)


def test_no_particles_have_no_grid() -> None:
    with pytest.raises(InputError, match="no particles"):
        ImageDescriptor.from_particles(particles_from_star_of_nothing())


def particles_from_star_of_nothing() -> Any:
    from cryolike_dask.particles.table import ParticleTable, Source, new_rows

    return ParticleTable(new_rows(0), (), (Source("star", "p.star"),))
