"""The table of all stacks of a run: what each contains, where its files are, and which ones stand out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.table import image_label
from cryolike_dask.planning.plan import Plan
from cryolike_dask.report import ConversionReport, StackRecord
from cryolike_dask.stacks.files import StackPaths

FEWEST_STACKS = 10
"""With fewer stacks, the spread is not known well enough to say which ones stand out."""
_DEVIATIONS, _LEAST_CHANGE = 6.0, 0.1
_OF_NORMAL = 1.4826
"""Standard deviation of normally distributed values in units of their median absolute deviation."""
_AT_EACH_END, _MOST_MARKED = 25, 100
"""A long table shows this many stacks at its beginning and at its end, and at most this many marked ones."""

RULE = (
    f"A stack is marked if its mean power or its mean defocus is more than {_DEVIATIONS:g} standard deviations, and more than "
    f"{_LEAST_CHANGE:.0%}, from the median of all stacks, or if any of its images were written as zeros. The standard deviation is "
    f"{_OF_NORMAL} times the median absolute deviation; it is larger for stacks of fewer images."
)
RULE_OF_FEW = f"If there are fewer than {FEWEST_STACKS} stacks, only those with images written as zeros are marked."


@dataclass(frozen=True)
class StackRow:
    """A stack as the table shows it.

    Args:
        counter: number of the stack, six digits.
        n_images: number of its images.
        particles: its first and last particle in the table, counted from 1.
        first_image: number and file of its first image.
        figures: 'defocus', smallest and largest in µm; 'power', its mean power divided by the median of all stacks; 'zeroed', how many
            images were written as zeros.
        marked: which of the figures stand out.
        pictures, files: links to its files, as names and paths relative to the output folder.
    """

    counter: str
    n_images: str
    particles: str
    first_image: str
    figures: dict[str, str]
    marked: frozenset[str]
    pictures: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class StackTable:
    """The stacks that are shown.

    Args:
        rows: rows in the order of the counters; None stands for stacks that are not shown.
        summary: how many stacks are marked, and which ones are not shown.
    """

    columns = ("Stack", "Images", "Particles", "First image", "Defocus (µm)", "Power / median", "Zeros", "Pictures", "Files")

    rows: list[StackRow | None]
    summary: str


def make_stack_table(plan: Plan, report: ConversionReport) -> StackTable:
    """Make the table of a complete run. It reads no stack: the figures come from the report and the plan.

    Args:
        plan: plan of the run.
        report: result of the run.
    """
    marks = find_outliers(plan, report)
    n, marked = len(marks), [position for position, names in enumerate(marks) if names]
    shown = sorted({*range(min(n, _AT_EACH_END)), *range(max(0, n - _AT_EACH_END), n), *marked[:_MOST_MARKED]})
    usual = float(np.median([stack.mean_power for stack in report.stacks])) or 1.0
    rows: list[StackRow | None] = []
    for previous, position in zip([-1, *shown], shown, strict=False):
        if position > previous + 1:
            rows.append(None)
        rows.append(make_row(plan, report.folder, report.stacks[position], usual, marks[position]))
    if n == 1:
        summary = "The stack is marked." if marked else "The stack is not marked."
    else:
        summary = f"{len(marked) or 'None'} of {n:,} stacks {'is' if len(marked) < 2 else 'are'} marked."
    if len(shown) < n:
        summary += (
            f" The table shows the first {_AT_EACH_END}, the last {_AT_EACH_END} and the marked stacks, at most {_MOST_MARKED} of them; "
            f"{n - len(shown):,} are not shown."
        )
    return StackTable(rows, summary)


def find_outliers(plan: Plan, report: ConversionReport) -> list[frozenset[str]]:
    """Which figures of each stack stand out according to `RULE`."""
    n_images = np.array([stack.n_images for stack in report.stacks])
    defocus = (plan.table["defocus_u"] + plan.table["defocus_v"]) / 2
    found = {
        "power": _stands_out(np.array([stack.mean_power for stack in report.stacks]), n_images),
        "defocus": _stands_out(np.add.reduceat(defocus, plan.bounds[:, 0]) / n_images, n_images),
        "zeroed": np.array([stack.n_zeroed > 0 for stack in report.stacks]),
    }
    return [frozenset(name for name, marks in found.items() if marks[position]) for position in range(len(n_images))]


def make_row(plan: Plan, folder: Path, stack: StackRecord, usual_power: float, marked: frozenset[str]) -> StackRow:
    """Make the row of one stack.

    Args:
        plan: plan of the run.
        folder: output folder.
        stack: the stack.
        usual_power: median of the mean power of all stacks.
        marked: which of its figures stand out.
    """
    first, last = plan.bounds[stack.counter].tolist()
    rows = plan.table.rows[first:last]
    defocus = (rows["defocus_u"] + rows["defocus_v"]) / 2e4
    paths = StackPaths(folder, stack.counter)
    return StackRow(
        counter=f"{stack.counter:06d}",
        n_images=f"{stack.n_images:,}",
        particles=f"{rows['row'][0] + 1:,} to {rows['row'][-1] + 1:,}",
        first_image=image_label(rows[0], plan.table.sources[rows["source"][0]], plan.table.files[rows["file"][0]]),
        figures={
            "defocus": _range(float(defocus.min()), float(defocus.max())),
            "power": f"{stack.mean_power / usual_power:.2f}",
            "zeroed": f"{stack.n_zeroed:,}",
        },
        marked=marked,
        pictures=_links(folder, dict(zip(("images", "Fourier", "power"), paths.plots, strict=True))),
        files=_links(folder, {"fft": paths.fourier, "phys": paths.physical, "npz": paths.metadata}),
    )


def _stands_out(values: npt.NDArray[np.float64], n_images: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n,) which of the values are outliers, where each value is the mean over `n_images` images."""
    if len(values) < FEWEST_STACKS:
        return np.zeros(len(values), dtype=bool)
    median = float(np.median(values))
    distance = np.abs(values - median)
    smaller = np.sqrt(np.maximum(1.0, np.median(n_images) / n_images))
    deviation = _OF_NORMAL * float(np.median(distance)) * smaller
    return np.asarray((distance > _DEVIATIONS * deviation) & (distance > _LEAST_CHANGE * abs(median)))


def _range(least: float, largest: float) -> str:
    low, high = f"{least:.2f}", f"{largest:.2f}"
    return low if low == high else f"{low} to {high}"


def _links(folder: Path, paths: dict[str, Path]) -> dict[str, str]:
    return {name: path.relative_to(folder).as_posix() for name, path in paths.items() if path.exists()}
