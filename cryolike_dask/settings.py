"""The settings of a conversion: every option of the public functions and the command line, validated once."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from cryolike_dask.errors import InputError

DownsampleType = Literal["mean", "max"]
Device = Literal["auto", "cpu", "cuda"]
OutputFormat = Literal["pt", "zarr"]
OnMissing = Literal["raise", "skip"]
OnBadImage = Literal["raise", "zero"]
MixedOptics = Literal["raise", "split"]
Order = Literal["metadata", "file"]

ZARR_NAME = "particles.zarr"
"""The Zarr store in an output folder, unless it has a place of its own."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "downsample_type": get_args(DownsampleType),
    "device": get_args(Device),
    "output_format": get_args(OutputFormat),
    "on_missing": get_args(OnMissing),
    "on_bad_image": get_args(OnBadImage),
    "mixed_optics": get_args(MixedOptics),
    "order": get_args(Order),
}

_WITHOUT_EFFECT_ON_STACKS = (
    "device",
    "flag_plots",
    "skip_exist",
    "overwrite",
    "n_stacks_max",
    "on_missing",
    "on_bad_image",
    "hash_inputs",
)
"""Settings that a run may be continued with other values of: a stack that is complete is the same with any of them, or was asked for
as it is. What `on_missing` leaves out shows in the particles, and more stacks can be added to those that `n_stacks_max` asked for."""


@dataclass(frozen=True)
class ConversionSettings:
    """What to do with the particles.

    Args:
        batch_size: images in a stack.
        n_stacks_max: stop after this many stacks; -1 for all.
        pixel_size: Angstrom, of the source images; None to take it from the table, the image headers or the descriptor.
        downsample_factor: edge of the blocks that become one pixel.
        downsample_type: 'mean' or 'max' of a block.
        flag_plots: draw three pictures a stack.
        skip_exist: go on with an interrupted run in the same folder.
        overwrite: replace what is in the folder.
        device: 'cpu', 'cuda', or 'auto' for CUDA where a worker has it.
        save_phys: also write the centred images in real space.
        output_format: 'pt' for CryoLike's files, 'zarr' for one Zarr store.
        zarr_store: where the store of 'zarr' goes: a path, or a URL that fsspec knows, such as 's3://bucket/particles.zarr'; '' for
            `particles.zarr` in the output folder. Records of the run go to the output folder in any case.
        on_missing: what to do when image files are missing: 'raise', or 'skip' their particles.
        on_bad_image: what to do with a constant or non-finite image: 'raise', or write 'zero'.
        mixed_optics: what to do when voltage, Cs or contrast differ between particles: 'raise', or 'split' stacks.
        order: stacks in the order of the table ('metadata') or of the image files ('file', as CryoLike does).
        ignore_manual_pixel_size: let the table win where `pixel_size` conflicts with it.
        never_combine_input_files: end a stack where the image file changes; None for what the source's kind asks for, which is yes
            for image files paired with a STAR file each, and else no.
        hash_inputs: also record the SHA-256 of each image file, which reads all of them once more. The run can then be continued with
            copies of the files, and `verify --deep` knows whether they are still what was converted.
    """

    batch_size: int = 1024
    n_stacks_max: int = -1
    pixel_size: float | None = None
    downsample_factor: int = 1
    downsample_type: DownsampleType = "mean"
    flag_plots: bool = True
    skip_exist: bool = False
    overwrite: bool = False
    device: Device = "auto"
    save_phys: bool = True
    output_format: OutputFormat = "pt"
    zarr_store: str = ""
    on_missing: OnMissing = "raise"
    on_bad_image: OnBadImage = "raise"
    mixed_optics: MixedOptics = "raise"
    order: Order = "metadata"
    ignore_manual_pixel_size: bool = False
    never_combine_input_files: bool | None = None
    hash_inputs: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(map(repr, choices))}.")
        for name, least in (("batch_size", 1), ("downsample_factor", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not _is_whole(value) or value < least:
                raise InputError(f"{name} is {value!r}: it must be a whole number of at least {least}.")
            object.__setattr__(self, name, int(value))
        if not _is_whole(self.n_stacks_max) or self.n_stacks_max == 0 or self.n_stacks_max < -1:
            raise InputError(f"n_stacks_max is {self.n_stacks_max!r}: give the largest number of stacks, or -1 for all.")
        object.__setattr__(self, "n_stacks_max", int(self.n_stacks_max))
        if self.pixel_size is not None:
            try:
                value = float(self.pixel_size)
            except (TypeError, ValueError):
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"pixel_size is {self.pixel_size!r}: give Angstrom a pixel, a positive number.")
            object.__setattr__(self, "pixel_size", value)
        if not isinstance(self.zarr_store, str):
            raise InputError(f"zarr_store is {self.zarr_store!r}: give a path or URL as text.")
        if self.zarr_store and self.output_format != "zarr":
            raise InputError("zarr_store says where a Zarr store goes: choose output_format='zarr' (--format zarr) with it.")
        if is_url(self.zarr_store) and _password_in(self.zarr_store):
            raise InputError(
                "zarr_store holds a password, which the records of the run would keep. Leave it out of the URL, and give it to fsspec "
                "by its configuration or by the service's environment variables."
            )
        if self.zarr_store and not is_url(self.zarr_store):
            object.__setattr__(self, "zarr_store", str(Path(self.zarr_store).expanduser().resolve()))
        if self.skip_exist and self.overwrite:
            raise InputError("skip_exist keeps what the folder holds and overwrite replaces it: choose one of them.")

    def describing_output(self) -> dict[str, Any]:
        """The settings that decide what a stack is, for the manifest and the fingerprint."""
        return {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT_ON_STACKS}

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> ConversionSettings:
        """Settings from keyword arguments, refusing names that do not exist."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise InputError(f"Unknown option {', '.join(unknown)}: choose from {', '.join(sorted(known))}.")
        return cls(**options)


def output_folder(folder: str | Path) -> Path:
    """The absolute output folder; '' is the current directory."""
    return Path(folder or ".").expanduser().resolve()


def is_url(location: str) -> bool:
    """Whether a location is for fsspec rather than a path."""
    return "://" in location


def store_location(settings: ConversionSettings, folder: Path) -> str:
    """Path or URL of the Zarr store of a run in this folder."""
    return settings.zarr_store or str(folder / ZARR_NAME)


def fingerprint(content: Any) -> str:
    """SHA-256 of canonical JSON: equal content gives equal text on every machine and in every process."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _password_in(url: str) -> bool:
    user, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    return bool(at) and ":" in user


def _is_whole(value: Any) -> bool:
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError, OverflowError):
        return False
