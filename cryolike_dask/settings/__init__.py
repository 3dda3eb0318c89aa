"""The settings of a conversion: every option of the public functions and the command line, validated once.

May import the rooms below it. Start with `ConversionSettings`. `values` checks options that take several types, `condition` parses `where`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

from cryolike_dask.errors import InputError, check_names_known
from cryolike_dask.formatting import in_both
from cryolike_dask.settings.condition import parse_condition
from cryolike_dask.settings.values import choice, flag, given_path, is_whole, one_pixel_size, rows_or_file, without_number

DownsampleType = Literal["mean", "max", "fourier"]
Device = Literal["auto", "cpu", "cuda"]
OutputFormat = Literal["pt", "zarr"]
OnMissing = Literal["raise", "skip"]
OnBadImage = Literal["raise", "zero"]
MixedOptics = Literal["raise", "split"]
Order = Literal["metadata", "file"]
Axes = Literal["cryolike", "relion"]
Contrast = Literal["as-is", "invert", "auto"]
PixelSize = float | Iterable[float]
RowNumbers = str | Path | Iterable[int]


class TorchDevice(Protocol):
    """The attributes of a `torch.device`, so that one can be given without importing torch."""

    @property
    def type(self) -> str:
        """'cpu' or 'cuda'."""

    @property
    def index(self) -> int | None:
        """Number of the GPU; None for the current one."""


ACCEPTS = "accepts"
"""Key in the metadata of a field: the type of the values that are accepted, if it is wider than that of the values that are kept."""

_MAX_COUNT = 2**31 - 1
"""Upper limit for numbers of images, stacks and pixels: larger than possible, and small enough that sums fit into an int64."""

_WHOLE_NUMBERS = (
    ("batch_size", 1, "at least 1"),
    ("n_stacks_max", -math.inf, "-1 for all stacks"),
    ("downsample_factor", -math.inf, "1 for no downsampling"),
    ("downsample_to", 2, "the edge of the box in pixels, at least 2"),
    ("sample", 1, "at least 1"),
    ("seed", 0, "at least 0"),
)
"""Settings that are whole numbers: name, least value, and a hint."""

ZARR_NAME = "particles.zarr"
"""Name of the Zarr store in an output folder, if `zarr_store` is not given."""

CHOICE = ("where", "ind", "sample", "seed")
"""The settings that choose particles."""

_WITHOUT_EFFECT_ON_STACKS = (
    *("device", "flag_plots", "skip_exist", "overwrite"),
    *("n_stacks_max", "on_missing", "on_bad_image", "hash_inputs"),
    *CHOICE,
)
"""Settings that may change when a run is continued, because they do not change a complete stack. If `on_missing` or the choice of particles
leaves out others, the particles of the run differ, which is noticed; a larger `n_stacks_max` only adds stacks."""


@dataclass(frozen=True)
class ConversionSettings:
    """The options that all conversions share.

    The functions, the converter and the command line take each option with its type, default and meaning from here.

    Args:
        batch_size: number of images per stack.
        n_stacks_max: stop after this many stacks; -1 for all of them.
        pixel_size: Å per pixel of the source images. By default the value in the table, the image headers or the descriptor, in this
            order. It can also be an array or list of one or two equal numbers; -1 means None.
        downsample_factor: edge of the blocks of pixels that become one pixel; 1 for no downsampling.
        downsample_type: the 'mean' or the 'max' of a block, as in CryoLike; or 'fourier' to crop the Fourier transform of the image,
            which keeps its centre and all frequencies within the new band.
        downsample_to: edge in pixels of the box after downsampling, of any size, with `downsample_type` 'fourier'.
        flag_plots: draw three pictures per stack.
        skip_exist: continue an interrupted run in the same folder, and keep its complete stacks.
        overwrite: replace existing output in the output folder.
        device: 'cpu', 'cuda', or 'auto' for CUDA if there is a GPU. It can also be a `torch.device`. Each process uses the GPU that it
            sees as number 0, so 'cuda:0' means 'cuda', and other numbers are refused.
        save_phys: also write the centred images in real space.
        output_format: 'pt' for CryoLike's files, 'zarr' for one Zarr store.
        zarr_store: path or URL (s3://bucket/particles.zarr) of the Zarr store, by default in the output folder. It can be any URL
            that fsspec knows. Records of the run are always written to the output folder.
        on_missing: what to do if image files are missing: 'raise' an error, or 'skip' their particles.
        on_bad_image: what to do with a constant or non-finite image: 'raise' an error, or write 'zero'.
        mixed_optics: what to do where voltage, Cs or amplitude contrast change: 'raise' an error, or 'split' the stacks there.
        order: stacks in the order of the table ('metadata') or of the image files ('file', as CryoLike does).
        axes: which index of an image is x, the axis from which astigmatism and viewing angles are measured: the row index ('cryolike'),
            or the column index as in RELION, cryoSPARC and Leopard-EM ('relion'). With 'relion', the pixels of each image are transposed
            before anything else.
        contrast: 'as-is' to leave the images as they are, 'invert' to multiply all by -1, or 'auto' to multiply each by its blob/sign in a
            cryoSPARC table.
        apply_origins: shift each image by the origin in its table, so that its particle is in the middle.
        ignore_manual_pixel_size: use the pixel size of the table if `pixel_size` differs from it, without an error.
        override_pixel_size: use `pixel_size` instead of that of the table, image headers and descriptor, with a warning.
        never_combine_input_files: end a stack where the image file changes. By default, this is done only for image files that have a
            STAR file each. True does it for all image files, False for none.
        where: a condition that particles must satisfy, such as "defocus_u < 15000 and optics_group == 'g1'". It compares columns, of the
            particle table or of the input table, with numbers or quoted text; and, or, not, in and parentheses join comparisons.
        ind: rows of the table to take, counted from 0: a `.npy` file with numbers or a mask, or a text file with one number per line. In
            Python also a list or an array.
        sample: number of particles to draw at random from those that `where` and `ind` select. The order of the table is kept.
        seed: seed of the random choice. The same seed chooses the same particles, on every machine and with every version.
        hash_inputs: also record the SHA-256 of each image file. This reads all image files once more. The run can then be continued with
            copies of the files, and `verify --deep` checks that the files are still those that were converted.

    Example:
        >>> ConversionSettings(batch_size=256, device="CUDA").device
        'cuda'
    """

    batch_size: int = 1024
    n_stacks_max: int = -1
    pixel_size: float | None = field(default=None, metadata={ACCEPTS: PixelSize | None})
    downsample_factor: int = 1
    downsample_type: DownsampleType = "mean"
    downsample_to: int | None = None
    flag_plots: bool = True
    skip_exist: bool = False
    overwrite: bool = False
    device: Device = field(default="auto", metadata={ACCEPTS: str | TorchDevice})
    save_phys: bool = True
    output_format: OutputFormat = "pt"
    zarr_store: str = ""
    on_missing: OnMissing = "raise"
    on_bad_image: OnBadImage = "raise"
    mixed_optics: MixedOptics = "raise"
    order: Order = "metadata"
    axes: Axes = "cryolike"
    contrast: Contrast = "as-is"
    apply_origins: bool = False
    ignore_manual_pixel_size: bool = False
    override_pixel_size: bool = False
    never_combine_input_files: bool | None = None
    where: str = ""
    ind: str | tuple[int, ...] | None = field(default=None, metadata={ACCEPTS: RowNumbers | None})
    sample: int | None = None
    seed: int = 0
    hash_inputs: bool = False

    def __post_init__(self) -> None:
        self._set("pixel_size", one_pixel_size(self.pixel_size))
        self._set("device", without_number(self.device))
        for name, kind in field_types().items():
            if get_origin(kind) is Literal:
                self._set(name, choice(name, getattr(self, name), get_args(kind)))
            elif kind in (bool, bool | None):
                self._set(name, flag(name, getattr(self, name), kind))
        for name, least, hint in _WHOLE_NUMBERS:
            value = getattr(self, name)
            if value is None and name in ("downsample_to", "sample"):
                continue
            if isinstance(value, bool) or not is_whole(value) or not least <= value <= _MAX_COUNT:
                raise InputError(f"{in_both(name)} is {value!r}: give a whole number of at most {_MAX_COUNT:,} ({hint}).")
            self._set(name, int(value))
        # As in CryoLike, which takes everything below 1 for "no limit" and for "no downsampling".
        self._set("n_stacks_max", self.n_stacks_max if self.n_stacks_max > 0 else -1)
        self._set("downsample_factor", max(self.downsample_factor, 1))
        if self.downsample_to is not None:
            to, factor = in_both("downsample_to"), in_both("downsample_factor")
            if self.downsample_factor != 1:
                raise InputError(f"{to} and {factor} both determine the new box: give only one of them.")
            if self.downsample_type != "fourier":
                raise InputError(
                    f"{to} does not work with the {self.downsample_type} of blocks of pixels: add downsample_type='fourier' "
                    f"(--downsample-type fourier), or give {factor} instead."
                )
        if self.override_pixel_size and self.pixel_size is None:
            raise InputError(f"{in_both('override_pixel_size')} needs a pixel size: give {in_both('pixel_size')} as well.")
        if self.override_pixel_size and self.ignore_manual_pixel_size:
            both = f"{in_both('override_pixel_size')} and {in_both('ignore_manual_pixel_size')}"
            raise InputError(f"{both} contradict each other: choose one of them.")
        store = in_both("zarr_store")
        if not isinstance(self.zarr_store, str):
            raise InputError(f"{store} is {self.zarr_store!r}: give a path or URL as text.")
        if self.zarr_store and self.output_format != "zarr":
            raise InputError(f"{store} is the location of a Zarr store: choose output_format='zarr' (--format zarr) as well.")
        if is_url(self.zarr_store) and _password_in(self.zarr_store):
            raise InputError(
                f"{store} contains a password, which the records of the run would keep. Remove it from the URL, and put it into "
                "fsspec's configuration or the service's environment variables."
            )
        if self.zarr_store and not is_url(self.zarr_store):
            self._set("zarr_store", str(Path(self.zarr_store).expanduser().resolve()))
        if self.where != "":
            parse_condition(self.where)
        self._set("ind", rows_or_file(self.ind))
        if self.skip_exist and self.overwrite:
            raise InputError(
                f"{in_both('skip_exist')} keeps existing output, and {in_both('overwrite')} replaces it: choose one of them."
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def chooses(self) -> bool:
        """Whether only some of the particles are to be converted."""
        return bool(self.where) or self.ind is not None or self.sample is not None

    @property
    def downsamples(self) -> bool:
        """Whether images are downsampled."""
        return self.downsample_factor > 1 or self.downsample_to is not None

    def downsampled_box(self, box: tuple[int, int]) -> tuple[int, int]:
        """The box of an image as written.

        Args:
            box: of the source image.
        """
        if self.downsample_to is not None:
            return (self.downsample_to, self.downsample_to)
        return (box[0] // self.downsample_factor, box[1] // self.downsample_factor)

    def pixel_scale(self, box: tuple[int, int]) -> float:
        """The factor by which pixels become larger.

        Args:
            box: of the source image.
        """
        return box[0] / self.downsampled_box(box)[0] if self.downsample_type == "fourier" else float(self.downsample_factor)

    def describing_output(self) -> dict[str, Any]:
        """The settings on which the content of a stack depends, for the manifest and the fingerprint."""
        return {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT_ON_STACKS}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> ConversionSettings:
        """Settings from options by name.

        Args:
            options: values as users give them; see `ConversionOptions`.

        Raises:
            TypeError: an option does not exist.
            InputError: a value is not allowed.
        """
        check_names_known("ConversionSettings", options, [field.name for field in fields(cls)])
        return cls(**options)


@cache
def field_types() -> dict[str, Any]:
    """The type of the values that each field of the settings keeps."""
    return get_type_hints(ConversionSettings)


def output_folder(folder: str | Path) -> Path:
    """The absolute path of an output folder; '' means the current directory."""
    return given_path("folder_output", folder or ".").resolve()


def is_url(location: str) -> bool:
    """Whether a location is a URL for fsspec, and not a path."""
    return "://" in location


def store_location(settings: ConversionSettings, folder: Path) -> str:
    """Path or URL of the Zarr store of a run in this folder."""
    return settings.zarr_store or str(folder / ZARR_NAME)


def fingerprint(content: Any) -> str:
    """SHA-256 of the content as canonical JSON, which is the same on every machine and in every process."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _password_in(url: str) -> bool:
    user, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    return bool(at) and ":" in user
