"""Reads the files of CryoLike's likelihood: one tensor per stack and quantity, or matrices stitched from them.

In the output folder of the likelihood, for each structure N and stack C:

    templateN/log_likelihood/log_likelihood_integrated_fourier_stack_C.pt      and two more likelihoods
    templateN/cross_correlation/cross_correlation_stack_C.pt
    templateN/optimal_pose/optimal_template_stack_C.pt                         and three more parts of the pose

`stitch_log_likelihood_matrices` combines the first four as (n_structures, n_images) in the folder `likelihood_matrix`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import plural
from cryolike_dask.progress import NoProgress, Progress
from cryolike_dask.stacks.loading import load_tensor

FloatArray = npt.NDArray[np.float64]

_SILENT = NoProgress()

LIKELIHOODS = ("integrated_fourier", "optimal_fourier", "optimal_physical")
"""In order of preference for choosing a structure."""
CROSS_CORRELATION = "cross_correlation"
POSE = ("template", "displacement_x", "displacement_y", "inplane_rotation")

_STACKS = {
    **{name: f"log_likelihood/log_likelihood_{name}" for name in LIKELIHOODS},
    CROSS_CORRELATION: "cross_correlation/cross_correlation",
    **{name: f"optimal_pose/optimal_{name}" for name in POSE},
}
_MATRICES = {
    "integrated_fourier": "integrated_fourier_log_likelihood_matrix.pt",
    "optimal_fourier": "optimal_fourier_log_likelihood_matrix.pt",
    "optimal_physical": "optimal_physical_log_likelihood_matrix.pt",
    CROSS_CORRELATION: "cross_correlation_matrix.pt",
}
_MAX_SHOWN = 10


@dataclass(frozen=True)
class Results:
    """The results of CryoLike's likelihood for the images of some stacks.

    Args:
        folder: folder that contains them.
        structures: N of each `templateN`, ascending.
        scores: (n,) values in the order of the stacks, by quantity (likelihoods and cross-correlation) and structure. A quantity has
            only the structures for which it was computed.
        poses: (n,) values by structure and part of the pose, only for structures whose poses were written.
    """

    folder: Path
    structures: tuple[int, ...]
    scores: Mapping[str, Mapping[int, FloatArray]]
    poses: Mapping[int, Mapping[str, FloatArray]]


def read_results(folder: str | Path, sizes: Sequence[int], progress: Progress = _SILENT) -> Results:
    """Read the results of the likelihood for all images of some stacks.

    Args:
        folder: the likelihood's output folder, the folder above it, or the folder of stitched matrices.
        sizes: number of images of each stack.
        progress: informed of each quantity that is read.

    Raises:
        InputError: there are no results, some are missing, or they do not fit the stacks.
    """
    given = Path(folder).expanduser().resolve()
    roots = [root for root in (given, given / "likelihood") if _structures(root)]
    root = roots[0] if roots else given
    structures = _structures(root)
    reader = _ResultReader(sizes)
    read: dict[tuple[int, str], FloatArray | None] = {}
    for number in structures:
        for name in _STACKS:
            progress.step("Reading results", len(read), len(structures) * len(_STACKS))
            read[number, name] = reader.read(root / f"template{number}", name)
    matrices = {
        name: path
        for name, path in ((name, _matrix(given, name)) for name in _MATRICES)
        if path is not None and all(read[number, name] is None for number in structures)
    }
    stitched = {name: reader.read_matrix(path, len(structures)) for name, path in matrices.items()}
    if reader.problems or reader.missing:
        raise InputError(reader.message(root))
    if not structures:
        structures = tuple(range(max((len(matrix) for matrix in stitched.values()), default=0)))
    scores: dict[str, dict[int, FloatArray]] = {}
    for name in (*LIKELIHOODS, CROSS_CORRELATION):
        rows = dict(zip(structures, stitched[name], strict=True)) if name in stitched else {}
        found = {number: read.get((number, name)) for number in structures} | rows
        if any(values is not None for values in found.values()):
            scores[name] = {number: values for number, values in found.items() if values is not None}
    poses = {}
    for number in structures:
        pose = {name: values for name in POSE if (values := read.get((number, name))) is not None}
        if pose and len(pose) < len(POSE):
            raise InputError(
                f"{root / f'template{number}' / 'optimal_pose'} holds {', '.join(pose)} but not "
                f"{', '.join(name for name in POSE if name not in pose)}: a pose needs all four. Run CryoLike's likelihood again, or "
                "remove the folder to collect likelihoods only."
            )
        if pose:
            poses[number] = pose
    if not scores and not poses:
        raise InputError(
            f"{given} holds no results of CryoLike: neither template0/log_likelihood nor template0/optimal_pose, nor stitched matrices. "
            "Give the folder_output of configure_likelihood_files."
        )
    return Results(root, structures, scores, poses)


def _structures(root: Path) -> tuple[int, ...]:
    """N of each folder templateN."""
    prefix = "template"
    digits = (path.name[len(prefix) :] for path in root.glob(f"{prefix}*") if path.is_dir())
    return tuple(sorted(int(text) for text in digits if text.isdecimal() and text.isascii()))


def _matrix(given: Path, name: str) -> Path | None:
    paths = (given / "likelihood_matrix" / _MATRICES[name], given / _MATRICES[name])
    return next((path for path in paths if path.exists()), None)


@dataclass
class _ResultReader:
    """Reads results for stacks of known sizes, and collects problems."""

    sizes: Sequence[int]
    problems: list[str] = field(default_factory=list)
    missing: dict[tuple[Path, tuple[int, ...]], list[str]] = field(default_factory=dict)

    def read(self, structure: Path, name: str) -> FloatArray | None:
        """(n,) values of all stacks; None if the quantity was not computed, or does not fit the stacks."""
        parent, _, stem = _STACKS[name].partition("/")
        prefix, suffix = f"{stem}_stack_", ".pt"
        paths = {path.name[len(prefix) : -len(suffix)]: path for path in (structure / parent).glob(f"{prefix}*{suffix}")}
        found = {int(digits): path for digits, path in paths.items() if digits.isdecimal() and digits.isascii()}
        if not found:
            return None
        lacking = tuple(counter for counter in range(len(self.sizes)) if counter not in found)
        if lacking:
            self.missing.setdefault((structure, lacking), []).append(f"{parent}/{prefix}*.pt")
        for counter in sorted(found.keys() - set(range(len(self.sizes)))):
            self.problems.append(f"{found[counter]}: there is no stack {counter:06d}")
        values = np.full(sum(self.sizes), np.nan)
        first = 0
        for counter, size in enumerate(self.sizes):
            if counter in found:
                part = values[first : first + size]
                self._fill(part, found[counter], f"stack {counter:06d} has {plural(size, 'image')}", whole=name == "template")
            first += size
        return values

    def read_matrix(self, path: Path, n_structures: int) -> FloatArray:
        """(n_structures, n) values of all structures and stacks."""
        tensor = load_tensor(path)
        rows = n_structures or (len(tensor) if tensor.ndim == 2 else 1)
        values = np.full((rows, sum(self.sizes)), np.nan)
        self._fill(values, path, f"{plural(rows, 'structure')} with all stacks are {values.shape}")
        return values

    def _fill(self, values: FloatArray, path: Path, wanted: str, whole: bool = False) -> None:
        try:
            tensor = load_tensor(path)
        except InputError as error:
            self.problems.append(str(error))
            return
        if tuple(tensor.shape) != values.shape or tensor.is_complex() or (whole and tensor.is_floating_point()):
            kind = str(tensor.dtype).removeprefix("torch.")
            self.problems.append(f"{path} holds {kind} of shape {tuple(tensor.shape)}, but {wanted}")
            return
        values[:] = tensor.double().numpy()

    def message(self, root: Path) -> str:
        """The text of one error that names all results that are missing or do not fit."""
        lines = [
            f"{structure.name}: {', '.join(names)} of {_ranges(counters)} {'is' if len(names) * len(counters) == 1 else 'are'} missing"
            for (structure, counters), names in self.missing.items()
        ] + self.problems
        shown = "".join(f"\n  {line}" for line in lines[:_MAX_SHOWN])
        more = f"\n  and {len(lines) - _MAX_SHOWN} more" if len(lines) > _MAX_SHOWN else ""
        return (
            f"The results in {root} do not fit the stacks ({plural(len(self.sizes), 'stack')}, {plural(sum(self.sizes), 'image')}):"
            f"{shown}{more}\nRun CryoLike's likelihood on all stacks (n_stacks={len(self.sizes)}), and collect again."
        )


def _ranges(counters: Sequence[int]) -> str:
    """'stacks 000001 to 000003 and 000007'."""
    ranges: list[list[int]] = []
    for counter in counters:
        if ranges and counter == ranges[-1][1] + 1:
            ranges[-1][1] = counter
        else:
            ranges.append([counter, counter])
    texts = [f"{first:06d}" if first == last else f"{first:06d} to {last:06d}" for first, last in ranges]
    return f"{'stack' if len(counters) == 1 else 'stacks'} {', '.join(texts)}"
