"""`OUT/report.html`: one page about a run. It contains its pictures and loads nothing, so it opens anywhere, offline.

Its links lead to files in the output folder, and work as long as the page is there.
"""

from __future__ import annotations

import base64
import io
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask import __version__
from cryolike_dask.filesystem.reading import read_input
from cryolike_dask.formatting import format_box, format_bytes, format_number, format_time, plural, rate
from cryolike_dask.html import render
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.pictures.axes import Axes, even_ticks
from cryolike_dask.pictures.canvas import Canvas
from cryolike_dask.pictures.ctf_plots import plot_ctf_check
from cryolike_dask.pictures.stack_table import FEWEST_STACKS, RULE, RULE_OF_FEW, StackRow, make_row, make_stack_table
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.summary import summarize_plan
from cryolike_dask.report import ConversionReport
from cryolike_dask.settings.words import settings_in_words
from cryolike_dask.stacks.durable import write_atomic
from cryolike_dask.stacks.files import StackPaths

logger = logging.getLogger(__name__)

REPORT = "report.html"
_BINS = 36
_PANEL = (300, 210)  # pixels of one histogram
_COLUMNS = 3


def write_html_report(plan: Plan, report: ConversionReport) -> Path:
    """Write the page about a complete run into its output folder.

    Args:
        plan: plan of the run.
        report: result of the run. Pictures of the first, middle and last stack are taken from the folder `plots`, if they exist.

    Returns:
        The path of the page.

    Raises:
        OSError: the page cannot be written, or a picture cannot be read.
    """
    path = report.folder / REPORT
    write_atomic(path, _page(plan, report).encode(), report.folder)
    return path


def with_html_report(plan: Plan, report: ConversionReport) -> ConversionReport:
    """Write the page and return the report. If the page cannot be written, add a warning; the stacks are complete without it."""
    try:
        write_html_report(plan, report)
    except (OSError, ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        warning = f"{REPORT} was not written: {error}"
        logger.warning(warning)
        return replace(report, warnings=(*report.warnings, warning))
    return report


def plot_histograms(table: ParticleTable) -> bytes:
    """Draw histograms of the defocus and of all angles that the particles state, as PNG.

    Args:
        table: a table with at least one particle.
    """
    panels = _panels(table)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = _PANEL
    canvas = Canvas(columns * width, rows * height)
    for number, (label, values) in enumerate(panels.items()):
        # Values that differ only by rounding count as one value.
        counts, edges = np.histogram(np.round(values, 6), bins=_BINS)
        margin = 0.05 * float(edges[-1] - edges[0])
        axes = Axes(
            canvas,
            *(number % columns * width + 48, number // columns * height + 16, 0.78 * width, 0.7 * height),
            x_limits=(float(edges[0]) - margin, float(edges[-1]) + margin),
            y_limits=(0.0, 1.05 * float(counts.max())),
            size=8,
        )
        axes.x_ticks(*even_ticks(*axes.x_limits))
        axes.y_ticks(*even_ticks(*axes.y_limits))
        axes.bars(counts, edges)
        axes.frame(label)
    buffer = io.BytesIO()
    canvas.save(buffer)
    return buffer.getvalue()


def _panels(table: ParticleTable) -> dict[str, npt.NDArray[np.float64]]:
    u, v = table["defocus_u"], table["defocus_v"]
    panels = {
        "defocus (µm)": (u + v) / 2e4,
        "astigmatism (Å)": np.abs(u - v),
        "defocus angle (°)": np.degrees(table["defocus_angle"]),
        "rotation (°)": np.degrees(table["angle_rotation"]),
        "tilt (°)": np.degrees(table["angle_tilt"]),
        "psi (°)": np.degrees(table["angle_psi"]),
    }
    if table["phase_shift"].any():
        panels["phase shift (°)"] = np.degrees(table["phase_shift"])
    stated = {label: values[np.isfinite(values)] for label, values in panels.items()}
    return {label: values for label, values in stated.items() if len(values)}


def _page(plan: Plan, report: ConversionReport) -> str:
    chosen, usual = settings_in_words(plan.recorded_settings())
    return render(
        "report",
        title=f"Conversion of {plural(report.n_images, 'particle')}",
        folder=str(report.folder),
        made=f"{time.strftime('%Y-%m-%d %H:%M')}, cryolike_dask {__version__}",
        warnings=report.warnings,
        left_out=f"{plural(len(report.skipped), 'particle')} left out:",
        skipped=report.skipped,
        **_overview(plan, report),
        **_stacks(plan, report),
        **_ctf(report),
        histograms=_png_url(plot_histograms(plan.table)),
        command=plan.command,
        chosen=chosen,
        usual=usual,
        **_times(report),
    )


def _overview(plan: Plan, report: ConversionReport) -> dict[str, dict[str, str | list[str]]]:
    """The tables `overview`, about the run, and `grid`, about its images."""
    summary = summarize_plan(plan, report.folder)
    d = plan.descriptor
    kept = f"; {report.n_kept:,} kept from an earlier run" if report.n_kept else ""
    return {
        "overview": {
            "images": f"{report.n_images:,}",
            "stacks": f"{len(report.stacks):,} of up to {plural(summary.largest_stack, 'image')} each{kept}",
            "read": f"{format_bytes(summary.bytes_read)} of {plural(summary.n_files, 'file')}",
            "written": format_bytes(report.n_bytes),
            "from": [source.table for source in plan.table.sources],
        },
        "grid": {
            "pixel size": f"{d.pixel_size[0]:g} Å, from the {plan.pixel_size_from}",
            "box": format_box(d.n_pixels, d.pixel_size),
            "polar grid": f"{summary.n_shells} shells × {summary.n_inplanes} in-plane angles",
            "finest shell": f"{summary.finest_resolution:.3g} Å",
            "precision": d.precision,
        },
    }


def _stacks(plan: Plan, report: ConversionReport) -> dict[str, Any]:
    """The table of all `stacks`, the `rules` by which they are marked, and `shown_stacks`, some stacks with their pictures."""
    table = make_stack_table(plan, report)
    n = len(report.stacks)
    shown = [_stack_with_pictures(plan, report, position) for position in sorted({0, n // 2, n - 1})]
    return {
        "stacks": table,
        "rules": RULE if n >= FEWEST_STACKS else f"{RULE} {RULE_OF_FEW}",
        "shown_stacks": [stack for stack in shown if stack["pictures"]],
    }


def _stack_with_pictures(plan: Plan, report: ConversionReport, position: int) -> dict[str, Any]:
    stack = report.stacks[position]
    row = make_row(plan, report.folder, stack, 1.0, frozenset())
    paths = StackPaths(report.folder, stack.counter)
    pictures = dict(zip(("The first images", "Their Fourier transforms", "Power spectrum"), paths.plots, strict=True))
    return {
        "heading": f"Stack {row.counter}: {plural(stack.n_images, 'image')}, particles {row.particles} of the table",
        "facts": _facts(row, stack.mean_power),
        "pictures": {title: _png_url(read_input(path, "a picture")) for title, path in pictures.items() if path.exists()},
    }


def _facts(row: StackRow, mean_power: float) -> dict[str, str]:
    return {
        "first image": row.first_image,
        "defocus": f"{row.figures['defocus']} µm",
        "mean power |F|²": f"{mean_power:.3g}",
        "images written as zeros": row.figures["zeroed"],
    }


def _ctf(report: ConversionReport) -> dict[str, Any]:
    """The reason of the check of the CTF, whether to show it as a warning, and its picture, which is '' if it compared nothing."""
    check = report.ctf
    return {
        "ctf_says": "" if check is None else check.reason,
        "ctf_warning": check is not None and check.verdict == "does not fit",
        "ctf_picture": "" if check is None or not len(check.scores) else _png_url(plot_ctf_check(check)),
    }


def _times(report: ConversionReport) -> dict[str, Any]:
    """The `duration` of the run and the `work` of all workers, as sentences, and the `steps`, which add up to 100 percent."""
    total = sum(report.seconds_by_step.values())
    made = report.n_images - sum(stack.n_images for stack in report.stacks[: report.n_kept])
    speed = f", {format_number(rate(made, report.seconds))} images per second" if made else ""
    return {
        "duration": f"{format_time(report.seconds)} in all{speed}.",
        "work": f"All workers together spent {format_time(total)}:",
        "steps": [
            {"name": step, "percent": 100 * seconds / total, "time": format_time(seconds)}
            for step, seconds in report.seconds_by_step.items()
            if total
        ],
    }


def _png_url(png: bytes) -> str:
    """The picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
