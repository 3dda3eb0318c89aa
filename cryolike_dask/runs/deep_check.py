"""Converts a sample of images again from their source, by an independent method, and compares them with the stacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import CryolikeError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import BoxCut, cut_boxes
from cryolike_dask.mrc.reader import ImageFileReader, read_header
from cryolike_dask.planning.input_files import sha256_of_files
from cryolike_dask.progress import NoProgress, Progress
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.stacks.files import StackPaths
from cryolike_dask.stacks.loading import load_stack
from cryolike_dask.transform.direct_sum import centre, crop_fourier, direct_polar_transform, downsample, shift_periodically

SAMPLE_IMAGES = 16
_SILENT = NoProgress()
_ROUNDING = 1e-12  # relative to the brightest pixel: what rounding in downsampling may leave of a constant image
_PHYSICAL_TOLERANCE = 1e-6  # relative to the brightest pixel: images in real space are in single precision
TOLERANCE = {"single": 1.5e-6, "double": 1e-11}


def differences_from_source(
    root: Path,
    manifest: dict[str, Any],
    counters: list[int],
    seed: int | None = None,
    zarr_store: str = "",
    progress: Progress = _SILENT,
) -> Iterator[str]:
    """Compare up to 16 random images with the direct sum over their source image.

    Yields:
        One line for each image that differs or whose source can no longer be read, and for each image file that has changed according to
        the hashes in the manifest, if there are any.
    """
    yield from _changed_content(manifest)
    rng = np.random.default_rng(seed)
    settings = ConversionSettings.from_options(manifest["identity"]["settings"])
    sizes = {stack["counter"]: stack["n_images"] for stack in manifest["stacks"]}
    images = [(counter, i) for counter in counters for i in range(sizes.get(counter, 0))]
    sample = rng.choice(len(images), min(SAMPLE_IMAGES, len(images)), replace=False).tolist()
    for number, choice in enumerate(sample):
        progress.step("Comparing images with their source", number, len(sample))
        counter, i = images[choice]
        stack = load_stack(root, counter, zarr_store=zarr_store)
        descriptor = ImageDescriptor.from_dict(stack.metadata)
        written = stack.fourier[i].numpy()
        name = f"image {i} of {StackPaths(root, counter).fourier}"
        try:
            source = _source_image(stack.metadata, i, manifest["identity"]["sources"])
            source = source.T if settings.axes == "relion" else source
            source = -source if _is_inverted(stack.metadata, i, settings) else source
        except CryolikeError as error:
            yield f"{name}: its source cannot be read: {error}"
            continue
        downsampled = _downsampled(source.astype(np.float64), descriptor.n_pixels, settings)
        if i in stack.metadata["zeroed"]:
            if np.isfinite(source).all() and np.ptp(downsampled) > _ROUNDING * np.abs(source).max():
                yield f"{name} is all zero, but its source image is not bad"
            continue
        shift = _shift(stack.metadata, i, settings)
        centred = centre(downsampled)
        exact = direct_polar_transform(centred, descriptor, shift)
        error_norm = float(np.linalg.norm(written - exact) / np.linalg.norm(exact))
        if not error_norm <= TOLERANCE[descriptor.precision]:
            yield f"{name} differs from its source image by {error_norm:.2g} (relative)"
        if stack.physical is not None:
            expected = shift_periodically(centred, shift) if any(shift) else centred
            largest = float(np.abs(stack.physical[i].numpy() - expected).max())
            if not largest <= _PHYSICAL_TOLERANCE:
                yield f"{name}: the image in real space differs from its source image by up to {largest:.2g}"


def _shift(metadata: dict[str, np.ndarray], i: int, settings: ConversionSettings) -> tuple[float, float]:
    """Pixels in x and y by which an image was moved."""
    if not settings.apply_origins:
        return (0.0, 0.0)
    x, y = float(metadata["originX"][i]), float(metadata["originY"][i])
    first, second = (x, y) if settings.axes == "relion" else (y, x)
    return (first / float(metadata["pixel_size"][0]), second / float(metadata["pixel_size"][1]))


def _is_inverted(metadata: dict[str, np.ndarray], i: int, settings: ConversionSettings) -> bool:
    return bool(metadata["sign"][i] < 0) if settings.contrast == "auto" else settings.contrast == "invert"


def _downsampled(source: npt.NDArray[np.float64], box: tuple[int, int], settings: ConversionSettings) -> npt.NDArray[np.float64]:
    if settings.downsample_type == "fourier":
        return crop_fourier(source, box)
    return downsample(source, settings.downsample_factor, settings.downsample_type)


def _changed_content(manifest: dict[str, Any]) -> Iterator[str]:
    hashed = {file["path"]: file["sha256"] for file in manifest["inputs"] if "sha256" in file}
    existing = [path for path in hashed if Path(path).exists()]
    for path in sorted(hashed.keys() - existing):
        yield f"{path}, which was converted, is gone"
    for path, now in zip(existing, sha256_of_files(existing), strict=True):
        if isinstance(now, CryolikeError):
            yield str(now)
        elif now != hashed[path]:
            yield f"{path} has changed since it was converted: its SHA-256 is {now}, and was {hashed[path]}"


def _source_image(metadata: dict[str, np.ndarray], i: int, sources: list[dict[str, Any]]) -> npt.NDArray[np.float32]:
    table = str(metadata["source_table"][metadata["source"][i]])
    boxes = next(source["boxes"] for source in sources if source["table"] == table)
    file = read_header(str(metadata["files"][i]))
    index = 0 if boxes else int(metadata["idxs"][i])
    image = np.empty((1, file.n_rows, file.n_columns), dtype=np.float32)
    with ImageFileReader(file) as reader:
        reader.read(np.array([index]), image)
    if not boxes:
        return np.asarray(image[0])
    cut = BoxCut(**boxes)
    box = np.empty((1, cut.size, cut.size), dtype=np.float32)
    cut_boxes(image[0], metadata["top"][i : i + 1], metadata["left"][i : i + 1], cut, box)
    return np.asarray(box[0])
