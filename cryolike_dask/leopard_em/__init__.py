"""Leopard-EM's 2D template matches: statistics maps, picks and tables.

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "DemoMicrographs": "demo",
    "MatchOptics": "search",
    "MatchTemplateMaps": "maps",
    "MatchTemplateSearch": "search",
    "gaussian_noise_z_score_cutoff": "picking",
    "map_paths": "maps",
    "match_template_results_to_dataframe": "picking",
    "plot_picks": "plots",
    "read_match_template_dataframe": "tables",
    "read_star": "star",
    "write_demo_micrographs": "demo",
    "write_match_template_dataframe": "tables",
    "write_star": "star",
}

__all__ = [*sorted(_WHERE)]

if TYPE_CHECKING:
    from cryolike_dask.leopard_em.demo import DemoMicrographs as DemoMicrographs
    from cryolike_dask.leopard_em.demo import write_demo_micrographs as write_demo_micrographs
    from cryolike_dask.leopard_em.maps import MatchTemplateMaps as MatchTemplateMaps
    from cryolike_dask.leopard_em.maps import map_paths as map_paths
    from cryolike_dask.leopard_em.picking import gaussian_noise_z_score_cutoff as gaussian_noise_z_score_cutoff
    from cryolike_dask.leopard_em.picking import match_template_results_to_dataframe as match_template_results_to_dataframe
    from cryolike_dask.leopard_em.plots import plot_picks as plot_picks
    from cryolike_dask.leopard_em.search import MatchOptics as MatchOptics
    from cryolike_dask.leopard_em.search import MatchTemplateSearch as MatchTemplateSearch
    from cryolike_dask.leopard_em.star import read_star as read_star
    from cryolike_dask.leopard_em.star import write_star as write_star
    from cryolike_dask.leopard_em.tables import read_match_template_dataframe as read_match_template_dataframe
    from cryolike_dask.leopard_em.tables import write_match_template_dataframe as write_match_template_dataframe


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
