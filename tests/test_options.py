"""Signatures, typed dictionaries, docstrings and the command line have the options of the dataclass."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import click
import pytest

import cryolike_dask
from cryolike_dask.cli.browse import browse
from cryolike_dask.cli.convert import convert
from cryolike_dask.cli.preview import preview
from cryolike_dask.cli.restack import restack
from cryolike_dask.options import meanings, option_types
from cryolike_dask.particles import inputs
from cryolike_dask.settings import ConversionSettings

DEFAULTS = {field.name: field.default for field in fields(ConversionSettings)}
WRAPPERS = [getattr(cryolike_dask, name) for name in cryolike_dask.__all__ if name.startswith("convert_")]
OF_CONVERT_STACKS = {"batch_size", "never_combine_input_files"}
CONVERTER: Any = cryolike_dask.ParticleStackConverter
TAKING = [
    *(function for function in WRAPPERS if function.__module__.endswith("wrappers")),
    CONVERTER.__init__,
    cryolike_dask.Conversion.__init__,
    cryolike_dask.preview_particles,
    cryolike_dask.browse_particles,
]
READERS = {
    inputs.StarInput: cryolike_dask.particles_from_star,
    inputs.PairedInput: cryolike_dask.particles_from_paired_star_and_mrc_files,
    inputs.CryosparcInput: cryolike_dask.particles_from_cryosparc,
    inputs.CryosparcJobInput: cryolike_dask.particles_from_cryosparc_job,
    inputs.LeopardEMInput: cryolike_dask.particles_from_leopard_em,
}


def written(function: Callable[..., Any]) -> inspect.Signature:
    """The signature as it stands in the source."""
    return inspect.signature(function.__wrapped__, eval_str=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", TAKING, ids=lambda function: function.__qualname__)
def test_type_checkers_see_the_options_of_the_dataclass(function: Callable[..., Any]) -> None:
    explicit = {name: parameter for name, parameter in written(function).parameters.items() if name in DEFAULTS}
    (typed,) = typing.get_args(written(function).parameters["options"].annotation)
    left_out = OF_CONVERT_STACKS if function is CONVERTER.__init__ else set()
    assert not explicit.keys() & typed.__annotations__.keys()
    types = typing.get_type_hints(typed) | {name: parameter.annotation for name, parameter in explicit.items()}
    assert types == {name: kind for name, kind in option_types().items() if name not in left_out}
    assert not typed.__required_keys__
    assert {name: parameter.default for name, parameter in explicit.items()} == {name: DEFAULTS[name] for name in explicit}


@pytest.mark.parametrize("function", TAKING, ids=lambda function: function.__qualname__)
def test_help_shows_type_default_and_meaning_of_each_option(function: Callable[..., Any]) -> None:
    shown = inspect.signature(function).parameters
    of_classes = {CONVERTER.__init__: CONVERTER, cryolike_dask.Conversion.__init__: cryolike_dask.Conversion}
    described = meanings(of_classes.get(function, function))
    left_out = OF_CONVERT_STACKS if function is CONVERTER.__init__ else set()
    for name, kind in option_types().items():
        if name not in left_out:
            assert shown[name].default == DEFAULTS[name]
            assert shown[name].annotation == kind
            assert described[name] == meanings(ConversionSettings)[name]
    assert described.keys() == shown.keys() - {"self"}


def test_each_option_has_a_meaning() -> None:
    assert meanings(ConversionSettings).keys() == DEFAULTS.keys()


@pytest.mark.parametrize(("described", "reader"), READERS.items(), ids=lambda found: found.__name__)
def test_readers_take_what_the_description_of_their_input_says(described: Any, reader: Callable[..., Any]) -> None:
    parameters = inspect.signature(reader).parameters
    for field in fields(described):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        assert parameters[field.name].default == default
        assert meanings(reader)[field.name] == meanings(described)[field.name]
    assert meanings(described).keys() == {field.name for field in fields(described)}


@pytest.mark.parametrize("command", [*convert.commands.values(), preview, browse, restack], ids=lambda command: command.name)
def test_the_command_line_takes_defaults_and_choices_from_the_same_place(command: click.Command) -> None:
    types = option_types()
    taken = {parameter.name: parameter for parameter in command.params if parameter.name in DEFAULTS}
    assert taken
    for name, parameter in taken.items():
        if (command.name, name) == ("restack", "batch_size"):
            continue  # by default as before
        assert parameter.get_default(click.Context(command)) == DEFAULTS[name]
        if isinstance(parameter.type, click.Choice) and name != "device":
            assert tuple(parameter.type.choices) == typing.get_args(types[name])


def test_a_misspelt_keyword_is_a_type_error_that_suggests_the_right_one() -> None:
    for function in (
        *TAKING[:5],
        CONVERTER,
        cryolike_dask.Conversion,
        cryolike_dask.preview_particles,
        cryolike_dask.browse_particles,
    ):
        with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument 'downsample_fctor'"):
            function("params.npz", "x", downsample_fctor=2)
    with pytest.raises(TypeError, match="Did you mean 'pixel_size'"):
        cryolike_dask.convert_particle_stacks_from_indexed_star_file("p.npz", "x.star", pixelsize=1.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Did you mean 'star_file'"):
        cryolike_dask.convert_particle_stacks_from_indexed_star_file("p.npz", star_fil="x.star")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Choose from batch_size"):
        ConversionSettings.from_options({"xyz": 1})
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'star_file'"):
        cryolike_dask.convert_particle_stacks_from_indexed_star_file("p.npz")  # type: ignore[call-arg]


def test_all_of_it_works_where_python_leaves_docstrings_out() -> None:
    script = "import sys; from cryolike_dask.cli.main import main; import cryolike_dask as c; c.ParticleStackConverter; main(sys.argv[1:])"
    command = [sys.executable, "-OO", "-c", script, "convert", "star", "--help"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--batch-size" in result.stdout
