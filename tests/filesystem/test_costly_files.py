"""Small files that would take much memory or time, and files that never end, are refused immediately; the message names file and limit."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from cryosparc.dataset import CSDAT_FORMAT, Dataset

from cryolike_dask.cli.options import dask_client
from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.filesystem.limited_yaml import load_yaml
from cryolike_dask.leopard_em.maps import read_map
from cryolike_dask.leopard_em.search import MatchTemplateSearch
from cryolike_dask.leopard_em.tables import _read_header_line, check_columns, read_match_template_dataframe
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.header import read_header
from cryolike_dask.particles.cryosparc import csdat
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.particles.star.text import StarText
from cryolike_dask.runs.info import describe_output
from cryolike_dask.runs.templates import differences_from_templates, open_templates
from cryolike_dask.stacks.files import MANIFEST, read_metadata
from cryolike_dask.stacks.loading import load_tensor
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.zarr_store import store_attributes
from tests.support.clusters import conversion, make_particles
from tests.support.cs_files import particle_columns, write_cs
from tests.support.mrc_files import pack_mrc

# Waiting for a pipe would never end.
pytestmark = [pytest.mark.security, pytest.mark.timeout(120)]

Reader = Callable[[Path], object]


def scheduler_address(path: Path) -> object:
    with dask_client(None, None, str(path)) as address:
        return address


def template_list(path: Path) -> list[str]:
    """What is wrong with templates whose list is this file."""
    folder = path.parent / "templates"
    folder.mkdir()
    ImageDescriptor.from_individual_values(16, 3.0).save(folder / "params.npz")
    (folder / "template_file_list.npy").symlink_to(path)
    problems = list(differences_from_templates(open_templates(folder), path.parent))
    raise InputError(" ".join(problems))


READERS: dict[str, Reader] = {
    "params": ImageDescriptor.load,
    "star": particles_from_star,
    "cs": particles_from_cryosparc,
    "mrc": read_header,
    "map": read_map,
    "csv": read_match_template_dataframe,
    "yaml": MatchTemplateSearch.from_yaml,
    "metadata": read_metadata,
    "tensor": load_tensor,
    "scheduler": scheduler_address,
    "templates": template_list,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_pipe_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"(pipe|list\.npy) is a named pipe, not (a|an|the) \S"):
        READERS[kind](tmp_path / "pipe")


@pytest.mark.parametrize("kind", READERS)
def test_a_device_is_refused_without_reading_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"(endless|list\.npy) is a device, not (a|an|the) \S"):
        READERS[kind](tmp_path / "endless")


def test_a_pipe_in_an_output_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(CryolikeError, match=r"manifest\.json is a named pipe"):
        describe_output(tmp_path)
    (tmp_path / "particles.zarr").mkdir()
    os.mkfifo(tmp_path / "particles.zarr" / "zarr.json")
    assert store_attributes(open_object_store(str(tmp_path / "particles.zarr"))) is None
    data = make_particles(tmp_path / "particles", n_images=4)
    conversion(data, tmp_path / "out").run()
    (tmp_path / "out" / ".conversion").mkdir()
    os.mkfifo(tmp_path / "out" / ".conversion" / "lock")
    os.utime(tmp_path / "out" / ".conversion" / "lock", (0, 0))
    conversion(data, tmp_path / "out", skip_exist=True).run()


# Archives


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def write_bomb(path: Path, n_bytes: int = 1 << 29) -> Path:
    """An array of zeros that takes a thousandth of its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("n_pixels.npy", "w") as member:
        member.write(npy((n_bytes,)))
        for _ in range(n_bytes >> 20):
            member.write(bytes(1 << 20))
    return path


def peak_of(refused: Callable[[], object], match: str) -> int:
    """Bytes of memory that a refusal took."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=match):
            refused()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("read", "most"), [(ImageDescriptor.load, "16.8 MB"), (read_metadata, "268 MB")])
def test_an_archive_that_would_unpack_to_much_is_not_opened(tmp_path: Path, read: Reader, most: str) -> None:
    path = write_bomb(tmp_path / "bomb.npz")
    assert peak_of(lambda: read(path), rf"bomb\.npz would unpack to 537 MB: .* may take {most} at most") < 1 << 21


def test_an_archive_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = write_bomb(tmp_path / "bomb.npz")
    content = bytearray(path.read_bytes())
    announced = struct.pack("<I", (1 << 29) + len(npy((1 << 29,))))
    while (place := content.find(announced)) >= 0:
        content[place : place + 4] = struct.pack("<I", 1000)
    path.write_bytes(content)
    for read in (ImageDescriptor.load, read_metadata):
        assert peak_of(lambda read=read: read(path), r"bomb\.npz") < 1 << 24


@pytest.mark.parametrize("read", [ImageDescriptor.load, read_metadata])
def test_an_array_that_announces_a_huge_shape_takes_no_memory(tmp_path: Path, read: Reader) -> None:
    for shape in ((1 << 45,), (1 << 40, 1 << 40), (-3,), (0, 1 << 62)):
        with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
            archive.writestr("n_pixels.npy", npy(shape, b"123"))
        assert peak_of(lambda: read(tmp_path / "huge.npz"), r"huge\.npz .*states the shape") < 1 << 21


def test_a_list_of_templates_that_announces_a_huge_shape_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "huge.npy").write_bytes(npy((1 << 45,), b"123"))
    with pytest.raises(InputError, match=r"template_file_list\.npy is damaged \(its header states the shape"):
        template_list(tmp_path / "huge.npy")


def test_parameters_of_too_many_templates_are_refused(tmp_path: Path) -> None:
    ImageDescriptor.from_individual_values(16, 3.0, viewing_distance=1e-6).save(tmp_path / "params.npz")
    with pytest.raises(InputError, match=r"params\.npz gives a viewing_distance of 1e-06 .* below 0\.001"):
        open_templates(tmp_path / "params.npz")


def test_a_tensor_file_with_compressed_content_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(1 << 22), tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(InputError, match=r"bomb\.pt would unpack to 16\.8 MB"):
        load_tensor(tmp_path / "bomb.pt")


def test_a_tensor_that_announces_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(1 << 40), tmp_path / "huge.pt")
    with pytest.raises(InputError, match=r"huge\.pt states a tensor of shape \(1099511627776,\), which is more than it holds"):
        load_tensor(tmp_path / "huge.pt")


# cryoSPARC tables


def test_a_cryosparc_table_with_a_huge_header_is_not_parsed(tmp_path: Path) -> None:
    header = b"[" + b"1," * (1 << 22) + b"]"
    path = tmp_path / "header.cs"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header)
    assert (
        peak_of(
            lambda: particles_from_cryosparc(path),
            r"header\.cs .* header of 8,388,610 bytes, but a table may have at most 1,048,576",
        )
        < 1 << 21
    )


def test_a_compressed_cryosparc_table_that_announces_too_much_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"length": 10**12, "dtype": [["uid", "<u8"], ["blob/shape", "<u4", [2]]], "compressed_fields": []}).encode()
    path = tmp_path / "huge.cs"
    path.write_bytes(csdat.MAGIC + struct.pack("<I", len(header)) + header + bytes(100))
    with pytest.raises(InputError, match=r"huge\.cs states 1,000,000,000,000 rows of 16 bytes; .* 268 MB at most"):
        particles_from_cryosparc(path)


def test_one_long_path_in_a_compressed_cryosparc_table_does_not_widen_all(tmp_path: Path) -> None:
    n = 400
    paths = ["x" * (1 << 20), *(f"{i}.mrcs" for i in range(n - 1))]
    plain = write_cs(tmp_path / "plain.cs", particle_columns(paths[1:], list(range(n - 1))))
    table = Dataset.load(plain)
    table["blob/path"] = [*paths[:1], *paths[2:]]
    table.save(tmp_path / "wide.cs", format=CSDAT_FORMAT)
    with pytest.raises(InputError, match=r"wide\.cs is damaged: .* a column of texts takes 418 MB, but may take at most 268 MB"):
        particles_from_cryosparc(tmp_path / "wide.cs")


# Text


def test_a_star_file_of_many_columns_takes_time_in_proportion(tmp_path: Path) -> None:
    n = 60_000
    names = "".join(f"_rlnColumn{i} #{i + 1}\n" for i in range(n))
    (tmp_path / "wide.star").write_text(f"data_particles\n\nloop_\n{names}{'1 ' * n}\n")
    began = time.process_time()
    (block,) = StarText(tmp_path / "wide.star").blocks()
    # Comparing every pair of columns took 53 s; looking at each column once takes about 1 s.
    assert time.process_time() - began < 15
    assert len(block.columns) == n


def test_a_csv_table_of_many_columns_takes_time_in_proportion(tmp_path: Path) -> None:
    n = 60_000
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(n)) + "\n")
    began = time.process_time()
    assert len(_read_header_line(tmp_path / "wide.csv")) == n
    assert time.process_time() - began < 15
    with pytest.raises(InputError, match=r"wide\.csv lacks the columns .* c59 and 59,940 more"):
        check_columns(pd.DataFrame(columns=[f"c{i}" for i in range(n)]), ["mip", "pos_x"], tmp_path / "wide.csv")


def repeating_yaml(levels: int) -> str:
    """A few hundred bytes that stand for 9 to the power of `levels` texts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (repeating_yaml(12), "more than 1,048,576 characters when the parts that it repeats by name are written out"),
        (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]", "more than 1,048,576 characters"),
        (
            "a0: &a0 {b: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
            "more than 1,048,576",
        ),
        ("[" * 30_000, "more than 40 levels deep"),
        ("{a: " * 300 + "}" * 300, "more than 40 levels deep"),
        ("&a [*a]", "repeats a part of itself within that part"),
        ("x" * 300_000, "more than 262 kB"),
        ("a: 2020-99-99", "not a YAML file: month must be in 1..12"),
        ("a: " + "9" * 5000, "not a YAML file: Exceeds the limit"),
    ],
)
def test_a_configuration_that_would_cost_much_is_refused(tmp_path: Path, content: str, refusal: str) -> None:
    (tmp_path / "match.yaml").write_text(content)
    with pytest.raises(InputError, match=rf"match\.yaml .*{refusal}"):
        MatchTemplateSearch.from_yaml(tmp_path / "match.yaml")


def test_a_configuration_may_repeat_itself_in_earnest(tmp_path: Path) -> None:
    zernikes = {"Z31": 0.1, "Z33": [1.0, 2.0]}
    content = {"first": zernikes, "second": [zernikes, zernikes]}
    (tmp_path / "match.yaml").write_text(yaml.safe_dump(content))
    assert "*id001" in (tmp_path / "match.yaml").read_text()
    assert load_yaml(tmp_path / "match.yaml") == content


# Compressed images


def test_a_compressed_micrograph_that_would_unpack_to_much_is_refused(tmp_path: Path) -> None:
    header = pack_mrc(np.ones((1, 2, 2)), 2)[:1024]
    for places, refusal in (
        ({0: 65535, 4: 65535}, r"images of 65535 × 65535 pixels; compressed ones may have 268,435,456 at most"),
        ({92: 2_000_000_000}, r"an extended header of 2,000,000,000 bytes; .* 67,108,864 at most"),
    ):
        content = bytearray(header)
        for place, value in places.items():
            struct.pack_into("<i", content, place, value)
        (tmp_path / "bomb.mrc.gz").write_bytes(gzip.compress(content))
        with pytest.raises(InputError, match=rf"bomb\.mrc\.gz is compressed and states {refusal}"):
            read_header(tmp_path / "bomb.mrc.gz")
