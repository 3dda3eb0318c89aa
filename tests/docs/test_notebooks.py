"""The notebooks run from beginning to end in a kernel, as for a reader."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from cryolike_dask import Conversion, particles_from_star
from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.planning.preflight import memory_per_thread
from cryolike_dask.planning.summary import summarize_plan

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


# The kernel's sockets are closed by its own threads, some after the test.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"
)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs"), "notebooks are kept without outputs"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    kinds = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert "text/html" in kinds


def test_a_planned_conversion_shows_its_numbers(tmp_path: Path) -> None:
    data = write_demo_particles(tmp_path / "a<b>", n_images=7, box=16, pixel_size=3.0, n_files=1)
    particles = particles_from_star(data.star_file, data.folder_mrc)
    conversion = Conversion(particles, data.params_file, folder_output=tmp_path / "<out>", batch_size=3)
    markup = conversion._repr_html_()
    # 7 images of 17 shells x 32 in-plane angles of 8 bytes, and 16 x 16 pixels of 4; read: 16 x 16 pixels of 4.
    for wanted in (
        "3 of up to 3 images each",
        "37.6 kB in",
        "7.2 kB of 1 file",
        "17 shells × 32 in-plane angles up to 6 Å",
        "3 Å, from the table",
    ):
        expected = {"37.6 kB in": f"{7 * (17 * 32 * 8 + 16 * 16 * 4) / 1000:.1f} kB in"}.get(wanted, wanted)
        assert expected in markup
    assert "<out>" not in markup
    assert summarize_plan(conversion.plan, conversion.folder).memory_per_thread == memory_per_thread(conversion.plan)
