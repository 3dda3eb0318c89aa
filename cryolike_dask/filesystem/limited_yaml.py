"""Reads YAML with limits, so that a small file cannot take much memory or time.

A YAML file may give a part of itself a name (an anchor) and repeat it by that name, within parts that are repeated themselves: thirty lines
can stand for more text than fits on any disk. Other programs write such names, so they are allowed, but the text for which they stand is
limited.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.reading import read_input

_WHAT = "a configuration"
_MOST_BYTES = 1 << 18
_MOST_CHARACTERS = 1 << 20
"""With every repetition written out."""
_MOST_LEVELS = 40


def load_yaml(path: Path) -> Any:
    """The content of a YAML file: numbers, texts, lists and mappings of them.

    Raises:
        InputError: it is not a regular file, is too large or nested too deeply, or repeats itself too often; the message names the limit.
        UnicodeDecodeError, ValueError, yaml.YAMLError: it is not a YAML file.
        OSError: it cannot be read.
    """
    loader = _LimitedLoader(path, read_input(path, _WHAT, _MOST_BYTES).decode("utf-8"))
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _LimitedLoader(yaml.SafeLoader):
    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self._path = path
        self._characters = self._levels = 0
        self._lengths: dict[int, int] = {}  # of complete nodes, by identity: the document holds them until the end

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node. A node that is repeated by its name is the same object each time."""
        repeated = self.check_event(yaml.AliasEvent)
        before = self._characters
        self._levels += 1
        if self._levels > _MOST_LEVELS:
            raise InputError(f"{self._path} is nested more than {_MOST_LEVELS} levels deep, which {_WHAT} may not be.")
        node = super().compose_node(parent, index)
        self._levels -= 1
        if repeated and id(node) not in self._lengths:
            raise InputError(f"{self._path} repeats a part of itself within that part. Write it out.")
        self._characters += self._lengths[id(node)] if repeated else 1
        if isinstance(node, yaml.ScalarNode) and not repeated:
            self._characters += len(node.value)
        if self._characters > _MOST_CHARACTERS:
            raise InputError(
                f"{self._path} has more than {_MOST_CHARACTERS:,} characters when the parts that it repeats by name are written out, which "
                f"is the most that {_WHAT} may have."
            )
        self._lengths.setdefault(id(node), self._characters - before)
        return node
