"""Boxes cut from micrographs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from cryolike_dask.mrc.boxes import BoxCut, EdgeMode, boxes_outside, boxes_over_edge, cut_boxes
from tests.support.leopard_em_files import LEOPARD_EM

EDGES = ("constant", "reflect", "replicate")  # their order in boxes.npz
NUMPY_MODE = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def cut(image: np.ndarray, top: int, left: int, box: BoxCut) -> np.ndarray:
    out = np.full((1, box.size, box.size), np.nan, dtype=np.float32)
    cut_boxes(image, [top], [left], box, out)
    return out[0]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("kind", "table"), [("match", "all_results.csv"), ("refined", "refined_results.csv")])
def test_boxes_equal_those_of_leopard_em(kind: str, table: str, edge: EdgeMode) -> None:
    import mrcfile

    particles = particles_from_leopard_em(LEOPARD_EM / table, 32, edge=edge, folder_micrographs=LEOPARD_EM)
    boxes = np.empty((len(particles), 32, 32), dtype=np.float32)
    for position, file in enumerate(particles.files):
        rows = np.flatnonzero(particles["file"] == position)
        part = np.empty((len(rows), 32, 32), dtype=np.float32)
        with mrcfile.mmap(file) as mrc:
            cut_boxes(mrc.data, particles["top"][rows], particles["left"][rows], BoxCut(32, edge), part)
        boxes[rows] = part
    np.testing.assert_array_equal(boxes, np.load(LEOPARD_EM / "boxes.npz")[f"{kind}_boxes"][:, EDGES.index(edge)])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(NUMPY_MODE)),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(2, 12),
    st.integers(-30, 30),
    st.integers(-30, 30),
)
def test_every_edge_mode_equals_a_padded_micrograph(
    edge: EdgeMode, rows: int, columns: int, size: int, top: int, left: int
) -> None:
    image = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    # NumPy mirrors back and forth as often as the padding needs.
    padded = np.pad(image, 50, mode=NUMPY_MODE[edge])
    expected = padded[top + 50 : top + 50 + size, left + 50 : left + 50 + size]
    np.testing.assert_array_equal(cut(image, top, left, BoxCut(size, edge)), expected)


def test_inverted_boxes_have_the_other_sign_and_no_negative_zeros() -> None:
    image = np.ones((4, 4), dtype=np.float32)
    box = cut(image, -1, -1, BoxCut(3, invert=True))
    np.testing.assert_array_equal(box, [[0, 0, 0], [0, -1, -1], [0, -1, -1]])
    assert not np.signbit(box[0]).any()


def test_a_box_over_the_edge_is_refused_when_edges_are_errors() -> None:
    image = np.zeros((8, 8), dtype=np.float32)
    np.testing.assert_array_equal(cut(image, 5, 0, BoxCut(3, "error")), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="beyond the micrograph"):
        cut(image, 6, 0, BoxCut(3, "error"))


def test_masks_find_boxes_outside_and_over_the_edge() -> None:
    n_rows, n_columns, size = 7, 5, 3
    top, left = (grid.ravel() for grid in np.meshgrid(np.arange(-5, 10), np.arange(-5, 10), indexing="ij"))
    seen = np.pad(np.ones((n_rows, n_columns)), 10)
    pixels = np.array([seen[t + 10 : t + 10 + size, x + 10 : x + 10 + size].sum() for t, x in zip(top, left, strict=True)])
    np.testing.assert_array_equal(boxes_outside(top, left, size, n_rows, n_columns), pixels == 0)
    np.testing.assert_array_equal(boxes_over_edge(top, left, size, n_rows, n_columns), pixels < size**2)
