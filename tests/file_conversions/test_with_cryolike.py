"""The same calls to both packages, and CryoLike's loading code and likelihood on the stacks of both, if CryoLike can be imported."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cryolike_dask
from tests.support.cryolike import import_cryolike
from tests.support.cs_files import ctf_columns, particle_columns, uids, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    BOX,
    PIXEL_SIZE,
    assert_holds,
    in_sequence,
    optics_table,
    params,
    shuffled,
    write_images,
    write_star,
)

cryolike = import_cryolike()

COUNTS = {"C.mrcs": 4, "A.mrcs": 7, "B.mrcs": 2}
TOLERANCE = 5e-6
"""CryoLike asks its transform for 1e-6 in either precision, and subtracts means in single precision."""

OF_THE_TABLE = ("files", "idxs", "ctfBfactor", "ctfScalefactor")
"""CryoLike writes these for the whole table into each stack; here they are those of the stack's images."""
MORE = ("ref_pixel_size", *OF_THE_TABLE)
"""CryoLike leaves these out for some kinds of input."""


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with particles in all four forms."""
    write_images(tmp_path / "mrc", COUNTS)
    listed = shuffled(in_sequence(COUNTS))
    write_star(tmp_path / "particles.star", listed, "mrc/")
    columns = particle_columns([f"mrc/{name}" for name, _ in listed], [index for _, index in listed], BOX)
    columns["blob/psize_A"][:] = PIXEL_SIZE
    write_cs(tmp_path / "particles.cs", columns)
    for name, n in COUNTS.items():
        write_star(tmp_path / f"{name[0]}.star", in_sequence({name: n}))
    job = tmp_path / "cryosparc" / "J4"
    write_images(job / "restack", {f"batch_{k:06d}_restacked.mrc": 4 for k in range(3)})
    write_cs(job / "J4_passthrough_particles.cs", {"uid": uids(12), **ctf_columns(12)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(package: Any, kind: str, **options: Any) -> None:
    """One of the four calls, as CryoLike's users write it. Ours uses CryoLike's order, which follows the paths."""
    options |= {"folder_output": package.__name__, "batch_size": 5, "pixel_size": PIXEL_SIZE, "flag_plots": False}
    extra = {"order": "file"} if package is cryolike_dask and kind in ("star", "cryosparc") else {}
    if kind == "star":
        package.convert_particle_stacks_from_indexed_star_file("params.npz", "particles.star", "mrc", **options, **extra)
    elif kind == "cryosparc":
        package.convert_particle_stacks_from_indexed_cryosparc_file("params.npz", "particles.cs", "mrc", **options, **extra)
    elif kind == "job":
        package.convert_particle_stacks_from_cryosparc_job_directory("params.npz", "cryosparc", 4, **options)
    else:
        images, stars = [f"mrc/{name}" for name in COUNTS], [f"{name[0]}.star" for name in COUNTS]
        package.convert_particle_stacks_from_paired_star_and_mrc_files("params.npz", images, stars, **options)


def stack_files(folder: str, suffix: str) -> list[Path]:
    return sorted(Path(folder, "fft").glob(f"*{suffix}"))


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("kind", ["star", "cryosparc", "job", "paired"])
def test_both_write_the_same_stacks(inputs: Path, kind: str, precision: str) -> None:
    params(precision=precision).save("params.npz")
    for package in (cryolike, cryolike_dask):
        convert(package, kind)
    assert len(stack_files("cryolike_dask", ".pt")) == {"star": 3, "cryosparc": 3, "job": 3, "paired": 4}[kind]
    for theirs, ours in zip(stack_files("cryolike", ".pt"), stack_files("cryolike_dask", ".pt"), strict=True):
        assert ours.name == theirs.name
        expected, found = (torch.load(path, weights_only=True) for path in (theirs, ours))
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()
        expected, found = (
            torch.load(path.parents[1] / "phys" / path.name.replace("fourier", "phys"), weights_only=True)
            for path in (theirs, ours)
        )
        np.testing.assert_allclose(found, expected, atol=5e-6)
    for theirs, ours in zip(stack_files("cryolike", ".npz"), stack_files("cryolike_dask", ".npz"), strict=True):
        (images, lens), (our_images, our_lens) = (cryolike.load_combined_params(path) for path in (theirs, ours))
        assert str(our_images.to_dict()) == str(images.to_dict())
        found, n_images = our_lens.to_dict(), len(lens.defocusU)
        for key, value in lens.to_dict().items():
            if value is None:
                assert found[key] is None or key in MORE, key
            elif key in OF_THE_TABLE:
                assert np.size(found[key]) in (1, n_images), key
            else:
                np.testing.assert_allclose(found[key], value, rtol=1e-12, err_msg=key)
        assert cryolike.util.load_file(ours)["n_images"] == cryolike.util.load_file(theirs)["n_images"]


def test_cryolikes_likelihood_is_the_same_on_both(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = params(viewing_distance=1.0)
    os.mkdir("templates")
    descriptor.save("params.npz")
    descriptor.save("templates/parameters.npz")
    density = np.random.default_rng(3).normal(size=(12, 12, 12)).cumsum(axis=0).cumsum(axis=1)
    cryolike.make_templates_from_inputs([density], "templates/parameters.npz", output_plots=False, folder_output="templates")
    module = cryolike.run_likelihood
    # It names the GPU, and does not ask for the integrated likelihood that it is told to return.
    monkeypatch.setattr(module, "device", lambda _: torch.device("cpu"))
    compare = module.template_first_comparator
    monkeypatch.setattr(
        module, "template_first_comparator", lambda **given: compare(**given | {"return_integrated_likelihood": True})
    )
    results: dict[str, dict[str, list[torch.Tensor]]] = {}
    for package in (cryolike, cryolike_dask):
        convert(package, "star")
        files = cryolike.configure_likelihood_files("templates", package.__name__, f"results-{package.__name__}", 3)
        cryolike.run_likelihood_optimal_pose(
            *(files, "templates/parameters.npz", cryolike.configure_displacement(2.0, 3, 3)),
            n_stacks=3,
            return_likelihood_optimal_pose_fourier=True,
            return_likelihood_integrated_pose_fourier=True,
        )
        written = sorted(Path(f"results-{package.__name__}", "template0").rglob("*.pt"))
        results[package.__name__] = {path.name: torch.load(path, weights_only=True) for path in written}
    theirs, ours = results["cryolike"], results["cryolike_dask"]
    assert len(theirs) == 3 * 7
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        if name.startswith("log_likelihood"):
            assert torch.unique(expected).numel() > 1
            np.testing.assert_allclose(ours[name], expected, rtol=1e-6, err_msg=name)
        elif name.startswith("cross_correlation"):
            np.testing.assert_allclose(ours[name], expected, atol=5e-6, err_msg=name)
        else:
            assert torch.equal(ours[name], expected), name


DIFFERENT_DEFAULTS = {"device": ("cpu", "auto"), "never_combine_input_files": (False, None)}
CONVERTER = ("__init__", "prepare_star_files", "prepare_indexed_file", "prepare_sequential_cryosparc", "convert_stacks")


def signatures() -> list[Any]:
    """Pairs of functions: CryoLike's, ours."""
    names = [name for name in dir(cryolike) if name.startswith("convert_particle_stacks_from")]
    assert len(names) == 4
    theirs, ours = cryolike.file_conversions.ParticleStackConverter, cryolike_dask.ParticleStackConverter
    return [
        *((getattr(cryolike, name), getattr(cryolike_dask, name)) for name in names),
        *((getattr(theirs, name), getattr(ours, name)) for name in CONVERTER),
        *(
            (getattr(cryolike.ImageDescriptor, name), getattr(cryolike_dask.ImageDescriptor, name))
            for name in ("from_individual_values", "from_dict", "save", "load", "print", "ensure", "to_dict", "serialize")
        ),
        (cryolike.PolarGrid, cryolike_dask.PolarGrid),
        (cryolike.CartesianGrid2D, cryolike_dask.CartesianGrid2D),
    ]


@pytest.mark.parametrize(("theirs", "ours"), signatures(), ids=lambda function: function.__name__)
def test_arguments_come_in_cryolikes_order_with_its_defaults(theirs: Any, ours: Any) -> None:
    expected, found = (list(inspect.signature(function).parameters.values()) for function in (theirs, ours))
    positional = [parameter for parameter in found if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    assert [parameter.name for parameter in positional] == [parameter.name for parameter in expected]
    for parameter, own in zip(expected, positional, strict=True):
        default = getattr(parameter.default, "value", parameter.default)
        if ours is cryolike_dask.convert_particle_stacks_from_cryosparc_job_directory and parameter.name == "pixel_size":
            assert (default, own.default) == (-1.0, None)
        elif parameter.name in DIFFERENT_DEFAULTS:
            assert (default, own.default) == DIFFERENT_DEFAULTS[parameter.name]
        elif parameter.name not in ("radius_max", "dist_radii", "job_number", "folder_cryosparc"):
            assert own.default == default, parameter.name


EXAMPLES = Path(cryolike.__file__).parents[2] / "example"


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="CryoLike's examples are not beside its sources")
def test_its_examples_run_with_the_import_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path / "data" / "particles", {"particles.mrcs": 5}, 132, 1.346)
    optics = optics_table(rlnImagePixelSize=["1.346"])
    write_star(tmp_path / "data" / "particles" / "particle_data.star", in_sequence({"particles.mrcs": 5}), optics=optics)
    monkeypatch.chdir(tmp_path)
    for name in ("set_image_parameters_example", "convert_particle_stacks_example"):
        script = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        exec(script.replace("from cryolike import", "from cryolike_dask import"), {})
    assert_holds(read_stacks(Path("output/particles")), images, in_sequence({"particles.mrcs": 5}))
    loaded, lens = cryolike.load_combined_params("output/particles/fft/particles_fourier_stack_000000.npz")
    assert loaded.is_compatible_with(cryolike.ImageDescriptor.load("output/templates/parameters.npz"))
    assert len(lens.defocusU) == 5
    assert len(list(Path("output/particles/plots").glob("*.png"))) == 3
