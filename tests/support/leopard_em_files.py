"""Leopard-EM's files, written by hand: tables, configurations, maps and micrographs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import yaml

from tests.support.reference import REFERENCE

LEOPARD_EM = REFERENCE / "leopard_em"

# The columns of the format page in their order: no particle_index, and psi before theta before phi.
FORMAT_PAGE_HEADER = (
    "mip,scaled_mip,correlation_mean,correlation_variance,total_correlations,pos_x,pos_y,pos_x_img,pos_y_img,"
    "pos_x_img_angstrom,pos_y_img_angstrom,psi,theta,phi,relative_defocus,defocus_u,defocus_v,astigmatism_angle,pixel_size,"
    "voltage,spherical_aberration,amplitude_contrast_ratio,phase_shift,ctf_B_factor,micrograph_path,template_path,mip_path,"
    "scaled_mip_path,psi_path,theta_path,phi_path,defocus_path,correlation_average_path,correlation_variance_path"
)

MAP_NAMES = (
    "mip",
    "scaled_mip",
    "correlation_average",
    "correlation_variance",
    "orientation_psi",
    "orientation_theta",
    "orientation_phi",
    "relative_defocus",
)


def rows_of_page(n: int = 3, *, micrograph: str = "mic.mrc", template_size: int = 24) -> list[dict[str, Any]]:
    """n particles of a table as the format page describes it, template corners at (x, y) = (10, 20), (11, 22), ..."""
    rows = []
    for k in range(n):
        x, y, half = 10 + k, 20 + 2 * k, template_size // 2
        numbers = [11.5 - k, 10.5 - k, 0.01, 1.02, 20000, x, y, x + half, y + half, (x + half) * 1.1, (y + half) * 1.1]
        numbers += [30.0 + k, 60.0 + k, 90.0 + k, 200.0 * k, 12000.0, 11700.0, 33.0, 1.1, 300.0, 2.7, 0.07, 10.0, 50.0]
        paths = [micrograph, "template.mrc", *(f"{name}.mrc" for name in "abcdefgh")]
        rows.append(dict(zip(FORMAT_PAGE_HEADER.split(","), [*numbers, *paths], strict=True)))
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV table with an unnamed index column, as a data frame writes it."""
    names = list(rows[0])
    lines = ["," + ",".join(names)]
    lines += [f"{k}," + ",".join(str(row[name]) for name in names) for k, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_mrc(path: Path, values: npt.NDArray[Any], pixel_size: float = 0.0) -> Path:
    """A two-dimensional MRC file; Leopard-EM leaves the pixel size of its maps at 0."""
    with warnings.catch_warnings(), mrcfile.new(path, overwrite=True) as mrc:
        warnings.filterwarnings("ignore", "Data array contains", RuntimeWarning)
        mrc.set_data(np.asarray(values, dtype=np.float32))
        mrc.voxel_size = pixel_size
    return path


def write_search(folder: Path, maps: dict[str, npt.NDArray[Any]], micrograph_shape: tuple[int, int], **changes: Any) -> Path:
    """Write a micrograph, its eight maps (by default zeros, and ones for the deviation), and the YAML file that names them."""
    shape = maps["scaled_mip"].shape
    fill = {"mip": maps["scaled_mip"], "correlation_variance": np.ones(shape)}
    write_mrc(folder / "micrograph.mrc", np.zeros(micrograph_shape), 1.1)
    for name in MAP_NAMES:
        write_mrc(folder / f"{name}.mrc", maps.get(name, fill.get(name, np.zeros(shape))))
    return write_config(
        folder / "match.yaml", folder / "micrograph.mrc", {name: folder / f"{name}.mrc" for name in MAP_NAMES}, **changes
    )


def write_config(path: Path, micrograph: Path | str, maps: dict[str, Any], **changes: Any) -> Path:
    """A match-template configuration; `changes` replace its top-level keys, and None removes them."""
    content: dict[str, Any] = {
        "template_volume_path": "template.mrc",
        "micrograph_path": str(micrograph),
        "match_template_result": {"allow_file_overwrite": True, **{f"{name}_path": str(file) for name, file in maps.items()}},
        "optics_group": {
            "label": "some_label",
            "pixel_size": 1.1,
            "voltage": 300.0,
            "spherical_aberration": 2.7,
            "amplitude_contrast_ratio": 0.07,
            "phase_shift": 0.0,
            "defocus_u": 12000.0,
            "defocus_v": 11700.0,
            "astigmatism_angle": 33.0,
            "ctf_B_factor": 50.0,
        },
        "computational_config": {"gpu_ids": 0, "num_cpus": 1},
    }
    content |= changes
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
    return path
