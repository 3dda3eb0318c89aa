"""`cryolike-dask pick` and `cryolike-dask plot-picks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cryolike_dask.cli.help import FOLDER, GroupedCommand
from cryolike_dask.cli.main import debug_option, echo, quiet_option
from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.output_file import check_suffix, output_file
from cryolike_dask.formatting import plural

if TYPE_CHECKING:
    from cryolike_dask.leopard_em.picking import PickOn


@click.command("pick", cls=GroupedCommand)
@click.argument("configs", metavar="CONFIG.yaml ...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Table to write: .csv, or .star for RELION.")
@click.option(
    "--total-projections",
    type=int,
    help="Number of orientations times defocus values of the search, for the cutoff. By default that in a saved configuration.",
)
@click.option(
    "--false-positives", type=float, default=1.0, show_default=True, help="Expected number of false picks per micrograph."
)
@click.option("--z-score-cutoff", type=float, help="Cutoff of the score, instead of --total-projections.")
@click.option(
    "--mask-radius",
    type=float,
    default=5.0,
    show_default=True,
    help="Distance in pixels within which only the strongest pick is kept.",
)
@click.option(
    "--map", "pick_on", type=click.Choice(["scaled_mip", "mip"]), default="scaled_mip", show_default=True, help="Map to pick on."
)
@click.option("--template-size", type=int, help="Edge of the template in pixels. By default taken from the maps or the template.")
@click.option("--overwrite", is_flag=True, help="Replace the table if it exists.")
@quiet_option
@debug_option
def pick(
    configs: tuple[Path, ...],
    out: Path,
    total_projections: int | None,
    false_positives: float,
    z_score_cutoff: float | None,
    mask_radius: float,
    pick_on: PickOn,
    template_size: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Pick particles from the statistics maps of 2D template matches.

    CONFIG.yaml is the configuration with which Leopard-EM's match-template program was run. Several configurations give one table.
    """
    import pandas as pd

    from cryolike_dask.leopard_em.picking import match_template_results_to_dataframe
    from cryolike_dask.leopard_em.star import write_star
    from cryolike_dask.leopard_em.tables import write_match_template_dataframe

    _check_one_cutoff()
    # Tables are corrected by hand, so an existing one is not replaced unasked.
    target = output_file(out, (".csv", ".star"), overwrite)
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
    # The columns of tables without rows have no type, so such tables are left out.
    table = pd.concat([part for part in tables if len(part)] or tables[:1], ignore_index=True)
    (write_star if target.suffix.lower() == ".star" else write_match_template_dataframe)(table, target)
    if not quiet:
        echo(f"{plural(len(table), 'particle')} of {plural(len(configs), 'micrograph')} written to {out}")


def _check_one_cutoff() -> None:
    """Refuse two ways of saying what the cutoff is, of which one would be ignored."""
    context = click.get_current_context()
    given = [
        name for name in ("z_score_cutoff", "false_positives") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if len(given) > 1:
        raise InputError(
            "--z-score-cutoff is the cutoff itself, and --false-positives serves to compute it: give only one of them."
        )


@click.command("plot-picks", cls=GroupedCommand)
@click.argument("table", metavar="TABLE.csv", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="PNG file to write. By default TABLE.png.")
@click.option(
    "--micrograph", "micrographs", multiple=True, help="Micrograph to draw (path or file name; may be repeated). By default all."
)
@click.option(
    "--micrograph-folder", type=FOLDER, metavar="DIR", default="", help="Folder of the micrographs, instead of the recorded one."
)
@click.option("--diameter", type=float, help="Diameter of the circles in pixels. By default the size of the template.")
@click.option("--z-score-cutoff", type=float, help="Cutoff that was given to `pick`, if any.")
@click.option("--false-positives", type=float, default=1.0, show_default=True, help="Value that was given to `pick`.")
@click.option("--unrefined", is_flag=True, help="Draw the positions before refinement.")
@quiet_option
@debug_option
def plot_picks(
    table: Path,
    out: Path | None,
    micrographs: tuple[str, ...],
    micrograph_folder: str,
    diameter: float | None,
    z_score_cutoff: float | None,
    false_positives: float,
    unrefined: bool,
    quiet: bool,
) -> None:
    """Draw a micrograph with its picks beside the histogram of the scores.

    For a table of several micrographs, a picture of each is drawn, and its name ends with that of the micrograph.
    """
    from cryolike_dask.leopard_em import plots

    _check_one_cutoff()
    target = out or table.with_suffix(".png")
    check_suffix(target, (".png",))
    wanted = micrographs or plots.picked_micrographs(table)
    stems = [Path(name).stem for name in wanted]
    for number, name in enumerate(wanted):
        file = target
        if len(wanted) > 1:
            # Micrographs in different folders may have the same name.
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
        if not quiet:
            echo(f"{name} drawn in {file}")
