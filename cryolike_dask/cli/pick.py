"""`cryolike-dask pick` and `cryolike-dask plot-picks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cryolike_dask.cli.command import Command
from cryolike_dask.cli.main import echo
from cryolike_dask.filesystem.output_file import check_suffix
from cryolike_dask.formatting import plural

if TYPE_CHECKING:
    from cryolike_dask.leopard_em.picking import PickOn


@click.command("pick", cls=Command)
@click.argument("configs", metavar="CONFIG.yaml ...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Table to write: .csv, or .star for RELION.")
@click.option(
    "--total-projections",
    type=int,
    help="Orientations times defocus values that were searched, for the cutoff. By default what a saved configuration says.",
)
@click.option("--false-positives", type=float, default=1.0, show_default=True, help="False picks to expect in a micrograph.")
@click.option("--z-score-cutoff", type=float, help="The cutoff itself, instead of --total-projections.")
@click.option(
    "--mask-radius", type=float, default=5.0, show_default=True, help="Of picks closer than this (pixels) the strongest stays."
)
@click.option("--map", "pick_on", default="scaled_mip", show_default=True, help="Map to pick on: scaled_mip or mip.")
@click.option("--template-size", type=int, help="Edge of the template in pixels. Default: found from the maps or the template.")
def pick(
    configs: tuple[Path, ...],
    out: Path,
    total_projections: int | None,
    false_positives: float,
    z_score_cutoff: float | None,
    mask_radius: float,
    pick_on: PickOn,
    template_size: int | None,
) -> None:
    """Pick particles from the statistics maps of 2D template matches.

    CONFIG.yaml is the configuration that Leopard-EM's match-template program was run with; several make one table.
    """
    import pandas as pd

    from cryolike_dask.leopard_em.picking import match_template_results_to_dataframe
    from cryolike_dask.leopard_em.star import write_star
    from cryolike_dask.leopard_em.tables import write_match_template_dataframe

    check_suffix(out, (".csv", ".star"))
    tables = [
        match_template_results_to_dataframe(
            config,
            total_projections=total_projections,
            false_positives=false_positives,
            z_score_cutoff=z_score_cutoff,
            mask_radius=mask_radius,
            pick_on=pick_on,
            template_size=template_size,
        )
        for config in configs
    ]
    # Columns of a table without rows have no values to take their type from.
    table = pd.concat([part for part in tables if len(part)] or tables[:1], ignore_index=True)
    (write_star if out.suffix.lower() == ".star" else write_match_template_dataframe)(table, out)
    echo(f"{plural(len(table), 'particle')} of {plural(len(configs), 'micrograph')} written to {out}")


@click.command("plot-picks", cls=Command)
@click.argument("table", metavar="TABLE.csv", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="PNG to write. Default: TABLE.png.")
@click.option(
    "--micrograph", "micrographs", multiple=True, help="Draw this one (path or file name; may be repeated). Default: all."
)
@click.option("--micrograph-folder", default="", help="Folder of the micrographs, in place of the recorded ones.")
@click.option("--diameter", type=float, help="Diameter of the circles in pixels. Default: the template's size.")
@click.option("--z-score-cutoff", type=float, help="The cutoff, if it was given when picking.")
@click.option("--false-positives", type=float, default=1.0, show_default=True, help="As it was when picking.")
@click.option("--unrefined", is_flag=True, help="Draw the positions before refinement.")
def plot_picks(
    table: Path,
    out: Path | None,
    micrographs: tuple[str, ...],
    micrograph_folder: str,
    diameter: float | None,
    z_score_cutoff: float | None,
    false_positives: float,
    unrefined: bool,
) -> None:
    """Draw a micrograph with its picks beside the histogram of the scores.

    A table of several micrographs makes a picture of each, whose name ends with the micrograph's.
    """
    from cryolike_dask.leopard_em import plots

    target = out or table.with_suffix(".png")
    check_suffix(target, (".png",))
    wanted = micrographs or plots.picked_micrographs(table)
    stems = [Path(name).stem for name in wanted]
    for number, name in enumerate(wanted):
        file = target
        if len(wanted) > 1:
            # Micrographs of different folders may have one name.
            again = f"_{number}" if stems.count(stems[number]) > 1 else ""
            file = target.with_name(f"{target.stem}_{stems[number]}{again}{target.suffix}")
        plots.plot_picks(
            table,
            file,
            micrograph=name,
            folder_micrographs=micrograph_folder,
            diameter=diameter,
            z_score_cutoff=z_score_cutoff,
            false_positives=false_positives,
            use_refined=not unrefined,
        )
        echo(f"{name} drawn in {file}")
