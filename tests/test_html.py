"""Notebook outputs and templates show names of files, folders and optics groups as text, whatever they contain."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from jinja2 import TemplateNotFound, UndefinedError

from cryolike_dask import Conversion, ImageDescriptor, particles_from_star
from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.html import render
from cryolike_dask.planning.summary import summarize_plan
from tests.support.markup import Elements

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that a notebook shows about a data set whose folder, optics group and descriptor are called HOSTILE.

    The headers of its images contradict the table, so that a warning names a file.
    """
    data = write_demo_particles(tmp_path_factory.mktemp("demo") / HOSTILE, n_images=6, box=16, pixel_size=2.0, n_files=1)
    star = data.star_file.read_text(encoding="utf-8")
    assert "opticsGroup1" in star
    data.star_file.write_text(star.replace("opticsGroup1", HOSTILE), encoding="utf-8")
    for path in Path(data.folder_mrc).iterdir():
        with mrcfile.open(path, "r+") as file:
            file.voxel_size = 3.3
    descriptor = ImageDescriptor.from_individual_values(n_pixels=16, pixel_size=2.0, atom_selection=HOSTILE)
    table = particles_from_star(data.star_file, data.folder_mrc)
    out = tmp_path_factory.mktemp("out") / HOSTILE
    conversion = Conversion(table, descriptor, folder_output=out, batch_size=4)
    summary = summarize_plan(conversion.plan, out)
    return {"table": table, "descriptor": descriptor, "conversion": conversion, "summary": summary, "report": conversion.run()}


@pytest.mark.parametrize("what", ["table", "descriptor", "conversion", "summary", "report"])
def test_markup_in_names_is_text_in_a_notebook(shown: dict[str, Any], what: str) -> None:
    elements = Elements(shown[what]._repr_html_())
    assert elements.open == []
    assert elements.tags == {"div", "style", "table", "caption", "tbody", "tr", "th", "td"}
    assert HOSTILE in elements.text


def test_markup_in_names_is_text_in_the_report(shown: dict[str, Any]) -> None:
    page = Elements((shown["report"].folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.tags
    assert str(shown["report"].folder) in page.text
    assert shown["table"].sources[0].table in page.text
    assert f"/{HOSTILE}/" in " ".join(shown["report"].warnings)
    for warning in shown["report"].warnings:
        assert warning in page.text


@pytest.mark.parametrize("what", ["conversion", "summary", "report"])
def test_warnings_are_shown_one_by_one(shown: dict[str, Any], what: str) -> None:
    markup = shown[what]._repr_html_()
    assert markup.count('class="warning"') == len(shown["report"].warnings) > 0
    assert all(warning in Elements(markup).text for warning in shown["report"].warnings)


def test_an_object_without_warnings_says_so_if_it_could_have_some() -> None:
    assert "warnings none" in words(render("table", caption="A", rows={"b": "c"}, warnings=()))
    assert "warnings" not in words(render("table", caption="A", rows={"b": "c"}, warnings=None))


def words(markup: str) -> str:
    return " ".join(Elements(re.sub("<style>.*</style>", "", markup, flags=re.DOTALL)).text.split())


def test_every_value_of_every_template_is_escaped() -> None:
    table = render("table", caption=HOSTILE, rows={HOSTILE: HOSTILE, "several": [HOSTILE, HOSTILE]}, warnings=[HOSTILE])
    bar = render("progress", state=f'"{HOSTILE}', percent=50.0, lines=[HOSTILE])
    for markup, count in ((table, 6), (bar, 1)):
        elements = Elements(markup)
        assert "script" not in elements.tags
        assert elements.text.count(HOSTILE) == count
    assert ("div", "class", f'"{HOSTILE}') in Elements(bar).attributes


def test_long_lists_end_with_how_many_there_are_more() -> None:
    text = words(render("table", caption="A", rows={"from": [f"{n}.star" for n in range(1040)]}, warnings=None))
    assert "39.star and 1,000 more" in text
    assert "40.star" not in text
    assert "more" not in words(render("table", caption="A", rows={"from": [f"{n}.star" for n in range(40)]}, warnings=None))


def test_a_path_that_is_not_valid_text_can_be_written() -> None:
    markup = render("table", caption="A", rows={"from": b"caf\xe9.star".decode("utf-8", "surrogateescape")}, warnings=None)
    assert "caf?.star" in markup.encode("utf-8").decode("utf-8")


def test_a_variable_without_value_and_a_template_that_is_missing_are_errors() -> None:
    with pytest.raises(UndefinedError, match="warnings"):
        render("table", caption="A", rows={})
    with pytest.raises(TemplateNotFound, match="no-such"):
        render("no-such")


def test_the_style_sheet_leaves_the_rest_of_a_notebook_alone() -> None:
    markup = render("table", caption="A", rows={}, warnings=None)
    (sheet,) = re.findall("<style>(.*)</style>", markup, flags=re.DOTALL)
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL))
    selectors = [selector.strip() for rule in rules for selector in rule.split(",")]
    assert len(selectors) > 20
    assert [selector for selector in selectors if not re.match(r"\.cryolike\b", selector)] == []
    assert not re.search(r"url\(|@import|https?:", sheet)


def test_tables_and_reports_are_imported_without_jinja() -> None:
    script = (
        "import sys; from cryolike_dask import ConversionReport, ImageDescriptor, ParticleTable; sys.exit('jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_descriptor_shows_what_it_holds() -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=16, pixel_size=2.0)
    text = words(descriptor._repr_html_())
    for field in fields(descriptor):
        value = getattr(descriptor, field.name)
        assert (f"{field.name} {value}" in text) == (value is not None)
    assert f"{descriptor.polar_grid.n_shells} shells × {descriptor.n_inplanes} in-plane angles" in text


def test_a_table_shows_its_defocus(shown: dict[str, Any]) -> None:
    table = shown["table"]
    text = words(table._repr_html_())
    assert "6 particles" in text
    assert f"{np.min(table['defocus_u']):,.0f} to {np.max(table['defocus_u']):,.0f} Å" in text
    assert "defocus U none" in words(table.take(slice(0, 0))._repr_html_())
