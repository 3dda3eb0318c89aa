"""One 2D template match: its micrograph, its template, its optics and the paths of its statistics maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.limited_yaml import load_yaml
from cryolike_dask.formatting import in_both
from cryolike_dask.leopard_em.columns import OPTICS_COLUMNS
from cryolike_dask.leopard_em.maps import MAP_NAMES
from cryolike_dask.metadata.optics import check_optics
from cryolike_dask.mrc.header import read_header


@dataclass(frozen=True)
class MatchOptics:
    """The optics of the micrograph.

    Args:
        pixel_size: Å.
        voltage: kV.
        spherical_aberration: mm.
        amplitude_contrast_ratio: fraction.
        defocus_u, defocus_v: Å.
        astigmatism_angle, phase_shift: degrees.
        ctf_B_factor: Å².
        even_zernikes, odd_zernikes, mag_matrix: copied to the table unchanged; None if not stated.
    """

    pixel_size: float
    voltage: float
    spherical_aberration: float
    amplitude_contrast_ratio: float
    defocus_u: float
    defocus_v: float
    astigmatism_angle: float
    phase_shift: float = 0.0
    ctf_B_factor: float = 0.0  # noqa: N815 - the name that Leopard-EM's files have
    even_zernikes: Any = None
    odd_zernikes: Any = None
    mag_matrix: Any = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MatchOptics:
        """Make optics from the keys of an `optics_group`; other keys are ignored. Optional keys have Leopard-EM's defaults:
        spherical_aberration 2.7 mm, amplitude_contrast_ratio 0.07, phase_shift 0 and ctf_B_factor 0.

        Raises:
            InputError: a value is missing, not a finite number, or not possible for a microscope.
        """
        numbers: dict[str, Any] = dict(_OPTICS_DEFAULTS)
        for name in _OPTICS_NUMBERS:
            if values.get(name) is None and name in _OPTICS_REQUIRED:
                raise InputError(f"optics_group has no {name}.")
            if values.get(name) is not None:
                numbers[name] = _number(f"optics_group: {name}", values[name])
        if numbers["pixel_size"] <= 0:
            raise InputError(f"optics_group: pixel_size is {numbers['pixel_size']:g}; it must be above 0.")
        numbers_by_role = {role: numbers[name] for role, name in OPTICS_COLUMNS.items()}
        check_optics(numbers_by_role, OPTICS_COLUMNS, lambda name, _: f"optics_group: {name}")
        for name in _OPTICS_PASSED_ON:
            numbers[name] = values.get(name)
        return cls(**numbers)


_OPTICS_PASSED_ON = ("even_zernikes", "odd_zernikes", "mag_matrix")
_OPTICS_NUMBERS = tuple(entry.name for entry in fields(MatchOptics) if entry.name not in _OPTICS_PASSED_ON)
_OPTICS_DEFAULTS = {"spherical_aberration": 2.7, "amplitude_contrast_ratio": 0.07, "phase_shift": 0.0, "ctf_B_factor": 0.0}
_OPTICS_REQUIRED = tuple(name for name in _OPTICS_NUMBERS if name not in _OPTICS_DEFAULTS)


@dataclass(frozen=True)
class MatchTemplateSearch:
    """The paths of the inputs and results of one search. They are copied to the table unchanged.

    Args:
        micrograph_path: the searched micrograph.
        template_path: the template volume.
        maps: path of each of the eight statistics maps, by the name of the map.
        optics: optics of the micrograph.
        total_projections: number of orientations times number of defocus values that were searched; None if not known.
        source: name of this search in messages, such as the path of its configuration.
    """

    micrograph_path: str
    template_path: str
    maps: Mapping[str, str]
    optics: MatchOptics
    total_projections: int | None = None
    source: str = field(default="the search", compare=False)

    @classmethod
    def from_yaml(cls, path: str | Path) -> MatchTemplateSearch:
        """Read the configuration with which Leopard-EM's match-template program was run.

        The function uses `micrograph_path`, `template_volume_path`, `optics_group`, and the paths in `match_template_result`. Paths are
        relative to the working directory, as in Leopard-EM. In a configuration that was saved after the search,
        `match_template_result` also has `total_projections`.

        Raises:
            InputError: the file is missing, is not YAML, or lacks one of these.
        """
        file = Path(path).expanduser()
        try:
            content = load_yaml(file)
        except FileNotFoundError:
            raise MissingFileError(f"The configuration {file} does not exist. Check the path.") from None
        except OSError as error:
            raise InputError(f"The configuration {file} cannot be read: {error.strerror or error}.") from error
        except InputError:
            raise
        except (ValueError, yaml.YAMLError) as error:  # a ValueError if a date or a number is impossible
            raise InputError(f"{file} is not a YAML file: {' '.join(str(error).split())}.") from error
        try:
            return cls(
                micrograph_path=_text(content, "micrograph_path"),
                template_path=_text(content, "template_volume_path"),
                maps={name: _text(_section(content, "match_template_result"), f"{name}_path") for name in MAP_NAMES},
                optics=MatchOptics.from_dict(_section(content, "optics_group")),
                total_projections=_total_projections(_section(content, "match_template_result")),
                source=str(file),
            )
        except InputError as error:
            raise InputError(f"{file}: {error} Give the configuration of Leopard-EM's match-template program.") from error

    def micrograph_shape(self) -> tuple[int, int]:
        """(rows, columns) of the micrograph, from its header.

        Raises:
            InputError: the micrograph is missing or damaged.
        """
        file = read_header(str(Path(self.micrograph_path).expanduser()))
        return (file.n_rows, file.n_columns)

    def template_size(self, map_shape: tuple[int, int]) -> int:
        """Edge length of the template in pixels, from the sizes of 'valid' maps and micrograph, or else from the template's header.

        Raises:
            InputError: the maps do not fit the micrograph, or the maps are 'same' maps and the template cannot be read.
        """
        shape = self.micrograph_shape()
        rows, columns = (shape[axis] - map_shape[axis] + 1 for axis in (0, 1))
        if rows != columns or rows < 1:
            raise InputError(
                f"{self.source}: the statistics maps have {map_shape[0]} × {map_shape[1]} pixels and the micrograph "
                f"{self.micrograph_path} has {shape[0]} × {shape[1]}: no square template gives such maps. Give the micrograph that "
                "was searched."
            )
        if rows > 1:
            return rows
        try:
            return read_header(str(Path(self.template_path).expanduser())).n_columns
        except InputError as error:
            raise InputError(
                f"{self.source}: the size of the template is not known ({error}) Give {in_both('template_size')}."
            ) from error


def _section(content: Any, name: str) -> Mapping[str, Any]:
    section = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(section, Mapping):
        raise InputError(f"There is no section {name}.")
    return section


def _text(section: Any, name: str) -> str:
    value = section.get(name) if isinstance(section, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} is not given.")
    return value


def _total_projections(result: Mapping[str, Any]) -> int | None:
    """The recorded number of projections; None for the initial value 0, which Leopard-EM writes before a search."""
    value = result.get("total_projections") or None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InputError(f"match_template_result: total_projections is {value!r}, not a whole number above 0.")
    return value


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise InputError(f"{name} is {value!r}, not a finite number.")
    return number
