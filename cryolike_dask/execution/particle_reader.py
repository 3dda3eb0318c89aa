"""Reads the images of a stack: opens each file once, reads in ascending order, and cuts boxes from micrographs if the source needs it."""

from __future__ import annotations

import logging
import time
from types import TracebackType

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import ConversionError
from cryolike_dask.mrc.boxes import cut_boxes
from cryolike_dask.mrc.reader import ImageFileReader
from cryolike_dask.planning.plan import StackPlan, box_of_image, dark_images

logger = logging.getLogger(__name__)

_RETRY_DELAYS_SECONDS = (0.1, 1.0)
"""Pauses before a failed read is tried again. Network file systems fail for a moment and recover."""


class ParticleReader:
    """Reads particles of one stack. Use it as a context manager, from one thread at a time.

    Args:
        stack: the plan of the stack.
    """

    def __init__(self, stack: StackPlan) -> None:
        self.stack = stack
        rows = stack.rows
        self.order = np.lexsort((rows["index"], rows["file"]))
        """(n,) positions in the stack, in the order of reading: by file, then by index."""
        self._open_file = -1
        self._reader: ImageFileReader | None = None
        self._micrograph: npt.NDArray[np.float32] | None = None
        self._as_stored: npt.NDArray[np.float32] | None = None

    @property
    def image_shape(self) -> tuple[int, int]:
        """(n_x, n_y) of an image as read: the numbers of rows and columns, or of columns and rows if the axes are RELION's."""
        row = self.stack.rows[0]
        return box_of_image(self.stack.files[int(row["file"])], self.stack.sources[row["source"]].boxes, self.stack.settings)

    def __enter__(self) -> ParticleReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def read(self, first: int, images: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Read the next images in `order`.

        Args:
            first: how many of `order` were read before.
            images: (k, n_x, n_y) float32, receives the images at `order[first : first + k]`.

        Returns:
            (k,) their positions in the stack.

        Raises:
            InputError: a file is gone, has changed, or ends early.
            ConversionError: the system failed to read a file several times.
        """
        positions = self.order[first : first + len(images)]
        rows = self.stack.rows[positions]
        if self.stack.settings.axes == "relion":
            as_stored = self._transposed_buffer(images)
            self._read_as_stored(rows, as_stored)
            images[...] = as_stored.transpose(0, 2, 1)
        else:
            self._read_as_stored(rows, images)
        dark = dark_images(rows["sign"], self.stack.settings)
        if dark.any():
            # Unlike a multiplication by -1, a subtraction keeps zeros positive.
            np.subtract(0, images, out=images, where=dark[:, None, None])
        return positions

    def _transposed_buffer(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(k, n_y, n_x) work space, kept for the next images."""
        k, n_x, n_y = images.shape
        if self._as_stored is None or len(self._as_stored) < k:
            self._as_stored = np.empty((k, n_y, n_x), dtype=np.float32)
        return self._as_stored[:k]

    def _read_as_stored(self, rows: npt.NDArray[np.void], images: npt.NDArray[np.float32]) -> None:
        edges = np.flatnonzero(np.diff(rows["file"])) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(rows)], strict=True):
            self._read_with_retries(rows[start:stop], images[start:stop])

    def advise(self, first: int, n_images: int) -> None:
        """Let the system fetch the next images of the open file while others are computed."""
        rows = self.stack.rows[self.order[first : first + n_images]]
        rows = rows[rows["file"] == self._open_file]
        if self._reader is not None and len(rows) and self._micrograph is None:
            self._reader.advise(rows["index"])

    def check_unchanged(self) -> None:
        """Check that the last file has not changed since the run was planned. Earlier files were checked when the next one was opened.

        Raises:
            InputError: it has changed.
        """
        if self._reader is not None:
            self._reader.check_unchanged()

    def _read_with_retries(self, rows: npt.NDArray[np.void], images: npt.NDArray[np.float32]) -> None:
        for delay in (*_RETRY_DELAYS_SECONDS, None):
            try:
                self._read_from_file(rows, images)
            except OSError as error:
                self._close()
                path = self.stack.files[int(rows["file"][0])].path
                if delay is None:
                    raise ConversionError(
                        f"{path} cannot be read ({error.strerror or error}), {len(_RETRY_DELAYS_SECONDS) + 1} times in a row. "
                        "Check the file system, then run again with skip_exist=True (--skip-exist) to continue."
                    ) from error
                logger.warning("%s cannot be read (%s); trying again.", path, error.strerror or error)
                time.sleep(delay)
            else:
                return

    def _read_from_file(self, rows: npt.NDArray[np.void], images: npt.NDArray[np.float32]) -> None:
        position = int(rows["file"][0])
        if position != self._open_file or self._reader is None:
            self.check_unchanged()
            self._close()
            self._reader = ImageFileReader(self.stack.files[position])
            self._open_file = position
        whole = np.array([self.stack.sources[source].boxes is None for source in rows["source"]])
        if whole.any():
            self._read_whole(self._reader, rows["index"], images, whole)
        for source in np.unique(rows["source"][~whole]).tolist():
            self._read_boxes(self._reader, rows, images, source)

    @staticmethod
    def _read_whole(
        reader: ImageFileReader, indexes: npt.NDArray[np.int64], images: npt.NDArray[np.float32], whole: npt.NDArray[np.bool_]
    ) -> None:
        if whole.all():
            reader.read(indexes, images)
            return
        whole_images = np.empty((int(whole.sum()), *images.shape[1:]), dtype=np.float32)
        reader.read(indexes[whole], whole_images)
        images[whole] = whole_images

    def _read_boxes(
        self, reader: ImageFileReader, rows: npt.NDArray[np.void], images: npt.NDArray[np.float32], source: int
    ) -> None:
        cut = self.stack.sources[source].boxes
        assert cut is not None  # the caller selects sources with boxes
        if self._micrograph is None:
            self._micrograph = np.empty((reader.file.n_rows, reader.file.n_columns), dtype=np.float32)
            reader.read(np.zeros(1, dtype=np.int64), self._micrograph[None])
        selected = np.flatnonzero(rows["source"] == source)
        boxes = np.empty((len(selected), cut.size, cut.size), dtype=np.float32)
        cut_boxes(self._micrograph, rows["top"][selected], rows["left"][selected], cut, boxes)
        images[selected] = boxes

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader, self._micrograph, self._open_file = None, None, -1
