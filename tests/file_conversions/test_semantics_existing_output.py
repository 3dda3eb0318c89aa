"""Semantics of the contract: a folder that holds output already; options out of range."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask import (
    InputError,
    OutputError,
    convert_particle_stacks_from_indexed_star_file,
    verify_output,
)
from cryolike_dask.settings import ConversionSettings
from tests.support.conversions import convert, files_of
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    ABC,
    NO_PLOTS,
    assert_holds,
    params,
    write_particle_set,
    write_star,
)


def test_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    before = files_of(tmp_path / "out")
    for changes in ({}, {"batch_size": 5}):
        with pytest.raises(OutputError, match="already holds"):
            convert(particles, **{"batch_size": 4, **changes})
    assert files_of(tmp_path / "out") == before


def test_a_stray_stack_counts_as_output(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2})
    (tmp_path / "out" / "fft").mkdir(parents=True)
    (tmp_path / "out" / "fft" / "particles_fourier_stack_000007.pt").write_bytes(b"of CryoLike")
    with pytest.raises(OutputError, match="already holds"):
        convert(particles)
    with pytest.raises(OutputError, match=r"without a manifest\.json"):
        convert(particles, skip_exist=True)
    assert len(convert(particles, overwrite=True)) == 1


def test_resuming_keeps_what_is_complete_and_makes_the_rest(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    whole = files_of(tmp_path / "out")
    fft = tmp_path / "out" / "fft"
    kept_time = (fft / "particles_fourier_stack_000000.pt").stat().st_mtime_ns
    for name in ("particles_fourier_stack_000003.npz", "particles_fourier_stack_000002.npz", "particles_fourier_stack_000002.pt"):
        (fft / name).unlink()
    report = convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=tmp_path / "out", batch_size=4, skip_exist=True, **NO_PLOTS
    )
    assert (report.n_kept, len(report.stacks), report.n_images) == (2, 4, 15)
    assert_holds(read_stacks(tmp_path / "out"), particles.images, particles.listed)
    again = files_of(tmp_path / "out")
    assert {name for name, content in again.items() if whole[name] != content} <= {"manifest.json", "particles.star"}
    assert (fft / "particles_fourier_stack_000000.pt").stat().st_mtime_ns == kept_time


def test_resuming_makes_a_damaged_stack_again(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    path = tmp_path / "out" / "fft" / "particles_fourier_stack_000001.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    convert(particles, batch_size=4, skip_exist=True)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("stranger", ["another run", "another stack"])
def test_resuming_makes_a_stack_again_that_is_not_its_own(tmp_path: Path, stranger: str) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=5)
    convert(particles, out="other", batch_size=5, order="file", pixel_size=2.0)
    before = files_of(tmp_path / "out" / "fft")
    folder, counter = ("other", 1) if stranger == "another run" else ("out", 0)
    for kind, end in (("fft/particles_fourier", "npz"), ("fft/particles_fourier", "pt"), ("phys/particles_phys", "pt")):
        source = tmp_path / folder / f"{kind}_stack_{counter:06d}.{end}"
        shutil.copy2(source, tmp_path / "out" / f"{kind}_stack_000001.{end}")
    assert files_of(tmp_path / "out" / "fft") != before
    convert(particles, batch_size=5, skip_exist=True)
    assert files_of(tmp_path / "out" / "fft") == before


def test_resuming_an_empty_folder_just_converts(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    assert len(convert(particles, skip_exist=True)) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 5}, "batch_size: 4 there, 5 now"),
        ({"order": "file"}, "order: 'metadata' there, 'file' now"),
        ({"save_phys": False}, "save_phys: True there, False now"),
        ({"pixel_size": 2.0}, "pixel_size: None there, 2.0 now"),
        ({"downsample_factor": 2}, "downsample_factor: 1 there, 2 now"),
        ({"descriptor": params(n_inplanes=10)}, "n_inplanes: 24 there, 10 now"),
        ({"descriptor": params(precision="double")}, "precision: 'single' there, 'double' now"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_resuming_refuses_another_run_and_says_what_differs(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    before = files_of(tmp_path / "out")
    with pytest.raises(OutputError) as caught:
        convert(particles, **{"batch_size": 4, "skip_exist": True, **changes})
    assert named in str(caught.value)
    assert files_of(tmp_path / "out") == before


def test_resuming_refuses_other_particles(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    write_star(particles.star, list(reversed(particles.listed)), "mrc/")
    with pytest.raises(OutputError, match="the particles in the table have changed"):
        convert(particles, batch_size=4, skip_exist=True)


def test_resuming_says_that_image_files_were_moved_and_continues_through_a_link(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "P3", ABC)
    options: dict[str, Any] = {"batch_size": 4, "skip_exist": True, **NO_PLOTS}

    def run(project: str) -> int:
        star, mrc = tmp_path / project / particles.star.name, tmp_path / project / particles.mrc.name
        return convert_particle_stacks_from_indexed_star_file(params(), star, mrc, folder_output=tmp_path / "out", **options).n_kept

    assert run("P3") == 0
    (tmp_path / "P3").rename(tmp_path / "P4")
    file = next(iter(ABC))
    with pytest.raises(OutputError) as caught:
        run("P4")
    then, now = (str(tmp_path / project / particles.mrc.name / file) for project in ("P3", "P4"))
    assert f"the same image files were at other paths: {then!r} there, {now!r} now. Move them back with" in str(caught.value)
    assert "have changed" not in str(caught.value)
    (tmp_path / "P3").symlink_to("P4")
    assert run("P3") == len(read_stacks(tmp_path / "out"))
    # Files of the same names that are not the same ones are not called moved.
    (tmp_path / "P4" / particles.mrc.name / file).touch()
    with pytest.raises(OutputError, match="the particles in the table have changed"):
        run("P4")


def test_resuming_takes_the_same_table_and_folder_spelt_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    particles = write_particle_set(tmp_path, ABC)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")

    def run(star: Path, mrc: Path) -> int:
        options = {"batch_size": 4, "skip_exist": True, **NO_PLOTS}
        report = convert_particle_stacks_from_indexed_star_file(params(), star, mrc, folder_output=tmp_path / "out", **options)
        return report.n_kept

    assert run(Path("..", particles.star.name), Path("..", particles.mrc.name)) == 0
    assert run(particles.star, particles.mrc) == 4
    assert run(Path("..", "sub", "..", particles.star.name), particles.mrc) == 4
    (source,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["identity"]["sources"]
    assert source["table"] == str(particles.star)


def test_resuming_with_a_table_from_elsewhere_names_both_tables(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    copy = shutil.copy(particles.star, tmp_path / "copy.star")
    with pytest.raises(OutputError) as caught:
        convert_particle_stacks_from_indexed_star_file(
            params(), copy, particles.mrc, folder_output=tmp_path / "out", batch_size=4, skip_exist=True, **NO_PLOTS
        )
    assert f"table: '{particles.star}' there, '{copy}' now" in str(caught.value)
    assert "{" not in str(caught.value)


def test_resuming_in_another_order_speaks_of_the_order_alone(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC, shuffle=True)
    convert(particles, batch_size=4)
    with pytest.raises(OutputError) as caught:
        convert(particles, batch_size=4, order="file", skip_exist=True)
    assert "settings.order: 'metadata' there, 'file' now" in str(caught.value)
    assert "the particles in the table" not in str(caught.value)


def test_resuming_after_a_missing_file_came_back_or_went_says_so(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    path = particles.mrc / "B.mrcs"
    content = path.read_bytes()
    path.unlink()
    convert(particles, on_missing="skip")
    convert(particles, on_missing="skip", skip_exist=True)
    path.write_bytes(content)
    for on_missing in ("skip", "raise"):
        with pytest.raises(OutputError) as caught:
            convert(particles, on_missing=on_missing, skip_exist=True)
        assert "2 particles left out there, as the image file was missing, can be read now (first: " in str(caught.value)
        assert f"particle 8 (image 1 of {path})" in str(caught.value)
        assert "the particles in the table" not in str(caught.value)
    convert(particles, out="whole")
    path.unlink()
    with pytest.raises(OutputError) as caught:
        convert(particles, out="whole", on_missing="skip", skip_exist=True)
    assert "2 particles converted there cannot be read now: the image file is missing (first: " in str(caught.value)
    assert "the particles in the table" not in str(caught.value)


def test_resuming_output_of_another_version_says_so(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles)
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["identity"] |= {"format": 1, "particles": "0"}
    manifest.write_text(json.dumps(content))
    with pytest.raises(OutputError) as caught:
        convert(particles, skip_exist=True)
    assert "a version of cryolike-dask that writes another format" in str(caught.value)
    assert "the particles in the table" not in str(caught.value)


def test_overwriting_leaves_nothing_stale(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=2, flag_plots=True)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    stacks = convert(particles, batch_size=10, overwrite=True, save_phys=False)
    assert_holds(stacks, particles.images, particles.listed)
    assert set(files_of(tmp_path / "out")) == {
        *(f"fft/particles_fourier_stack_00000{k}.{end}" for k in (0, 1) for end in ("pt", "npz")),
        *("params.npz", "manifest.json", "particles.star", "notes.txt"),
    }
    assert verify_output(tmp_path / "out") == []


def test_overwriting_with_bad_input_replaces_nothing(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=2)
    before = files_of(tmp_path / "out")
    (particles.mrc / "B.mrcs").unlink()
    with pytest.raises(InputError):
        convert(particles, overwrite=True)
    assert files_of(tmp_path / "out") == before


def test_keeping_and_replacing_exclude_each_other() -> None:
    with pytest.raises(InputError, match="choose one"):
        ConversionSettings(skip_exist=True, overwrite=True)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"n_stacks_max": 2.5},
        {"n_stacks_max": True},
        {"pixel_size": 0.0},
        {"pixel_size": -2.0},
        {"pixel_size": [1.0, 2.0]},
        {"pixel_size": [1.0, 1.0, 1.0]},
        {"pixel_size": "wide"},
        {"pixel_size": float("nan")},
        {"downsample_type": "median"},
        {"device": "tpu"},
        {"device": "cuda:1"},
        {"flag_plots": "no"},
        {"never_combine_input_files": "paired"},
        {"output_format": "hdf5"},
        {"on_missing": "ignore"},
        {"on_bad_image": "drop"},
        {"mixed_optics": "merge"},
        {"order": "random"},
    ],
    ids=str,
)
def test_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        ConversionSettings.from_options(options)
