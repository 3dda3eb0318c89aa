"""Results as Markdown tables."""

from __future__ import annotations

from typing import Any


def render(values: Any) -> str:
    """A table of rows, or of names and values."""
    if isinstance(values, dict):
        return "\n".join(
            ["| | |", "|---|---|", *(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in values.items())]
        )
    names = list(values[0])
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(_cell(row.get(name, '')) for name in names)} |" for row in values]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
