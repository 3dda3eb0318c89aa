"""The conda recipe and the citation agree with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from rattler_build import Stage0Recipe, VariantConfig

import cryolike_dask

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch", "isal": "python-isal", "dask": "dask-core", "matplotlib": "matplotlib-base"}


def recipe() -> dict[str, Any]:
    """The recipe as rattler-build reads it. Misspelt fields are an error."""
    (variant,) = Stage0Recipe.from_file(ROOT / "deploy" / "conda" / "recipe.yaml").render(VariantConfig())
    made: dict[str, Any] = variant.recipe.to_dict()
    return made


def test_the_recipe_asks_for_what_the_package_asks_for() -> None:
    wanted = set()
    for requirement in PROJECT["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        wanted.add(f"{CONDA_NAMES.get(name, name)} {bound}".strip())
    run = recipe()["requirements"]["run"]
    assert set(run) - {f"python {PROJECT['requires-python']}"} == wanted
    assert len(run) == len(wanted) + 1
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_recipe_is_complete() -> None:
    made = recipe()
    assert made["package"] == {"name": PROJECT["name"], "version": cryolike_dask.__version__}
    assert made["about"]["license"] == PROJECT["license"]
    (licence,) = made["about"]["license_file"]
    assert (ROOT / licence).is_file()
    assert made["build"]["python"]["entry_points"] == [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    (source,) = made["source"]
    assert (ROOT / "deploy" / "conda" / source["path"] / "pyproject.toml").resolve() == ROOT / "pyproject.toml"


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == cryolike_dask.__version__
    assert citation["license"] == PROJECT["license"]
    # The address is written once, in pyproject.toml.
    assert not {"repository-code", "repository", "url"} & set(citation)
