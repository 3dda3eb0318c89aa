"""Boxes of micrographs, converted."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryolike_dask import Conversion, ImageDescriptor, InputError, ParticleTable, particles_from_leopard_em
from cryolike_dask.errors import OutputExistsError
from cryolike_dask.leopard_em import match_template_results_to_dataframe, write_demo_micrographs, write_match_template_dataframe
from cryolike_dask.leopard_em.demo_micrographs import FALSE_POSITIVES
from cryolike_dask.runs.info import describe_output
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows

BOX = 32


def conversion(
    folder: Path, rows: list[dict[str, Any]], edge: Any = "constant", of_boxes: dict[str, Any] | None = None, **options: Any
) -> Conversion:
    """A conversion of these rows of a table, with a micrograph of 60 x 80 pixels. Only headers have been read."""
    rng = np.random.default_rng(2)
    write_mrc(folder / "mic.mrc", rng.normal(size=(60, 80)), 1.1)
    particles = particles_from_leopard_em(
        write_rows(folder / "t.csv", rows), BOX, edge=edge, folder_micrographs=folder, **of_boxes or {}
    )
    params = ImageDescriptor.from_individual_values(BOX, 1.1, resolution_factor=0.5)
    return Conversion(particles, params, folder_output=folder / "out", **{"flag_plots": False} | options)


def test_stacks_of_the_demonstration_hold_the_boxes_around_the_true_positions(tmp_path: Path) -> None:
    demo = write_demo_micrographs(tmp_path / "demo")
    picks = [
        match_template_results_to_dataframe(config, total_projections=demo.total_projections, false_positives=FALSE_POSITIVES)
        for config in demo.configs
    ]
    write_match_template_dataframe(pd.concat(picks, ignore_index=True), tmp_path / "picks.csv")
    size = 64
    particles = particles_from_leopard_em(tmp_path / "picks.csv", size, invert=True)
    params = ImageDescriptor.from_individual_values(size, 2.0, resolution_factor=0.5)
    Conversion(particles, params, folder_output=tmp_path / "out", batch_size=10, flag_plots=False).run()

    micrographs = {str(path): np.pad(mrcfile.read(path), size) for path in demo.micrographs}
    truth = demo.truth.set_index(["micrograph_path", "pos_x", "pos_y"])
    seen = []
    for counter, n in enumerate((10, 10, 4)):
        images = torch.load(tmp_path / f"out/phys/particles_phys_stack_{counter:06d}.pt", weights_only=True).numpy()
        described = np.load(tmp_path / f"out/fft/particles_fourier_stack_{counter:06d}.npz")
        assert images.shape == (n, size, size)
        table = pd.concat(picks, ignore_index=True).iloc[len(seen) : len(seen) + n]
        for k, (_, pick) in enumerate(table.iterrows()):
            key = (pick["micrograph_path"], pick["pos_x"], pick["pos_y"])
            expected = truth.loc[key]
            # The corner of the template is 8 pixels inside the box.
            y, x = pick["pos_y"] + size - 8, pick["pos_x"] + size - 8
            box = -micrographs[key[0]][y : y + size, x : x + size].astype(np.float64)
            assert np.corrcoef(images[k].ravel(), box.ravel())[0, 1] == pytest.approx(1.0, abs=1e-6)
            assert described["files"][k] == key[0]
            assert described["idxs"][k] == pick["particle_index"]
            assert np.degrees(described["anglePsi"][k]) == pytest.approx(expected["psi"], abs=1e-3)
            assert described["defocusU"][k] == pytest.approx(pick["defocus_u"] + expected["relative_defocus"])
            seen.append(key)
    assert sorted(seen) == sorted(truth.index.tolist())


def test_a_box_outside_the_micrograph_is_named_before_any_pixel_is_read(tmp_path: Path) -> None:
    rows = rows_of_page(3)
    rows[1] |= {"pos_y": 90, "pos_y_img": 102}
    with pytest.raises(InputError, match=r"t\.csv, particle 2 .*mic\.mrc.*wholly outside the micrograph of 60 × 80"):
        conversion(tmp_path, rows)
    assert not (tmp_path / "out").exists()


def test_a_box_over_the_edge_is_named_when_edges_are_errors(tmp_path: Path) -> None:
    rows = rows_of_page(3)
    rows[2] |= {"pos_y": 1, "pos_y_img": 13}
    with pytest.raises(InputError, match=r"t\.csv, particle 3 .*reaches beyond the micrograph"):
        conversion(tmp_path, rows, edge="error")
    assert conversion(tmp_path, rows, edge="reflect")


@pytest.mark.parametrize(
    ("edge", "content"), [("constant", "zeros"), ("reflect", "mirror image"), ("replicate", "outermost pixels")]
)
def test_boxes_that_are_partly_filled_are_counted(tmp_path: Path, edge: str, content: str) -> None:
    inside = {"pos_y": 14, "pos_y_img": 26, "pos_x": 14, "pos_x_img": 26}  # the box: rows and columns 10 to 41
    rows = [row | inside for row in rows_of_page(4)]
    rows[1] |= {"pos_x": 3, "pos_x_img": 15}  # the box begins at column -1
    rows[3] |= {"pos_y": 33, "pos_y_img": 45}  # the box ends at row 60, and the last row is 59
    (warning,) = (line for line in conversion(tmp_path, rows, edge).plan.warnings if "boxes of 32" in line)
    assert "2 of 4 boxes of 32 pixels" in warning
    assert "t.csv" in warning
    assert "the first is that of particle 2." in warning
    assert content in warning
    for row in (rows[1], rows[3]):
        row |= inside
    assert not any("boxes of 32" in line for line in conversion(tmp_path, rows, edge).plan.warnings)


def test_a_box_larger_than_the_micrograph_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    write_mrc(tmp_path / "mic.mrc", rng.normal(size=(BOX - 1, 80)), 1.1)
    particles = particles_from_leopard_em(write_rows(tmp_path / "t.csv", rows_of_page(1)), BOX, folder_micrographs=tmp_path)
    params = ImageDescriptor.from_individual_values(BOX, 1.1, resolution_factor=0.5)
    with pytest.raises(
        InputError, match=r"t\.csv, particle 1 .* a box of 32 pixels is larger than the micrograph of 31 × 80 pixels"
    ):
        Conversion(particles, params, folder_output=tmp_path / "out")


def test_a_missing_micrograph_is_named(tmp_path: Path) -> None:
    rows = rows_of_page(2)
    rows[1]["micrograph_path"] = "gone.mrc"
    with pytest.raises(InputError, match=r"gone\.mrc"):
        conversion(tmp_path, rows)


@pytest.mark.parametrize("column", ["pixel_size", "voltage"])
def test_optics_that_differ_between_rows_are_an_error_unless_stacks_are_split(column: str, tmp_path: Path) -> None:
    rows = rows_of_page(3)
    rows[2][column] = 1.3 if column == "pixel_size" else 200.0
    with pytest.raises(InputError, match=r"t\.csv: .*first in row 1: .*first in row 3: "):
        conversion(tmp_path, rows)
    conversion(tmp_path, rows, mixed_optics="split").run()
    stacks = [np.load(path) for path in sorted((tmp_path / "out" / "fft").glob("*.npz"))]
    assert [stack["idxs"].tolist() for stack in stacks] == [[0, 1], [2]]
    values = [float(stack[column].flat[0]) for stack in stacks]
    assert values == ([1.1, 1.3] if column == "pixel_size" else [300.0, 200.0])


def test_warnings_of_the_reader_are_shown_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row | {"mag_matrix": "1 0 0 1"} for row in rows_of_page(2)]
    with caplog.at_level(logging.WARNING, "cryolike_dask"):
        warnings = conversion(tmp_path, rows).plan.warnings
    (told,) = (record.getMessage() for record in caplog.records if "mag_matrix" in record.getMessage())
    assert told in warnings


def test_the_settings_of_boxes_are_recorded_and_shown(tmp_path: Path) -> None:
    given = {"invert": True, "use_refined": False, "template_size": 24}
    conversion(tmp_path, rows_of_page(3), "reflect", given).run()
    info = describe_output(tmp_path / "out")
    assert {name: info.settings[name] for name in ("box_size", "edge", *given)} == given | {"box_size": BOX, "edge": "reflect"}
    shown = "box size: 32 × 32 pixels; edge: reflect; invert: yes; template size: 24 × 24 pixels; refined values: no"
    assert shown in " ".join(str(info).split())
    # Not part of the identity, so that runs whose manifest does not have them can be continued.
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    boxes = {"size": BOX, "edge": "reflect", "invert": True}
    table = str(tmp_path / "t.csv")
    (source,) = manifest["identity"]["sources"]
    assert source == {"kind": "leopard-em", "table": table, "boxes": boxes, "notes": source["notes"]}
    assert np.load(tmp_path / "out" / "fft" / "particles_fourier_stack_000000.npz")["contrast"] == "invert"


def test_the_report_of_boxes_shows_their_settings(tmp_path: Path) -> None:
    conversion(tmp_path, rows_of_page(3), of_boxes={"invert": True}, flag_plots=True).run()
    words = re.sub(r"<[^>]*>|\s+", " ", (tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    for setting in ("box size 32 × 32 pixels", "invert yes", "edge constant", "refined values yes"):
        assert setting in " ".join(words.split())


def test_a_run_that_uses_other_values_of_the_table_is_not_continued(tmp_path: Path) -> None:
    rows = [row | {"refined_pos_x": row["pos_x"] + 1, "refined_pos_y": row["pos_y"]} for row in rows_of_page(3)]
    conversion(tmp_path, rows).run()
    with pytest.raises(OutputExistsError, match=r"\n  settings\.use_refined: True there, False now\n") as raised:
        conversion(tmp_path, rows, of_boxes={"use_refined": False}, skip_exist=True).run()
    assert "have changed" not in str(raised.value)


def test_the_contrast_of_tables_that_are_inverted_differently_is_mixed(tmp_path: Path) -> None:
    parts = [conversion(tmp_path, rows_of_page(2), of_boxes={"invert": invert}).plan.table for invert in (True, False)]
    params = ImageDescriptor.from_individual_values(BOX, 1.1, resolution_factor=0.5)
    Conversion(ParticleTable.concatenate(parts), params, folder_output=tmp_path / "out", flag_plots=False).run()
    assert np.load(tmp_path / "out" / "fft" / "particles_fourier_stack_000000.npz")["contrast"] == "mixed"
    assert describe_output(tmp_path / "out").settings["invert"] == [True, False]
