"""The check of the built guide finds everything that does not fit on a page, and nothing else."""

from __future__ import annotations

from pathlib import Path
from shutil import which

import pytest
from PIL import Image

from docs.layout import findings

PAGE = """<!doctype html><meta charset="utf-8"><style>pre {{ overflow: auto; white-space: {wrap} }}</style>
<article style="width: 700px"><pre>{line}</pre><div class="highlight"><pre style="white-space: pre-wrap">{code}</pre></div>
<p style="width: 100px"><code>words <span class="pre">{word}</span></code></p>
<img src="{picture}" style="width: {width}px; height: 100px"></article>"""


@pytest.mark.skipif(which("chromium") is None, reason="chromium is not installed")
def test_cut_distorted_and_missing_elements_are_found(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "picture.png")

    def write(
        name: str, wrap: str = "pre-wrap", width: int = 200, picture: str = "picture.png", code: str = "code", word: str = "--out"
    ) -> None:
        text = PAGE.format(wrap=wrap, line="command " * 40, width=width, picture=picture, code=code, word=word)
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")

    write("fits")
    write("cut", wrap="pre")
    write("distorted", width=230)
    write("missing", picture="none.png")
    write("wide", width=1500)
    write("long", code="command --with-options " * 8)
    write("broken", word="--long-option")
    assert {tuple(line.split(": ")[:2]) for line in findings(tmp_path)} == {
        ("broken.html", "broken within a word"),
        ("cut.html", "cut"),
        ("distorted.html", "distorted picture"),
        ("long.html", "wrapped line of code"),
        ("missing.html", "missing picture"),
        ("wide.html", "distorted picture"),
        ("wide.html", "reaches out of the page"),
    }
