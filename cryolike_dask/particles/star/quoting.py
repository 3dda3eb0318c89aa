"""Puts values of STAR files in quotation marks if readers would otherwise cut or lose them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.star.text import StarBlock, StarText, decode

ENCODED = re.compile("[\x01-\x06]")
"""Characters of plain text that `decode` replaces."""


def quoted_values(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n,) text for a STAR file: in quotation marks if it is empty, or has a blank or '#' at which readers would cut it."""
    return np.array(
        [value if value and "#" not in value and " " not in value else f'"{value}"' for value in values.tolist()], dtype=object
    )


def quoted_rows(text: StarText, block: StarBlock, names: Collection[str]) -> list[str]:
    """The rows of a block with some of its columns, in the order of the file, as lines of STAR with tabs between values."""
    wanted = set(names)
    positions = [position for position, name in enumerate(block.columns) if name in wanted]
    lines = b"".join(text.select_columns(block, positions)).decode().split("\n")[:-1]
    return [
        "\t".join(quoted_values(np.array([decode(value) for value in line.split("\t")], dtype=object)))
        if ENCODED.search(line)
        else line
        for line in lines
    ]
