"""`cryolike-dask preview` draws the right particles, prints the right numbers, and writes nothing else."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from PIL import Image

from cryolike_dask import InputError, particles_from_star, preview_particles
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.options import ConversionOptions
from cryolike_dask.pictures.canvas import Canvas
from cryolike_dask.pictures.preview_picture import _shortened
from tests.cli.conftest import Cli
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import in_sequence, optics_table, write_star
from tests.support.recorded_progress import Recorded


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("larger"), n_images=24, box=48, pixel_size=2.5, n_files=2, seed=3)


def test_picture_and_numbers(larger: DemoData, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "look.png"
    result = cli("preview", larger.star_file, "--mrc-folder", larger.folder_mrc, "--params", larger.params_file, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "16 of 24" in result.stdout
    assert "2.5 Å, from the table" in result.stdout
    assert "48 × 48 pixels, 120 Å" in result.stdout
    defocus = particles_from_star(larger.star_file, larger.folder_mrc)
    assert f"{defocus['defocus_v'].min():,.0f} to {defocus['defocus_u'].max():,.0f} Å" in result.stdout
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture).std() > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["look.png"]


def test_round_trip_agrees_with_the_low_passed_image(larger: DemoData) -> None:
    particles = particles_from_star(larger.star_file, larger.folder_mrc)
    preview = preview_particles(particles, larger.params_file, n_images=5)
    assert preview.correlation.shape == (5,)
    assert preview.correlation.min() > 0.99
    assert preview._repr_png_().startswith(b"\x89PNG")


def test_images_are_those_that_their_names_say(larger: DemoData) -> None:
    preview = preview_particles(particles_from_star(larger.star_file, larger.folder_mrc), larger.params_file)
    for name, image in zip(preview.names, preview.source, strict=True):
        number, _, path = name.partition("(image ")[2].rstrip(")").partition(" of ")
        with mrcfile.open(path) as file:
            wanted = file.data[int(number) - 1].astype(np.float64)
        assert np.corrcoef(wanted.ravel(), image.ravel())[0, 1] == pytest.approx(1, abs=1e-6)


def test_a_rectangle_comes_back_from_the_polar_grid(tmp_path: Path) -> None:
    # A blob and noise: with one resolution per shell, which is an ellipse here, 0.96 was the best that the round trip could reach.
    rng = np.random.default_rng(0)
    x, y = np.mgrid[:32, :48]
    images = np.stack([20 * np.exp(-((x - 16 - i) ** 2 + (y - 24 + 3 * i) ** 2) / 18) for i in range(-2, 3)])
    (tmp_path / "a.mrcs").write_bytes(pack_mrc((images + rng.normal(0, 2, images.shape)).astype(np.float32), 2, pixel_size=2.0))
    write_star(tmp_path / "a.star", in_sequence({"a.mrcs": 5}), optics=optics_table(rlnImagePixelSize=["2.0"]))
    preview = preview_particles(particles_from_star(tmp_path / "a.star", tmp_path), None)
    assert preview.worst_correlation > 0.998
    assert "32 × 48 pixels, 64 × 96 Å" in str(preview)
    assert repr(preview) == f"<Preview>\n{preview}"
    # Independent of the package: the same filter, by the frequency of each pixel.
    frequency = np.hypot(np.fft.fftfreq(32, 2.0)[:, None], np.fft.fftfreq(48, 2.0))
    ramp = (1 + np.cos(np.pi * np.clip((frequency * preview.low_pass - 0.75) * 2, 0, 1))) / 2
    filtered = np.fft.ifft2(np.fft.fft2(preview.source) * ramp).real
    near = np.hypot((x - 16) / 32, (y - 24) / 48) < 0.3
    for wanted, found in zip(filtered, preview.round_trip, strict=True):
        assert np.corrcoef(wanted[near], found[near])[0, 1] > 0.998


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "as on disk"),
        ({"downsample_to": 24, "downsample_type": "fourier"}, "as converted"),
        ({"contrast": "invert"}, "as converted"),
    ],
    ids=["unchanged", "downsampled", "inverted"],
)
def test_the_first_column_is_named_after_what_it_shows(
    options: ConversionOptions, name: str, larger: DemoData, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(Canvas, "text", lambda _canvas, _x, _y, line, *_, **__: written.append(line))
    preview_particles(particles_from_star(larger.star_file, larger.folder_mrc), None, n_images=1, ind=[5], **options)._repr_png_()
    assert [line for line in written if line.startswith("as ")] == [name]
    assert written[0].startswith("1 particle; ")


def test_tiles_are_labelled_and_a_bar_shows_their_scale(larger: DemoData, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, tuple[float, float]] = {}
    bars: list[tuple[float, float]] = []
    text, rectangle = Canvas.text, Canvas.rectangle

    def note_text(canvas: Canvas, x: float, y: float, line: str, *style: float, **more: str) -> None:
        written[line] = (x, y)
        text(canvas, x, y, line, *style, **more)

    def note_bar(canvas: Canvas, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        if bottom - top == 4 and right - left > 1:
            bars.append((left, right))
        rectangle(canvas, left, top, right, bottom, colour)

    monkeypatch.setattr(Canvas, "text", note_text)
    monkeypatch.setattr(Canvas, "rectangle", note_bar)
    preview = preview_particles(particles_from_star(larger.star_file, larger.folder_mrc), larger.params_file, n_images=5)
    picture = Image.open(io.BytesIO(preview._repr_png_())).convert("L")
    table = starfile.read(larger.star_file)["particles"]
    for name, label, source in zip(preview.names, preview.labels, preview.source, strict=True):
        row = int(name.partition("particle ")[2].partition(" ")[0])
        number, _, file = table["rlnImageName"][row - 1].partition("@")
        assert label == f"particle {row}: image {int(number)} of {Path(file).name}"
        # The tile below it, of 48 pixels 3 times enlarged, is that of the particle.
        left, top = (round(place) for place in written[label])
        tile = np.asarray(picture)[top + 10 : top + 10 + 144, left : left + 144].reshape(48, 3, 48, 3)[:, 1, :, 1]
        assert np.corrcoef(tile.ravel(), source.ravel())[0, 1] > 0.98
    ((start, end),) = bars
    assert f"{(end - start) / 3 * 2.5:g} Å" in written


def test_long_file_names_keep_their_ends() -> None:
    short = _shortened("particle 7: image 3 of " + "x" * 60 + "_0012.mrcs", 40)
    assert short == "particle 7: image 3 of …xxxxxx_0012.mrcs"
    assert len(short) == 40
    assert _shortened("particle 7: image 3 of a.mrcs", 40) == "particle 7: image 3 of a.mrcs"


def test_progress_tells_of_each_particle_that_is_converted(larger: DemoData) -> None:
    particles, progress = particles_from_star(larger.star_file, larger.folder_mrc), Recorded()
    preview_particles(particles, larger.params_file, n_images=5, progress=progress)
    done = progress.parts("Converting particles")
    assert done == sorted(set(done))
    assert done[-1] == len(particles)  # fewer than the check of the CTF could use
    assert progress.steps[-1][0] == "Transforming back to real space"
    assert progress.ends == [None]
    with pytest.raises(InputError, match="no method step"):
        preview_particles(particles, larger.params_file, progress="loud")  # type: ignore[arg-type]


def test_a_seed_chooses_the_particles(larger: DemoData) -> None:
    particles = particles_from_star(larger.star_file, larger.folder_mrc)
    one, same, other = (preview_particles(particles, larger.params_file, n_images=3, seed=seed).names for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_wrong_pixel_size_is_reported(larger: DemoData, tmp_path: Path, cli: Cli) -> None:
    cli("params", tmp_path / "wrong.npz", "--n-pixels", 48, "--pixel-size", 3.1)
    result = cli("preview", larger.star_file, "--mrc-folder", larger.folder_mrc, "--params", tmp_path / "wrong.npz")
    assert result.exit_code == 2
    assert "3.1" in result.stderr
    assert "2.5" in result.stderr


def test_a_bad_image_is_named_or_left_black(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    table = particles_from_star(particles.star_file, particles.folder_mrc)
    before = preview_particles(table, particles.params_file)
    assert len(before.correlation) == 12
    file, image = Path(table.files[table["file"][4]]), int(table["index"][4])
    with mrcfile.mmap(file, mode="r+") as mrc:
        mrc.data[image, 3, 7] = np.nan
    options = ("--mrc-folder", particles.folder_mrc, "--params", particles.params_file, "--out", tmp_path / "p.png")
    refused = cli("preview", particles.star_file, *options)
    assert refused.exit_code == 2
    assert "particle 5" in refused.stderr
    assert "--on-bad-image zero" in refused.stderr
    assert not (tmp_path / "p.png").exists()
    shown = cli("preview", particles.star_file, *options, "--on-bad-image", "zero")
    assert shown.exit_code == 0, shown.stderr
    warning = " ".join(shown.stdout.partition("\nwarning ")[2].partition("\npicture ")[0].split())
    assert ", particle 5 (" in warning
    assert warning.endswith("written as zeros")
    # The black image has no correlation.
    least = np.floor(1000 * np.delete(before.correlation, 4).min()) / 1000
    assert f"correlate at {least:.3f} or better" in shown.stdout
    with Image.open(tmp_path / "p.png") as picture:
        assert np.asarray(picture).std() > 20


def test_images_of_a_paired_star_file(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    text = particles.star_file.read_text()
    image = next(particles.folder_mrc.iterdir())
    rows = sorted(line for line in text.splitlines() if f"@{image.name}" in line or f"/{image.name}" in line)
    rows = [line.replace(line.partition("@")[0], f"{number:06d}", 1) for number, line in enumerate(rows, 1)]
    table = tmp_path / "own.star"
    kept = [line for line in text.splitlines() if "@" not in line]
    table.write_text("\n".join(kept).rstrip() + "\n" + "\n".join(rows) + "\n")
    result = cli("preview", table, "--mrc", image, "--params", particles.params_file, "--out", tmp_path / "p.png")
    assert result.exit_code == 0, result.stderr
    assert f"{len(rows)} of {len(rows)}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["table.txt"], "file of an unknown kind"),
        (["table.csv"], "--box-size"),
        (["table.cs", "--mrc", "x.mrcs"], "--mrc"),
        (["table.star", "--invert"], "Leopard-EM"),
        (["table.star", "--out", "p.jpg"], "ends with .png (--out)"),
        (["table.star", "--out", "table.star"], "ends with .png (--out)"),
        (["table.star", "--out", "/nowhere/p.png"], "/nowhere is not a folder"),
    ],
)
def test_other_inputs_of_a_preview_are_refused(
    arguments: list[str], told: str, particles: DemoData, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(arguments[0]).touch()
    result = cli("preview", *arguments, "--params", particles.params_file)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_picture_that_cannot_be_written_is_reported(larger: DemoData, cli: Cli) -> None:
    options = ("--mrc-folder", larger.folder_mrc, "--params", larger.params_file, "--n-images", 1)
    result = cli("preview", larger.star_file, *options, "--out", "/proc/p.png")
    assert result.exit_code == 2
    assert "/proc/p.png cannot be written" in result.stderr


def test_a_full_disk_leaves_the_picture_that_was_there(
    larger: DemoData, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    picture = tmp_path / "p.png"
    picture.write_bytes(b"as it was")
    monkeypatch.setattr("cryolike_dask.stacks.durable.os.fsync", full)
    options = ("--mrc-folder", larger.folder_mrc, "--params", larger.params_file, "--n-images", 1)
    result = cli("preview", larger.star_file, *options, "--out", picture)
    assert result.exit_code == 2
    assert "p.png cannot be written: No space left on device" in result.stderr
    assert picture.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [picture]


@pytest.mark.parametrize("options", [{"n_images": 0}, {"n_images": 17}, {"low_pass": -1.0}, {"low_pass": float("nan")}])
def test_numbers_out_of_range_are_refused(options: dict[str, float], larger: DemoData) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        preview_particles(particles_from_star(larger.star_file, larger.folder_mrc), larger.params_file, **options)  # type: ignore[arg-type]


def test_downsampling_shows_what_would_be_written(larger: DemoData, tmp_path: Path, cli: Cli) -> None:
    cli("params", tmp_path / "half.npz", "--n-pixels", 24, "--pixel-size", 5)
    options = ("--downsample-factor", 2, "--params", tmp_path / "half.npz", "--out", tmp_path / "half.png")
    result = cli("preview", larger.star_file, "--mrc-folder", larger.folder_mrc, *options)
    assert result.exit_code == 0, result.stderr
    assert "24 × 24 pixels" in result.stdout
