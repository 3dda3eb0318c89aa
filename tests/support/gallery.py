"""Runs the examples of the gallery as they are printed, with particles of every kind that they name."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import pandas as pd
import starfile
from click.testing import CliRunner
from dask_jobqueue import SLURMCluster
from distributed import LocalCluster

from cryolike_dask import ImageDescriptor
from cryolike_dask.cli.main import main
from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.grids.viewing_sphere import viewing_directions
from cryolike_dask.leopard_em import write_demo_micrographs
from cryolike_dask.simulation.ctf import contrast_transfer
from cryolike_dask.simulation.phantom import euler_matrices, random_phantom
from tests.support import cs_files
from tests.support.cryolike_results import result_file, save
from tests.support.pages import BLOCK, commands
from tests.support.s3 import s3_bucket

GALLERY = Path(__file__).resolve().parents[2] / "docs" / "gallery"
PAGES = sorted(path for path in GALLERY.glob("*.md") if path.name != "index.md")
BOX, PIXEL_SIZE, BATCH = 64, 2.0, 100
STRUCTURES = (1, 2)  # the seeds of two molecules
NOISE = 4.0  # added to particles of two structures, which would otherwise be too easy to distinguish

Floats = npt.NDArray[np.float64]


PICTURES = {
    "relion": "preview.png",
    "cryosparc": "mean.png",
    "cryosparc-job": "power.png",
    "leopard-em": "picks.png",
    "selection": "chosen.png",
    "object-store": "far.png",
    "slurm": "workers.png",
    "results": "posterior.png",
    "stream": "rings.png",
}
"""The picture that the commands of each page make; the page shows a copy with its own name."""


def write_inputs(folder: Path) -> Path:
    """Write everything that the examples name into this folder."""
    data = write_demo_particles(folder, n_images=240, box=BOX, pixel_size=PIXEL_SIZE, n_files=3, progress=False)
    _write_cryosparc(folder, starfile.read(data.star_file)["particles"])
    write_demo_micrographs(folder / "leopard-em", n_micrographs=1)
    _write_two_structures(folder / "two-structures")
    return folder


def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """Run the commands and the Python code of a page in this folder, in order.

    Returns:
        The names that the Python code of the page defines.

    Raises:
        RuntimeError: a command ended with an error.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder), s3_bucket("particles") if page.stem == "object-store" else contextlib.nullcontext():
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language == "python":
                exec(compile(text, page.name, "exec"), names)
                _on_this_machine(names)
                continue
            for line in commands(text):
                program, *words = shlex.split(line)
                arguments = [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
                result = CliRunner().invoke(main, arguments)
                if program != "cryolike-dask" or result.exit_code != 0:
                    raise RuntimeError(f"{page.name}: {line}\n{result.output}")
    return names


def _on_this_machine(names: dict[str, Any]) -> None:
    """Replace workers that a batch system would start by threads of this process."""
    cluster = names.get("cluster")
    if isinstance(cluster, SLURMCluster):
        cluster.close()
        names["cluster"] = LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")


def _write_cryosparc(folder: Path, table: pd.DataFrame) -> None:
    """Write the same particles dark on bright, as cryoSPARC extracts them: a table, and a job directory in the order of its files."""
    number, name = table["rlnImageName"].str.split("@", expand=True).to_numpy().T
    table = table.assign(index=number.astype(int) - 1, file=[Path(path).name for path in name])
    for kind in ("J12/extract", "P3/J42/restack"):
        (folder / kind).mkdir(parents=True)
    for count, file in enumerate(sorted(set(table["file"]))):
        with mrcfile.open(folder / "mrc" / file) as mrc:
            images = -mrc.data
        for path in (f"J12/extract/{file}", f"P3/J42/restack/batch_{count:06d}_restacked.mrc"):
            with mrcfile.new(folder / path) as mrc:
                mrc.set_data(images)
                mrc.voxel_size = PIXEL_SIZE
    paths = [f">J12/extract/{file}" for file in table["file"]]
    blobs = cs_files.blob_columns(paths, table["index"].tolist(), box=BOX)
    blobs["blob/psize_A"][:] = PIXEL_SIZE
    cs_files.write_cs(folder / "particles.cs", {"uid": cs_files.uids(len(table))} | blobs | _ctf(table))
    in_files = table.sort_values(["file", "index"])
    passthrough = {"uid": cs_files.uids(len(table))} | _ctf(in_files)
    cs_files.write_cs(folder / "P3" / "J42" / "J42_passthrough_particles.cs", passthrough)


def _ctf(table: pd.DataFrame) -> cs_files.Columns:
    """CTF columns of cryoSPARC with the values of a STAR file."""
    columns = cs_files.ctf_columns(len(table))
    columns["ctf/df1_A"], columns["ctf/df2_A"] = (table[f"rlnDefocus{axis}"].to_numpy(np.float32) for axis in "UV")
    columns["ctf/df_angle_rad"] = np.radians(table["rlnDefocusAngle"]).to_numpy(np.float32)
    columns["ctf/phase_shift_rad"][:] = 0
    return columns


def _write_two_structures(folder: Path) -> None:
    """Write noisy particles of two molecules in one table, and the likelihoods and poses of both in the layout of CryoLike."""
    tables, images = [], []
    for seed in STRUCTURES:
        part = folder / f"molecule-{seed}"
        data = write_demo_particles(part, n_images=120, box=BOX, pixel_size=PIXEL_SIZE, n_files=1, seed=seed, progress=False)
        (file,) = data.folder_mrc.iterdir()
        with mrcfile.open(file, mode="r+") as mrc:
            mrc.data[:] += NOISE * np.random.default_rng(seed).normal(size=mrc.data.shape)
            images.append(mrc.data.copy())
        tables.append(starfile.read(data.star_file))
        tables[-1]["particles"]["rlnImageName"] = [
            name.replace("mrc/", f"two-structures/molecule-{seed}/mrc/") for name in tables[-1]["particles"]["rlnImageName"]
        ]
    order = np.random.default_rng(0).permutation(240)
    table = pd.concat([part["particles"] for part in tables]).iloc[order].reset_index(drop=True)
    starfile.write({"optics": tables[0]["optics"], "particles": table}, folder / "particles.star")
    # In the order of the table, because the rows of each part are shuffled, too.
    index = np.array([int(name.split("@")[0]) - 1 for name in table["rlnImageName"]])
    stacked = np.stack([images[which][number] for which, number in zip(order // 120, index, strict=True)])
    _write_likelihoods(folder / "likelihood", stacked.astype(np.float64), table)


def _write_likelihoods(folder: Path, images: Floats, table: pd.DataFrame) -> None:
    """Write likelihoods of a search over CryoLike's viewing directions with known noise, and the direction nearest to the true one."""
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    descriptor = ImageDescriptor.from_individual_values(n_pixels=BOX, pixel_size=PIXEL_SIZE)
    assert descriptor.viewing_distance is not None
    directions = viewing_directions(descriptor.viewing_distance)
    nearest = (_unit(np.radians(angles[:, :2])) @ _unit(directions).T).argmax(axis=1)
    inplane = np.round(angles[:, 2] / 360 * descriptor.n_inplanes) / descriptor.n_inplanes * 2 * np.pi
    pose = np.degrees(np.column_stack([directions[nearest], inplane]))
    ctf = contrast_transfer(
        BOX,
        PIXEL_SIZE,
        table["rlnDefocusU"].to_numpy(),
        table["rlnDefocusV"].to_numpy(),
        np.radians(table["rlnDefocusAngle"].to_numpy()),
        voltage=300,
        spherical_aberration=2.7,
        amplitude_contrast=0.1,
    )
    zero = np.zeros(len(images))
    for structure, seed in enumerate(STRUCTURES):
        phantom = random_phantom(0.42 * BOX * PIXEL_SIZE, np.random.default_rng(seed))
        projections = phantom.project(euler_matrices(pose), BOX, PIXEL_SIZE)
        templates = np.fft.irfft2(np.fft.rfft2(projections) * ctf, s=(BOX, BOX))
        matched = (images * templates).sum(axis=(1, 2)) ** 2 / (templates**2).sum(axis=(1, 2))
        found = {
            "optimal_fourier": matched / (2 * (1 + NOISE**2)),
            "template": nearest.astype(np.float64),
            "displacement_x": zero,
            "displacement_y": zero,
            "inplane_rotation": inplane,
        }
        for quantity, values in found.items():
            for counter, first in enumerate(range(0, len(images), BATCH)):
                part = values[first : first + BATCH]
                save(result_file(folder, structure, quantity, counter), part, whole=quantity == "template")


def _unit(directions: Floats) -> Floats:
    """(n, 3) unit vectors of (n, 2) azimuths and polar angles in radians."""
    azimuth, polar = directions.T
    return np.column_stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
