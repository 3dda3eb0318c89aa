"""Each statement about CryoLike on the page for CryoLike's users, if CryoLike can be imported."""

from __future__ import annotations

import inspect
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.file_conversions.conftest import work  # noqa: F401
from tests.support.cryolike import import_cryolike
from tests.support.cs_files import particle_columns, write_cs
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import ABC, BOX, in_sequence, optics_table, write_images, write_star
from tests.support.statements import Shown, table

cryolike = import_cryolike()

from cryolike.file_conversions import ParticleStackConverter  # noqa: E402

PAGE = "migration.md"
TABLES = ("The image descriptor and its grids", "Calls", "Input", "Output", "Numbers")
shows = Shown()
SIZES = {"n_pixels": BOX, "pixel_size": 2.0}
PAIRS = (list(ABC), ["A.star", "B.star", "C.star"])


def descriptor(**options: Any) -> Any:
    return cryolike.ImageDescriptor.from_individual_values(**(SIZES | options))


def star(out: str = "out", params_input: Any = "params.npz", **options: Any) -> None:
    """Convert the working directory's indexed STAR file."""
    cryolike.convert_particle_stacks_from_indexed_star_file(params_input, "particles.star", "", out, flag_plots=False, **options)


def tensors(out: str, kind: str = "fft") -> list[torch.Tensor]:
    return [torch.load(path, weights_only=True) for path in sorted(Path(out, kind).glob("*.pt"))]


def metadata(out: str, counter: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = cryolike.util.load_file(Path(out, "fft", f"particles_fourier_stack_{counter:06d}.npz"))
    return found


def test_every_statement_about_cryolike_is_shown() -> None:
    stated = [row[1] for heading in TABLES for row in table(PAGE, heading) if row[1]]
    assert len(stated) > 30
    assert sorted(shows.statements) == sorted(stated)


# The image descriptor and its grids


@shows("`update_pixel_size` changes the descriptor.", "It takes grids.", "They are made from `viewing_distance`.")
def test_descriptors() -> None:
    d = descriptor()
    d.update_pixel_size(3.0)
    assert d.cartesian_grid.pixel_size.tolist() == [3.0, 3.0]
    assert list(inspect.signature(cryolike.ImageDescriptor).parameters)[1:3] == ["cartesian_grid", "polar_grid"]
    assert d.viewing_angles.n_angles > 1


@shows("It can be used, but not saved.", "A params file describes half the circle and other quadratures as the usual grid.")
def test_what_a_params_file_cannot_hold(tmp_path: Path) -> None:
    d, angles = descriptor(), cryolike.ViewingAngles(np.array([0.1]), np.array([0.2]), None)
    explicit = cryolike.ImageDescriptor(d.precision, d.cartesian_grid, d.polar_grid, angles, None)
    with pytest.raises(NotImplementedError):
        explicit.save(str(tmp_path / "explicit.npz"))
    usual = cryolike.PolarGrid(3.0, 0.25, n_inplanes=24)
    for number, kind in enumerate(({"half_space": True}, {"quadrature": cryolike.QuadratureType.GAUSS_LEGENDRE})):
        grid = cryolike.PolarGrid(3.0, 0.25, n_inplanes=24, **kind)
        cryolike.ImageDescriptor(d.precision, d.cartesian_grid, grid, None, 0.5).save(str(tmp_path / f"{number}.npz"))
        loaded = cryolike.ImageDescriptor.load(str(tmp_path / f"{number}.npz")).polar_grid
        assert np.array_equal(loaded.x_points, usual.x_points)
        assert not np.array_equal(grid.x_points, usual.x_points)


@shows("It is accepted.", *["It is an enumeration."] * 2, "Such a file is refused.")
def test_values_of_a_descriptor() -> None:
    assert descriptor(resolution_factor=1.5).polar_grid.radius_max == 4.5
    assert isinstance(descriptor().precision, cryolike.Precision)
    assert isinstance(descriptor().atom_shape, cryolike.AtomShape)
    for name in ("viewing_distance", "use_protein_residue_model", "atom_shape"):
        with pytest.raises(ValueError, match=r"viewing|validation"):
            cryolike.ImageDescriptor.from_dict(descriptor().to_dict() | {name: None})


@shows("It replaces that file.", "Python objects in the file are unpickled.")
def test_params_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor().save(str(tmp_path / "params.npz"))
    descriptor(pixel_size=3.0).save(str(tmp_path / "params"))
    assert cryolike.ImageDescriptor.load(str(tmp_path / "params.npz")).cartesian_grid.pixel_size.tolist() == [3.0, 3.0]
    np.savez(tmp_path / "object.npz", value=np.array(Path("x"), dtype=object))
    loads, load = [], pickle.load
    monkeypatch.setattr(pickle, "load", lambda *given, **named: loads.append(1) or load(*given, **named))
    cryolike.util.load_file(tmp_path / "object.npz")
    assert loads


@shows("It has them.")
def test_polar_grids() -> None:
    grid = descriptor().polar_grid
    assert grid.mask_points.shape == (grid.n_shells, grid.n_inplanes)
    assert callable(grid.get_fourier_translation_kernel)


# Calls


@shows("It is `'cpu'`.", "It is False, which means the same.", "It is -1, which is refused.")
def test_defaults(work: dict[str, Any]) -> None:  # noqa: F811
    assert inspect.signature(ParticleStackConverter).parameters["device"].default == "cpu"
    convert_stacks = inspect.signature(ParticleStackConverter.convert_stacks)
    assert convert_stacks.parameters["never_combine_input_files"].default is False
    cryolike.convert_particle_stacks_from_paired_star_and_mrc_files("params.npz", *PAIRS, "pairs", 100, 2.0, flag_plots=False)
    star(batch_size=100)
    assert [len(stack) for stack in tensors("pairs")] == [7, 2, 6]
    assert [len(stack) for stack in tensors("out")] == [15]
    job = cryolike.convert_particle_stacks_from_cryosparc_job_directory
    assert inspect.signature(job).parameters["pixel_size"].default == -1
    with pytest.raises(ValueError, match="pixel size"):
        job("params.npz", "cryosparc", 4, "job")


@shows("Paired files and job directories need it.", "Nothing is returned.")
def test_pixel_sizes_are_needed(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="Pixel size was never set"):
        cryolike.convert_particle_stacks_from_paired_star_and_mrc_files("params.npz", *PAIRS, "pairs", flag_plots=False)
    with pytest.raises(ValueError, match="Pixel size was never set"):
        cryolike.convert_particle_stacks_from_cryosparc_job_directory("params.npz", "cryosparc", 4, "job", pixel_size=None)
    result = cryolike.convert_particle_stacks_from_indexed_star_file("params.npz", "particles.star", flag_plots=False)
    assert result is None


@shows("A params file or a descriptor is needed.", "There is no such argument.")
def test_parameters_are_needed_and_all_particles_taken(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(Exception, match="None"):
        cryolike.convert_particle_stacks_from_indexed_star_file(None, "particles.star", flag_plots=False)
    for option in ("where", "ind", "sample"):
        with pytest.raises(TypeError, match=option):
            cryolike.convert_particle_stacks_from_indexed_star_file("params.npz", "particles.star", **{option: 1})


@shows("A second table or job is refused.", "It prints a warning.", "It is ignored, or refused by the converter.")
def test_the_converter(work: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    converter = ParticleStackConverter("params.npz", "out", pixel_size=2.0)
    converter.convert_stacks()
    assert "Warning" in capsys.readouterr().out
    converter.prepare_indexed_file("particles.star", "starfile")
    with pytest.raises(ValueError, match="Refusing"):
        converter.prepare_indexed_file("particles.cs", "cryosparc")
    with pytest.raises(ValueError, match="Refusing"):
        converter.prepare_sequential_cryosparc("cryosparc", 4)
    with pytest.raises(NotImplementedError):
        ParticleStackConverter("params.npz", "out", skip_exist=True)
    options = {"pixel_size": 2.0, "flag_plots": False}
    for _ in range(2):
        cryolike.convert_particle_stacks_from_paired_star_and_mrc_files(
            "params.npz", *PAIRS, "pairs", skip_exist=True, overwrite=True, **options
        )


@shows("It may be any GPU.")
def test_devices() -> None:
    assert ParticleStackConverter(descriptor(), "out", device="cuda:1").device == torch.device("cuda", 1)


@shows("It is a `FileNotFoundError`.", "It is a `NotImplementedError`.", "They are a `ValueError`.")
def test_errors(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(FileNotFoundError):
        star(params_input="absent.npz")
    with pytest.raises(FileNotFoundError):
        cryolike.convert_particle_stacks_from_indexed_star_file("params.npz", "absent.star", "", "other")
    with pytest.raises(NotImplementedError):
        ParticleStackConverter(descriptor(), "out").prepare_indexed_file("particles.star", "relion")
    cryolike.convert_particle_stacks_from_paired_star_and_mrc_files("params.npz", *PAIRS, "pairs", pixel_size=2.0, flag_plots=False)
    with pytest.raises(ValueError, match="exist"):
        cryolike.convert_particle_stacks_from_paired_star_and_mrc_files(
            "params.npz", *PAIRS, "pairs", pixel_size=2.0, flag_plots=False
        )


# Input


@shows("Only their file names are used.", "They are left out with a printed line.")
def test_paths(work: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    write_star(Path("particles.star"), in_sequence(ABC), "nowhere/")
    star("one")
    assert len(tensors("one")[0]) == 15
    shutil.move("B.mrcs", "elsewhere/moved.mrcs")
    star("two")
    assert len(tensors("two")[0]) == 13
    assert "B.mrcs does not exist" in capsys.readouterr().out


@shows("Image 0 is the last one.")
def test_image_0(work: dict[str, Any]) -> None:  # noqa: F811
    write_star(Path("particles.star"), [("A.mrcs", -1), ("A.mrcs", 6)])
    star()
    (stack,) = tensors("out")
    assert torch.equal(stack[0], stack[1])


@shows("Row k describes image k.")
def test_pairs_in_another_order(work: dict[str, Any]) -> None:  # noqa: F811
    write_star(Path("A.star"), [("A.mrcs", index) for index in range(7)][::-1], rlnDefocusU=[str(10000 + n) for n in range(7)])
    cryolike.convert_particle_stacks_from_paired_star_and_mrc_files(
        "params.npz", ["A.mrcs"], ["A.star"], "out", pixel_size=2.0, flag_plots=False
    )
    for image, source in zip(tensors("out", "phys")[0].numpy(), work["A.mrcs"], strict=True):
        assert np.corrcoef(image.ravel(), source.ravel())[0, 1] > 0.999999
    assert metadata("out")["defocusU"].tolist() == [10000 + n for n in range(7)]


@shows("Any number is accepted.", "They are not checked.")
def test_impossible_numbers(work: dict[str, Any]) -> None:  # noqa: F811
    optics = optics_table(rlnVoltage=["300000"], rlnAmplitudeContrast=["7"], rlnImageSize=["24"])
    write_star(Path("particles.star"), in_sequence(ABC), optics=optics, rlnDefocusU=["1.5e7"] * 15)
    star()
    assert len(tensors("out")[0]) == 15
    assert metadata("out")["voltage"] == 300000.0
    columns = particle_columns(["A.mrcs"] * 7, range(7), 24)
    columns["blob/psize_A"][:] = 2.0
    columns["ctf/cs_mm"][:] = -2.7
    write_cs(Path("particles.cs"), columns)
    cryolike.convert_particle_stacks_from_indexed_cryosparc_file("params.npz", "particles.cs", "", "cs", flag_plots=False)
    assert metadata("cs")["sphericalAberration"] == np.float32(-2.7)


@shows("The first row's are used.", "Its particles are dropped.")
def test_optics(work: dict[str, Any]) -> None:  # noqa: F811
    columns = particle_columns(["A.mrcs"] * 7, range(7), BOX)
    columns["blob/psize_A"][:] = 2.0
    columns["ctf/accel_kv"][1:] = 200.0
    write_cs(Path("particles.cs"), columns)
    cryolike.convert_particle_stacks_from_indexed_cryosparc_file("params.npz", "particles.cs", "", "cs", flag_plots=False)
    assert metadata("cs")["voltage"] == 300.0
    write_star(Path("particles.star"), in_sequence(ABC), groups=[1] * 12 + [7] * 3)
    star()
    assert len(tensors("out")[0]) == 12


@shows("The descriptor's is written.", "By one part in 100,000.")
def test_pixel_sizes(work: dict[str, Any]) -> None:  # noqa: F811
    star("one", descriptor(pixel_size=1.9))
    assert metadata("one")["pixel_size"].tolist() == [1.9, 1.9]
    star("near", pixel_size=2.0 * (1 + 0.9e-5))
    with pytest.raises(ValueError, match="does not match"):
        star("far", pixel_size=2.0 * (1 + 1.2e-5))


@shows("There is no warning.")
def test_longer_job_tables(work: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    for name in ("batch_000002_restacked.mrc", "batch_000001_restacked.mrc"):
        Path("cryosparc/J4/restack", name).unlink()
    job = cryolike.convert_particle_stacks_from_cryosparc_job_directory
    job("params.npz", "cryosparc", 4, "job", pixel_size=2.0, flag_plots=False)
    assert [len(stack) for stack in tensors("job")] == [7]
    assert "15" not in capsys.readouterr().out


@shows("It wins.")
def test_the_table_wins(work: dict[str, Any]) -> None:  # noqa: F811
    converter = ParticleStackConverter(descriptor(), "out", pixel_size=1.9, flag_plots=False)
    converter.prepare_indexed_file("particles.star", "starfile", ignore_manual_pixel_size=True)
    converter.convert_stacks()
    assert metadata("out")["pixel_size"].tolist() == [2.0, 2.0]


@shows("It becomes NaN.")
def test_constant_images(work: dict[str, Any]) -> None:  # noqa: F811
    images = work["B.mrcs"].copy()
    images[1] = 2.5
    Path("B.mrcs").write_bytes(pack_mrc(images, 2, pixel_size=0))
    star()
    assert torch.isnan(tensors("out")[0][8]).all()


@shows("Odd factors are refused.", "They are written.")
def test_downsampling(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="multiple of 2"):
        star("odd", downsample_factor=3)
    star("even", downsample_factor=2)
    # Up to the Nyquist limit of 12 pixels, although the images have 6.
    assert metadata("even")["radius_max"] == 3.0
    assert tensors("even")[0].shape[1] == 13
    assert tensors("even", "phys")[0].shape[1:] == (6, 6)


@shows("Means and maxima of blocks move the image by (1 − f)/2 pixels.")
def test_blocks(work: dict[str, Any]) -> None:  # noqa: F811
    # A blob between the middle pixel and the next one ends up on the middle pixel: it moves by half a pixel.
    x, y = np.meshgrid(*2 * [np.arange(BOX) - BOX // 2 - 0.5], indexing="ij")
    write_star(Path("particles.star"), [("A.mrcs", 0), ("A.mrcs", 1)])
    Path("A.mrcs").write_bytes(pack_mrc(np.stack([np.exp(-(x**2 + y**2) / 4)] * 2).astype(np.float32), 2, pixel_size=0))
    for kind in ("mean", "max"):
        star(kind, downsample_factor=2, downsample_type=kind)
        image = tensors(kind, "phys")[0][0].numpy()
        for reach in (1, 2):
            np.testing.assert_allclose(image[3 + reach], image[3 - reach], atol=1e-6)
            np.testing.assert_allclose(image[:, 3 + reach], image[:, 3 - reach], atol=1e-6)


@shows("x is the row index.", "Images stay as they are.")
def test_axes_and_contrast(work: dict[str, Any]) -> None:  # noqa: F811
    star(batch_size=7)
    for image, source in zip(tensors("out", "phys")[0].numpy(), work["A.mrcs"], strict=True):
        assert np.corrcoef(image.ravel(), source.ravel())[0, 1] > 0.999999
    x = descriptor().cartesian_grid.x_pixels
    assert (np.diff(x, axis=0) == 2.0).all()
    assert (np.diff(x, axis=1) == 0.0).all()


@shows("Origins are not read.")
def test_origins(work: dict[str, Any]) -> None:  # noqa: F811
    star("before")
    write_star(Path("particles.star"), in_sequence(ABC), rlnOriginXAngst="3", rlnOriginYAngst="-2")
    star("with")
    assert all(torch.equal(first, second) for first, second in zip(tensors("before"), tensors("with"), strict=True))
    assert not [key for key in metadata("with") if "origin" in key.lower()]


# Output


@shows("It is written as it is, and its CTF takes the absolute value of U − V: astigmatism is 90° off.")
def test_exchanged_defocus(work: dict[str, Any]) -> None:  # noqa: F811
    columns = {"rlnDefocusU": ["9000", "10000"], "rlnDefocusV": ["10000", "9000"], "rlnDefocusAngle": ["20"] * 2}
    write_star(Path("particles.star"), [("A.mrcs", 0), ("A.mrcs", 1)], rlnPhaseShift="0", **columns)
    star()
    loaded, lens = cryolike.load_combined_params("out/fft/particles_fourier_stack_000000.npz")
    assert (lens.defocusU.tolist(), lens.defocusV.tolist()) == ([9000, 10000], [10000, 9000])
    exchanged, other = cryolike.CTF(lens, loaded.polar_grid, loaded.cartesian_grid.box_size[0]).ctf
    assert torch.equal(exchanged, other)


@shows("They follow the paths of the image files.", "They are the whole table's.")
def test_order(work: dict[str, Any]) -> None:  # noqa: F811
    listed = [*in_sequence({"C.mrcs": 6}), *in_sequence({"A.mrcs": 7})]
    write_star(Path("particles.star"), listed)
    star(batch_size=7)
    write_star(Path("sorted.star"), [*listed[6:], *listed[:6]])
    shutil.copy("sorted.star", "particles.star")
    star("sorted", batch_size=7)
    assert all(torch.equal(one, two) for one, two in zip(tensors("out"), tensors("sorted"), strict=True))
    for counter in (0, 1):
        assert [np.size(metadata("out", counter)[key]) for key in ("files", "idxs", "ctfBfactor", "ctfScalefactor")] == [13] * 4


@shows("Stacks are replaced before existing ones are noticed.", "It may also hold those of later stacks.", "It is always written.")
def test_files(work: dict[str, Any]) -> None:  # noqa: F811
    star(batch_size=10)
    first = Path("out", "fft", "particles_fourier_stack_000000.pt")
    assert first.stat().st_size > 15 * 13 * 24 * 8 > tensors("out")[0].numel() * 8
    before = tensors("out")[0]
    write_images(Path(), ABC, seed=5)
    with pytest.raises(ValueError, match="already exists"):
        star(batch_size=10)
    assert not torch.equal(tensors("out")[0], before)
    assert [len(stack) for stack in tensors("out", "phys")] == [10, 5]


@shows("There are no such files.", "There is no such file.")
def test_files_beside_the_stacks(work: dict[str, Any]) -> None:  # noqa: F811
    star()
    assert {path.name for path in Path("out").iterdir()} == {"fft", "phys", "plots"}


# Numbers


@shows("In float32.")
def test_means(work: dict[str, Any]) -> None:  # noqa: F811
    images = {name: image + np.float32(3000) for name, image in work.items() if name in ABC}
    for name, image in images.items():
        Path(name).write_bytes(pack_mrc(image, 2, pixel_size=0))
    star()
    sources = np.concatenate([images[name] for name in ABC]).astype(np.float64)
    centred = sources - sources.mean(axis=(1, 2), keepdims=True)
    centred /= abs(centred).max(axis=(1, 2), keepdims=True)
    assert abs(tensors("out", "phys")[0].numpy() - centred).max() > 1e-6
