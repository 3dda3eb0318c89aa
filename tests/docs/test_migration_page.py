"""Each statement about this package on the page for CryoLike's users.

Statements about CryoLike are tested in test_migration_page_with_cryolike.py, and equal results in the tests with CryoLike.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import shutil
from dataclasses import FrozenInstanceError
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import starfile
import torch

import cryolike_dask
from cryolike_dask import (
    ConversionError,
    ConversionSettings,
    ImageDescriptor,
    InputError,
    OutputError,
    ParticleStackConverter,
    PolarGrid,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    fourier_to_physical,
    local_cluster,
    preview_particles,
)
from tests.file_conversions.conftest import BATCHES, work  # noqa: F401
from tests.metadata.test_cryolikes_calls import cryolikes
from tests.support.conversions import convert, files_of
from tests.support.cs_files import particle_columns, write_cs
from tests.support.direct_transform import relative_error
from tests.support.independent_reader import read_stacks, read_tensor
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import (
    ABC,
    BOX,
    NO_PLOTS,
    ParticleSet,
    assert_holds,
    in_sequence,
    optics_table,
    params,
    traced,
    write_particle_set,
    write_star,
)
from tests.support.shifted_objects import PIXEL, shifted_set
from tests.support.statements import Shown, bullets, table

PAGE = "migration.md"
TABLES = ("The image descriptor and its grids", "Calls", "Input", "Output", "Numbers")
shows = Shown()

FUNCTIONS = {
    convert_particle_stacks_from_indexed_star_file: (
        "params_input, star_file, folder_mrc='', folder_output='', batch_size=1024, downsample_factor=1, downsample_type='mean', "
        "pixel_size=None, flag_plots=True"
    ),
    convert_particle_stacks_from_indexed_cryosparc_file: (
        "params_input, file_cs, folder_cryosparc='', folder_output='', batch_size=1024, n_stacks_max=-1, pixel_size=None, "
        "downsample_factor=1, downsample_type='mean', skip_exist=False, flag_plots=True"
    ),
    convert_particle_stacks_from_cryosparc_job_directory: (
        "params_input, folder_cryosparc='', job_number=0, folder_output='', batch_size=1024, n_stacks_max=-1, pixel_size=None, "
        "downsample_factor=1, downsample_type='mean', skip_exist=False, flag_plots=True"
    ),
    convert_particle_stacks_from_paired_star_and_mrc_files: (
        "params_input, particle_file_list, star_file_list, folder_output='', batch_size=1024, pixel_size=None, "
        "defocus_angle_is_degree=True, phase_shift_is_degree=True, downsample_factor=1, downsample_type='mean', skip_exist=False, "
        "flag_plots=True, overwrite=False"
    ),
    ParticleStackConverter: (
        "image_descriptor, folder_output='', n_stacks_max=-1, pixel_size=None, downsample_factor=1, downsample_type='mean', "
        "skip_exist=False, overwrite=False, flag_plots=True, device='auto'"
    ),
    ParticleStackConverter.prepare_indexed_file: "self, src_file, filetype, mrc_folder='', ignore_manual_pixel_size=False",
    ParticleStackConverter.convert_stacks: "self, batch_size=1024, never_combine_input_files=None",
    ImageDescriptor.from_individual_values: (
        "n_pixels, pixel_size, precision='single', resolution_factor=1.0, viewing_distance=None, n_inplanes=None, atom_radii=None, "
        "atom_selection='name CA', use_protein_residue_model=True, atom_shape='gaussian'"
    ),
}


def star(out: str = "out", **options: Any) -> Any:
    """Convert the working directory's indexed STAR file."""
    given = {"params_input": "params.npz", "star_file": "particles.star"} | NO_PLOTS | options
    return convert_particle_stacks_from_indexed_star_file(folder_output=out, **given)


def test_every_statement_of_the_page_is_shown() -> None:
    stated = bullets(PAGE, "What is the same") + [row[0] for heading in TABLES for row in table(PAGE, heading)]
    assert len(stated) > 40
    assert sorted(shows.statements) == sorted(stated)


# What to import


def test_names_can_be_imported_from_where_the_page_says() -> None:
    rows = table(PAGE, "What to import")
    older = rows.index(["Older name", "Present name"])
    assert older == 8
    for name, module in ([cell.strip("`") for cell in row] for row in rows[:older]):
        assert getattr(importlib.import_module(module), name) is getattr(cryolike_dask, name)
    for name, today in ([cell.strip("`") for cell in row] for row in rows[older + 2 :]):
        with pytest.warns(DeprecationWarning, match=today), pytest.raises(TypeError):
            getattr(cryolike_dask, name)()


def test_what_stays_in_cryolike_is_not_here() -> None:
    for name in ("make_templates_from_inputs", "Templates", "Images", "CTF", "LensDescriptor", "ViewingAngles", "Precision"):
        assert not hasattr(cryolike_dask, name)


# What is the same


@shows("Arguments come in CryoLike's order, with its defaults; options that CryoLike does not have follow by keyword.")
def test_arguments_and_defaults() -> None:
    for function, expected in FUNCTIONS.items():
        parameters = list(inspect.signature(function).parameters.values())
        positional = [p.replace(annotation=p.empty) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert ", ".join(map(str, positional)) == expected, function
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(positional) :]), function


@shows("CryoLike reads the parameter files that are written here, and vice versa.")
def test_params_files_hold_what_cryolike_validates(tmp_path: Path) -> None:
    params().save(tmp_path / "params.npz")
    with np.load(tmp_path / "params.npz", allow_pickle=False) as archive:
        kinds = {key: (archive[key].dtype.kind, archive[key].shape) for key in archive.files}
    assert kinds == {
        "n_pixels": ("i", (2,)),
        "pixel_size": ("f", (2,)),
        "radius_max": ("f", ()),
        "dist_radii": ("f", ()),
        "n_inplanes": ("i", ()),
        "precision": ("U", ()),
        "viewing_distance": ("f", ()),
        "atom_radii": ("f", (0,)),
        "atom_selection": ("U", ()),
        "use_protein_residue_model": ("b", ()),
        "atom_shape": ("U", ()),
    }
    # CryoLike writes such files: compressed, with None pickled.
    np.savez_compressed(tmp_path / "theirs.npz", **(params().to_dict() | {"atom_radii": np.array(None)}))
    assert ImageDescriptor.load(tmp_path / "theirs.npz") == params()


@shows("CryoLike loads the stacks, and its likelihood finds the same templates, displacements and rotations on them.")
def test_cryolike_can_load_the_stacks(work: dict[str, Any]) -> None:  # noqa: F811
    star()
    (stack,) = read_stacks(Path("out"))  # checks names, types and shapes
    assert_holds([stack], work, in_sequence(ABC))


@shows("An `ImageDescriptor` of CryoLike is accepted wherever one of this package is, and is not changed.")
def test_cryolikes_descriptor_is_taken_everywhere(work: dict[str, Any]) -> None:  # noqa: F811
    size = (np.array([BOX, BOX]), np.array([2.0, 2.0]))
    grid = params().polar_grid
    polar = {"radius_max": 3.0, "n_inplanes": 24, "radius_shells": grid.radii, "theta_shell": grid.angles}
    theirs = cryolikes(cartesian_grid=SimpleNamespace(n_pixels=size[0], pixel_size=size[1]), polar=polar)
    before = str(theirs)
    star("one", params_input=theirs, pixel_size=2.0)
    converter = ParticleStackConverter(theirs, "two", **NO_PLOTS)
    converter.prepare_indexed_file("particles.star", "starfile")
    converter.convert_stacks()
    (one,), (two,) = read_stacks(Path("one")), read_stacks(Path("two"))
    assert np.array_equal(one.fourier, two.fourier)
    particles = cryolike_dask.particles_from_star("particles.star")
    assert preview_particles(particles, theirs, n_images=2).descriptor == ImageDescriptor.ensure(theirs)
    assert fourier_to_physical(one.fourier[:1], theirs).shape == (1, BOX, BOX)
    with local_cluster("cpu", n_workers=1, threads_per_worker=1, params=theirs, processes=False, dashboard_address=None):
        pass
    assert str(theirs) == before


class Choice(Enum):
    """Enumerations with CryoLike's values."""

    DOUBLE = "double"
    HARD_SPHERE = "hard-sphere"


@shows(
    '`Precision`, `AtomShape` and other enumerations are accepted, and so are their values in any case: `Precision.DOUBLE`, `"Double"`.'
)
def test_enumerations_and_their_values_in_any_case() -> None:
    for precision, shape in ((Choice.DOUBLE, Choice.HARD_SPHERE), ("Double", "HARD"), ("DOUBLE", "Hard_Sphere")):
        descriptor = params(precision=precision, atom_shape=shape)
        assert (descriptor.precision, descriptor.atom_shape) == ("double", "hard-sphere")


@shows("`pixel_size` may also be an array or a list of one or two equal numbers; -1 stands for none.")
def test_pixel_sizes() -> None:
    for given in (1.5, [1.5], [1.5, 1.5], np.array([1.5, 1.5]), np.array(1.5)):
        assert ConversionSettings(pixel_size=given).pixel_size == 1.5
        assert ImageDescriptor.from_individual_values(12, given).pixel_size == (1.5, 1.5)
    assert ConversionSettings(pixel_size=-1.0).pixel_size is None
    with pytest.raises(InputError, match="equal"):
        ConversionSettings(pixel_size=[1.5, 1.6])


@shows("`n_stacks_max` of 0 or less means all stacks, and `downsample_factor` of 1 or less no downsampling.")
def test_limits_that_are_none(work: dict[str, Any]) -> None:  # noqa: F811
    for number in (0, -3):
        star(f"out{number}", batch_size=5, n_stacks_max=number, downsample_factor=number)
        stacks = read_stacks(Path(f"out{number}"))
        assert_holds(stacks, work, in_sequence(ABC))
        assert len(stacks) == 3


@shows("`device` may also be a `torch.device`.")
def test_devices() -> None:
    assert ConversionSettings(device=torch.device("cpu")).device == "cpu"  # type: ignore[arg-type]


# The image descriptor and its grids


@shows("An `ImageDescriptor` cannot be changed: `update_pixel_size` returns a copy.")
def test_descriptors_cannot_be_changed() -> None:
    descriptor = params()
    assert descriptor.update_pixel_size(1.2).pixel_size == (1.2, 1.2)
    assert descriptor == params()
    with pytest.raises(FrozenInstanceError):
        descriptor.precision = "double"  # type: ignore[misc]


@shows("`ImageDescriptor(...)` takes numbers.")
def test_the_constructor_takes_numbers() -> None:
    d = params()
    assert ImageDescriptor(d.n_pixels, d.pixel_size, d.radius_max, d.dist_radii, d.n_inplanes) == d


@shows("`viewing_angles` is None.")
def test_there_are_no_viewing_angles() -> None:
    assert params().viewing_angles is None  # type: ignore[func-returns-value]


@shows(
    "A descriptor with explicit viewing angles is refused.",
    "A polar grid that is not uniform, covers half the circle or has another quadrature is refused.",
)
def test_what_a_params_file_cannot_hold_is_refused() -> None:
    half = np.linspace(0, np.pi, 64, endpoint=False)
    for changes, named in (
        ({"viewing_distance": None}, "viewing_angles"),
        ({"polar": {"uniform": False}}, "not uniform"),
        ({"polar": {"theta_shell": half}}, "in-plane angles"),
        ({"polar": {"radius_shells": np.linspace(0.1, 7.9, 33)}}, "radii"),
    ):
        with pytest.raises(InputError, match=named):
            ImageDescriptor.ensure(cryolikes(**changes))
    for arguments in ({"uniform": False}, {"half_space": True}, {"quadrature": "gauss-legendre"}):
        with pytest.raises(InputError, match=next(iter(arguments))):
            PolarGrid(8.0, 0.25, n_inplanes=64, **arguments)  # type: ignore[arg-type]


@shows("A resolution factor above 1 is refused.")
def test_resolution_factors_above_1_are_refused(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(InputError, match="resolution_factor"):
        params(resolution_factor=1.1)
    wide = ImageDescriptor.from_dict(params().to_dict() | {"radius_max": 3.3})
    with pytest.raises(InputError, match="Nyquist"):
        star(params_input=wide)


@shows("`precision` is `'single'` or `'double'`; CryoLike's `'default'` is kept as `'single'`.")
def test_precisions() -> None:
    assert [params(precision=given).precision for given in ("single", "double", "default")] == ["single", "double", "single"]


@shows("`atom_shape` is `'hard-sphere'`, `'gaussian'` or `'default'`; other names are refused.")
def test_atom_shapes() -> None:
    for shape in ("hard-sphere", "gaussian", "default"):
        assert params(atom_shape=shape).atom_shape == shape
    with pytest.raises(InputError, match="'sphere'"):
        params(atom_shape="sphere")


@shows(
    "Values that CryoLike cannot load as absent get its defaults: `viewing_distance`, `use_protein_residue_model`, `atom_shape`."
)
def test_absent_values() -> None:
    absent = dict.fromkeys(("viewing_distance", "use_protein_residue_model", "atom_shape"))
    assert ImageDescriptor.from_dict(params().to_dict() | absent) == params()


@shows("`save` also refuses to replace `params.npz` when asked for `params`.")
def test_saving_replaces_nothing(tmp_path: Path) -> None:
    params().save(tmp_path / "params.npz")
    for name in ("params", "params.npz"):
        with pytest.raises(ValueError, match="already exists"):
            params(pixel_size=3.0).save(tmp_path / name)
    assert ImageDescriptor.load(tmp_path / "params.npz") == params()


@shows("`load` reads numbers and text, and unpickles nothing.")
def test_loading_unpickles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "p.npz", **(params().to_dict() | {"atom_selection": np.array(Path("x"), dtype=object)}))  # type: ignore[arg-type]
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(InputError, match="never unpickled"):
        ImageDescriptor.load(tmp_path / "p.npz")


@shows("A `PolarGrid` has points, weights and integrals, but no masks and no translation kernels.")
def test_what_a_polar_grid_has() -> None:
    grid = params().polar_grid
    names = ("radius_shells", "theta_shell", "x_points", "y_points", "weight_points", "integration_weight_points")
    assert all(len(getattr(grid, name)) for name in names)
    assert grid.integrate(np.ones(grid.n_points))[0] == pytest.approx(np.pi * 9)
    assert not [name for name in ("mask_points", "set_mask_points", "get_fourier_translation_kernel") if hasattr(grid, name)]


# Calls


@shows("`device` is `'auto'`: a GPU, if there is one.", "`pixel_size` of a job directory is None.")
def test_defaults_that_differ() -> None:
    assert ConversionSettings().device == "auto"
    assert inspect.signature(ParticleStackConverter).parameters["device"].default == "auto"
    job = inspect.signature(convert_particle_stacks_from_cryosparc_job_directory).parameters
    assert job["pixel_size"].default is None


@shows(
    "`never_combine_input_files` is None: image files with a STAR file each stay apart, all others are restacked.",
    "One converter takes sources of all kinds, in any order.",
)
def test_sources_of_all_kinds_in_one_converter(work: dict[str, Any]) -> None:  # noqa: F811
    # A stack ends where the optics change, between STAR files and those of cryoSPARC, even where files share stacks.
    sizes = {None: [15, 7, 2, 6, 30], True: [7, 2, 6] * 4, False: [30, 30]}
    for chosen, expected in sizes.items():
        converter = ParticleStackConverter("params.npz", f"out-{chosen}", **NO_PLOTS)
        converter.prepare_indexed_file("particles.star", "starfile")
        converter.prepare_star_files(list(ABC), ["A.star", "B.star", "C.star"])
        converter.prepare_indexed_file("particles.cs", "cryosparc")
        converter.prepare_sequential_cryosparc("cryosparc", 4)
        converter.convert_stacks(45, chosen)
        found = [len(stack.fourier) for stack in read_stacks(Path(f"out-{chosen}"))]
        assert sum(found) == 60
        assert found == expected, chosen


@shows("`pixel_size` may be left out everywhere.", "A report is returned.")
def test_pixel_sizes_may_be_left_out(work: dict[str, Any]) -> None:  # noqa: F811
    pairs = (list(ABC), ["A.star", "B.star", "C.star"])
    for report in (
        star("star"),
        convert_particle_stacks_from_paired_star_and_mrc_files("params.npz", *pairs, "pairs", **NO_PLOTS),
        convert_particle_stacks_from_indexed_cryosparc_file("params.npz", "particles.cs", "", "cs", **NO_PLOTS),
        convert_particle_stacks_from_cryosparc_job_directory("params.npz", "cryosparc", 4, "job", **NO_PLOTS),
    ):
        assert report.n_images == 15
        assert len(report.stacks) == len(read_stacks(report.folder))


@shows(
    "The parameters may be None: box and pixel size are taken from the table, or from the image headers.",
    "`where`, `ind` and `sample` choose particles.",
)
def test_parameters_may_be_none_and_particles_chosen(work: dict[str, Any]) -> None:  # noqa: F811
    convert_particle_stacks_from_indexed_star_file(
        None, "particles.star", "", "chosen", where="rlnDefocusU > 0", ind=[1, 3, 8, 4], sample=2, **NO_PLOTS
    )
    (stack,) = read_stacks(Path("chosen"))
    assert len(stack.fourier) == 2
    assert set(stack.metadata["row"].tolist()) < {1, 3, 4, 8}
    assert ImageDescriptor.load("chosen/params.npz") == ImageDescriptor.load("params.npz")


@shows("`device` is one GPU, named `'cuda'` or `'cuda:0'`; a higher number is refused.")
def test_numbers_of_devices() -> None:
    for device in ("cuda", "cuda:0", torch.device("cuda", 0)):
        assert ConversionSettings(device=device).device == "cuda"  # type: ignore[arg-type]
    for device in ("cuda:1", torch.device("cuda", 1)):
        with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES"):
            ConversionSettings(device=device)  # type: ignore[arg-type]


@shows(
    "A file that is missing is an `InputError`, which is also a `ValueError` and here a `FileNotFoundError`.",
    "A file type that is not known is an `InputError`, which here is also a `NotImplementedError`.",
    "Stacks that exist are an `OutputError`, which is also a `ValueError` and here a `FileExistsError`.",
)
def test_errors_are_caught_by_what_cryolikes_users_catch(work: dict[str, Any]) -> None:  # noqa: F811
    star()
    converter = ParticleStackConverter("params.npz", "other")
    for error, also, call in (
        (InputError, FileNotFoundError, lambda: star("other", star_file="absent.star")),
        (InputError, FileNotFoundError, lambda: star("other", params_input="absent.npz")),
        (InputError, NotImplementedError, lambda: converter.prepare_indexed_file("particles.star", "relion")),
        (OutputError, FileExistsError, star),
    ):
        for caught in (error, also, ValueError):
            with pytest.raises(caught) as raised:
                call()  # type: ignore[operator]
            assert isinstance(raised.value, error)


@shows("A converter that has nothing to convert is an error.")
def test_nothing_to_convert(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(InputError, match="Nothing was prepared"):
        ParticleStackConverter("params.npz", "out").convert_stacks()


@shows("`skip_exist` continues a run that was interrupted.")
def test_runs_continue(work: dict[str, Any]) -> None:  # noqa: F811
    star(batch_size=5, n_stacks_max=2)
    written = files_of(Path("out/fft"))
    star(batch_size=5, skip_exist=True)
    assert_holds(read_stacks(Path("out")), work, in_sequence(ABC))
    assert {name: files_of(Path("out/fft"))[name] for name in written} == written


# Input


@shows("Recorded paths are used unless you give the folder of the image files or of the project.")
def test_recorded_paths(work: dict[str, Any]) -> None:  # noqa: F811
    Path("deep").mkdir()
    for name in ABC:
        shutil.move(name, "deep")
    write_star(Path("particles.star"), in_sequence(ABC), "deep/")
    shutil.copytree("deep", "project/deep")
    for out, folder, where in (("one", "", "deep"), ("two", "elsewhere", "elsewhere"), ("three", "project", "project/deep")):
        star(out, folder_mrc=folder)
        (stack,) = read_stacks(Path(out))
        assert {str(Path(str(file)).parent.relative_to(Path.cwd())) for file in stack.metadata["files"]} == {where}


@shows("Missing image files are an error, or left out and listed.")
def test_missing_files(work: dict[str, Any]) -> None:  # noqa: F811
    Path("B.mrcs").unlink()
    with pytest.raises(InputError, match=r"B\.mrcs"):
        star()
    report = star(on_missing="skip")
    assert report.n_images == 13
    assert ["B.mrcs" in line for line in report.skipped] == [True, True]


@shows("Image 0 of a STAR file, and numbers beyond the end of a file, are errors before anything is written.")
def test_numbers_out_of_range(work: dict[str, Any]) -> None:  # noqa: F811
    for index, named in ((-1, "image 0"), (7, "holds 7 images")):
        write_star(Path("particles.star"), [("A.mrcs", 0), ("A.mrcs", index)])
        with pytest.raises(InputError, match=named):
            star()
        assert not Path("out").exists()


@shows("A paired STAR file whose `rlnImageName` is not image 1, 2, 3, ... in the order of its rows is an error.")
def test_pairs_in_another_order(work: dict[str, Any]) -> None:  # noqa: F811
    write_star(Path("A.star"), [("A.mrcs", index) for index in (1, 0, 2, 3, 4, 5, 6)])
    with pytest.raises(InputError, match="rlnImageName"):
        convert_particle_stacks_from_paired_star_and_mrc_files("params.npz", ["A.mrcs"], ["A.star"], "out", **NO_PLOTS)


@shows("A voltage, Cs, amplitude contrast or defocus that no microscope has is an error.")
@pytest.mark.parametrize(
    ("column", "value"),
    [("rlnVoltage", "300000"), ("rlnSphericalAberration", "-2.7"), ("rlnAmplitudeContrast", "7"), ("rlnDefocusU", "1.5e7")],
)
def test_impossible_optics(work: dict[str, Any], column: str, value: str) -> None:  # noqa: F811
    if column == "rlnDefocusU":
        write_star(Path("particles.star"), in_sequence(ABC), rlnDefocusU=[value] * 15)
    else:
        write_star(Path("particles.star"), in_sequence(ABC), optics=optics_table(**{column: [value]}))
    with pytest.raises(InputError, match=column):
        star()


@shows("An `rlnImageSize` or `blob/shape` that is not the box of the image files is an error.")
def test_other_boxes(work: dict[str, Any]) -> None:  # noqa: F811
    write_star(Path("particles.star"), in_sequence(ABC), optics=optics_table(rlnImageSize=["24"]))
    with pytest.raises(InputError, match="rlnImageSize"):
        star()
    columns = particle_columns(["A.mrcs"] * 7, range(7), 24)
    columns["blob/psize_A"][:] = 2.0
    write_cs(Path("particles.cs"), columns)
    with pytest.raises(InputError, match="blob/shape"):
        convert_particle_stacks_from_indexed_cryosparc_file("params.npz", "particles.cs", "", "out", **NO_PLOTS)


@shows("Voltage, Cs and amplitude contrast of a `.cs` file are compared over all rows.")
def test_optics_of_all_rows(work: dict[str, Any]) -> None:  # noqa: F811
    for column in ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast"):
        columns = particle_columns(["A.mrcs"] * 7, range(7), BOX)
        columns["blob/psize_A"][:] = 2.0
        columns[column][-1] *= 0.5
        write_cs(Path("particles.cs"), columns)
        with pytest.raises(InputError, match=r"mixed_optics"):
            convert_particle_stacks_from_indexed_cryosparc_file("params.npz", "particles.cs", "", "out", **NO_PLOTS)


@shows("An optics group that is not in the optics table is an error.")
def test_unknown_optics_groups(work: dict[str, Any]) -> None:  # noqa: F811
    write_star(Path("particles.star"), in_sequence(ABC), groups=[1] * 14 + [7])
    with pytest.raises(InputError, match="optics group 7"):
        star()


@shows("A table whose pixel size is not the descriptor's is an error that names both.")
def test_other_pixel_sizes(work: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(InputError, match=r"1\.9 Å.* 2 Å"):
        star(params_input=params(pixel_size=1.9))


@shows("A job's table with more rows than the job has images describes the first ones, with a warning that gives both numbers.")
def test_longer_job_tables(work: dict[str, Any]) -> None:  # noqa: F811
    Path("cryosparc/J4/restack/batch_000002_restacked.mrc").unlink()
    report = convert_particle_stacks_from_cryosparc_job_directory("params.npz", "cryosparc", 4, "job", **NO_PLOTS)
    assert report.n_images == 9
    assert_holds(read_stacks(Path("job")), work, in_sequence(dict(list(BATCHES.items())[:2])))
    assert [line for line in report.warnings if "15" in line and "9 images" in line]


@shows("With `ignore_manual_pixel_size=True` the table's pixel size wins.")
def test_the_table_wins(work: dict[str, Any]) -> None:  # noqa: F811
    converter = ParticleStackConverter("params.npz", "out", pixel_size=1.9, **NO_PLOTS)
    converter.prepare_indexed_file("particles.star", "starfile", ignore_manual_pixel_size=True)
    converter.convert_stacks()
    assert read_stacks(Path("out"))[0].metadata["pixel_size"].tolist() == [2.0, 2.0]
    star("override", pixel_size=1.9, override_pixel_size=True)
    assert read_stacks(Path("override"))[0].metadata["pixel_size"].tolist() == [1.9, 1.9]


@shows("A pixel size given by hand may differ from the table's by one part in 10,000.")
def test_tolerance_of_pixel_sizes(work: dict[str, Any]) -> None:  # noqa: F811
    star("near", pixel_size=2.0 * (1 + 0.9e-4))
    with pytest.raises(InputError, match="pixel_size"):
        star("far", pixel_size=2.0 * (1 + 1.1e-4))


@shows("A constant image is an error, or zeros and a warning.")
def test_constant_images(work: dict[str, Any]) -> None:  # noqa: F811
    images = work["B.mrcs"].copy()
    images[1] = 2.5
    Path("B.mrcs").write_bytes(pack_mrc(images, 2, pixel_size=0))
    with pytest.raises(ConversionError, match=r"B\.mrcs.*constant"):
        star("one")
    report = star("two", on_bad_image="zero")
    assert [n for n, image in enumerate(read_stacks(Path("two"))[0].fourier) if not image.any()] == [8]
    assert any("B.mrcs" in line for line in report.warnings)


@shows(
    "Images are downsampled by any integer factor.",
    "Shells beyond the Nyquist limit of the downsampled images are never written.",
)
def test_downsampling(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=21)
    (stack,) = convert(particles, params(21), downsample_factor=3)
    assert_holds([stack], particles.images, particles.listed, 3)
    assert (stack.metadata["n_pixels"].tolist(), stack.metadata["radius_max"].item()) == ([7, 7], 7 / 4)
    wide = ImageDescriptor.from_dict(params(7, 6.0).to_dict() | {"radius_max": 21 / 4})
    with pytest.raises(InputError, match="Nyquist"):
        convert(particles, wide, "wide", downsample_factor=3)


@shows("`downsample_type='fourier'` leaves the image where it is, and takes any smaller box as `downsample_to`.")
def test_fourier_downsampling(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 1}, box=24)
    x, y = np.meshgrid(*2 * [np.arange(24) - 12], indexing="ij")
    (particles.mrc / "a.mrcs").write_bytes(pack_mrc(np.exp(-(x**2 + y**2) / 18)[None].astype(np.float32), 2, pixel_size=0))
    for small, options in ((12, {"downsample_factor": 2}), (11, {"downsample_to": 11}), (10, {"downsample_to": 10})):
        descriptor = params(small, 48 / small)
        (stack,) = convert(particles, descriptor, f"out{small}", downsample_type="fourier", **options)
        assert stack.physical is not None
        # An image that is symmetric about its middle pixel stays so.
        reach = np.arange(1, small // 2)
        for image in (stack.physical[0], stack.physical[0].T):
            np.testing.assert_allclose(image[small // 2 + reach], image[small // 2 - reach], atol=1e-5)


@shows("With `axes='relion'`, x is the column index of an image, as in RELION.")
def test_axes(work: dict[str, Any]) -> None:  # noqa: F811
    star("cryolike")
    star("relion", axes="relion")
    (cryolike,), (relion,) = read_stacks(Path("cryolike")), read_stacks(Path("relion"))
    assert cryolike.physical is not None
    assert relion.physical is not None
    assert np.array_equal(relion.physical, cryolike.physical.swapaxes(1, 2))


@shows("`contrast='invert'` and `'auto'` change the sign of images.")
def test_contrast(work: dict[str, Any]) -> None:  # noqa: F811
    columns = particle_columns(["A.mrcs"] * 7, range(7), BOX)
    columns["blob/psize_A"][:] = 2.0
    columns["blob/sign"] = np.array([1, -1, 1, 1, -1, 1, 1], np.float32)
    write_cs(Path("particles.cs"), columns)
    found = []
    for number, contrast in enumerate(("as-is", "invert", "auto")):
        convert_particle_stacks_from_indexed_cryosparc_file(
            "params.npz", "particles.cs", "", f"out{number}", contrast=contrast, **NO_PLOTS
        )
        found.append(read_stacks(Path(f"out{number}"))[0].fourier)
    np.testing.assert_allclose(found[1], -found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0] * columns["blob/sign"][:, None, None], atol=1e-6)


@shows("`apply_origins=True` moves each image so that its particle is in the middle.")
def test_apply_origins(tmp_path: Path) -> None:
    there, in_middle = shifted_set(tmp_path, np.array([[3.0, -2.0], [0.5, 1.25]]))
    moved, unmoved = (convert(there, params(64, PIXEL), f"out{on}", apply_origins=bool(on))[0] for on in (1, 0))
    (expected,) = convert(in_middle, params(64, PIXEL))
    assert relative_error(moved.fourier, expected.fourier) < 1.5e-6
    assert relative_error(unmoved.fourier, expected.fourier) > 0.1
    assert unmoved.metadata["originX"].tolist() == [3 * PIXEL, 0.5 * PIXEL]


# Output


@shows("`particles.star` keeps every column of the table: origins, coordinates, micrographs, half sets.")
def test_columns_of_the_table(work: dict[str, Any]) -> None:  # noqa: F811
    columns = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnCoordinateX", "rlnCoordinateY", "rlnMicrographName", "rlnRandomSubset")
    values = {name: [str(2 * number), str(number)] for number, name in enumerate(columns, 1)}
    write_star(Path("particles.star"), [("A.mrcs", 0), ("A.mrcs", 1)], **values)
    star()
    written = starfile.read(Path("out/particles.star"), always_dict=True)["particles"]
    assert {name: written[name].astype(int).astype(str).tolist() for name in columns} == values


@shows("A row with defocus U below V has both exchanged in the metadata, and 90° added to the angle: the same CTF.")
def test_exchanged_defocus(work: dict[str, Any]) -> None:  # noqa: F811
    columns = {"rlnDefocusU": ["9000", "11000"], "rlnDefocusV": ["10000"] * 2, "rlnDefocusAngle": ["20"] * 2}
    write_star(Path("particles.star"), [("A.mrcs", 0), ("A.mrcs", 1)], **columns)
    star()
    stored = read_stacks(Path("out"))[0].metadata
    assert (stored["defocusU"].tolist(), stored["defocusV"].tolist()) == ([10000, 11000], [9000, 10000])
    np.testing.assert_allclose(np.degrees(stored["defocusAngle"]) % 180, [110, 20])


@shows(
    "Stacks follow the rows of the table.",
    "`files`, `idxs`, `ctfBfactor` and `ctfScalefactor` of a stack are those of its own images.",
)
def test_stacks_follow_the_table(scattered: ParticleSet, tmp_path: Path) -> None:
    def stacks(out: str, **options: Any) -> Any:
        convert_particle_stacks_from_indexed_star_file(
            params(), scattered.star, scattered.mrc, tmp_path / out, 7, **NO_PLOTS, **options
        )
        return read_stacks(tmp_path / out)

    assert traced(stacks("table")) == list(scattered.listed)
    by_path = sorted(range(len(scattered.listed)), key=lambda row: scattered.listed[row][0])
    assert traced(stacks("file", order="file")) == [scattered.listed[row] for row in by_path]
    for number, stack in enumerate(read_stacks(tmp_path / "table")):
        rows = np.arange(7 * number, 7 * number + len(stack.fourier))
        np.testing.assert_array_equal(stack.metadata["ctfBfactor"], rows / 4)
        np.testing.assert_array_equal(stack.metadata["ctfScalefactor"], 1 + rows / 8)


@shows("Existing output is refused before any work.")
def test_existing_output(work: dict[str, Any]) -> None:  # noqa: F811
    star(batch_size=5)
    before = files_of(Path("out"))
    with pytest.raises(OutputError, match="already holds"):
        star(batch_size=10)
    assert files_of(Path("out")) == before
    star(batch_size=10, overwrite=True)
    assert len(read_stacks(Path("out"))) == 2


@shows("A tensor file holds its own images.")
def test_tensor_files(work: dict[str, Any]) -> None:  # noqa: F811
    star(batch_size=4)
    for path in Path("out/fft").glob("*.pt"):
        read_tensor(path, torch.complex64)  # compares the storage with the shape


@shows(
    "`phys` can be left out with `save_phys=False`.",
    "`manifest.json`, `params.npz` and `particles.star` are written beside the stacks, and `report.html` with the plots.",
)
def test_files_of_a_run(work: dict[str, Any]) -> None:  # noqa: F811
    star("with", flag_plots=True)
    star("without", save_phys=False)
    assert [Path(out, "phys").exists() for out in ("with", "without")] == [True, False]
    written = [{path.name for path in Path(out).iterdir()} for out in ("with", "without")]
    assert written[1] == {"fft", "manifest.json", "params.npz", "particles.star"}
    assert written[0] == written[1] | {"phys", "plots", "report.html"}
    assert json.loads(Path("with/manifest.json").read_text())["status"] == "complete"


# Numbers


@shows("Fourier images differ from CryoLike's by at most 5e-6 of the largest value.")
def test_accuracy(work: dict[str, Any]) -> None:  # noqa: F811
    # CryoLike's own error is below 2e-6 of the largest value: see the tests with CryoLike, and with its recorded output.
    star()
    assert_holds(read_stacks(Path("out")), work, in_sequence(ABC), tolerance=1.5e-6)


@shows("Means are subtracted in float64.")
def test_means(work: dict[str, Any]) -> None:  # noqa: F811
    images = {name: image + np.float32(3000) for name, image in work.items() if name in ABC}
    for name, image in images.items():
        Path(name).write_bytes(pack_mrc(image, 2, pixel_size=0))
    star()
    (stack,) = read_stacks(Path("out"))
    assert stack.physical is not None
    sources = np.concatenate([images[name] for name in ABC]).astype(np.float64)
    centred = sources - sources.mean(axis=(1, 2), keepdims=True)
    centred /= abs(centred).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(stack.physical, centred, atol=1.2e-7)


@shows("Radii and weights of grids agree in 12 digits, log likelihoods in 6.")
def test_radii_and_weights() -> None:
    from scipy.special import roots_jacobi

    grid = PolarGrid(33.0, 0.25, n_inplanes=256)
    nodes, weights = roots_jacobi(133, 0, 1)
    np.testing.assert_allclose(grid.radius_shells, (nodes + 1) * 33.0 / 2, rtol=1e-12)
    expected = np.repeat(weights * (33.0 / 2) ** 2 / (2 * np.pi), 256) / 256
    np.testing.assert_allclose(grid.weight_points, expected, rtol=1e-12)
