"""The options of a conversion as keyword arguments, which help(), editors and type checkers show, and which are checked in each call.

`ConversionSettings` describes the options. `takes_options` puts them into the signature and the docstring of a function. Type checkers do
not run code, so they read the same options from the typed dictionaries here; a test compares the two.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypedDict, TypeVar

from cryolike_dask.errors import check_names_known
from cryolike_dask.settings import (
    ACCEPTS,
    Axes,
    Contrast,
    ConversionSettings,
    DownsampleType,
    MixedOptics,
    OnBadImage,
    OnMissing,
    Order,
    OutputFormat,
    PixelSize,
    RowNumbers,
    TorchDevice,
    field_types,
)

Documented = TypeVar("Documented", bound=Callable[..., Any])

_SECTION = re.compile(r"^(Args|Returns|Raises|Example):$", flags=re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*)$")
_WIDTH = 100


class ConverterOptions(TypedDict, total=False):
    """The options that no function of CryoLike has. All functions of this package take them."""

    save_phys: bool
    output_format: OutputFormat
    zarr_store: str
    on_missing: OnMissing
    on_bad_image: OnBadImage
    mixed_optics: MixedOptics
    order: Order
    axes: Axes
    contrast: Contrast
    apply_origins: bool
    ignore_manual_pixel_size: bool
    override_pixel_size: bool
    downsample_to: int | None
    where: str
    ind: RowNumbers | None
    sample: int | None
    seed: int
    hash_inputs: bool


class _WrapperOptions(ConverterOptions, total=False):
    device: str | TorchDevice
    never_combine_input_files: bool | None


class PairedOptions(_WrapperOptions, total=False):
    """The options of the conversion of paired files that are not arguments of CryoLike's function."""

    n_stacks_max: int


class CryosparcOptions(_WrapperOptions, total=False):
    """The options of the conversions from cryoSPARC that are not arguments of CryoLike's functions."""

    overwrite: bool


class StarOptions(_WrapperOptions, total=False):
    """The options of the conversion from an indexed STAR file that are not arguments of CryoLike's function."""

    n_stacks_max: int
    skip_exist: bool
    overwrite: bool


class LeopardEMOptions(StarOptions, total=False):
    """All options but batch_size."""

    pixel_size: PixelSize | None
    downsample_factor: int
    downsample_type: DownsampleType
    flag_plots: bool


class ConversionOptions(LeopardEMOptions, total=False):
    """All options: the fields of `ConversionSettings`."""

    batch_size: int


def option_types() -> dict[str, Any]:
    """The type of the values that each option accepts."""
    kept = field_types()
    return {field.name: field.metadata.get(ACCEPTS, kept[field.name]) for field in fields(ConversionSettings)}


def takes_options(
    *described: object, elsewhere: dict[str, str] | None = None, **renamed: str
) -> Callable[[Documented], Documented]:
    """A decorator for a function, or a class, whose `**options` are the fields of `ConversionSettings`.

    Its signature and the Args of its docstring then list every option, and an unknown name is a TypeError that suggests the right one. The
    meaning of its other arguments is taken from its own docstring, or from those given here.

    Args:
        described: functions and classes whose docstrings describe arguments of the same names.
        elsewhere: options that the function does not take, and the method that takes them.
        renamed: arguments that have another name in these docstrings.
    """
    left_out = elsewhere or {}

    def decorate(target: Documented) -> Documented:
        is_class = inspect.isclass(target)
        function: Callable[..., Any] = target.__init__ if is_class else target
        signature = _with_options(inspect.signature(function, eval_str=True), left_out)
        known = [name for name in signature.parameters if name != "self"]

        @functools.wraps(function)
        def checked(*arguments: Any, **named: Any) -> Any:
            for name in named.keys() & left_out.keys():
                raise TypeError(f"{target.__name__}() does not take {name}: give it to {left_out[name]}.")
            check_names_known(target.__name__, named, known)
            return function(*arguments, **named)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        text = _with_args(target, known, (*described, ConversionSettings), renamed)
        if is_class:
            target.__init__ = checked  # type: ignore[method-assign]
            target.__doc__ = text
            return target
        checked.__doc__ = text
        return checked  # type: ignore[return-value]

    return decorate


def described_by(*described: object, **renamed: str) -> Callable[[Documented], Documented]:
    """A decorator that adds the meanings of a function's arguments, from these docstrings, to the Args of its own docstring.

    Args:
        described, renamed: as for `takes_options`.
    """

    def decorate(function: Documented) -> Documented:
        names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
        function.__doc__ = _with_args(function, names, described, renamed)
        return function

    return decorate


def meanings(described: object) -> dict[str, str]:
    """The meaning of each argument in the Args section of a docstring, in one line. Empty if `python -OO` has removed docstrings."""
    text = inspect.getdoc(described) or ""
    section = _sections(text).get("Args", "")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if entry := _ENTRY.match(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _with_options(signature: inspect.Signature, left_out: dict[str, str]) -> inspect.Signature:
    """The signature with all options in place of `**options`."""
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    types = option_types()
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name])
        for field in fields(ConversionSettings)
        if field.name not in signature.parameters and field.name not in left_out
    ]
    return signature.replace(parameters=[*own, *options])


def _with_args(target: object, names: list[str], described: tuple[object, ...], renamed: dict[str, str]) -> str:
    """The docstring of a function or class, with an Args section that describes all these arguments."""
    text = inspect.getdoc(target) or ""
    known: dict[str, str] = {}
    for source in reversed(described):
        known |= meanings(source)
    known |= {name: known[other] for name, other in renamed.items() if other in known} | meanings(target)
    entries = [
        textwrap.fill(
            f"{name}: {known[name]}",
            _WIDTH,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name in names
        if name in known
    ]
    sections = {"": "", **_sections(text), "Args": "\n".join(entries) + "\n\n"}
    order = ["", "Args", *(name for name in sections if name not in ("", "Args"))]
    return "".join(f"{name}:\n{sections[name]}" if name else sections[name] for name in order).rstrip()


def _sections(text: str) -> dict[str, str]:
    """The sections of a docstring by their headings. The text before the first heading is under ''."""
    head, *parts = _SECTION.split(text)
    return {"": head, **dict(zip(parts[::2], (part.removeprefix("\n") for part in parts[1::2]), strict=True))}
