"""The columns of Leopard-EM's tables of particles."""

from __future__ import annotations

import numpy as np

COLUMNS: dict[str, type[np.number] | type[str]] = {
    "particle_index": np.int64,
    "mip": np.float32,
    "scaled_mip": np.float32,
    "refined_mip": np.float32,
    "refined_scaled_mip": np.float32,
    "correlation_mean": np.float32,
    "correlation_variance": np.float32,
    "total_correlations": np.int64,
    "pos_x": np.int64,
    "pos_y": np.int64,
    "pos_x_img": np.int64,
    "pos_y_img": np.int64,
    "pos_x_img_angstrom": np.float64,
    "pos_y_img_angstrom": np.float64,
    "refined_pos_x": np.int64,
    "refined_pos_y": np.int64,
    "refined_pos_x_img": np.int64,
    "refined_pos_y_img": np.int64,
    "refined_pos_x_img_angstrom": np.float64,
    "refined_pos_y_img_angstrom": np.float64,
    "phi": np.float32,
    "theta": np.float32,
    "psi": np.float32,
    "refined_phi": np.float64,
    "refined_theta": np.float64,
    "refined_psi": np.float64,
    "original_offset_phi": np.float64,
    "original_offset_theta": np.float64,
    "original_offset_psi": np.float64,
    "relative_defocus": np.float32,
    "refined_relative_defocus": np.float64,
    "defocus_u": np.float64,
    "defocus_v": np.float64,
    "astigmatism_angle": np.float64,
    "pixel_size": np.float64,
    "refined_pixel_size": np.float64,
    "voltage": np.float64,
    "spherical_aberration": np.float64,
    "amplitude_contrast_ratio": np.float64,
    "phase_shift": np.float64,
    "ctf_B_factor": np.float64,
    "even_zernikes": str,
    "odd_zernikes": str,
    "mag_matrix": str,
    "micrograph_path": str,
    "template_path": str,
    "mip_path": str,
    "scaled_mip_path": str,
    "psi_path": str,
    "theta_path": str,
    "phi_path": str,
    "defocus_path": str,
    "correlation_average_path": str,
    "correlation_variance_path": str,
}
"""Every column and its type, in the order of the file. Columns that are not numbers are text, possibly empty."""

REFINED_COLUMNS = frozenset(name for name in COLUMNS if name.startswith("refined_")) - {"refined_pixel_size"}
"""Columns that a refinement adds. Match-template tables have `refined_pixel_size` already, equal to `pixel_size`."""

CONSTRAINED_COLUMNS = frozenset(name for name in COLUMNS if name.startswith("original_offset_"))
"""Columns that a constrained search adds to a refined table."""

MATCH_COLUMNS = tuple(name for name in COLUMNS if name not in REFINED_COLUMNS | CONSTRAINED_COLUMNS)
"""The 39 columns of a match-template table, in the order of the file."""

OPTIONAL_COLUMNS = frozenset({"particle_index", "refined_pixel_size", "even_zernikes", "odd_zernikes", "mag_matrix"})
"""Columns that older tables do not have."""

REQUIRED_COLUMNS = tuple(name for name in MATCH_COLUMNS if name not in OPTIONAL_COLUMNS)
"""The 34 columns that every match-template table has."""

OPTICS_COLUMNS = {
    "voltage": "voltage",
    "spherical_aberration": "spherical_aberration",
    "amplitude_contrast": "amplitude_contrast_ratio",
    "defocus_u": "defocus_u",
    "defocus_v": "defocus_v",
}
"""Leopard-EM's names, in tables and configurations, for the values that `check_optics` checks."""
