"""Finds the image files that a table records on this machine, by the same rules for every source."""

from __future__ import annotations

import itertools
import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.paths import absolute_path
from cryolike_dask.filesystem.reading import existing_folder

logger = logging.getLogger(__name__)

_LOOKED_AT_IN_TURN = 16
_FOLDERS = {
    "star": "folder_mrc (--mrc-folder)",
    "cryosparc": "folder_cryosparc (--mrc-folder)",
    "leopard-em": "folder_micrographs (--micrograph-folder)",
}
"""The option of each kind of table that says where its images are; other kinds have none."""
_THREADS = 16  # a network file system answers many requests in about the time of one


class ImagePaths(NamedTuple):
    """Where image files are.

    Args:
        paths: an absolute path for each recorded one, in the same order. They are equal for two spellings (`./a.mrcs`, `a.mrcs`) of one
            file.
        notes: a note for the record if the first rule did not find the files.
    """

    paths: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Rule:
    """A rule to find the files.

    Args:
        path_of: turns a recorded path into a path on this machine.
        note: what to log and record if this rule is used; '' for the first rule.
        advice: what to do if two recorded paths become the same path.
    """

    path_of: Callable[[str], str]
    note: str
    advice: str


def resolve_image_paths(recorded: Sequence[str], folder: str | Path, *tables: str | Path) -> ImagePaths:
    """The absolute path of each recorded image file.

    The rules are tried in this order. With a folder: the name of the file in this folder; then the recorded path within this folder, which
    may be the root of a project. Without a folder: the recorded path as it is, relative to the working directory. In both cases, last: the
    name of the file in the folder of the table. The first rule that finds at least one file is used for all files; if no rule finds any,
    the first one is used. No image file is opened.

    Args:
        recorded: distinct paths as the tables have them, without prefixes such as `000001@` or `>`.
        folder: the folder that holds the image files; `~` is expanded. '' to use the recorded paths.
        tables: the tables that record the paths.

    Raises:
        InputError: a path does not name a file, the folder does not exist, or two recorded files become the same file by the rule that is
            used.
    """
    names = " and ".join(map(str, tables))
    for path in recorded:
        if not path.strip() or path.endswith("/") or os.path.basename(path) in (".", "..") or has_control_characters(path):
            raise InputError(f"{names} names an image file {path!r}, which is not the path of a file. Correct the table.")
    rules = _rules(folder, names, tables)
    rule = next((rule for rule in rules if _finds_any(map(rule.path_of, recorded))), rules[0])
    paths = tuple(map(rule.path_of, recorded))
    _check_distinct(recorded, paths, names, rule.advice)
    if rule.note:
        logger.info("%s: %s.", names, rule.note)
    return ImagePaths(paths, (rule.note,) if rule.note else ())


def _rules(folder: str | Path, names: str, tables: Sequence[str | Path]) -> list[_Rule]:
    rules = []
    if str(folder):
        directory = str(existing_folder(folder, f"the folder that holds the image files of {names}"))
        rules.append(
            _Rule(
                _by_name_in(directory),
                "",
                "Leave out the folder to use the recorded paths, or give the files different names.",
            )
        )
        rules.append(
            _Rule(
                lambda path: absolute_path(os.path.join(directory, path.lstrip("/"))),
                f"the image files are in {directory} under their recorded paths",
                "Correct the table.",
            )
        )
    else:
        rules.append(_Rule(absolute_path, "", "Correct the table."))
    beside = {os.path.dirname(absolute_path(str(table))) for table in tables}
    if len(beside) == 1:
        directory_of_table = beside.pop()
        rules.append(
            _Rule(
                _by_name_in(directory_of_table),
                f"the image files are in {directory_of_table}, beside the table",
                "Give the folder in which the recorded paths start, or give the files different names.",
            )
        )
    return rules


def _by_name_in(directory: str) -> Callable[[str], str]:
    return lambda path: os.path.join(directory, os.path.basename(path))


def give_folder(kinds: Iterable[str]) -> str:
    """Advice for images that cannot be found: the option that says where they are.

    Args:
        kinds: of the tables that name them, as in `Source.kind`.
    """
    options = {_FOLDERS.get(kind, "") for kind in kinds}
    option = options.pop() if len(options) == 1 else ""
    named = f"{option}, the folder" if option else "the folder"
    return f"Give {named} that holds the images, or the one in which the recorded paths start"


def has_control_characters(path: str) -> bool:
    """Whether a path contains characters that act on a terminal, or line breaks."""
    return any(unicodedata.category(character) == "Cc" for character in path)


def _finds_any(paths: Iterable[str]) -> bool:
    """Whether any of these files exists. Usually the first one does, and the others are not checked."""
    remaining = iter(paths)
    if any(map(os.path.isfile, itertools.islice(remaining, _LOOKED_AT_IN_TURN))):
        return True
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="cryolike-stat") as pool:
        while part := list(itertools.islice(remaining, 64 * _THREADS)):
            if any(pool.map(os.path.isfile, part)):
                return True
    return False


def _check_distinct(recorded: Sequence[str], paths: Sequence[str], names: str, advice: str) -> None:
    first: dict[str, str] = {}
    for path, found in zip(recorded, paths, strict=True):
        earlier = first.setdefault(found, path)
        if earlier != path and absolute_path(earlier) != absolute_path(path):
            directory, name = os.path.split(found)
            raise InputError(
                f"{names} names both {earlier} and {path}: in the folder {directory} they would be one file, {name}. {advice}"
            )
