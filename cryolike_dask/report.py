"""The report that a conversion returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryolike_dask.formatting import format_bytes, format_time, plural, printable
from cryolike_dask.html import render

if TYPE_CHECKING:
    from cryolike_dask.ctf_check.verdict import CtfCheck


@dataclass(frozen=True)
class StackRecord:
    """One complete stack.

    Args:
        counter: number of the stack.
        n_images: number of its images.
        fourier, metadata: its `.pt` and `.npz` files; with a Zarr store, `fourier` is the position of the shard in the store.
        physical: as `fourier`, for the images in real space; None if they are not saved.
        mean_power: mean of |F|^2 over its images, shells and in-plane angles.
        n_zeroed: number of bad images that were written as zeros.
    """

    counter: int
    n_images: int
    fourier: Path
    metadata: Path
    physical: Path | None
    mean_power: float
    n_zeroed: int


_SHOWN = 10
"""Number of warnings that are shown in the text of a report."""


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion.

    Args:
        folder: output folder.
        store: path or URL of the Zarr store; '' for `.pt` files.
        stacks: all complete stacks in the order of their counters, including those kept from an earlier run.
        n_images: number of their images.
        seconds: from start to end of this run.
        n_bytes: size of the stacks.
        warnings: for the user.
        skipped: one line for each particle that was left out.
        n_kept: number of stacks that were kept from an earlier run.
        seconds_by_step: time of all workers together for each step: 'read', 'compute' and 'write'.
        ctf: whether the CTF of the table fits the images; None if their power was not recorded.

    Example:
        >>> from cryolike_dask import Conversion, particles_from_star
        >>> particles = particles_from_star("particles.star", "mrc")
        >>> report = Conversion(particles, folder_output="stacks").run()
        >>> report.stacks[0].fourier.name
        'particles_fourier_stack_000000.pt'
        >>> report.warnings
        ()
    """

    folder: Path
    stacks: tuple[StackRecord, ...]
    n_images: int
    seconds: float
    n_bytes: int
    warnings: tuple[str, ...]
    skipped: tuple[str, ...]
    n_kept: int
    seconds_by_step: dict[str, float]
    store: str = ""
    ctf: CtfCheck | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers and text, for JSON."""
        return {
            **asdict(replace(self, ctf=None)),
            "folder": str(self.folder),
            "ctf": None if self.ctf is None else self.ctf.to_dict(),
            "stacks": [{key: str(v) if isinstance(v, Path) else v for key, v in asdict(stack).items()} for stack in self.stacks],
        }

    def __str__(self) -> str:
        if self.stacks and self.n_kept == len(self.stacks):
            return (
                f"Nothing to do: {plural(self.n_images, 'image')} in {plural(len(self.stacks), 'stack')} are in "
                f"{printable(str(self.folder))} already"
            )
        kept = f" ({self.n_kept:,} of them kept from an earlier run)" if self.n_kept else ""
        return (
            f"{plural(self.n_images, 'image')} in {plural(len(self.stacks), 'stack')}{kept}, {format_bytes(self.n_bytes)}, "
            f"{format_time(self.seconds)}, in {printable(str(self.folder))}"
        )

    def __repr__(self) -> str:
        lines = [f"<ConversionReport>\n{self}"]
        lines += [f"warning: {line}" for line in self.warnings[:_SHOWN]]
        if len(self.warnings) > _SHOWN:
            lines.append(f"and {len(self.warnings) - _SHOWN:,} more warnings")
        if self.skipped:
            lines.append(f"{plural(len(self.skipped), 'particle')} left out")
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        rows = {
            "folder": str(self.folder),
            "images": f"{self.n_images:,}",
            "stacks": f"{len(self.stacks):,}" + (f" ({self.n_kept:,} kept)" if self.n_kept else ""),
            "written": format_bytes(self.n_bytes),
            "time": format_time(self.seconds),
            "skipped particles": f"{len(self.skipped):,}",
        } | ({} if self.ctf is None else {"CTF": str(self.ctf)})
        return render("table", caption="ConversionReport", rows=rows, warnings=self.warnings)
