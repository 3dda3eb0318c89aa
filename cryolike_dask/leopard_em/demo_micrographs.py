"""Makes micrographs with particles at known positions, and the statistics maps of a search for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import entry, plural
from cryolike_dask.leopard_em.maps import MAP_NAMES, MatchTemplateMaps, map_paths, write_map
from cryolike_dask.simulation.ctf import contrast_transfer
from cryolike_dask.simulation.phantom import Phantom, euler_matrices, random_orientations, random_phantom

FloatArray = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]

TEMPLATE_SIZE = 48  # pixels
VIEWS = 3
IN_PLANE_ANGLES = np.arange(0.0, 360.0, 45.0)  # degrees
RELATIVE_DEFOCUS = (-1500.0, 0.0, 1500.0)  # Å
TOTAL_PROJECTIONS = VIEWS * len(IN_PLANE_ANGLES) * len(RELATIVE_DEFOCUS)
OPTICS = {
    "voltage": 300.0,
    "spherical_aberration": 2.7,
    "amplitude_contrast_ratio": 0.07,
    "astigmatism_angle": 33.0,
    "phase_shift": 0.0,
    "ctf_B_factor": 0.0,
}
FALSE_POSITIVES = 0.001  # per micrograph, for a cutoff that noise does not reach
SCORE = 11.0  # z-score of a particle without noise: well above the cutoff, while the positions around it are well below


@dataclass(frozen=True, repr=False)
class DemoMicrographs:
    """The demonstration micrographs, and their content.

    Args:
        configs: one match YAML per micrograph, as Leopard-EM's match-template program reads it.
        micrographs: paths of the micrographs.
        truth: one row per particle, with micrograph_path, pos_x, pos_y (the template's top-left corner), phi, theta, psi and
            relative_defocus.
        template_size: edge length of the template in pixels.
        total_projections: number of orientations times number of defocus values that were searched, for the cutoff.
    """

    configs: tuple[Path, ...]
    micrographs: tuple[Path, ...]
    truth: pd.DataFrame
    template_size: int
    total_projections: int

    def __repr__(self) -> str:
        parts = {
            "truth": plural(len(self.truth), "particle"),
            "template": f"{self.template_size} × {self.template_size} pixels, {plural(self.total_projections, 'projection')}",
            "configs": "\n".join(map(str, self.configs)),
        }
        lines = [entry(name, text, 10) for name, text in parts.items()]
        return "\n".join([f"<DemoMicrographs: {plural(len(self.micrographs), 'micrograph')}>", *lines])


def write_demo_micrographs(
    folder: str | Path,
    *,
    n_micrographs: int = 2,
    n_particles: int = 12,
    shape: tuple[int, int] = (384, 512),
    pixel_size: float = 2.0,
    seed: int = 0,
) -> DemoMicrographs:
    """Write micrographs, their template, the eight maps of each search, and the YAML files of the searches.

    Projections of a random molecule from a few directions are modulated by the CTF, whitened, and added to white noise whose strength
    grows across the micrograph. The search correlates the micrograph with the same projections, so the best correlations are at the
    particles. The average of the search is that of the noise, and its deviation is the strength of the noise.

    At the default cutoff, noise makes about one false pick per micrograph. Pick with `false_positives=FALSE_POSITIVES` to find only the
    particles.

    Args:
        folder: where to write; created if it does not exist. Files in it are replaced.
        n_micrographs: number of micrographs.
        n_particles: number of particles per micrograph. The first one touches the corner, so its box reaches beyond the edge.
        shape: (rows, columns) of the micrographs in pixels.
        pixel_size: Å.
        seed: seed of the random numbers.

    Raises:
        InputError: the particles do not fit the micrograph.
        OutputError: a file cannot be written.
    """
    rng = np.random.default_rng(seed)
    root = Path(folder).expanduser().resolve()
    root.mkdir(parents=True, exist_ok=True)
    phantom = random_phantom(0.3 * TEMPLATE_SIZE * pixel_size, rng)
    views = random_orientations(VIEWS, rng)
    _write_template(root / "template.mrc", phantom, pixel_size)
    configs, micrographs, truth = [], [], []
    for number in range(n_micrographs):
        defocus_u = 8000.0 + 500.0 * number
        search, templates = _search(phantom, views, defocus_u, pixel_size)
        corners = _corners(n_particles, shape, rng)
        best = rng.integers(0, len(search), n_particles)
        deviation = _noise_strength(shape)
        noise = (rng.standard_normal(shape) * deviation).astype(np.float32)
        signal = np.zeros(shape, dtype=np.float32)
        h = TEMPLATE_SIZE
        for (row, column), k in zip(corners, best, strict=True):
            signal[row : row + h, column : column + h] += SCORE * deviation[row + h // 2, column + h // 2] * templates[k]
        micrograph = root / f"micrograph_{number}.mrc"
        write_map(micrograph, noise + signal, pixel_size)
        paths = map_paths(root / f"match_{number}")
        _match(noise, signal, search, templates).write(paths, pixel_size)
        config = root / f"match_{number}.yaml"
        config.write_text(_config(micrograph, root / "template.mrc", paths, pixel_size, defocus_u), encoding="utf-8")
        configs.append(config)
        micrographs.append(micrograph)
        truth.append(
            pd.DataFrame({"micrograph_path": str(micrograph), "pos_x": corners[:, 1], "pos_y": corners[:, 0]}).join(
                pd.DataFrame(search[best], columns=["phi", "theta", "psi", "relative_defocus"])
            )
        )
    return DemoMicrographs(
        tuple(configs), tuple(micrographs), pd.concat(truth, ignore_index=True), TEMPLATE_SIZE, TOTAL_PROJECTIONS
    )


def _search(phantom: Phantom, views: FloatArray, defocus_u: float, pixel_size: float) -> tuple[FloatArray, Images]:
    """The (n, 4) searched values of phi, theta, psi in degrees and relative defocus, and their (n, h, h) templates of unit norm."""
    angles = np.array([(phi, theta, psi) for phi, theta, _ in views % 360.0 for psi in IN_PLANE_ANGLES])
    projections = phantom.project(euler_matrices(angles), TEMPLATE_SIZE, pixel_size)
    spectra = np.fft.rfft2(projections)
    search, templates = [], []
    for relative in RELATIVE_DEFOCUS:
        ctf = contrast_transfer(
            TEMPLATE_SIZE,
            pixel_size,
            np.array([defocus_u + relative]),
            np.array([defocus_u - 300.0 + relative]),
            np.radians([OPTICS["astigmatism_angle"]]),
            voltage=OPTICS["voltage"],
            spherical_aberration=OPTICS["spherical_aberration"],
            amplitude_contrast=OPTICS["amplitude_contrast_ratio"],
        )
        # Protein is dark in micrographs.
        images = -np.fft.irfft2(_whitened(spectra * ctf), s=projections.shape[1:])
        images -= images.mean(axis=(1, 2), keepdims=True)
        images /= np.linalg.norm(images, axis=(1, 2), keepdims=True)
        templates.append(images.astype(np.float32))
        search.append(np.column_stack([angles, np.full(len(angles), relative)]))
    return np.concatenate(search), np.concatenate(templates)


def _whitened(spectra: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.complexfloating]:
    """Half spectra with equal mean power at every spatial frequency, so that correlations are sharp peaks."""
    h = TEMPLATE_SIZE
    shell = np.rint(h * np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(h)[None, :])).astype(np.intp).ravel()
    power = np.zeros((len(spectra), shell.max() + 1))
    for k, spectrum in enumerate(spectra):
        power[k] = np.bincount(shell, np.abs(spectrum.ravel()) ** 2) / np.bincount(shell)
    return spectra / np.sqrt(power)[:, shell].reshape(spectra.shape)


def _match(noise: Images, signal: Images, search: FloatArray, templates: Images) -> MatchTemplateMaps:
    """The 'valid' maps of a search of the micrograph noise + signal."""
    h = templates.shape[1]
    shape = (noise.shape[0] - h + 1, noise.shape[1] - h + 1)
    mip = np.full(shape, -np.inf, dtype=np.float32)
    best = np.zeros(shape, dtype=np.intp)
    for k, correlation in enumerate(_correlations(noise + signal, templates)):
        better = correlation > mip
        mip[better] = correlation[better]
        best[better] = k
    (average,) = _correlations(noise, templates.mean(axis=0, keepdims=True))
    deviation = _noise_strength(noise.shape)[h // 2 :, h // 2 :][: shape[0], : shape[1]].astype(np.float32)
    phi, theta, psi, relative_defocus = (search[:, axis].astype(np.float32)[best] for axis in range(4))
    return MatchTemplateMaps(
        mip=mip,
        scaled_mip=(mip - average) / deviation,
        correlation_average=average,
        correlation_variance=deviation,
        orientation_psi=psi,
        orientation_theta=theta,
        orientation_phi=phi,
        relative_defocus=relative_defocus,
    )


def _correlations(image: Images, templates: Images) -> Iterator[Images]:
    """The 'valid' cross-correlation of the image with each template."""
    h = templates.shape[1]
    spectrum = np.fft.rfft2(image)
    for template in templates:
        correlation = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(template, s=image.shape)), s=image.shape)
        yield correlation[: image.shape[0] - h + 1, : image.shape[1] - h + 1].astype(np.float32)


def _noise_strength(shape: tuple[int, ...]) -> FloatArray:
    """Standard deviation of the noise at each pixel, as if the ice were thicker on the right."""
    return np.broadcast_to(np.linspace(0.9, 1.2, shape[1]), shape)


def _corners(n: int, shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(n, 2) row and column of templates that do not overlap, the first one at the top-left corner of the micrograph."""
    h = TEMPLATE_SIZE
    if min(shape) < h:
        raise InputError(f"A micrograph of {shape[0]} × {shape[1]} pixels is smaller than the template of {h}.")
    corners = [(0, 0)]
    for _ in range(1000 * n):
        if len(corners) >= n:
            return np.array(corners[:n], dtype=np.int64).reshape(-1, 2)
        row, column = (int(rng.integers(0, edge - h + 1)) for edge in shape)
        if all(max(abs(row - r), abs(column - c)) >= h for r, c in corners):
            corners.append((row, column))
    raise InputError(f"{n} particles of {h} pixels do not fit a micrograph of {shape[0]} × {shape[1]}. Ask for fewer.")


def _write_template(path: Path, phantom: Phantom, pixel_size: float) -> None:
    """Write the molecule as a volume, indexed z, y, x."""
    position = (np.arange(TEMPLATE_SIZE) - TEMPLATE_SIZE // 2) * pixel_size
    profiles = np.exp(-0.5 * ((position - phantom.centres[..., None]) / phantom.widths[:, None, None]) ** 2)  # (k, 3, h)
    heights = phantom.weights / (np.sqrt(2 * np.pi) * phantom.widths) ** 3
    volume = np.einsum("k,kz,ky,kx->zyx", heights, profiles[:, 2], profiles[:, 1], profiles[:, 0], optimize=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume.astype(np.float32))
        mrc.voxel_size = pixel_size


def _config(micrograph: Path, template: Path, paths: dict[str, str], pixel_size: float, defocus_u: float) -> str:
    content = {
        "template_volume_path": str(template),
        "micrograph_path": str(micrograph),
        "match_template_result": {"allow_file_overwrite": True, **{f"{name}_path": paths[name] for name in MAP_NAMES}},
        "optics_group": {
            "label": micrograph.stem,
            "pixel_size": pixel_size,
            "defocus_u": defocus_u,
            "defocus_v": defocus_u - 300.0,
            **OPTICS,
        },
    }
    return yaml.safe_dump(content, sort_keys=False)
