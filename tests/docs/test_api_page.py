"""The API page has every public name, indexed and with types."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import cryolike_dask

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
DIRECTIVES = re.findall(r"^\.\. auto(\w+):: ([\w.]+)$", PAGE, flags=re.MULTILINE)
PUBLIC = [name for name in cryolike_dask.__all__ if name != "__version__"]


def test_every_public_name_is_on_the_page_once() -> None:
    prefix = "cryolike_dask."
    documented = [name.removeprefix(prefix) for _, name in DIRECTIVES if name.removeprefix(prefix) in PUBLIC]
    assert sorted(documented) == sorted(PUBLIC)


def test_nothing_is_left_out_of_the_index() -> None:
    assert "no-index" not in PAGE
    assert "noindex" not in PAGE


@pytest.mark.parametrize(("kind", "name"), DIRECTIVES)
def test_names_on_the_page_are_of_the_kind_that_it_says(kind: str, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found: Any = getattr(importlib.import_module(module), attribute)
    is_error = inspect.isclass(found) and issubclass(found, Exception)
    assert kind == ("exception" if is_error else "class" if inspect.isclass(found) else "function")


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.endswith("Error")])
def test_every_argument_has_a_type(name: str) -> None:
    parameters = inspect.signature(getattr(cryolike_dask, name)).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.annotation is inspect.Parameter.empty] == []
