"""CryoLike's templates: the grids and directions with which they were made, and whether stacks of particles fit them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, read_array_file
from cryolike_dask.formatting import plural
from cryolike_dask.grids.viewing_sphere import viewing_directions
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.stacks.files import StackPaths, published_counters, read_metadata
from cryolike_dask.stacks.loading import load_tensor

FILE_LIST = "template_file_list.npy"
_PARAMS_NAMES = ("parameters.npz", "params.npz")
_COMPARED = {
    "n_pixels": "pixels",
    "pixel_size": "Å",
    "radius_max": "",
    "dist_radii": "",
    "n_inplanes": "",
    "precision": "",
}
"""The values that CryoLike compares exactly, and the precision, each with its unit."""
_LEAST_VIEWING_DISTANCE = 1e-3


@dataclass(frozen=True)
class Templates:
    """Templates as CryoLike's `make_templates_from_inputs` left them.

    Args:
        params: the parameter file with which they were made.
        descriptor: the content of this file.
        folder: where the templates are; None if only the parameter file is known.
    """

    params: Path
    descriptor: ImageDescriptor
    folder: Path | None

    def directions(self) -> np.ndarray:
        """(n, 2) azimuth and polar angle of each template in radians, in the order of the templates."""
        distance = self.descriptor.viewing_distance
        assert distance is not None  # a descriptor has one, as CryoLike's does
        return viewing_directions(distance)


def open_templates(source: str | Path) -> Templates:
    """The templates in a folder, or those that a parameter file describes.

    Args:
        source: CryoLike's folder of templates, with the parameter file in it, or the parameter file.

    Raises:
        MissingFileError: there is nothing at the path.
        InputError: there is no parameter file in the folder, or there are several and none has a usual name.
    """
    path = Path(source).expanduser().resolve()
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist. Give the folder of the templates, or the parameter file they were made with."
        )
    if not path.is_dir():
        return Templates(path, _load(path), None)
    found = sorted(path.glob("*.npz"))
    known = [file for file in found if file.name in _PARAMS_NAMES]
    choice = known if len(known) == 1 else found
    if len(choice) != 1:
        there = ", ".join(file.name for file in choice[:10]) or "no .npz file"
        raise InputError(
            f"{path} holds {there}, so the parameters of its templates cannot be identified. Give the parameter file itself instead of "
            "the folder."
        )
    return Templates(choice[0], _load(choice[0]), path)


def _load(path: Path) -> ImageDescriptor:
    descriptor = ImageDescriptor.load(path)
    if descriptor.viewing_distance is not None and descriptor.viewing_distance < _LEAST_VIEWING_DISTANCE:
        raise InputError(
            f"{path} gives a viewing_distance of {descriptor.viewing_distance:g} radians: below {_LEAST_VIEWING_DISTANCE:g} there would be "
            "more than twelve million templates, which CryoLike does not make. Give the parameter file of the templates."
        )
    return descriptor


def differences_from_templates(templates: Templates, root: Path) -> Iterator[str]:
    """Reasons why CryoLike cannot compare the stacks of an output folder with these templates.

    Stacks whose metadata cannot be read are skipped: `verify_output` reports what is wrong with them.

    Args:
        templates: with which the stacks are compared.
        root: output folder of a conversion.

    Yields:
        One line for each value that differs, with both sides, and for each template file that does not fit its parameters.
    """
    expected = templates.descriptor
    others: dict[tuple[str, str], list[int]] = {}
    for counter in published_counters(root):
        try:
            descriptor = ImageDescriptor.from_dict(read_metadata(StackPaths(root, counter).metadata))
        except InputError:
            continue
        for name in _COMPARED:
            if getattr(descriptor, name) != getattr(expected, name):
                others.setdefault((name, _value(descriptor, name)), []).append(counter)
    for (name, value), counters in others.items():
        more = f" and {plural(len(counters) - 1, 'more stack')}" if len(counters) > 1 else ""
        yield (
            f"{name}: {value} in {StackPaths(root, counters[0]).metadata}{more}, {_value(expected, name)} in the templates' "
            f"{templates.params}"
        )
    if templates.folder is not None:
        yield from _files(templates, templates.folder)


def _value(descriptor: ImageDescriptor, name: str) -> str:
    value, unit = getattr(descriptor, name), _COMPARED[name]
    numbers = dict.fromkeys(value) if isinstance(value, tuple) else [value]
    return " × ".join(str(number) for number in numbers) + (f" {unit}" if unit else "")


def _files(templates: Templates, folder: Path) -> Iterator[str]:
    names = _listed(folder / FILE_LIST)
    if isinstance(names, str):
        yield names
        return
    descriptor, grid = templates.descriptor, templates.descriptor.polar_grid
    wanted = (len(templates.directions()), grid.n_shells, grid.n_inplanes)
    for number, name in enumerate(names):
        # CryoLike writes paths as they were given, often relative to the directory in which it ran.
        path = next((path for path in (Path(name), folder / Path(name).name) if path.exists()), None)
        if path is None:
            yield f"template {number}: {name} of {folder / FILE_LIST} does not exist, neither there nor in {folder}"
            continue
        try:
            tensor = load_tensor(path)
        except InputError as error:
            yield f"template {number}: {error}"
            continue
        found = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        if found != (str(descriptor.complex_dtype), wanted):
            yield (
                f"template {number}: {path} holds {found[0]} of shape {found[1]}, but {templates.params} requires "
                f"{descriptor.complex_dtype} {wanted}"
            )


def _listed(path: Path) -> list[str] | str:
    """CryoLike's list of template files, or what is wrong with it."""
    try:
        names = read_array_file(path, "a list of template files")
    except FileNotFoundError:
        return f"{path} is missing: CryoLike uses it to find the templates, so they are not complete"
    except InputError as error:
        return str(error)
    except UNREADABLE_ARRAY as error:
        return f"{path} is damaged ({error})"
    return [str(name) for name in np.atleast_1d(names)]
