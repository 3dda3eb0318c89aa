"""Estimates of the time of a conversion from a few of its images."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask import Conversion, InputError, particles_from_star
from cryolike_dask.errors import OutputError, output_error
from cryolike_dask.execution import calibration
from cryolike_dask.planning.plan import Plan
from cryolike_dask.report import ConversionReport
from tests.support.conversions import files_of
from tests.support.particle_sets import BOX, NO_PLOTS, ParticleSet, params, write_particle_set

TIME = re.compile(r"about \S.* on \d+ cores? of this machine")


REPORT = ConversionReport(Path(), (), 0, 0.0, 0, (), (), 0, {})
"""Of a trial that is not run."""


def planned(particles: ParticleSet, folder: Path, **options: object) -> Conversion:
    table = particles_from_star(particles.star, particles.mrc)
    return Conversion(table, params(), folder_output=folder, **(NO_PLOTS | {"batch_size": 10} | options))


def spoil(particles: ParticleSet, position: int) -> None:
    """Put a NaN into the image at this row of a table that lists one file in its order."""
    ((name, _), *_) = particles.listed
    with (particles.mrc / name).open("r+b") as file:
        file.seek(1024 + position * 4 * BOX * BOX)
        file.write(np.float32(np.nan).tobytes())


def test_a_plan_states_its_time_only_after_calibration(abc: ParticleSet, tmp_path: Path) -> None:
    conversion = planned(abc, tmp_path / "out")
    assert "not calibrated" in conversion._repr_html_()
    assert not TIME.search(conversion._repr_html_())
    before = files_of(abc.folder)
    summary = conversion.calibrate()
    assert summary.seconds is not None
    assert 0 < summary.seconds < 60
    assert summary.n_images == 15
    assert json.loads(json.dumps(summary.to_dict()))["seconds"] == summary.seconds
    for shown in (str(summary), summary._repr_html_(), conversion._repr_html_()):
        assert TIME.search(shown)
        assert "not calibrated" not in shown
    assert files_of(abc.folder) == before
    assert list(tmp_path.iterdir()) == []


def test_time_grows_with_images_and_pictures_and_not_with_those_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    particles = write_particle_set(tmp_path / "set", {"a.mrcs": 100})
    monkeypatch.setattr(calibration, "_FEWEST_IMAGES", 40)
    monkeypatch.setattr(calibration, "_MOST_BYTES", 0)
    monkeypatch.setattr(calibration, "available_cores", lambda: 2)
    tried = []

    def run(plan: Plan, folder: Path) -> tuple[float, ConversionReport]:
        """3 s for whatever a run is, 0.1 s for an image, 0.5 s for each picture but the first."""
        tried.append((plan.n_images, plan.n_stacks))
        return 3.0 + 0.1 * (plan.n_images - 1) + 0.5 * (plan.n_stacks - 1), REPORT

    monkeypatch.setattr(calibration, "_run", run)
    monkeypatch.setattr(calibration, "_seconds_of_pictures", lambda folder: 1.0)
    with_pictures = {"flag_plots": True}
    assert planned(particles, tmp_path / "out", batch_size=10, **with_pictures).calibrate().seconds == pytest.approx(
        3.0 + 0.1 * 99 + 0.5 * 9
    )
    # Four stacks, and one of them.
    assert tried == [(1, 1), (10, 1), (40, 4)]
    # Of stacks that are smaller, so many are tried as have these images.
    assert planned(particles, tmp_path / "out", batch_size=4, **with_pictures).calibrate().seconds == pytest.approx(
        3.0 + 0.1 * 99 + 0.5 * 24
    )
    assert tried[-2:] == [(8, 2), (40, 10)]
    # All of a run that is no longer than what is tried.
    assert planned(particles, tmp_path / "out", batch_size=4, n_stacks_max=2).calibrate().seconds == pytest.approx(
        3.0 + 0.1 * 7 + 0.5
    )


def test_a_short_run_takes_a_second_in_words_and_in_numbers(
    abc: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_run", lambda plan, folder: (0.2, REPORT))
    summary = planned(abc, tmp_path / "out").calibrate()
    assert summary.to_dict()["seconds"] == 1.0
    assert "about 1.0 s on" in str(summary)


def test_a_machine_without_a_gpu_can_plan_for_those_with_one(abc: ParticleSet, tmp_path: Path) -> None:
    assert planned(abc, tmp_path / "out", device="cuda").calibrate().seconds


def test_a_trial_does_not_change_the_output(abc: ParticleSet, tmp_path: Path) -> None:
    planned(abc, tmp_path / "plain").run()
    conversion = planned(abc, tmp_path / "calibrated")
    conversion.calibrate()
    assert conversion.run().n_images == 15
    for kind in ("fft", "phys"):
        written = files_of(tmp_path / "plain" / kind)
        assert len(written) > 1
        assert files_of(tmp_path / "calibrated" / kind) == written


def test_a_bad_image_among_those_tried_is_named(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "set", {"a.mrcs": 6})
    spoil(particles, 4)
    conversion = planned(particles, tmp_path / "out")
    with pytest.raises(InputError, match=r"particles\.star, particle 5 .*a\.mrcs.* not finite") as caught:
        conversion.calibrate()
    assert "on_bad_image='zero'" in str(caught.value)
    assert "not calibrated" in conversion._repr_html_()
    assert not (tmp_path / "out").exists()


def test_a_bad_image_that_may_be_zeroed_does_not_stop_a_calibration(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "set", {"a.mrcs": 6})
    spoil(particles, 4)
    conversion = planned(particles, tmp_path / "out", on_bad_image="zero")
    assert conversion.calibrate().seconds
    # The run tells of it once, whatever the calibration saw.
    (line,) = (line for line in conversion.run().warnings if "written as zeros" in line)
    assert "particle 5" in line


def test_trial_images_are_written_beside_the_output_folder_and_removed(
    abc: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(plan: Plan, folder: Path) -> tuple[float, ConversionReport]:
        seen.append(folder.parent.parent)
        return original(plan, folder)

    original = calibration._run
    monkeypatch.setattr(calibration, "_run", run)
    planned(abc, tmp_path / "a" / "b").calibrate()
    assert set(seen) == {tmp_path}
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_to_a_store_is_tried_without_it(abc: ParticleSet, tmp_path: Path) -> None:
    conversion = planned(abc, tmp_path / "out", output_format="zarr", zarr_store="s3://nobody/nothing.zarr")
    assert conversion.calibrate().seconds


@pytest.mark.parametrize("told_as", [lambda error, folder: error, output_error], ids=["by the system", "by the run"])
def test_where_nothing_can_be_tried_the_message_names_the_place(
    abc: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_as: Callable[[OSError, Path], OSError]
) -> None:
    def full(_: Plan, folder: Path) -> float:
        error = OSError(errno.ENOSPC, "No space left on device")
        raise told_as(error, folder) from error

    monkeypatch.setattr(calibration, "_run", full)
    with pytest.raises(OutputError, match=r"convert some images in .* No space left on device\. Make room") as told:
        planned(abc, tmp_path / "out").calibrate()
    assert str(tmp_path) in str(told.value)
    assert ".cryolike-dask-" not in str(told.value)
    assert "skip_exist" not in str(told.value)
    assert list(tmp_path.iterdir()) == []
