"""All public functions and classes describe what they do, and their arguments."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import cryolike_dask

PACKAGE = Path(cryolike_dask.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.Module | ast.ClassDef, path: str = "") -> Iterator[tuple[str, Function]]:
    """Public functions of a module, and public methods of its public classes."""
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, f"{path}{child.name}.")
        elif isinstance(child, Function) and not child.name.startswith("_"):
            yield f"{path}{child.name}", child


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_and_public_classes_and_functions_are_described(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not tree.body:
        return
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
    undescribed = [
        name
        for name, function in functions(tree)
        if "." not in name and not ast.get_docstring(function) and not is_command(function)
    ]
    assert undescribed == []


def is_command(function: Function) -> bool:
    """Whether it is a command of the command line, whose help describes its options."""
    return any("command" in ast.unparse(decorator) or "group" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("name", [name for name in cryolike_dask.__all__ if name != "__version__"])
def test_public_names_describe_their_arguments(name: str) -> None:
    public = getattr(cryolike_dask, name)
    callables = {name: public}
    if inspect.isclass(public):
        members = inspect.getmembers(public, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
        callables |= {f"{name}.{key}": member for key, member in members if not key.startswith("_") and key in vars(public)}
    for label, called in callables.items():
        text = inspect.getdoc(called)
        assert text, label
        if inspect.isclass(called) and issubclass(called, Exception):
            continue
        arguments = [key for key in inspect.signature(called).parameters if key not in ("self", "cls")]
        if len(arguments) > 1 and "See `" not in text:
            assert "Args:" in text, label
            described = text.partition("Args:")[2]
            assert [key for key in arguments if key not in described] == [], label


def test_names_of_the_package_are_its_contents() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    declared = [(alias.name, node.module) for node in imports for alias in node.names]
    assert {name for name, _ in declared} | {"__version__"} == set(cryolike_dask.__all__)
    for name, module in declared:
        found = getattr(importlib.import_module(f"cryolike_dask.{module}"), name)
        assert getattr(cryolike_dask, name) is found
        assert name in dir(cryolike_dask)
    with pytest.raises(AttributeError, match="nothing"):
        _ = cryolike_dask.nothing
