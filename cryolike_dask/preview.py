"""A preview of a few particles before the long run: as they are on disk, and transformed back from the polar grid."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from cryolike_dask.conversion import Conversion
from cryolike_dask.ctf_check.model import Optics
from cryolike_dask.ctf_check.of_stacks import check_particles, sample_size
from cryolike_dask.ctf_check.verdict import CtfCheck
from cryolike_dask.errors import InputError
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.formatting import entry, format_box, plural, printable
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.options import ConversionOptions, takes_options
from cryolike_dask.particles.choice import choose_particles, draw
from cryolike_dask.particles.image_grid import find_image_grid
from cryolike_dask.particles.table import ParticleTable, image_label
from cryolike_dask.pictures.canvas import Target
from cryolike_dask.pictures.preview_picture import draw_preview
from cryolike_dask.planning.plan import Plan, StackPlan
from cryolike_dask.progress import Progress, ProgressOption
from cryolike_dask.progress_bars import showing
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.settings.values import is_whole
from cryolike_dask.stacks.durable import write_atomic
from cryolike_dask.transform.cpu import say_if_compiling
from cryolike_dask.transform.interface import TransformedImages
from cryolike_dask.transform.inverse import fourier_to_physical, low_pass_on_grid, low_passed

MAX_PARTICLES = 16
USUAL_LOW_PASS = 20.0  # Å; makes protein visible
CHANGES_OF_PIXELS = ("downsample_factor", "downsample_to", "axes", "contrast", "apply_origins")
"""Settings that make the converted images differ from those on disk."""
TRUSTED_RADIUS = 0.3  # box widths from the centre; the in-plane angles are dense enough there for the inverse transform


@dataclass(frozen=True, repr=False)
class Preview:
    """A few particles, converted in memory.

    Args:
        source: (k, n_x, n_y) the images as they would be written to `phys`.
        as_on_disk: whether these are the centred images on disk, which no option has changed.
        low_passed: (k, n_x, n_y) the same after a low-pass filter.
        round_trip: (k, n_x, n_y) the Fourier-polar images brought back to real space, with the same filter.
        names: (k,) table, row and image of each particle.
        labels: (k,) short names of the particles, for the picture.
        descriptor: image descriptor of the images as they would be written.
        pixel_size_from: where the pixel size was found.
        low_pass: resolution of the low-pass filter, Å.
        correlation: (k,) correlation of low_passed and round_trip within 0.3 box widths of the centre; close to 1 if the conversion is
            correct.
        defocus: (smallest, largest) defocus of all `n_particles` particles, Å.
        n_particles: number of particles in the table, or of those chosen from it.
        ctf: whether the CTF of the table fits the images. The check uses more images than are shown.
        warnings: what the user should know.
    """

    source: npt.NDArray[np.float32]
    as_on_disk: bool
    low_passed: npt.NDArray[np.float64]
    round_trip: npt.NDArray[np.float64]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    descriptor: ImageDescriptor
    pixel_size_from: str
    low_pass: float
    correlation: npt.NDArray[np.float64]
    defocus: tuple[float, float]
    n_particles: int
    ctf: CtfCheck
    warnings: tuple[str, ...]

    @property
    def worst_correlation(self) -> float:
        """The smallest correlation of the images that were not replaced by zeros; NaN if all of them were."""
        return float(self.correlation.min(where=self.source.any(axis=(1, 2)), initial=np.inf)) if self.source.any() else np.nan

    def __repr__(self) -> str:
        return f"<Preview>\n{self}"

    def __str__(self) -> str:
        d, grid = self.descriptor, self.descriptor.polar_grid
        finest = min(d.cartesian_grid.box_size) / (2 * d.radius_max)
        lines = [
            ("particles", f"{len(self.source)} of {self.n_particles:,}"),
            ("pixel size", f"{d.pixel_size[0]:g} Å, from the {self.pixel_size_from}"),
            ("box", f"{format_box(d.n_pixels, d.pixel_size)}"),
            ("polar grid", f"{grid.n_shells} shells × {grid.n_inplanes} in-plane angles, up to {finest:.3g} Å"),
            ("defocus", f"{self.defocus[0]:,.0f} to {self.defocus[1]:,.0f} Å"),
            ("agreement", self._agreement()),
            ("CTF", str(self.ctf)),
            *(("warning", line) for line in self.warnings),
        ]
        return printable("\n".join(entry(name, text, 13) for name, text in lines))

    def save(self, path: Target) -> None:
        """Write the picture as PNG to this path or open binary file.

        Raises:
            OSError: the picture cannot be written; an existing one is unchanged.
        """
        if isinstance(path, str | Path):
            final = Path(path).absolute()
            write_atomic(final, self._repr_png_(), final.parent)
            return
        d = self.descriptor
        heading = (
            f"{plural(self.n_particles, 'particle')}; pixels of {d.pixel_size[0]:.4g} Å from the {self.pixel_size_from}; "
            f"box of {format_box(d.n_pixels, d.pixel_size)}",
            f"Defocus {self.defocus[0] / 1e4:.2f} to {self.defocus[1] / 1e4:.2f} µm; low-pass filter {self.low_pass:.3g} Å; "
            f"{self._agreement()}",
        )
        images: dict[str, npt.NDArray[np.floating[Any]]] = {
            "as on disk" if self.as_on_disk else "as converted": self.source,
            "low-passed": self.low_passed,
            "back from the\npolar grid": self.round_trip,
        }
        draw_preview(path, images, self.labels, d.pixel_size[0], heading, self.ctf)

    def _agreement(self) -> str:
        """How well the images from the polar grid agree with the low-passed ones, in a phrase; the correlation is rounded down."""
        if np.isnan(self.worst_correlation):
            return "all images are bad, so nothing can be compared"
        least = np.floor(1000 * self.worst_correlation) / 1000
        return f"images back from the polar grid correlate at {least:.3f} or better"

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.save(buffer)
        return buffer.getvalue()


@takes_options()
def preview_particles(
    particles: ParticleTable,
    params: ImageDescriptor | str | Path | None,
    *,
    n_images: int = MAX_PARTICLES,
    low_pass: float | None = None,
    progress: ProgressOption = None,
    **options: Unpack[ConversionOptions],
) -> Preview:
    """Convert a few random particles in memory, and transform them back to real space. Nothing is written.

    The check of the CTF transforms a few hundred particles.

    Args:
        particles: table from which particles are drawn.
        params: image descriptor, or the path of a params `.npz`. With None, box and pixel size are taken from the table, or else from the
            image headers.
        n_images: number of particles, at most 16.
        low_pass: Å; by default 20, or the resolution of the polar grid if that is coarser.
        progress: as for `Conversion.run`.

    Raises:
        TypeError: there is no such option.
        InputError: there are no particles, or `Conversion` would refuse the chosen ones.

    Example:
        >>> from cryolike_dask import particles_from_star
        >>> particles = particles_from_star("particles.star", "mrc")
        >>> preview = preview_particles(particles, "params.npz", n_images=4)
        >>> preview.save("preview.png")
        >>> preview.descriptor.n_pixels
        (16, 16)
    """
    if not is_whole(n_images) or not 1 <= n_images <= MAX_PARTICLES:
        raise InputError(f"n_images is {n_images}: a preview shows between 1 and {MAX_PARTICLES} particles.")
    # A preview may show particles of different optics together.
    options.setdefault("mixed_optics", "split")
    settings = ConversionSettings.from_options(options)
    particles, _ = choose_particles(particles, settings)
    if params is None:  # from all particles: the few that are drawn may happen to have the same box and pixel size
        params = find_image_grid(particles, settings).descriptor()
    n = min(max(n_images, sample_size(ImageDescriptor.ensure(params))), len(particles))
    looked_at = replace(settings, where="", ind=None, sample=None, seed=0)
    plan = Conversion(particles.take(draw(len(particles), n, settings.seed)), params, **vars(looked_at)).plan
    descriptor = plan.descriptor
    # Along the longer edge, the polar grid of a rectangle ends at a coarser resolution.
    cutoff = (
        max(USUAL_LOW_PASS, float(max(descriptor.cartesian_grid.box_size)) / (2 * descriptor.radius_max))
        if low_pass is None
        else low_pass
    )
    if not cutoff > 0:
        raise InputError(f"low_pass is {low_pass}: give a resolution in Å, a positive number.")
    with showing(progress) as bar:
        say_if_compiling(bar.step)
        converted = _Converted(plan, draw(plan.n_images, min(n_images, plan.n_images), settings.seed), bar)
        source = converted.physical
        bar.step("Transforming back to real space")
        round_trip = fourier_to_physical(converted.fourier, descriptor, low_pass_on_grid(descriptor, cutoff))
    filtered = low_passed(source, descriptor.pixel_size, cutoff)
    defocus = particles["defocus_u"], particles["defocus_v"]
    return Preview(
        source=source,
        as_on_disk=all(getattr(settings, name) == getattr(ConversionSettings(), name) for name in CHANGES_OF_PIXELS),
        low_passed=filtered,
        round_trip=round_trip,
        names=tuple(converted.names),
        labels=tuple(converted.labels),
        descriptor=descriptor,
        pixel_size_from=plan.pixel_size_from,
        low_pass=cutoff,
        correlation=_correlations(filtered, round_trip),
        defocus=(float(np.min(defocus)), float(np.max(defocus))),
        n_particles=len(particles),
        ctf=converted.check_ctf(),
        warnings=(*plan.warnings, *converted.warnings),
    )


class _Converted:
    """Particles of a plan, converted in memory: the power of all for the check of the CTF, and the images of a few.

    Args:
        plan: plan for all particles.
        shown: (k,) positions in the plan of the particles whose images are kept, ascending.
        progress: informed of how many particles are converted.
    """

    def __init__(self, plan: Plan, shown: npt.NDArray[np.int64], progress: Progress) -> None:
        grid, n = plan.descriptor.polar_grid, plan.n_images
        self.plan = plan
        self.fourier = np.empty((len(shown), grid.n_shells, grid.n_inplanes), dtype=plan.descriptor.complex_dtype)
        self.physical = np.empty((len(shown), *plan.descriptor.n_pixels), dtype=np.float32)
        self.names: list[str] = []
        self.labels: list[str] = []
        self.warnings: list[str] = []
        self._power, self._quadrupoles = np.zeros((n, grid.n_shells)), np.zeros((n, grid.n_shells), dtype=np.complex64)
        self._progress, self._done, self._lock = progress, 0, threading.Lock()
        self._place = np.full(n, -1)
        self._place[shown] = np.arange(len(shown))
        for counter in range(plan.n_stacks):
            self._convert(plan.stack(counter), int(plan.bounds[counter, 0]))

    def check_ctf(self) -> CtfCheck:
        """Compare the CTF with those images that have the pixel size of the plan's descriptor."""
        sizes = np.repeat(self.plan.pixel_size, self.plan.stack_sizes())
        kept = np.flatnonzero(sizes == self.plan.descriptor.pixel_size[0])
        optics = Optics.from_rows(self.plan.table.rows[kept])
        return check_particles(self._power[kept], optics, self.plan.descriptor, self._quadrupoles[kept])

    def _convert(self, stack: StackPlan, first: int) -> None:
        angles = stack.descriptor.polar_grid.angles
        # Tables measure angles as RELION does, from the columns of an image. These are its second axis unless it was transposed.
        azimuths = angles if stack.settings.axes == "relion" else np.pi / 2 - angles
        wave = (np.exp(2j * azimuths) / len(angles)).astype(np.complex64)

        def keep(_: int, positions: npt.NDArray[np.int64], results: TransformedImages) -> None:
            place = self._place[first + positions]
            shown = place >= 0
            self.fourier[place[shown]] = results.fourier[shown]
            self.physical[place[shown]] = results.physical[shown]
            self._power[first + positions] = results.power
            self._quadrupoles[first + positions] = (results.fourier.real**2 + results.fourier.imag**2) @ wave
            with self._lock:  # several threads convert
                self._done += len(positions)
                self._progress.step("Converting particles", self._done, len(self._place))

        self.warnings += convert_chunks(stack, keep, None)[1]
        for position in np.flatnonzero(self._place[first : first + len(stack)] >= 0).tolist():
            self.names.append(stack.where(position))
            row = stack.rows[position]
            image = image_label(row, stack.sources[row["source"]], stack.files[int(row["file"])].path)
            self.labels.append(f"particle {row['row'] + 1}: {image}")


def _correlations(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(k,) correlation coefficients of pairs of images near their centres; 0 where an image is all zero."""
    n_x, n_y = left.shape[1:]
    x, y = (np.arange(n_x) - n_x // 2) / n_x, (np.arange(n_y) - n_y // 2) / n_y
    central = np.hypot(x[:, None], y[None, :]) <= TRUSTED_RADIUS
    a, b = left[:, central], right[:, central]
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0))
