"""The blocks of code on the pages of the guide."""

from __future__ import annotations

import re

BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """The commands of a console block. A backslash at the end of a line continues a command, as in a shell."""
    return [line.removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines()]
