"""Values as a STAR file has them, in quotation marks where readers would otherwise cut or lose them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.star.text import StarBlock, StarText, decode

ENCODED = re.compile("[\x01-\x06]")
"""What stands in plain text for characters that `decode` brings back."""


def quoted_values(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n,) text as STAR has it: in quotation marks where it is empty, or readers would cut it at a blank or at '#'."""
    return np.array(
        [value if value and "#" not in value and " " not in value else f'"{value}"' for value in values.tolist()], dtype=object
    )


def quoted_rows(text: StarText, block: StarBlock, names: Collection[str]) -> list[str]:
    """The rows of a block with some of its columns, in the order of the file, as STAR writes them, a tab between two values."""
    wanted = set(names)
    positions = [position for position, name in enumerate(block.columns) if name in wanted]
    lines = b"".join(text.select_columns(block, positions)).decode().split("\n")[:-1]
    return [
        "\t".join(quoted_values(np.array([decode(value) for value in line.split("\t")], dtype=object)))
        if ENCODED.search(line)
        else line
        for line in lines
    ]
