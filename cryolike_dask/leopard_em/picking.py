"""Picks particles from the statistics maps of a template match."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.formatting import in_both, plural
from cryolike_dask.leopard_em.columns import COLUMNS, MATCH_COLUMNS
from cryolike_dask.leopard_em.maps import FloatMap, MatchTemplateMaps
from cryolike_dask.leopard_em.search import MatchTemplateSearch

logger = logging.getLogger(__name__)

PickOn = Literal["scaled_mip", "mip"]

_MASK_RADIUS = 5.0
# With more candidates than this, the cutoff must be within the noise.
_MAX_CANDIDATES = 2_000_000
_CHUNK_PIXELS = 1 << 22


def gaussian_noise_z_score_cutoff(n_pixels: int, total_projections: int, false_positives: float = 1.0) -> float:
    """The score that white noise exceeds `false_positives` times in a complete search: sqrt(2) erfcinv(2 fp / (pixels * projections)).

    Args:
        n_pixels: number of pixels of the 'valid' map.
        total_projections: number of orientations times number of defocus values that were searched.
        false_positives: expected number of false picks in the micrograph.

    Raises:
        InputError: a number is not positive, or `false_positives` is larger than the number of correlations.
    """
    from scipy.special import erfcinv

    counts = {"n_pixels": n_pixels, in_both("total_projections"): total_projections, in_both("false_positives"): false_positives}
    for name, value in counts.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value!r}: it must be a positive number.")
    fraction = 2.0 * false_positives / (float(n_pixels) * float(total_projections))
    if fraction >= 2:
        raise InputError(
            f"{in_both('false_positives')} is {false_positives:g}, more than the {n_pixels * total_projections:,} correlations."
        )
    return math.sqrt(2.0) * float(erfcinv(fraction))


def match_template_results_to_dataframe(
    search: str | Path | MatchTemplateSearch,
    *,
    total_projections: int | None = None,
    false_positives: float = 1.0,
    z_score_cutoff: float | None = None,
    mask_radius: float = _MASK_RADIUS,
    pick_on: PickOn = "scaled_mip",
    template_size: int | None = None,
) -> pd.DataFrame:
    """Pick the particles of one micrograph from the maps of its search.

    Positions strictly above the cutoff are picked, strongest first; each one suppresses weaker ones closer than `mask_radius`. Like
    Leopard-EM, this compares in single precision.

    Args:
        search: Leopard-EM's match YAML, or a `MatchTemplateSearch` with explicit paths.
        total_projections: number of orientations times number of defocus values that were searched, for the cutoff. None takes it from
            the configuration, if that was saved after the search.
        false_positives: expected number of false picks in the micrograph, for the cutoff.
        z_score_cutoff: the cutoff itself, instead of these two.
        mask_radius: pixels; of two picks closer than this, only the stronger is kept.
        pick_on: the map to pick on, 'scaled_mip' or 'mip'.
        template_size: edge length of the template in pixels; None derives it from the maps or the template volume.

    Returns:
        The 39-column match-template table, possibly without rows. `total_correlations` is 0 if `total_projections` is not known.
        `attrs` contains 'z_score_cutoff' and 'warnings', a list of what the user should know, which is also logged.

    Raises:
        InputError: neither total_projections nor z_score_cutoff is known, an option is out of range, or a file is missing, damaged
            or does not fit the others.
    """
    if not isinstance(search, MatchTemplateSearch):
        search = MatchTemplateSearch.from_yaml(search)
    if total_projections is None:
        total_projections = search.total_projections
    _check_options(search, total_projections, z_score_cutoff, mask_radius, pick_on)
    if template_size is not None and not _is_whole(template_size):
        raise InputError(
            f"{in_both('template_size')} is {template_size!r}: give the template's edge length in pixels, a whole number."
        )
    try:
        all_maps = MatchTemplateMaps.read(search.maps)
        size = search.template_size(all_maps.shape) if template_size is None else template_size
        maps = all_maps.cropped_to_valid(size, search.micrograph_shape())
    except MissingFileError as error:
        raise MissingFileError(
            f"{search.source} names {', '.join(error.missing)}, which does not exist. Correct the paths there, or copy the files.",
            error.missing,
        ) from None
    scores = getattr(maps, pick_on)
    if z_score_cutoff is not None:
        cutoff = float(z_score_cutoff)
    else:
        cutoff = gaussian_noise_z_score_cutoff(scores.size, int(total_projections or 0), false_positives)
    rows, columns, not_finite = _positions_above(scores, cutoff)
    picked = find_peaks(scores, rows, columns, mask_radius)
    table = _make_table(search, maps, rows[picked], columns[picked], size, int(total_projections or 0))
    warnings = [
        f"{search.source}: {line}" for line in _collect_warnings(maps, search.maps[pick_on], not_finite, len(table), cutoff)
    ]
    for line in warnings:
        logger.warning(line)
    logger.info("%s: %s above %.4f", search.source, plural(len(table), "particle"), cutoff)
    table.attrs.update({"z_score_cutoff": cutoff, "warnings": warnings})
    return table


def find_peaks(
    scores: FloatMap, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], mask_radius: float
) -> npt.NDArray[np.intp]:
    """The candidates that remain after stronger ones have suppressed the weaker ones around them.

    Args:
        scores: (H, W) map.
        rows, columns: (k,) positions of the candidates.
        mask_radius: pixels; a candidate closer than this to a stronger one that is kept is dropped.

    Returns:
        Positions among the candidates, strongest first. Of equal scores, the first one in the map counts as the stronger.
    """
    from scipy.spatial import cKDTree

    order = np.argsort(-scores[rows, columns], kind="stable")
    if not len(order) or mask_radius <= 0:
        return order
    points = np.stack([rows[order], columns[order]], axis=1).astype(np.float64)
    tree = cKDTree(points)
    # The radius of the tree is inclusive, but that of the mask is not.
    radius = np.nextafter(mask_radius, 0.0)
    kept = np.ones(len(points), dtype=bool)
    for k in range(len(points)):
        if kept[k]:
            kept[tree.query_ball_point(points[k], radius)] = False
            kept[k] = True
    return order[kept]


def warn_of_scores_elsewhere(
    scores: FloatMap, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], cutoff: float, micrograph: str
) -> None:
    """Warn if there are scores above a cutoff that no pick suppresses, as if the particles had been picked with another cutoff.

    Args:
        scores: (H, W) map.
        rows, columns: (k,) positions of the picks in the map.
        cutoff: as it is drawn.
        micrograph: its name, for the message.
    """
    from scipy.spatial import cKDTree

    above = np.argwhere(scores > np.float32(cutoff))
    distance, _ = cKDTree(np.stack([rows, columns], axis=1)).query(above)
    elsewhere = above[distance >= _MASK_RADIUS]
    if len(elsewhere):
        logger.warning(
            "%s: scores of up to %.2f, above the cutoff of %.2f, are not in the table, as if picked with another cutoff or mask "
            "radius. Its cutoff is drawn if you give z_score_cutoff (--z-score-cutoff) or false_positives (--false-positives) as then.",
            *(micrograph, scores[tuple(elsewhere.T)].max(), cutoff),
        )


def _check_options(
    search: MatchTemplateSearch, total_projections: Any, z_score_cutoff: Any, mask_radius: float, pick_on: str
) -> None:
    if total_projections is None and z_score_cutoff is None:
        raise InputError(
            f"{search.source}: the cutoff needs the number of projections that were searched, but there is no total_projections in "
            "match_template_result, where Leopard-EM saves it after a search. Give their number, orientations "
            f"times defocus values (total_projections, --total-projections), or the cutoff itself (z_score_cutoff, --z-score-cutoff)."
        )
    if total_projections is not None and not (_is_whole(total_projections) and total_projections > 0):
        raise InputError(
            f"{in_both('total_projections')} is {total_projections!r}: give orientations times defocus values, a whole number above 0."
        )
    if z_score_cutoff is not None and not math.isfinite(z_score_cutoff):
        raise InputError(f"{in_both('z_score_cutoff')} is {z_score_cutoff!r}: give a finite number.")
    if not (math.isfinite(mask_radius) and mask_radius >= 0):
        raise InputError(f"{in_both('mask_radius')} is {mask_radius!r}: give a distance in pixels, 0 or more.")
    if pick_on not in get_args(PickOn):
        raise InputError(f"pick_on is {pick_on!r}: choose one of {', '.join(map(repr, get_args(PickOn)))}.")


def _positions_above(scores: FloatMap, cutoff: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]:
    """Rows and columns of the finite scores strictly above the cutoff, in map order, and how many scores are not finite."""
    chunk_rows = max(1, _CHUNK_PIXELS // scores.shape[1])
    with np.errstate(over="ignore"):
        float32_cutoff = np.float32(cutoff)
    found, not_finite, n_found = [], 0, 0
    for first in range(0, scores.shape[0], chunk_rows):
        chunk = scores[first : first + chunk_rows]
        # 'Not below' includes NaN.
        rows, columns = np.nonzero(~(chunk <= float32_cutoff))
        finite = np.isfinite(chunk[rows, columns])
        not_finite += int(np.count_nonzero(~finite))
        found.append((rows[finite] + first, columns[finite]))
        n_found += len(found[-1][0])
        if n_found > _MAX_CANDIDATES:
            raise InputError(
                f"More than {_MAX_CANDIDATES:,} positions are above the cutoff {cutoff:.4g}, so it is within the noise. Give a "
                f"higher {in_both('z_score_cutoff')}, or fewer {in_both('false_positives')}."
            )
    return np.concatenate([rows for rows, _ in found]), np.concatenate([columns for _, columns in found]), not_finite


def _collect_warnings(maps: MatchTemplateMaps, scores_path: str, not_finite: int, n_picks: int, cutoff: float) -> list[str]:
    lines = []
    disagreement = maps.disagreement()
    if disagreement:
        lines.append(disagreement)
    if not_finite:
        lines.append(f"{not_finite:,} scores of {scores_path} are not finite numbers; no particle is picked there.")
    if not n_picks:
        lines.append(f"no score is above the cutoff {cutoff:.4f}, so the table has no particle.")
    return lines


def _make_table(
    search: MatchTemplateSearch,
    maps: MatchTemplateMaps,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    template_size: int,
    total_projections: int,
) -> pd.DataFrame:
    optics, n = search.optics, len(rows)
    half = template_size // 2
    values: dict[str, Any] = {
        "particle_index": np.arange(n),
        "mip": maps.mip[rows, columns],
        "scaled_mip": maps.scaled_mip[rows, columns],
        "correlation_mean": maps.correlation_average[rows, columns],
        "correlation_variance": maps.correlation_variance[rows, columns],
        "total_correlations": total_projections,
        "pos_x": columns,
        "pos_y": rows,
        "pos_x_img": columns + half,
        "pos_y_img": rows + half,
        "pos_x_img_angstrom": (columns + half) * optics.pixel_size,
        "pos_y_img_angstrom": (rows + half) * optics.pixel_size,
        "phi": maps.orientation_phi[rows, columns],
        "theta": maps.orientation_theta[rows, columns],
        "psi": maps.orientation_psi[rows, columns],
        "relative_defocus": maps.relative_defocus[rows, columns],
        "refined_pixel_size": optics.pixel_size,
        "micrograph_path": search.micrograph_path,
        "template_path": search.template_path,
        "psi_path": search.maps["orientation_psi"],
        "theta_path": search.maps["orientation_theta"],
        "phi_path": search.maps["orientation_phi"],
        "defocus_path": search.maps["relative_defocus"],
    }
    for name in ("mip", "scaled_mip", "correlation_average", "correlation_variance"):
        values[f"{name}_path"] = search.maps[name]
    for name in MATCH_COLUMNS:
        if name not in values:
            values[name] = getattr(optics, name)
    return pd.DataFrame({name: _column(values[name], n, COLUMNS[name]) for name in MATCH_COLUMNS}, index=range(n))


def _column(value: Any, n: int, kind: type) -> Any:
    if kind is not str:
        return np.broadcast_to(np.asarray(value, dtype=kind), n)
    return np.array([_text(value)] * n, dtype=object)


def _text(value: Any) -> str | None:
    """A cell as Leopard-EM writes and reads it: Zernike coefficients, which are a mapping, as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
