"""`OUT/report.html`: one page about a run that opens anywhere, offline: pictures are in it, and it loads nothing."""

from __future__ import annotations

import base64
import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask import __version__
from cryolike_dask.formatting import human_bytes, human_count, human_seconds, plural, rate
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.pictures.plots import ACCENT, INK, png_figure
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.summary import summarize_plan
from cryolike_dask.report import ConversionReport
from cryolike_dask.stacks.durable import write_whole
from cryolike_dask.stacks.files import StackPaths

logger = logging.getLogger(__name__)

REPORT = "report.html"
_LISTED = 40
_BINS = 36
_PANEL = (300, 210)  # pixels of one histogram
_COLUMNS = 3

_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; max-width: 1160px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin-bottom: 0; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }}
.quiet {{ color: #666; }} .figures {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }} img {{ max-width: 100%; }}
table {{ border-collapse: collapse; }} th {{ text-align: left; font-weight: 600; padding: 2px 1.5rem 2px 0; vertical-align: top; }}
td {{ padding: 2px 0; overflow-wrap: anywhere; }}
.warning {{ background: #fff6e0; border-left: 4px solid #e0a100; padding: .4rem .8rem; margin: .4rem 0; }}
.fine {{ background: #e9f6ee; border-left: 4px solid #3c9a5f; padding: .4rem .8rem; }}
.tables {{ display: flex; flex-wrap: wrap; gap: 3rem; }}
.bar {{ display: flex; height: 1.5rem; color: white; font-size: .8rem; max-width: 640px; }}
.bar div {{ overflow: hidden; white-space: nowrap; padding-left: .4rem; }}
"""
_STEP_COLOURS = {"read": "#8a6d3b", "compute": ACCENT, "write": "#5b7f4a"}


def write_html_report(plan: Plan, report: ConversionReport) -> Path:
    """Write the page about a complete run into its output folder.

    Args:
        plan: of the run.
        report: its result; pictures of its first stack are taken from the folder `plots`, where they are there.

    Returns:
        The path of the page.

    Raises:
        OSError: the page cannot be written, or a picture cannot be read.
    """
    path = report.folder / REPORT
    # Paths that are not valid text would not be in HTML either.
    write_whole(path, _page(plan, report).encode("utf-8", "replace"))
    return path


def with_html_report(plan: Plan, report: ConversionReport) -> ConversionReport:
    """Write the page, and return the report, with a warning if the page could not be written: the stacks are whole without it."""
    try:
        write_html_report(plan, report)
    except (OSError, ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        warning = f"{REPORT} was not written: {error}"
        logger.warning(warning)
        return replace(report, warnings=(*report.warnings, warning))
    return report


def plot_histograms(table: ParticleTable) -> bytes:
    """A PNG with histograms of the defocus and of all angles that the particles state.

    Args:
        table: of at least one particle.
    """
    panels = _panels(table)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = _PANEL
    buffer = io.BytesIO()
    with png_figure(columns * width, rows * height, buffer) as figure:
        for number, (label, values) in enumerate(panels.items()):
            left, top = (number % columns) / columns, 1 - (number // columns) / rows
            axes = figure.add_axes((left + 0.16 / columns, top - 0.76 / rows, 0.78 / columns, 0.66 / rows))
            counts, edges = np.histogram(values, bins=_BINS)
            axes.stairs(counts, edges, fill=True, color=ACCENT)
            axes.set_xlabel(label, fontsize=9, color=INK)
            axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
            axes.locator_params(nbins=5)
            axes.spines[["top", "right"]].set_visible(False)
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
    summary = summarize_plan(plan, report.folder)
    d = plan.descriptor
    overview = {
        "images": f"{report.n_images:,}",
        "stacks": f"{len(report.stacks):,} of at most {summary.largest_stack:,} images"
        + (f"; {report.n_kept:,} were there already" if report.n_kept else ""),
        "read": f"{human_bytes(summary.bytes_read)} of {plural(summary.n_files, 'file')}",
        "written": human_bytes(report.n_bytes),
        "from": "\n".join(_shortened([source.table for source in plan.table.sources])),
    }
    grid = {
        "pixel size": f"{d.pixel_size[0]:g} Å, from the {plan.pixel_size_from}",
        "box": f"{d.n_pixels[0]} × {d.n_pixels[1]} pixels, {d.n_pixels[0] * d.pixel_size[0]:.4g} Å",
        "polar grid": f"{summary.n_shells} shells × {summary.n_inplanes} angles",
        "finest shell": f"{summary.finest_resolution:.3g} Å",
        "precision": d.precision,
    }
    settings = {name: str(value) for name, value in asdict(plan.settings).items()}
    physical, fourier, power = StackPaths(report.folder, 0).plots
    pictures = {"The first images": physical, "Their transforms": fourier, "Power spectrum": power}
    figures = "".join(_picture(path.read_bytes(), title) for title, path in pictures.items() if path.exists())
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            f"<title>Conversion of {report.n_images:,} particles</title><style>{_STYLE}</style></head><body>",
            f"<h1>Conversion of {plural(report.n_images, 'particle')}</h1>",
            f'<p class="quiet">{escape(str(report.folder))}<br>{time.strftime("%Y-%m-%d %H:%M")}, cryolike_dask {__version__}</p>',
            _warnings(report),
            f'<h2>Overview</h2><div class="tables">{_table(overview)}{_table(grid)}</div>',
            f'<h2>The first stack</h2><div class="figures">{figures}</div>' if figures else "",
            f"<h2>All particles</h2>{_picture(plot_histograms(plan.table), 'Histograms of defocus and angles')}",
            f"<h2>Time</h2>{_timing(report)}",
            f"<h2>Settings</h2>{_table(settings)}",
            "</body></html>\n",
        ]
    )


def _table(rows: Mapping[str, str]) -> str:
    cells = (f"<tr><th>{escape(key)}</th><td>{escape(text).replace(chr(10), '<br>')}</td></tr>" for key, text in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _picture(png: bytes, title: str) -> str:
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _warnings(report: ConversionReport) -> str:
    if not report.warnings and not report.skipped:
        return '<p class="fine">No warnings, and no particle was left out.</p>'
    left_out = [f"{plural(len(report.skipped), 'particle')} left out:", *report.skipped] if report.skipped else []
    return f"<h2>Warnings</h2>{_lines(report.warnings)}{_lines(left_out)}"


def _lines(lines: Sequence[str]) -> str:
    return "".join(f'<div class="warning">{escape(line)}</div>' for line in _shortened(lines))


def _shortened(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many there are more."""
    more = [f"and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    return [*lines[:_LISTED], *more]


def _timing(report: ConversionReport) -> str:
    total = sum(report.seconds_by_step.values())
    made = report.n_images - sum(stack.n_images for stack in report.stacks[: report.n_kept])
    speed = f", {human_count(rate(made, report.seconds))} images a second" if made else ""
    text = f"<p>{human_seconds(report.seconds)} in all{speed}. "
    if not total:
        return f"{text}</p>"
    parts = "".join(
        f'<div style="width:{100 * seconds / total:.1f}%;background:{_STEP_COLOURS[step]}">{step} {human_seconds(seconds)}</div>'
        for step, seconds in report.seconds_by_step.items()
        if step in _STEP_COLOURS
    )
    return f'{text}The workers spent {human_seconds(total)}, all together:</p><div class="bar">{parts}</div>'
