"""The eight statistics maps of a template match."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.maps import MatchTemplateMaps, map_paths, read_map, write_map
from tests.support.leopard_em_files import LEOPARD_EM, MAP_NAMES, write_mrc


def random_maps(shape: tuple[int, int] = (6, 9)) -> MatchTemplateMaps:
    rng = np.random.default_rng(5)
    maps = {name: rng.normal(size=shape).astype(np.float32) for name in MAP_NAMES}
    maps["correlation_variance"] = np.abs(maps["correlation_variance"]) + np.float32(0.5)
    maps["scaled_mip"] = (maps["mip"] - maps["correlation_average"]) / maps["correlation_variance"]
    return MatchTemplateMaps(**maps)


def test_maps_are_written_with_their_pixel_size_and_read_back(tmp_path: Path) -> None:
    maps = random_maps()
    paths = map_paths(tmp_path / "results" / "mic")
    maps.write(paths, 1.06)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == sorted(f"mic_{name}.mrc" for name in MAP_NAMES)
    for name in MAP_NAMES:
        with mrcfile.open(paths[name]) as mrc:
            np.testing.assert_array_equal(mrc.data, getattr(maps, name))
            assert mrc.is_single_image()
            assert (mrc.voxel_size.x, mrc.voxel_size.y) == pytest.approx((1.06, 1.06))
    read = MatchTemplateMaps.read(paths)
    for name in MAP_NAMES:
        np.testing.assert_array_equal(getattr(read, name), getattr(maps, name))


def test_maps_are_memory_mapped(tmp_path: Path) -> None:
    file = write_mrc(tmp_path / "map.mrc", np.zeros((4, 5)))
    assert isinstance(read_map(file).base, np.memmap)


def test_maps_can_be_written_over_the_files_they_were_read_from(tmp_path: Path) -> None:
    paths = map_paths(tmp_path / "mic")
    random_maps().write(paths, 1.0)
    MatchTemplateMaps.read(paths).write(paths, 2.5)
    with mrcfile.open(paths["mip"]) as mrc:
        np.testing.assert_array_equal(mrc.data, random_maps().mip)
        assert mrc.voxel_size.x == pytest.approx(2.5)


def test_same_maps_are_cropped_to_their_top_left_part() -> None:
    maps = random_maps((10, 12))
    valid = maps.cropped_to_valid(4, (10, 12))
    assert valid.shape == (7, 9)
    for name in MAP_NAMES:
        np.testing.assert_array_equal(getattr(valid, name), getattr(maps, name)[:7, :9])
    assert valid.cropped_to_valid(4, (10, 12)) is valid
    with pytest.raises(InputError, match=r"10 × 12 pixels\. A micrograph of 20 × 20 and a template of 4"):
        maps.cropped_to_valid(4, (20, 20))
    with pytest.raises(InputError, match="does not fit"):
        maps.cropped_to_valid(11, (10, 12))


def test_the_recomputed_score_is_that_of_leopard_em() -> None:
    maps = MatchTemplateMaps.read(map_paths(LEOPARD_EM / "mic0"))
    np.testing.assert_allclose(maps.recomputed_scaled_mip(), maps.scaled_mip, rtol=1e-6)
    assert maps.disagreement() is None


def test_maps_of_different_runs_are_recognised_by_their_scores() -> None:
    maps = random_maps((600, 700))
    assert maps.disagreement() is None
    other = maps.scaled_mip.copy()
    other[599, 0] += 2
    other[0, 3] += 0.5
    other[5, 5] = np.nan
    wrong = MatchTemplateMaps(**{name: getattr(maps, name) for name in MAP_NAMES} | {"scaled_mip": other})
    text = wrong.disagreement()
    assert text is not None
    assert "at 2 of 420,000 positions (by up to 2)" in text


def test_positions_without_deviation_do_not_count_as_disagreement() -> None:
    maps = {name: np.zeros((3, 3), dtype=np.float32) for name in MAP_NAMES}
    assert MatchTemplateMaps(**maps).disagreement() is None


def test_maps_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    paths = map_paths(tmp_path / "mic")
    random_maps().write(paths, 1.0)
    write_mrc(Path(paths["orientation_phi"]), np.zeros((6, 8)))
    with pytest.raises(InputError, match=r"mic_orientation_phi\.mrc has 6 × 8 pixels and .*mic_mip\.mrc has 6 × 9"):
        MatchTemplateMaps.read(paths)
    Path(paths["orientation_phi"]).unlink()
    with pytest.raises(InputError, match=r"mic_orientation_phi\.mrc does not exist"):
        MatchTemplateMaps.read(paths)
    del paths["orientation_phi"]
    with pytest.raises(InputError, match="No file is named for the statistics maps orientation_phi"):
        MatchTemplateMaps.read(paths)


def test_a_stack_is_refused_as_a_map(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "stack.mrcs") as mrc:
        mrc.set_data(np.zeros((3, 4, 4), dtype=np.float32))
    with pytest.raises(InputError, match="holds 3 images"):
        read_map(tmp_path / "stack.mrcs")


def test_maps_with_scores_that_are_not_finite_are_written_silently(tmp_path: Path) -> None:
    write_map(tmp_path / "map.mrc", np.array([[np.nan, np.inf], [0, 1]], dtype=np.float32), 1.0)
    np.testing.assert_array_equal(read_map(tmp_path / "map.mrc"), [[np.nan, np.inf], [0, 1]])


@pytest.mark.parametrize("pixel_size", [0.0, -1.0, float("nan")])
def test_an_invalid_pixel_size_is_refused(tmp_path: Path, pixel_size: float) -> None:
    with pytest.raises(InputError, match="pixel_size"):
        random_maps().write(map_paths(tmp_path / "mic"), pixel_size)
