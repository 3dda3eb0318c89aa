"""Reading and writing Leopard-EM's tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.leopard_em.columns import MATCH_COLUMNS
from cryolike_dask.leopard_em.tables import read_match_template_dataframe, write_match_template_dataframe
from tests.support.leopard_em_files import LEOPARD_EM, rows_of_page, write_rows


@pytest.mark.parametrize("name", ["mic0_results.csv", "all_results.csv", "refined_results.csv"])
def test_a_table_that_is_read_and_written_is_the_same_file(name: str, tmp_path: Path) -> None:
    write_match_template_dataframe(read_match_template_dataframe(LEOPARD_EM / name), tmp_path / name)
    assert (tmp_path / name).read_bytes() == (LEOPARD_EM / name).read_bytes()


def test_columns_and_their_order_are_those_of_leopard_em() -> None:
    header = (LEOPARD_EM / "all_results.csv").read_text().splitlines()[0].split(",")[1:]
    assert list(MATCH_COLUMNS) == header
    assert len(MATCH_COLUMNS) == 39


def test_numbers_have_the_types_of_the_program() -> None:
    table = read_match_template_dataframe(LEOPARD_EM / "refined_results.csv")
    for name in ("particle_index", "total_correlations", "pos_x", "pos_y_img", "refined_pos_x"):
        assert table[name].dtype == np.int64
    for name in ("mip", "scaled_mip", "correlation_mean", "correlation_variance", "phi", "theta", "psi", "relative_defocus"):
        assert table[name].dtype == np.float32
    for name in ("defocus_u", "pixel_size", "voltage", "ctf_B_factor", "pos_x_img_angstrom"):
        assert table[name].dtype == np.float64


def test_an_older_table_is_written_with_all_39_columns(tmp_path: Path) -> None:
    older = read_match_template_dataframe(write_rows(tmp_path / "older.csv", rows_of_page(2)))
    assert len(older.columns) == 34
    write_match_template_dataframe(older, tmp_path / "all.csv")
    written = pd.read_csv(tmp_path / "all.csv", index_col=0)
    assert tuple(written.columns) == MATCH_COLUMNS
    assert written["particle_index"].tolist() == [0, 1]
    assert written["refined_pixel_size"].tolist() == [1.1, 1.1]
    assert written[["even_zernikes", "odd_zernikes", "mag_matrix"]].isna().all(axis=None)
    assert written["phi"].tolist() == [90.0, 91.0]
    assert written["psi"].tolist() == [30.0, 31.0]


def test_columns_of_the_user_are_kept_at_the_end(tmp_path: Path) -> None:
    table = read_match_template_dataframe(write_rows(tmp_path / "a.csv", [{"note": "good"} | row for row in rows_of_page(1)]))
    write_match_template_dataframe(table, tmp_path / "b.csv")
    assert pd.read_csv(tmp_path / "b.csv", index_col=0).columns[-1] == "note"


def test_columns_of_a_constrained_search_keep_their_place(tmp_path: Path) -> None:
    offsets = [f"original_offset_{angle}" for angle in ("phi", "theta", "psi")]
    angles = [f"refined_{angle}" for angle in ("phi", "theta", "psi")]
    rows = [row | dict.fromkeys([*offsets, *angles, "refined_relative_defocus"], 1.5) for row in rows_of_page(1)]
    write_match_template_dataframe(read_match_template_dataframe(write_rows(tmp_path / "a.csv", rows)), tmp_path / "b.csv")
    columns = list(pd.read_csv(tmp_path / "b.csv", index_col=0))
    first = columns.index(angles[0])
    assert columns[first : first + 8] == [*angles, *offsets, "relative_defocus", "refined_relative_defocus"]


def test_an_old_index_does_not_become_a_column(tmp_path: Path) -> None:
    write_match_template_dataframe(pd.read_csv(LEOPARD_EM / "all_results.csv"), tmp_path / "a.csv")
    assert pd.read_csv(tmp_path / "a.csv", index_col=0).columns.tolist() == list(MATCH_COLUMNS)


def test_a_table_without_an_index_column_is_read(tmp_path: Path) -> None:
    row = rows_of_page(1)[0]
    (tmp_path / "a.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    assert read_match_template_dataframe(tmp_path / "a.csv")["pos_x"].tolist() == [10]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    empty = read_match_template_dataframe(write_rows(tmp_path / "a.csv", rows_of_page(1))).iloc[:0]
    write_match_template_dataframe(empty, tmp_path / "b.csv")
    again = read_match_template_dataframe(tmp_path / "b.csv")
    assert len(again) == 0
    assert set(again.columns) == set(MATCH_COLUMNS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"\xff\x01\x02pos_x\xff", "not a CSV table"),
        (b"\xff\xfe\x00pos_x\xff", "UTF-16 text"),
        (b"pos_x,pos_y,pos_x\n1,2,3\n", "more than one column named pos_x"),
        (b"pos_x,pos_y\n1,2\n3,4,5\n", "line 3"),
        (b"pos_x;pos_y\n1;2\n", "its columns are separated by semicolons"),
        (b"\xef\xbb\xbf;pos_x;pos_y\r\n0;1,5;2,5\r\n", "Save it with commas between the columns and points in the numbers."),
        (b"pos_x\tpos_y\n1\t2\n", "its columns are separated by tabs"),
        (b"# version 30001\n\ndata_optics\n\nloop_\n", "STAR file, not a CSV table of Leopard-EM: give the CSV table"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_match_template_dataframe(file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_a_word_among_the_numbers_is_named_by_row(tmp_path: Path) -> None:
    rows = rows_of_page(3)
    rows[2]["mip"] = "high"
    with pytest.raises(InputError, match="row 3: mip is 'high', not a number"):
        read_match_template_dataframe(write_rows(tmp_path / "a.csv", rows))


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    table = read_match_template_dataframe(write_rows(tmp_path / "a.csv", rows_of_page(1)))
    (tmp_path / "folder").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        write_match_template_dataframe(table, tmp_path / "folder" / "b.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "folder"]
