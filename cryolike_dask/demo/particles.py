"""Makes a small, realistic particle set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import CryolikeError, InputError, OutputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.progress import Progress, ProgressOption
from cryolike_dask.progress_bars import showing
from cryolike_dask.simulation.ctf import contrast_transfer, filtered_power
from cryolike_dask.simulation.phantom import Phantom, euler_matrices, random_orientations, random_phantom

VOLTAGE = 300.0  # kV
SPHERICAL_ABERRATION = 2.7  # mm
AMPLITUDE_CONTRAST = 0.1
DEFOCUS = (8_000.0, 18_000.0)  # Å, of a micrograph
SIGNAL_TO_NOISE = (0.05, 0.1)  # variance of the signal at a typical defocus divided by that of the noise, over the whole image
MICROGRAPHS_PER_FILE = 8
IMAGES_AT_ONCE = 64  # only limits the memory of the simulation

_Images: TypeAlias = npt.NDArray[np.float32]
_Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DemoData:
    """Where the demonstration particles are.

    Args:
        star_file: RELION 3.1 STAR file with an optics table.
        folder_mrc: folder of the MRC stacks.
        params_file: image descriptor that fits them.
    """

    star_file: Path
    folder_mrc: Path
    params_file: Path


def write_demo_particles(
    folder: str | Path,
    n_images: int = 600,
    box: int = 64,
    pixel_size: float = 2.0,
    n_files: int = 3,
    seed: int = 20260,
    *,
    progress: ProgressOption = None,
) -> DemoData:
    """Write projections of a random blob phantom at random orientations, with CTF and noise, as RELION would extract them.

    The images are in several MRC stacks of different length, and the STAR file lists them in shuffled order. The same arguments
    give the same bytes of image data and the same table.

    Args:
        folder: where to write; created if it does not exist.
        n_images: total number of images.
        box: edge of the images in pixels.
        pixel_size: Å.
        n_files: number of MRC stacks.
        seed: seed of all random numbers.
        progress: as for `Conversion.run`.

    Raises:
        InputError: a number is out of range.
        OutputError: the folder cannot be written.
    """
    if n_files < 1 or n_images < n_files:
        raise InputError(f"{n_images} images cannot fill {n_files} files: give at least one image per file, and at least one file.")
    descriptor = ImageDescriptor.from_individual_values(n_pixels=box, pixel_size=pixel_size)
    root = Path(folder).expanduser()
    data = DemoData(star_file=root / "particles.star", folder_mrc=root / "mrc", params_file=root / "params.npz")
    rng = np.random.default_rng(seed)
    phantom, particles = random_phantom(0.42 * box * pixel_size, rng), _random_particles(n_images, n_files, rng)
    with _errors_that_name(root):
        data.folder_mrc.mkdir(parents=True, exist_ok=True)
        stacks = [data.folder_mrc / _stack_name(number) for number in range(n_files)]
        for stack in stacks:
            stack.unlink(missing_ok=True)  # images of an earlier table
        # Before the images, so that the table of an interrupted demo lists no images of an earlier one.
        _write_star(data.star_file, particles[rng.permutation(n_images)], box, pixel_size)
        descriptor.save(data.params_file, overwrite=True)
        with showing(progress) as shown:
            for number, stack in enumerate(stacks):
                members, before = particles[particles["file"] == number], int((particles["file"] < number).sum())
                images = _simulate(members, phantom, box, pixel_size, np.random.default_rng((seed, number)))
                _write_stack(stack, pixel_size, _with_progress(images, before, n_images, shown))
    return data


@contextmanager
def _errors_that_name(folder: Path) -> Iterator[None]:
    """Errors of the system become OutputErrors."""
    try:
        yield
    except OSError as error:
        if isinstance(error, CryolikeError):
            raise
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}. Make room, or choose another folder.") from error


def _with_progress(images: Iterator[_Images], done: int, total: int, progress: Progress) -> Iterator[_Images]:
    """The same images; each chunk is announced to `progress` before it is made."""
    progress.step("Simulating images", done, total)
    for chunk in images:
        yield chunk
        done += len(chunk)
        progress.step("Simulating images", done, total)


_PARTICLE = np.dtype(
    [
        ("file", np.int64),
        ("index", np.int64),  # within the file, counted from 1
        ("micrograph", np.int64),  # counted over all files
        ("defocus_u", np.float64),  # Å
        ("defocus_v", np.float64),  # Å
        ("defocus_angle", np.float64),  # degrees
        ("orientation", np.float64, 3),  # rot, tilt, psi in degrees
        ("signal_to_noise", np.float64),
    ]
)


def _random_particles(n: int, n_files: int, rng: np.random.Generator) -> npt.NDArray[np.void]:
    """(n,) particles in file order. Those of a micrograph have the same defocus, except for a spread from tilt and thickness of the ice."""
    sizes = 1 + rng.multinomial(n - n_files, rng.dirichlet(np.full(n_files, 8.0)))
    particles = np.zeros(n, dtype=_PARTICLE)
    particles["file"] = np.repeat(np.arange(n_files), sizes)
    particles["index"] = np.concatenate([np.arange(1, size + 1) for size in sizes])
    within = (particles["index"] - 1) * MICROGRAPHS_PER_FILE // sizes[particles["file"]]
    particles["micrograph"] = micrograph = particles["file"] * MICROGRAPHS_PER_FILE + within
    n_micrographs = n_files * MICROGRAPHS_PER_FILE
    mean = rng.uniform(*DEFOCUS, n_micrographs)[micrograph] + rng.normal(0, 150, n)
    astigmatism = rng.uniform(40, 180, n_micrographs)[micrograph]
    particles["defocus_u"] = np.round(mean + astigmatism / 2, 2)
    particles["defocus_v"] = np.round(mean - astigmatism / 2, 2)
    particles["defocus_angle"] = np.round(rng.uniform(0, 180, n_micrographs)[micrograph], 2)
    particles["orientation"] = np.round(random_orientations(n, rng), 4)
    particles["signal_to_noise"] = rng.uniform(*SIGNAL_TO_NOISE, n)
    return particles


def _simulate(
    particles: npt.NDArray[np.void], phantom: Phantom, box: int, pixel_size: float, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.float32]]:
    """Chunks of (m, box, box) images, with m at most IMAGES_AT_ONCE."""
    # Defocus spreads the signal beyond the particle; in a box twice as wide it does not wrap around into the image.
    wide, margin = 2 * box, box - box // 2
    inner = slice(margin, margin + box)
    defocus = np.array([np.mean(DEFOCUS)])
    typical = _transfer(wide, pixel_size, defocus, defocus, np.zeros(1))
    for first in range(0, len(particles), IMAGES_AT_ONCE):
        chunk = particles[first : first + IMAGES_AT_ONCE]
        projections = np.zeros((len(chunk), wide, wide), dtype=np.float32)
        projections[:, inner, inner] = phantom.project(euler_matrices(chunk["orientation"]), box, pixel_size)
        spectra = np.fft.rfft2(projections)
        transfer = _transfer(wide, pixel_size, chunk["defocus_u"], chunk["defocus_v"], np.radians(chunk["defocus_angle"]))
        signal = np.fft.irfft2(spectra * transfer, s=(wide, wide))[:, inner, inner]
        # The signal-to-noise ratio is that at a typical defocus. Actual signals have more power at a higher defocus, as in a microscope.
        deviation = np.sqrt(filtered_power(spectra, typical) / box**2 / chunk["signal_to_noise"])[:, None, None]
        # RELION's extraction leaves the background with mean 0 and deviation 1.
        yield (signal / deviation + rng.normal(size=signal.shape)).astype(np.float32)


def _transfer(box: int, pixel_size: float, defocus_u: _Values, defocus_v: _Values, defocus_angle: _Values) -> _Values:
    """`contrast_transfer` with the demo's microscope."""
    return contrast_transfer(
        box,
        pixel_size,
        defocus_u,
        defocus_v,
        defocus_angle,
        voltage=VOLTAGE,
        spherical_aberration=SPHERICAL_ABERRATION,
        amplitude_contrast=AMPLITUDE_CONTRAST,
    )


def _write_stack(path: Path, pixel_size: float, chunks: Iterator[_Images]) -> None:
    import mrcfile

    # In memory first: on a full disk, writing to a mapped file would end the process without a word.
    stack = np.concatenate(list(chunks))
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(stack)
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size


def _write_star(path: Path, particles: npt.NDArray[np.void], box: int, pixel_size: float) -> None:
    import pandas
    import starfile

    optics = pandas.DataFrame(
        {
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnOpticsGroup": [1],
            "rlnVoltage": [VOLTAGE],
            "rlnSphericalAberration": [SPHERICAL_ABERRATION],
            "rlnAmplitudeContrast": [AMPLITUDE_CONTRAST],
            "rlnImagePixelSize": [pixel_size],
            "rlnImageSize": [box],
            "rlnImageDimensionality": [2],
        }
    )
    names = [_stack_name(number) for number in particles["file"]]
    table = pandas.DataFrame(
        {
            "rlnImageName": [f"{index:06d}@mrc/{name}" for index, name in zip(particles["index"], names, strict=True)],
            "rlnMicrographName": [f"micrographs/{number + 1:03d}.mrc" for number in particles["micrograph"]],
            "rlnDefocusU": particles["defocus_u"],
            "rlnDefocusV": particles["defocus_v"],
            "rlnDefocusAngle": particles["defocus_angle"],
            "rlnPhaseShift": 0.0,
            "rlnAngleRot": particles["orientation"][:, 0],
            "rlnAngleTilt": particles["orientation"][:, 1],
            "rlnAnglePsi": particles["orientation"][:, 2],
            "rlnOpticsGroup": 1,
        }
    )
    starfile.write({"optics": optics, "particles": table}, path, overwrite=True)


def _stack_name(number: int) -> str:
    return f"particles_{number + 1:02d}.mrcs"
