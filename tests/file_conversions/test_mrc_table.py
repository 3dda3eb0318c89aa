"""Every form of MRC file converts to the same stack as the simplest float32 file with the same images."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask import convert_particle_stacks_from_indexed_star_file
from tests.support.independent_reader import read_stacks
from tests.support.mrc_files import Variant, example_images, mrc_variants, pack_mrc
from tests.support.particle_sets import NO_PLOTS, Listed, assert_holds, optics_table, params, write_star

BOX = 8


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[Variant]:
    return list(mrc_variants(tmp_path_factory.mktemp("variants"), (BOX, BOX)))


def convert(folder: Path, listed: Listed, out: Path, batch_size: int = 10_000) -> None:
    star = write_star(out.with_suffix(".star"), listed, optics=optics_table(rlnImagePixelSize=["1.5"]))
    convert_particle_stacks_from_indexed_star_file(
        params(BOX, 1.5), star, folder, folder_output=out, batch_size=batch_size, **NO_PLOTS
    )


def test_every_variant_gives_the_stack_of_its_twin(variants: list[Variant], tmp_path: Path) -> None:
    assert len(variants) == 5 * 2 * 3 * 3 * 3 * 2
    # Images in reverse order, so that the order in the file would be wrong.
    listed = [(v.path.name, i) for v in variants for i in reversed(range(len(v.images)))]
    twins = [(v.twin.name, i) for v in variants for i in reversed(range(len(v.images)))]
    folder = variants[0].path.parent
    convert(folder, listed, tmp_path / "variants")
    convert(folder, twins, tmp_path / "twins")
    for kind in ("fft/particles_fourier", "phys/particles_phys"):
        name = f"{kind}_stack_000000.pt"
        assert (tmp_path / "variants" / name).read_bytes() == (tmp_path / "twins" / name).read_bytes()
    # The float32 file of each mode is converted correctly.
    modes = {(v.mode, len(v.images)): v for v in variants}.values()
    few = [(v.twin.name, i) for v in modes for i in range(len(v.images))]
    convert(folder, few, tmp_path / "few")
    assert_holds(read_stacks(tmp_path / "few"), {v.twin.name: v.images for v in modes}, few)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress], ids=["gz", "bz2"])
def test_compressed_files_give_the_stack_of_the_plain_one(tmp_path: Path, compress: object) -> None:
    images = example_images(1, (9, BOX, BOX))
    plain = pack_mrc(images, 1, ">", extended=b"\1" * 160)
    (tmp_path / "plain.mrcs").write_bytes(plain)
    (tmp_path / "packed.mrcs").write_bytes(compress(plain))  # type: ignore[operator]
    order = [8, 0, 3, 3, 7, 1, 2]
    for name in ("plain", "packed"):
        convert(tmp_path, [(f"{name}.mrcs", i) for i in order], tmp_path / name, batch_size=3)
    ours, theirs = read_stacks(tmp_path / "packed"), read_stacks(tmp_path / "plain")
    assert_holds(ours, {"packed.mrcs": images}, [("packed.mrcs", i) for i in order])
    for stack, twin in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(stack.fourier, twin.fourier)
