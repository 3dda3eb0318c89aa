"""Sphinx configuration of the documentation, for `make docs`."""

from __future__ import annotations

from typing import Any

from docutils import nodes

import cryolike_dask

project = "cryolike_dask"
copyright = "the authors of cryolike_dask, MIT licence"
release = version = cryolike_dask.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"cryolike_dask {release}"
html_static_path = ["_static"]
html_css_files = ["guide.css"]

copybutton_prompt_text = r"\$ |>>> |\.\.\. "  # prompts are shown, but not copied
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
copybutton_selector = "div:not(.output) > div.highlight pre"

# Notebooks are stored without outputs, and run when the guide is built.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "description"  # in signatures, types would hide the names
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
nitpicky = False


def _plain(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Escape docstrings, which are plain text: |F|^2 and a * b are not markup."""
    lines[:] = [line if _is_example(line) else _escaped(line) for line in lines]


def _is_example(line: str) -> bool:
    return line.lstrip().startswith((">>>", "..."))


def _escaped(line: str) -> str:
    return line.replace("|", r"\|").replace("*", r"\*").replace("_ ", r"\_ ").replace("@", r"\@")


def _mark_short(_app: Any, tree: nodes.document, _page: str) -> None:
    """Give inline code without long words the class 'short', for which the style sheet allows no break at a hyphen."""
    for code in tree.findall(nodes.literal):
        if all(len(word) < 40 for word in code.astext().split()):
            code["classes"].append("short")


def setup(app: Any) -> None:
    """Called by Sphinx. Escaping comes before Napoleon, which adds markup."""
    app.connect("autodoc-process-docstring", _plain, priority=100)
    app.connect("doctree-resolved", _mark_short)
