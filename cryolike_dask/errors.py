"""The errors a user can meet.

Each message says what is wrong, where (file and row), and how to mend it, in one plain paragraph: it is shown as it is, without a
traceback.
"""


class CryolikeError(Exception):
    """Base of every error that cryolike_dask raises on purpose. Its text is meant for the user."""


class InputError(CryolikeError, ValueError):
    """A table, an image file, a parameter file or an argument is wrong. Found before any output is written wherever possible."""


class OutputError(CryolikeError, OSError):
    """The output folder cannot be used: it already holds stacks, belongs to another run, is full, or is not writable."""

    def __init__(self, message: str) -> None:
        # OSError gives special meaning to its arguments; one argument keeps `str(error)` the message, across pickling too.
        super().__init__(message)


class ConversionError(CryolikeError, RuntimeError):
    """The conversion started and could not finish. What is complete stays; `skip_exist=True` goes on from there."""
