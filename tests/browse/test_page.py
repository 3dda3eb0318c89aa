"""The content of a page: its values, its rows, its images, and what it says if it cannot show everything."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cryolike_dask import (
    Conversion,
    ImageDescriptor,
    InputError,
    OutputError,
    ParticleTable,
    browse_particles,
    particles_from_cryosparc_job,
    particles_from_leopard_em,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
)
from cryolike_dask.browse import tiles
from tests.browse.conftest import BOX, CONSTANT_ROW, LOW_PASS, N, Page, data_of, filtered, power_of
from tests.support import cs_files
from tests.support.direct_transform import converted, polar_grid
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows
from tests.support.markup import Elements
from tests.support.particle_sets import PIXEL_SIZE, ParticleSet, params, write_particle_set, write_star


def table_of(particles: ParticleSet) -> ParticleTable:
    return particles_from_star(particles.star, particles.mrc)


def tiles_of(page: str) -> npt.NDArray[np.float64]:
    """(n, rows, columns) tiles, cut from the sheets."""
    data = data_of(page)
    (height, width), (rows, columns) = data["cell"], data["tile"]
    found = []
    for sheet in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page):
        with Image.open(io.BytesIO(base64.b64decode(sheet))) as picture:
            pixels = np.asarray(picture, dtype=np.float64)
        cells = pixels.reshape(pixels.shape[0] // height, height, data["columns"], width).transpose(0, 2, 1, 3)
        found.append(cells.reshape(-1, height, width)[:, :rows, :columns])
    return np.concatenate(found)[: len(data["rows"])]


def test_values_are_those_of_table_and_images(page: Page) -> None:
    data, listed = data_of(page.text), page.particles.listed
    assert data["rows"] == list(range(N))
    assert [(data["files"][file], image) for file, image in zip(data["file"], data["image"], strict=True)] == [
        (name, f"image {index + 1}") for name, index in listed
    ]
    assert data["defocus"] == [round((10000.5 + 9900.25) / 2 + 10 * row) for row in range(N)]
    power = np.array([power_of(page.particles.image(row)) for row in range(N)])
    np.testing.assert_allclose(data["power"], 100 * power, rtol=6e-4)
    assert (data["power"][CONSTANT_ROW], data["score"][CONSTANT_ROW]) == (0, 100)


def test_the_outlier_score_is_the_formula_that_the_page_states(page: Page) -> None:
    data = data_of(page.text)
    good = np.arange(N) != CONSTANT_ROW
    logarithm = np.log([power_of(page.particles.image(row)) for row in np.flatnonzero(good)])
    distance = np.abs(logarithm - np.median(logarithm))
    np.testing.assert_allclose(np.array(data["score"])[good], distance / (1.4826 * np.median(distance)), atol=0.011)
    assert "1.4826 times the median absolute deviation" in " ".join(Elements(page.text).text.split())


def test_a_page_says_which_images_are_bad(page: Page, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warning = re.search(r'<div class="warning">([^<]*)</div>', page.text)
    assert warning is not None
    assert warning[1] == f"1 bad image, constant or not finite, is shown black: row {CONSTANT_ROW}."
    assert not tiles_of(page.text)[CONSTANT_ROW].any()
    made = browse_particles(table_of(page.particles), tmp_path / "page.html", where=f"row == {CONSTANT_ROW}", progress=False)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [warning[1]] == list(made.warnings)


def test_a_page_loads_nothing_and_names_its_script(page: Page) -> None:
    elements = Elements(page.text)
    assert elements.open == []
    loaded = [value for _, name, value in elements.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert len(loaded) == -(-N // 256)
    assert all(value.startswith("data:image/jpeg;base64,") for value in loaded)
    assert not re.search(r"https?:|//\w+\.\w|url\(|@import|<link|<iframe", re.sub(r'"data:[^"]*"', "", page.text))
    (policy,) = [value for tag, name, value in elements.attributes if tag == "meta" and value.startswith("default-src 'none'")]
    (script,) = re.findall("<script>(.*?)</script>", page.text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_images_of_large_boxes_become_small_and_stay_what_they_are(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "<i>", {"a&b.mrcs": 9}, box=(60, 48), pixel_size=PIXEL_SIZE)
    made = browse_particles(table_of(particles), tmp_path / "page.html", low_pass=5.0, tile_size=20, progress=False)
    assert made.tile == (20, 16)
    assert made.low_pass == 2.5 * PIXEL_SIZE * 3  # as coarse as pixels of three times the size need it
    text = made.path.read_text(encoding="utf-8")
    assert "i" not in Elements(text).tags
    assert data_of(text)["files"] == ["a&b.mrcs"]
    for row, tile in enumerate(tiles_of(text)):
        wanted = filtered(particles.image(row), low_pass=made.low_pass)[::3, ::3]
        assert np.corrcoef(tile.ravel(), wanted.ravel())[0, 1] > 0.99


def test_of_too_many_particles_a_random_sample_is_shown_and_announced(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(page.particles)
    monkeypatch.setattr(tiles, "MOST_PARTICLES", 50)
    made = browse_particles(table, tmp_path / "page.html", seed=3, where="row < 300", progress=False)
    assert "50 of 300, drawn at random with the seed 3" in str(made)
    text = made.path.read_text(encoding="utf-8")
    assert "shows 50 particles of 300, drawn at random. The saved file leaves out the other 250" in " ".join(
        Elements(text).text.split()
    )
    rows, unseen = data_of(text)["rows"], np.reshape(data_of(text)["unseen"], (-1, 2))
    others = [row for first, last in unseen for row in range(first, last + 1)]
    assert sorted(rows + others) == list(range(300))
    assert browse_particles(table, tmp_path / "page.html", sample=60, progress=False).n_shown == 60


@pytest.fixture(scope="module")
def stacks(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stacks of the particles in 40 rows, in reverse order, converted by file with RELION's axes."""
    out = tmp_path_factory.mktemp("stacks") / "out"
    options: dict[str, Any] = {"ind": range(1200, 1240), "order": "file", "axes": "relion", "on_bad_image": "zero"}
    Conversion(table_of(page.particles), params(box=20), folder_output=out, batch_size=15, flag_plots=False, **options).run()
    return out


def test_rows_of_stacks_are_those_of_their_table(page: Page, stacks: Path) -> None:
    made = browse_particles(stacks, stacks.parent / "page.html", low_pass=LOW_PASS, progress=False)
    assert f"{page.particles.star} as it was converted" in made.rows_of
    text = made.path.read_text(encoding="utf-8")
    data, whole = data_of(text), data_of(page.text)
    assert sorted(data["rows"]) == list(range(1200, 1240))
    for place, row in enumerate(data["rows"]):
        assert (data["files"][data["file"][place]], data["image"][place]) == (
            whole["files"][whole["file"][row]],
            whole["image"][row],
        )
        assert data["defocus"][place] == whole["defocus"][row]
        assert data["power"][place] == pytest.approx(whole["power"][row], rel=1e-3)
        if row != CONSTANT_ROW:  # as on disk, although x is along the columns in these stacks
            shown = filtered(page.particles.image(row))
            assert np.corrcoef(tiles_of(text)[place].ravel(), shown.ravel())[0, 1] > 0.99
    assert made.warnings == (f"1 bad image, constant or not finite, is shown black: row {CONSTANT_ROW}.",)
    others = browse_particles(stacks, stacks.parent / "page.html", where=f"row != {CONSTANT_ROW}", progress=False)
    assert others.warnings == ()


def test_stacks_without_images_in_real_space_are_shown_from_their_transforms(page: Page, tmp_path: Path) -> None:
    box = 40
    particles = write_particle_set(tmp_path / "in", {"a.mrcs": 6}, box=box)
    Conversion(table_of(particles), params(box=box), folder_output=tmp_path / "out", save_phys=False, flag_plots=False).run()
    made = browse_particles(tmp_path / "out", tmp_path / "page.html", low_pass=16.0, tile_size=20, progress=False)
    text = made.path.read_text(encoding="utf-8")
    central = np.hypot(*(np.mgrid[:20, :20] - 10)) < 0.3 * 20
    for row, tile in enumerate(tiles_of(text)):
        image = particles.image(row)
        wanted = filtered(image, low_pass=made.low_pass)
        assert np.corrcoef(tile[central], wanted[::2, ::2][central])[0, 1] > 0.9
        # The power is that of a disc of frequencies instead of a square.
        share = wanted.var() / filtered(image, low_pass=2 * PIXEL_SIZE).var()
        assert data_of(text)["power"][row] == pytest.approx(100 * share, rel=0.25)


def test_if_rows_of_the_table_are_not_known_rows_of_particles_star_are_used(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "in", {"a.mrcs": 3, "b.mrcs": 2})
    for name, n in (("a", 3), ("b", 2)):
        write_star(tmp_path / "in" / f"{name}.star", [(f"{name}.mrcs", index) for index in range(n)])
    images, stars = (
        [folder / f"{name}.{ending}" for name in "ab"] for folder, ending in ((particles.mrc, "mrcs"), (tmp_path / "in", "star"))
    )
    paired = particles_from_paired_star_and_mrc_files(images, stars)
    assert data_of(page_text(paired, tmp_path, pixel_size=PIXEL_SIZE))["rows"] == [0, 1, 2, 3, 4]
    out = tmp_path / "out"
    Conversion(paired, params(), folder_output=out, where="row > 0", flag_plots=False).run()
    made = browse_particles(out, tmp_path / "page.html", progress=False)
    assert f"Rows are those of {out / 'particles.star'}" in made.rows_of
    assert data_of(made.path.read_text(encoding="utf-8"))["rows"] == [0, 1, 2]
    # Its rows 1 and 2 are the last images of both files.
    again = particles_from_star(out / "particles.star")
    assert [(Path(again.files[again["file"][row]]).name, again["index"][row]) for row in (1, 2)] == [("a.mrcs", 2), ("b.mrcs", 1)]


def test_rows_of_a_job_count_only_rows_with_an_image(tmp_path: Path) -> None:
    job = tmp_path / "P1" / "J4"
    names = {f"batch_{number}_downsample.mrc": 4 for number in (0, 1, 3)}  # the last file comes after a gap
    paths = [f"J4/downsample/{name}" for name in sorted(names, reverse=True) for _ in range(4)]
    cs_files.write_cs(job / "J4_passthrough_particles.cs", {"uid": cs_files.uids(12), **cs_files.ctf_columns(12)})
    cs_files.write_cs(
        job / "downsampled_particles.cs", {"uid": cs_files.uids(12), **cs_files.blob_columns(paths, [0, 1, 2, 3] * 3)}
    )
    cs_files.write_batches(job / "downsample", names)
    table = particles_from_cryosparc_job(tmp_path / "P1", 4)
    assert table["row"].tolist() == list(range(4, 12))
    data = data_of(page_text(table, tmp_path, where="index > 1", low_pass=10.0))
    assert data["rows"] == [2, 3, 6, 7]
    assert data["image"] == ["image 2", "image 3"] * 2
    assert data["defocus"] == [14500 + row for row in (6, 7, 10, 11)]
    out = tmp_path / "out"
    Conversion(table, folder_output=out, ind=data["rows"], flag_plots=False).run()
    made = browse_particles(out, tmp_path / "page.html", low_pass=10.0, progress=False)
    assert f"Rows are those of {out / 'particles.star'}" in made.rows_of
    assert data_of(made.path.read_text(encoding="utf-8"))["rows"] == [0, 1, 2, 3]


def page_text(particles: ParticleTable, folder: Path, **options: Any) -> str:
    return browse_particles(particles, folder / "page.html", progress=False, **options).path.read_text(encoding="utf-8")


def test_rows_that_planning_leaves_out_do_not_shift_the_others(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "in", {"a.mrcs": 3, "b.mrcs": 4, "c.mrcs": 3}, shuffle=True)
    table = table_of(particles)
    (particles.mrc / "b.mrcs").unlink()
    data = data_of(page_text(table, tmp_path, params=params(), on_missing="skip", order="file", where="row > 1"))
    wanted = [row for row, (name, _) in enumerate(particles.listed) if name != "b.mrcs" and row > 1]
    assert sorted(data["rows"]) == wanted
    for place, row in enumerate(data["rows"]):
        name, index = particles.listed[row]
        assert (data["files"][data["file"][place]], data["image"][place]) == (name, f"image {index + 1}")


def test_boxes_of_micrographs_are_named_by_their_place(tmp_path: Path) -> None:
    write_mrc(tmp_path / "mic.mrc", np.random.default_rng(0).normal(size=(80, 80)), 1.1)
    write_rows(tmp_path / "results.csv", rows_of_page())
    table = particles_from_leopard_em(tmp_path / "results.csv", box_size=16, invert=True, folder_micrographs=tmp_path)
    data = data_of(page_text(table, tmp_path))
    assert data["image"] == [f"box at row {top}, column {left}" for top, left in zip(table["top"], table["left"], strict=True)]
    assert data["files"] == ["mic.mrc"]


def test_what_was_left_out_is_not_applied_to_other_particles_in_a_table_of_the_same_name(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 4})
    known = {data_of(page_text(table_of(particles), tmp_path, low_pass=low_pass))["id"] for low_pass in (15.0, 20.0)}
    assert len(known) == 1
    write_star(particles.star, particles.listed[::-1], "mrc/")
    assert data_of(page_text(table_of(particles), tmp_path))["id"] not in known


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"low_pass": 0.0}, "low_pass"),
        ({"low_pass": float("nan")}, "low_pass"),
        ({"low_pass": 1.25 * BOX * PIXEL_SIZE}, "leaves nothing of images 40 Å wide: give less than 50 Å"),
        ({"tile_size": 8}, "tile_size"),
        ({"sample": 5000}, "sample"),
    ],
)
def test_wrong_numbers_are_refused(page: Page, tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        browse_particles(table_of(page.particles), tmp_path / "page.html", progress=False, **options)
    assert not (tmp_path / "page.html").exists()


def test_a_place_where_no_page_can_be_written_is_refused_before_anything_is_read(page: Page, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "page.html"):
        with pytest.raises(OutputError, match="--out"):
            browse_particles(tmp_path / "no-stacks", place)
    with pytest.raises(InputError, match=r"particles\.star.*ends with \.html"):
        browse_particles(table_of(page.particles), page.particles.star)


def test_row_numbers_cannot_choose_from_stacks(stacks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose by where or sample"):
        browse_particles(stacks, tmp_path / "page.html", ind=[1, 2])


def test_rectangles_from_the_polar_grid_are_filtered_as_those_in_real_space() -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=(32, 48), pixel_size=2.0)
    x, y = np.mgrid[:32, :48]
    noise = np.random.default_rng(0).normal(size=(32, 48))
    image = noise * np.exp(-((x - 16) ** 2 + (y - 24) ** 2) / 50)  # near the centre, where the polar grid is dense enough
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    form = tiles.TileForm.of_images(descriptor, LOW_PASS, 64, "cryolike")
    (wanted,) = form.of_physical(image[None], descriptor.pixel_size).grey.astype(np.float64)
    (found,) = form.of_fourier(converted(image, grid)[None], descriptor).grey.astype(np.float64)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.995
