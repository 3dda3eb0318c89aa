"""Errors can be caught by our own classes, and by the built-in ones that CryoLike raises in the same places."""

from __future__ import annotations

import pytest
from distributed.protocol import deserialize, serialize

from cryolike_dask.errors import CryolikeError, FileTypeError, InputError, MissingFileError, OutputError, OutputExistsError


@pytest.mark.parametrize(
    ("error", "caught"),
    [
        (MissingFileError, (InputError, CryolikeError, FileNotFoundError, ValueError)),
        (FileTypeError, (InputError, CryolikeError, NotImplementedError, ValueError)),
        (OutputExistsError, (OutputError, CryolikeError, FileExistsError, ValueError)),
    ],
)
def test_errors_are_caught_by_what_cryolikes_users_catch(error: type[CryolikeError], caught: tuple[type[Exception], ...]) -> None:
    for base in caught:
        with pytest.raises(base, match=r"^what and where$"):
            raise error("what and where")
    there = deserialize(*serialize(error("what and where")))
    assert (type(there), str(there)) == (error, "what and where")


def test_missing_files_come_along_from_a_worker() -> None:
    assert deserialize(*serialize(MissingFileError("what", ["a", "b"]))).missing == ("a", "b")
