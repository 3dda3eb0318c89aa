"""HTML for notebooks and pages: fills in templates and escapes every value.

The templates and the style sheet that they share are in `templates/`.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Fill in a template of this package.

    Args:
        template: its name in `templates/`, without `.html.j2`.
        values: one for each variable of the template. They are shown as plain text, whatever characters they contain.

    Returns:
        Markup that can be encoded as UTF-8: in a path that is not valid text, question marks replace the invalid characters.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        jinja2.UndefinedError: a variable of the template has no value.

    Example:
        >>> markup = render("progress", state="running", percent=12.5, lines=["1 of 8 <images>"])
        >>> "<div>1 of 8 &lt;images&gt;</div>" in markup
        True
    """
    markup = _environment().get_template(f"{template}.html.j2").render(values)
    return markup.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    # Imported when the first page is made: the public classes import this module, and importing them must stay fast.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cryolike_dask"),
        autoescape=True,  # select_autoescape does not know the suffix .html.j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["csp_hash"] = _csp_hash
    return environment


def _csp_hash(script: str) -> str:
    """The hash of a script that a page includes; with it, the page's Content-Security-Policy allows this script and no other."""
    content = _environment().get_template(script).render()
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
