"""Draws the picks of a micrograph: their positions, and their scores compared with the noise.

Figures are made without pyplot, to avoid its global state.
"""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError, MissingFileError, OutputError
from cryolike_dask.formatting import in_both, plural
from cryolike_dask.leopard_em.maps import FloatMap, read_map
from cryolike_dask.leopard_em.picking import gaussian_noise_z_score_cutoff, warn_of_scores_elsewhere
from cryolike_dask.leopard_em.refined import choose_columns
from cryolike_dask.leopard_em.tables import check_columns, numbers, read_csv_table
from cryolike_dask.particles.image_paths import give_folder, resolve_image_paths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

DPI = 110
PICTURE_EDGE = 800  # largest edge of the micrograph in the picture, in pixels
HISTOGRAM_BINS = 160
INK, QUIET, NOISE, CUTOFF = "#222222", "#6f6f6f", "#c3cbd3", "#b5302a"

_REQUIRED = ("pos_x", "pos_y", "pos_x_img", "pos_y_img", "pixel_size", "scaled_mip", "micrograph_path")
_OPTIONAL = ("total_correlations", "scaled_mip_path", "refined_pixel_size", *(f"refined_{name}" for name in _REQUIRED))


@dataclass(frozen=True)
class _Picks:
    """The content of a picture.

    Args:
        x, y: (n,) centres of the picks in pixels of the micrograph.
        scores: (n,) scores of the picks.
        diameter: diameter of the circles in pixels.
        cutoff: cutoff of the scores; None if it is not known.
        map_scores: (m,) all scores of the micrograph; None if the map does not exist.
    """

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    diameter: float
    cutoff: float | None
    map_scores: npt.NDArray[np.float32] | None


def picked_micrographs(table: str | Path | pd.DataFrame) -> tuple[str, ...]:
    """The recorded paths of a table's micrographs, in order of appearance.

    Raises:
        InputError: the table is missing, damaged, or holds no particle.
    """
    df, name = _read_table(table)
    if not len(df):
        raise InputError(f"{name} holds no particle, so there is nothing to draw.")
    return tuple(df["micrograph_path"].astype(str).unique())


def plot_picks(
    table: str | Path | pd.DataFrame,
    out_png: str | Path,
    *,
    micrograph: str | None = None,
    folder_micrographs: str | Path = "",
    diameter: float | None = None,
    z_score_cutoff: float | None = None,
    false_positives: float = 1.0,
    use_refined: bool = True,
) -> None:
    """Draw a micrograph with its picks, and the histogram of the scores with the cutoff.

    The histogram shows the scores of the complete map behind those of the picks, if the map is still at its recorded path. The cutoff
    is computed from the table's total_correlations, unless it is given.

    Args:
        table: match-template or refined table, or the path of one.
        out_png: path of the PNG.
        micrograph: path of the micrograph as in the table, or its file name; can be omitted if there is only one.
        folder_micrographs: folder that holds the micrographs; '' to use the recorded paths.
        diameter: diameter of the circles in pixels; None for the size of the template.
        z_score_cutoff: the cutoff with which the particles were picked, if one was given.
        false_positives: the value with which the particles were picked.
        use_refined: False for positions before refinement.

    Raises:
        InputError: the table, the micrograph or the map is missing or damaged, or the micrograph to draw is not clear.
        OutputError: the picture cannot be written.
    """
    for option, value in (("diameter", diameter), ("z_score_cutoff", z_score_cutoff)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{in_both(option)} is {value!r}: give a positive number, or leave it out.")
    df, name = _read_table(table)
    chosen = _choose_micrograph(picked_micrographs(df), micrograph, name)
    picks_here = df[df["micrograph_path"].astype(str) == chosen]
    ((file,), _) = resolve_image_paths([chosen], folder_micrographs, name)
    try:
        image = read_map(file)
    except MissingFileError as error:
        raise MissingFileError(
            f"{name}: the micrograph {file} does not exist. {give_folder(['leopard-em'])}.", error.missing
        ) from None
    column, _ = choose_columns(picks_here, name, use_refined=use_refined)
    template_size = int(2 * (numbers(picks_here, "pos_y_img", name)[0] - numbers(picks_here, "pos_y", name)[0]))
    map_scores = _map_scores(picks_here, image.shape, template_size)
    cutoff = _cutoff(picks_here, image.shape, template_size, z_score_cutoff, false_positives)
    if map_scores is not None and cutoff is not None:
        warn_of_scores_elsewhere(map_scores, numbers(picks_here, "pos_y", name), numbers(picks_here, "pos_x", name), cutoff, chosen)
    picks = _Picks(
        x=numbers(picks_here, column["pos_x_img"], name),
        y=numbers(picks_here, column["pos_y_img"], name),
        scores=numbers(picks_here, "scaled_mip", name),
        diameter=float(diameter or max(template_size, 2)),
        cutoff=cutoff,
        map_scores=None if map_scores is None else map_scores[np.isfinite(map_scores)],
    )
    _draw(image, picks, Path(chosen).name, float(numbers(picks_here, column["pixel_size"], name)[0]), Path(out_png).expanduser())


def _read_table(table: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    df, name = (table, "The table") if isinstance(table, pd.DataFrame) else (read_csv_table(table), str(table))
    check_columns(df, _REQUIRED, name)
    return df, name


def _choose_micrograph(recorded: tuple[str, ...], wanted: str | None, table: str) -> str:
    matching = [name for name in recorded if wanted is None or wanted in (name, Path(name).name)]
    if len(matching) == 1:
        return matching[0]
    problem = (
        "has several micrographs" if wanted is None else f"has {'several micrographs' if matching else 'no micrograph'} {wanted}"
    )
    shown = ", ".join(recorded[:10]) + (", ..." if len(recorded) > 10 else "")
    raise InputError(f"{table} {problem}. Name one of {shown}.")


def _map_scores(picks_here: pd.DataFrame, shape: tuple[int, ...], template_size: int) -> FloatMap | None:
    path = picks_here["scaled_mip_path"].iloc[0] if "scaled_mip_path" in picks_here else None
    if not isinstance(path, str) or not Path(path).expanduser().exists():
        logger.info("The map of scores %s does not exist: the histogram shows only the picks.", path)
        return None
    return read_map(path)[: shape[0] - template_size + 1, : shape[1] - template_size + 1]


def _cutoff(
    picks_here: pd.DataFrame, shape: tuple[int, ...], template_size: int, given: float | None, false_positives: float
) -> float | None:
    if given is not None:
        return given
    total = (
        float(pd.to_numeric(picks_here["total_correlations"], errors="coerce").iloc[0])
        if "total_correlations" in picks_here
        else 0.0
    )
    n_pixels = (shape[0] - template_size + 1) * (shape[1] - template_size + 1)
    if not total > 0 or n_pixels < 1:
        return None
    return gaussian_noise_z_score_cutoff(n_pixels, int(total), false_positives)


def _draw(image: FloatMap, picks: _Picks, title: str, pixel_size: float, path: Path) -> None:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    # The micrograph keeps its shape; the histogram is beside it, with the same height.
    scale = 6.4 / max(image.shape)
    width, height = scale * image.shape[1], scale * image.shape[0]
    total_width, total_height = width + 5.6, max(height, 3.6) + 1.15
    figure = Figure(figsize=(total_width, total_height), dpi=DPI, facecolor="white")
    lowest = picks.cutoff if picks.cutoff is not None else picks.scores.min()
    norm = Normalize(min(lowest, picks.scores.min()), max(picks.scores.max(), lowest + 1e-3))
    colours = colormaps["plasma"](0.3 + 0.65 * np.asarray(norm(picks.scores)))

    left, bottom, top = 0.25 / total_width, 0.65 / total_height, 0.5 / total_height
    axes = figure.add_axes((left, 1 - top - height / total_height, width / total_width, height / total_height))
    _draw_micrograph(axes, image, picks, colours)
    _draw_scale_bar(axes, image.shape, pixel_size, 1 / (scale * DPI))
    beside = (width + 0.25 + 0.95) / total_width
    histogram = figure.add_axes((beside, bottom, 1 - beside - 0.25 / total_width, 1 - top - bottom))
    _draw_histogram(histogram, picks, colours)
    figure.text(left, 1 - 0.55 * top, f"{title}   {plural(len(picks.scores), 'pick')}", fontsize=12, color=INK, va="center")
    figure.text(beside, 1 - 0.55 * top, "Scores", fontsize=12, color=INK, va="center")

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}. Choose another place, or make room.") from error


def _draw_micrograph(axes: Axes, image: FloatMap, picks: _Picks, colours: Any) -> None:
    from matplotlib.patches import Circle

    rows, columns = image.shape
    # Block means reduce the noise; a micrograph at full size shows nothing else.
    block = max(2, math.ceil(max(rows, columns) / PICTURE_EDGE)) if min(rows, columns) > 1 else 1
    shown = image[: rows // block * block, : columns // block * block]
    means = shown.reshape(rows // block, block, columns // block, block).mean(axis=(1, 3))
    finite = means[np.isfinite(means)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    extent = (-0.5, shown.shape[1] - 0.5, shown.shape[0] - 0.5, -0.5)
    axes.imshow(means, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    for x, y, colour in zip(picks.x, picks.y, colours, strict=True):
        axes.add_patch(Circle((x, y), picks.diameter / 2, fill=False, edgecolor="black", linewidth=3.2, alpha=0.45))
        axes.add_patch(Circle((x, y), picks.diameter / 2, fill=False, edgecolor=colour, linewidth=1.7))
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_scale_bar(axes: Axes, shape: tuple[int, ...], pixel_size: float, picture_pixel: float) -> None:
    """Draw a bar below the micrograph; `picture_pixel` is the size of a pixel of the picture in pixels of the micrograph."""
    from matplotlib.patches import Rectangle

    length = _round_length(shape[1] * pixel_size / 5)
    bar = Rectangle(
        (0, shape[0] + 14 * picture_pixel), length / pixel_size, 6 * picture_pixel, color=INK, clip_on=False, linewidth=0
    )
    axes.add_patch(bar)
    x, y = length / pixel_size + 10 * picture_pixel, shape[0] + 17 * picture_pixel
    axes.text(x, y, f"{length / 10:g} nm", fontsize=10, color=INK, ha="left", va="center")


def _draw_histogram(axes: Axes, picks: _Picks, colours: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    background = picks.map_scores if picks.map_scores is not None and picks.map_scores.size else picks.scores
    marks = [float(background.min()), float(background.max()), float(picks.scores.max()), *([picks.cutoff] if picks.cutoff else [])]
    low, high = min(marks), max(marks)
    margin = 0.04 * (high - low) or 1.0
    if picks.map_scores is not None:
        counts, edges = np.histogram(background, bins=HISTOGRAM_BINS, range=(low, high + margin))
        axes.stairs(counts, edges, fill=True, color=NOISE, label="all positions")
        axes.set_yscale("log")
        axes.set_ylim(0.6, max(counts.max(), 1) * 8)
        axes.set_ylabel("positions of the map", fontsize=10, color=INK)
    else:
        counts, edges = np.histogram(background, bins=min(40, max(5, len(background))), range=(low, high + margin))
        axes.stairs(counts, edges, fill=True, color=NOISE)
        axes.set_ylim(0, max(counts.max(), 1) * 1.25)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("picks", fontsize=10, color=INK)
    data_x_axes_y = axes.get_xaxis_transform()
    axes.scatter(
        picks.scores,
        np.full(len(picks.scores), 0.045),
        c=colours,
        s=34,
        edgecolor="white",
        linewidth=0.7,
        zorder=4,
        transform=data_x_axes_y,
        label="picks",
    )
    if picks.cutoff is not None:
        axes.axvline(picks.cutoff, color=CUTOFF, linewidth=1.4, linestyle=(0, (4, 3)))
        label = f" cutoff {picks.cutoff:.2f}"
        axes.text(picks.cutoff, 0.97, label, color=CUTOFF, fontsize=10, ha="left", va="top", transform=data_x_axes_y)
    axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel("scaled MIP (z-score)", fontsize=10, color=INK)
    axes.tick_params(labelsize=9, color=QUIET, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        borderpad=0.15,
        handlelength=1,
    )


def _round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not above the length."""
    power = 10.0 ** math.floor(math.log10(length))
    return power * max(step for step in (1.0, 2.0, 5.0) if step * power <= length)
