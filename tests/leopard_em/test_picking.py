"""Picking particles from statistics maps."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.maps import map_paths
from cryolike_dask.leopard_em.picking import find_peaks, gaussian_noise_z_score_cutoff, match_template_results_to_dataframe
from cryolike_dask.leopard_em.search import MatchOptics, MatchTemplateSearch
from cryolike_dask.leopard_em.tables import write_match_template_dataframe
from tests.support.leopard_em_files import LEOPARD_EM, MAP_NAMES, write_config, write_mrc, write_search

REFERENCE_DEFOCUS = {0: 12000.0, 1: 12500.0}


def reference_search(number: int) -> MatchTemplateSearch:
    defocus = REFERENCE_DEFOCUS[number]
    optics = MatchOptics(1.1, 300.0, 2.7, 0.07, defocus, defocus - 300.0, 33.0, 0.0, 50.0)
    return MatchTemplateSearch(f"micrograph_{number}.mrc", "template.mrc", map_paths(f"mic{number}"), optics)


def pick(config: Path, **options: Any) -> pd.DataFrame:
    return match_template_results_to_dataframe(config, **({"z_score_cutoff": 5.0} | options))


def scores_with(peaks: dict[tuple[int, int], float], shape: tuple[int, int] = (40, 50)) -> dict[str, Any]:
    scores = np.zeros(shape, dtype=np.float32)
    for place, score in peaks.items():
        scores[place] = score
    return {"scaled_mip": scores}


@pytest.mark.parametrize("number", [0, 1])
def test_picked_tables_equal_those_of_leopard_em(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LEOPARD_EM)
    picked = match_template_results_to_dataframe(reference_search(number), total_projections=20000)
    assert picked.attrs["warnings"] == []
    expected = pd.read_csv(f"mic{number}_results.csv", index_col=0)
    assert list(picked.columns) == list(expected.columns)
    for name in expected:
        if name.endswith("_path"):
            assert picked[name].tolist() == expected[name].tolist()
        elif expected[name].dtype == np.int64:
            assert picked[name].dtype == np.int64
            np.testing.assert_array_equal(picked[name], expected[name])
        elif expected[name].notna().any():
            np.testing.assert_allclose(picked[name], expected[name], rtol=1e-6)
        else:
            assert picked[name].isna().all()
    write_match_template_dataframe(picked, tmp_path / "picked.csv")
    assert (tmp_path / "picked.csv").read_bytes() == Path(f"mic{number}_results.csv").read_bytes()


def test_same_maps_give_the_picks_of_valid_maps(tmp_path: Path) -> None:
    import mrcfile

    files = {}
    for name in MAP_NAMES:
        with mrcfile.open(LEOPARD_EM / f"mic0_{name}.mrc") as mrc:
            # Scores outside the valid part are meaningless; the largest ones are put there.
            same = np.full((96, 120), 99.0, dtype=np.float32)
            same[:73, :97] = mrc.data
        files[name] = write_mrc(tmp_path / f"{name}.mrc", same)
    config = write_config(tmp_path / "match.yaml", LEOPARD_EM / "micrograph_0.mrc", files)
    picked = pick(config, z_score_cutoff=None, total_projections=20000, template_size=24)
    expected = pd.read_csv(LEOPARD_EM / "mic0_results.csv")
    for name in ("pos_x", "pos_y", "pos_x_img", "pos_y_img"):
        np.testing.assert_array_equal(picked[name], expected[name])
    np.testing.assert_allclose(picked["scaled_mip"], expected["scaled_mip"], rtol=1e-6)
    with pytest.raises(InputError, match=r"size of the template is not known.*Give template_size"):
        pick(config)
    write_config(config, LEOPARD_EM / "micrograph_0.mrc", files, template_volume_path=str(tmp_path / "template.mrc"))
    with mrcfile.new(tmp_path / "template.mrc") as mrc:
        mrc.set_data(np.zeros((24, 24, 24), dtype=np.float32))
    pd.testing.assert_frame_equal(
        pick(config).drop(columns="template_path"), pick(config, template_size=24).drop(columns="template_path")
    )


def test_the_cutoff_is_the_one_published_for_this_search() -> None:
    assert gaussian_noise_z_score_cutoff(3585**2, 20_670_000) == pytest.approx(7.7753, abs=5e-5)
    assert gaussian_noise_z_score_cutoff(1, 1, 0.5) == pytest.approx(0.0, abs=1e-12)


def test_only_scores_strictly_above_the_cutoff_are_picked(tmp_path: Path) -> None:
    config = write_search(tmp_path, scores_with({(5, 5): 5.0, (20, 20): np.nextafter(np.float32(5), np.float32(6))}), (51, 61))
    assert pick(config)[["pos_y", "pos_x"]].to_numpy().tolist() == [[20, 20]]


def test_scores_are_compared_in_single_precision_as_in_leopard_em(tmp_path: Path) -> None:
    # In single precision, both 7.2 and 7.1999999 are 7.1999998, so neither is strictly above the other.
    config = write_search(tmp_path, scores_with({(5, 5): 7.2, (20, 20): np.nextafter(np.float32(7.2), np.float32(8))}), (51, 61))
    assert float(np.float32(7.2)) < 7.1999999
    for cutoff, n_picks in ((7.2, 1), (7.1999999, 1), (7.1999992, 2), (7.2000003, 0), (1e300, 0)):
        assert len(pick(config, z_score_cutoff=cutoff)) == n_picks, cutoff
        with np.errstate(over="ignore"):
            single = np.float32(cutoff)
        assert n_picks == int(np.float32(7.2) > single) + int(np.nextafter(np.float32(7.2), np.float32(8)) > single)


def test_weaker_picks_closer_than_the_mask_radius_are_suppressed(tmp_path: Path) -> None:
    peaks = {
        (10, 10): 9.0,
        (13, 13): 8.0,  # 4.2 away: suppressed
        (13, 14): 7.0,  # exactly 5 away, and its suppressed neighbour does not suppress it: kept
        (30, 30): 6.0,
        (30, 35): 8.5,  # exactly 5 away: both are kept
        (39, 49): 10.0,
    }
    picked = pick(write_search(tmp_path, scores_with(peaks), (51, 61)))
    assert picked[["pos_y", "pos_x"]].to_numpy().tolist() == [[39, 49], [10, 10], [30, 35], [13, 14], [30, 30]]
    assert picked["particle_index"].tolist() == [0, 1, 2, 3, 4]
    assert len(pick(tmp_path / "match.yaml", mask_radius=0)) == 6
    assert len(pick(tmp_path / "match.yaml", mask_radius=5.1)) == 3


def test_suppression_is_that_of_comparing_every_pair() -> None:
    rng = np.random.default_rng(11)
    scores = rng.normal(size=(30, 35)).astype(np.float32)
    rows, columns = np.nonzero(scores > 0.3)
    for radius in (1.0, 2.5, 5.0, 7.3):
        order = sorted(range(len(rows)), key=lambda k: -scores[rows[k], columns[k]])
        kept: list[int] = []
        for k in order:
            if all((rows[k] - rows[j]) ** 2 + (columns[k] - columns[j]) ** 2 >= radius**2 for j in kept):
                kept.append(k)
        assert find_peaks(scores, rows, columns, radius).tolist() == kept


def test_of_equal_scores_the_first_in_the_map_wins() -> None:
    scores = np.ones((30, 30), dtype=np.float32)
    rows, columns = np.nonzero(scores)
    kept = find_peaks(scores, rows, columns, 100.0)
    assert (rows[kept].tolist(), columns[kept].tolist()) == ([0], [0])


def test_values_of_the_other_maps_are_those_at_the_pick(tmp_path: Path) -> None:
    place = (7, 9)
    maps = {name: np.zeros((40, 50), dtype=np.float32) for name in MAP_NAMES}
    for k, name in enumerate(MAP_NAMES):
        maps[name][place] = 10.0 + k
    row = pick(write_search(tmp_path, maps, (51, 61))).iloc[0]
    assert [row[name] for name in ("mip", "scaled_mip", "correlation_mean", "correlation_variance")] == [10, 11, 12, 13]
    assert [row[name] for name in ("psi", "theta", "phi", "relative_defocus")] == [14, 15, 16, 17]
    # The template has 51 - 40 + 1 = 12 pixels.
    assert [row[name] for name in ("pos_x", "pos_y", "pos_x_img", "pos_y_img")] == [9, 7, 15, 13]
    assert row["pos_x_img_angstrom"] == pytest.approx(15 * 1.1)
    assert row["total_correlations"] == 0


def test_picking_on_another_map(tmp_path: Path) -> None:
    maps = scores_with({(5, 5): 9.0}) | {"mip": scores_with({(20, 30): 7.0})["scaled_mip"]}
    picked = pick(write_search(tmp_path, maps, (51, 61)), pick_on="mip")
    assert picked[["pos_y", "pos_x"]].to_numpy().tolist() == [[20, 30]]


def test_maps_that_disagree_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maps = scores_with({(5, 5): 9.0}) | {"mip": np.zeros((40, 50))}
    config = write_search(tmp_path, maps, (51, 61))
    with caplog.at_level(logging.WARNING):
        picked = pick(config)
    assert len(picked) == 1
    assert "different runs" in picked.attrs["warnings"][0]
    assert str(config) in caplog.text


def test_scores_that_are_not_finite_are_not_picked_and_counted(tmp_path: Path) -> None:
    config = write_search(tmp_path, scores_with({(1, 1): np.nan, (3, 30): np.inf, (9, 9): 6.0}), (51, 61))
    picked = pick(config)
    assert picked[["pos_y", "pos_x"]].to_numpy().tolist() == [[9, 9]]
    assert any("2 scores of" in line and "not finite" in line for line in picked.attrs["warnings"])


def test_nothing_above_the_cutoff_gives_an_empty_table_of_39_columns(tmp_path: Path) -> None:
    picked = pick(write_search(tmp_path, scores_with({}), (51, 61)))
    assert picked.shape == (0, 39)
    assert "no score is above the cutoff 5.0000" in picked.attrs["warnings"][0]
    write_match_template_dataframe(picked, tmp_path / "empty.csv")


def saved(folder: Path, **result: Any) -> Path:
    """A configuration as Leopard-EM saves it after a search."""
    config = write_search(folder, scores_with({(5, 5): 9.0}), (51, 61))
    content = yaml.safe_load(config.read_text())
    content["match_template_result"] |= result
    config.write_text(yaml.safe_dump(content))
    return config


def test_projections_are_counted_by_a_saved_configuration(tmp_path: Path) -> None:
    config = saved(tmp_path, total_projections=20_000, total_orientations=2_000, total_defocus=10)
    picked = match_template_results_to_dataframe(config)
    assert picked.attrs["z_score_cutoff"] == gaussian_noise_z_score_cutoff(40 * 50, 20_000)
    assert picked["total_correlations"].tolist() == [20_000]
    assert match_template_results_to_dataframe(config, total_projections=5)["total_correlations"].tolist() == [5]


def test_a_configuration_saved_before_the_search_has_no_number_of_projections(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="total_projections, --total-projections"):
        match_template_results_to_dataframe(saved(tmp_path, total_projections=0))
    with pytest.raises(InputError, match=r"match\.yaml: match_template_result: total_projections is 'many'"):
        match_template_results_to_dataframe(saved(tmp_path, total_projections="many"))


def test_zernike_coefficients_are_written_as_json(tmp_path: Path) -> None:
    config = saved(tmp_path)
    content = yaml.safe_load(config.read_text())
    zernikes = {"even_zernikes": {"Z44c": 0.5, "Z60": -1e-3}, "odd_zernikes": {"Z31c": 2.0}}
    content["optics_group"] |= zernikes | {"mag_matrix": [1.01, 0.0, 0.0, 0.99]}
    config.write_text(yaml.safe_dump(content))
    write_match_template_dataframe(pick(config), tmp_path / "picks.csv")
    row = pd.read_csv(tmp_path / "picks.csv").iloc[0]
    assert {name: json.loads(row[name]) for name in zernikes} == zernikes
    assert [float(value) for value in row["mag_matrix"].strip("[]").split(",")] == [1.01, 0.0, 0.0, 0.99]


def test_optics_with_a_default_in_leopard_em_may_be_absent(tmp_path: Path) -> None:
    config = saved(tmp_path)
    content = yaml.safe_load(config.read_text())
    for name in ("spherical_aberration", "amplitude_contrast_ratio", "phase_shift", "ctf_B_factor"):
        del content["optics_group"][name]
    config.write_text(yaml.safe_dump(content))
    row = pick(config).iloc[0]
    columns = ["spherical_aberration", "amplitude_contrast_ratio", "phase_shift", "ctf_B_factor"]
    assert row[columns].tolist() == [2.7, 0.07, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("voltage", 0.0, "voltage is 0 kV, but must be between 10 and 1,500 kV"),
        ("voltage", 300_000.0, r"it looks like volts \(300 kV\)"),
        ("spherical_aberration", -1.0, "spherical_aberration is -1 mm"),
        ("amplitude_contrast_ratio", 7.0, r"it looks like percent \(0.07\)"),
        ("defocus_u", 1e9, "defocus_u is 1000000000 Å"),
    ],
)
def test_optics_of_no_microscope_are_refused(tmp_path: Path, name: str, value: float, told: str) -> None:
    config = saved(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["optics_group"][name] = value
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=rf"match\.yaml: optics_group: .*{told}"):
        pick(config)


def test_without_totals_or_cutoff_the_user_is_asked_for_one(tmp_path: Path) -> None:
    config = write_search(tmp_path, scores_with({}), (51, 61))
    with pytest.raises(InputError, match=r"match\.yaml: the cutoff needs.*total_projections.*z_score_cutoff"):
        match_template_results_to_dataframe(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"z_score_cutoff": None, "total_projections": 0}, r"total_projections \(--total-projections\) is 0"),
        ({"z_score_cutoff": None, "total_projections": 2.5}, r"total_projections \(--total-projections\) is 2.5"),
        ({"z_score_cutoff": float("nan")}, r"z_score_cutoff \(--z-score-cutoff\) is nan"),
        ({"z_score_cutoff": None, "total_projections": 10, "false_positives": 0}, r"false_positives \(--false-positives\) is 0"),
        ({"z_score_cutoff": None, "total_projections": 10, "false_positives": 1e9}, "more than the 20,000 correlations"),
        ({"mask_radius": -1}, r"mask_radius \(--mask-radius\) is -1"),
        ({"pick_on": "psi"}, "pick_on is 'psi': choose one of 'scaled_mip', 'mip'"),
        ({"template_size": 12.0}, r"template_size \(--template-size\) is 12.0"),
        ({"template_size": 13}, "give maps of that size, or of 39 × 49"),
        ({"template_size": 100}, "does not fit a micrograph"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pick(write_search(tmp_path, scores_with({}), (51, 61)), **options)


def test_maps_of_another_micrograph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"40 × 50 pixels and the micrograph .* has 51 × 60: no square template"):
        pick(write_search(tmp_path, scores_with({}), (51, 60)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micrograph_path": None}, "micrograph_path is not given"),
        ({"match_template_result": None}, "no section match_template_result"),
        ({"match_template_result": {"mip_path": "a.mrc"}}, "scaled_mip_path is not given"),
        ({"optics_group": {"pixel_size": 1.0}}, "optics_group has no voltage"),
        ({"micrograph_path": "missing.mrc"}, r"match.yaml names .*missing.mrc, which does not exist. Correct the paths there"),
    ],
)
def test_an_incomplete_configuration_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pick(write_search(tmp_path, scores_with({}), (51, 61), **changes))


def test_optics_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    optics = dict.fromkeys(("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast_ratio", "astigmatism_angle"), 1.0)
    optics |= {"defocus_u": "deep", "defocus_v": 1.0}
    with pytest.raises(InputError, match=r"match\.yaml: optics_group: defocus_u is 'deep', not a finite number"):
        pick(write_search(tmp_path, scores_with({}), (51, 61), optics_group=optics))


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("micrograph_path: [unclosed")
    with pytest.raises(InputError, match=r"bad\.yaml is not a YAML file"):
        pick(tmp_path / "bad.yaml")
    with pytest.raises(InputError, match=r"missing\.yaml does not exist"):
        pick(tmp_path / "missing.yaml")
