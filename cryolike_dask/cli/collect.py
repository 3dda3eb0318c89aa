"""`cryolike-dask collect`: CryoLike's results, joined with the particles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cryolike_dask.cli.command import Command
from cryolike_dask.cli.help import FILE, FOLDER
from cryolike_dask.cli.main import debug_option, echo, quiet_option

if TYPE_CHECKING:
    import pandas as pd


@click.command(cls=Command)
@click.argument("stacks", metavar="STACKS", type=FOLDER)
@click.argument("results", metavar="RESULTS", type=FOLDER)
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Table to write: .star (RELION), .csv or .parquet.")
@click.option(
    "--templates",
    type=FILE,
    metavar="DIR_OR_PARAMS",
    help="Folder of the templates, or the parameter file with which they were made; adds angles and origins in RELION's convention.",
)
@click.option(
    "--template-source",
    type=click.Choice(["pdb", "map"]),
    default="pdb",
    show_default=True,
    help="Source of the templates: a PDB file or an MRC map. CryoLike orders the axes of the two differently.",
)
@click.option("--overwrite", is_flag=True, help="Replace the table if it exists.")
@quiet_option
@debug_option
def collect(stacks: str, results: str, out: str, templates: str | None, template_source: str, overwrite: bool, quiet: bool) -> None:
    """Join CryoLike's likelihoods and poses with the particles: one row per particle, in the order of their table.

    STACKS is the output folder of the conversion, RESULTS that of CryoLike's likelihood (folder_output), the folder above it, or its
    folder likelihood_matrix.

    \b
    Examples:
      cryolike-dask collect stacks likelihood --out results.star \\
        --templates templates
      cryolike-dask collect stacks likelihood --out results.csv
    """
    from cryolike_dask.results.collect import collect_results

    df = collect_results(
        stacks,
        results,
        templates=templates,
        template_source=template_source,  # type: ignore[arg-type]  # click has checked it
        out=out,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not quiet:
        echo(f"{out}: {len(df):,} particles{_structures(df)}.")


def _structures(df: pd.DataFrame) -> str:
    """The number of particles for each structure, if there are several."""
    if "cryolikeBestTemplate" not in df:
        return ""
    counts = df["cryolikeBestTemplate"].value_counts().sort_index()
    numbers = ", ".join(f"template{number} for {count:,}" for number, count in counts.items())
    return f", by {df['cryolikeBestBy'].iloc[0]}: {numbers}"
