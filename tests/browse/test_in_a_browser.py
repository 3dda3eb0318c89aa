"""The page in headless Chromium: it shows the right particles, and saves the right rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask import browse_particles, particles_from_star
from tests.browse.conftest import CONSTANT_ROW, LOW_PASS, N, Page, filtered, power_of
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.support.browser import CTRL, SHIFT, Browser
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import params, traced

pytestmark = pytest.mark.skipif(which("chromium") is None, reason="chromium is not installed")

ROWS_IN_DOCUMENT = (
    "[...document.querySelectorAll('.tile')].sort((a, b) => a.dataset.place - b.dataset.place).map((tile) => tile.id)"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, page: Page) -> Browser:
    """A browser that shows the page as if for the first time."""
    chromium.open(page.path.as_uri())
    chromium.evaluate("localStorage.clear()")
    chromium.open(page.path.as_uri())
    return chromium


def rows_in_document(browser: Browser) -> list[int]:
    """Rows of the tiles in the document, in their order. Rows of this page are also places in its lists."""
    return [int(name.removeprefix("p")) for name in browser.evaluate(ROWS_IN_DOCUMENT)]


def count(browser: Browser) -> tuple[int, int, int]:
    """The numbers of particles kept, left out and shown, according to the page."""
    text = browser.evaluate("document.getElementById('count').textContent").replace(",", "")
    kept, left_out, shown = re.fullmatch(r"(\d+) of 2000 kept (\d+) left out (\d+) shown", text).groups()  # type: ignore[union-attr]
    return int(kept), int(left_out), int(shown)


def saved(browser: Browser) -> str:
    """The content of the file that the button saves."""
    del browser.events[:]
    browser.click("#save")
    browser.wait_for(lambda event: event["method"] == "Browser.downloadProgress" and event["params"]["state"] == "completed")
    (file,) = browser.folder.glob("kept-rows*.txt")
    text = file.read_text(encoding="utf-8")
    file.unlink()
    return text


def test_nothing_is_loaded_and_nothing_fails(browser: Browser, page: Page) -> None:
    browser.evaluate("window.scrollTo(0, 5000)")
    browser.evaluate("Promise.all([...document.images].map((image) => image.decode())).then(() => true)")
    asked = [event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    assert asked[0] == page.path.as_uri()
    assert [url[:40] for url in asked[1:] if not url.startswith("data:image/jpeg")] == []
    failures = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert failures == []
    # The policy of the page allows only its own script.
    assert (
        browser.evaluate("""new Promise((done) => {
      document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.foreign = true";
      document.body.append(script);
    })""")
        == "script-src-elem"
    )
    assert browser.evaluate("window.foreign === undefined")


def test_only_tiles_near_the_window_are_in_the_document(browser: Browser) -> None:
    seen = set()
    for place in ("0", "document.body.scrollHeight / 2", "document.body.scrollHeight"):
        browser.evaluate(f"new Promise((done) => {{ window.scrollTo(0, {place}); setTimeout(done, 50); }})")
        rows = rows_in_document(browser)
        assert 20 < len(rows) < 150
        seen |= {rows[0], rows[-1]}
    assert {0, N - 1} <= seen
    assert len(seen) == 6


def test_a_tile_shows_the_image_that_it_names(browser: Browser, page: Page) -> None:
    browser.evaluate("window.scrollTo(0, 12000)")
    browser.evaluate("Promise.all([...document.images].map((image) => image.decode())).then(() => true)")
    shown = browser.evaluate("""[...document.querySelectorAll(".tile")].map((tile) => {
      const canvas = tile.querySelector("canvas");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return [tile.innerText, [...pixels].filter((_, k) => k % 4 === 0)];
    })""")
    assert len(shown) > 20
    for text, pixels in shown:
        row = int(text.split()[1])
        index, name = re.search(r"image (\d+)\s+(\S+)", text).groups()  # type: ignore[union-attr]
        assert page.particles.listed[row] == (name, int(index) - 1)
        wanted = filtered(page.particles.image(row))
        assert np.corrcoef(pixels, wanted.ravel())[0, 1] > 0.99


@pytest.fixture(scope="module")
def columns(page: Page) -> dict[str, npt.NDArray[np.generic]]:
    """The values by which the page sorts, computed from the table and the images."""
    power = np.array([power_of(page.particles.image(row)) for row in range(N)])
    logarithm = np.log(power[power > 0])
    distance = np.abs(logarithm - np.median(logarithm))
    score = np.full(N, 100.0)
    score[power > 0] = distance / (1.4826 * np.median(distance))
    return {
        "row": np.arange(N),
        "file": np.array([name for name, _ in page.particles.listed]),
        "defocus": 9950 + 0.375 + 10.0 * np.arange(N),
        "power": power,
        "score": score,
    }


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("name", ["row", "file", "defocus", "power", "score"])
def test_sorting(browser: Browser, columns: dict[str, npt.NDArray[np.generic]], name: str, direction: int) -> None:
    browser.fill("#sort", name)
    browser.fill("#direction", str(direction))
    rows, values = rows_in_document(browser), columns[name]
    if name == "file":
        wanted = sorted(range(N), key=values.__getitem__, reverse=direction == -1)  # equal values keep the order of their rows
        assert rows == wanted[: len(rows)]
        return
    # The page rounds values, so nearly equal ones may be in either order.
    shown = values[rows].astype(np.float64)
    sorted_values = np.sort(values.astype(np.float64))[::direction][: len(shown)]
    np.testing.assert_allclose(shown, sorted_values, rtol=2e-4, atol=0.011 if name == "score" else 0)


def test_filters(browser: Browser, columns: dict[str, npt.NDArray[np.generic]]) -> None:
    file, defocus, power = columns["file"].astype(str), columns["defocus"], columns["power"].astype(np.float64)
    limit = round(100 * float(np.median(power)), 1)
    browser.fill("#file", "b.mrcs")  # the name of one file, and part of the name of another
    assert count(browser)[2] == (file == "b.mrcs").sum()
    browser.fill("#file", "b.")
    has_b = np.isin(file, ["b.mrcs", "ab.mrcs"])
    assert count(browser)[2] == has_b.sum()
    browser.fill("#defocus-from", "1.5")
    browser.fill("#power-to", str(limit))
    wanted = np.flatnonzero(has_b & (defocus >= 15_000) & (100 * power <= limit))
    assert rows_in_document(browser) == wanted[: len(rows_in_document(browser))].tolist()
    assert count(browser) == (N, 0, len(wanted))
    browser.click("button[type=reset]")
    browser.evaluate("new Promise((done) => setTimeout(done))")
    browser.fill("#score-from", "99.5")
    assert rows_in_document(browser) == [CONSTANT_ROW]


def test_the_page_says_so_if_no_particle_meets_the_filters(browser: Browser) -> None:
    visible = "document.getElementById('none').offsetHeight > 0"
    assert not browser.evaluate(visible)
    browser.fill("#defocus-from", "99")
    assert count(browser) == (N, 0, 0)
    assert browser.evaluate(visible)
    browser.click("button[type=reset]")
    browser.evaluate("new Promise((done) => setTimeout(done))")
    assert not browser.evaluate(visible)


def test_the_values_below_an_image_are_explained_without_a_click(browser: Browser) -> None:
    shown = browser.evaluate("document.body.innerText")  # without what is hidden
    assert "its row, with the outlier score on the right, its defocus, with the power on the right, and image and file" in shown
    assert "robust standard deviations" not in shown


def test_clicks_and_keys_leave_particles_out_and_the_rest_is_saved_and_converted(
    browser: Browser,
    page: Page,
    tmp_path: Path,
    cli: Cli,  # noqa: F811
) -> None:
    out = {3, *range(5, 9)}
    browser.click("#p3")
    browser.click("#p5")
    browser.click("#p8", SHIFT)
    assert count(browser) == (N - 5, 5, N)
    browser.press("ArrowRight")  # to 9
    browser.press(" ")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press(" ", SHIFT)  # 9 to 11
    out |= {9, 10, 11}
    assert count(browser)[1] == len(out)
    browser.press("End")
    browser.press(" ")
    out.add(N - 1)
    assert rows_in_document(browser)[-1] == N - 1
    browser.press("Home")
    per_line = browser.evaluate("""[...document.querySelectorAll(".tile")].filter((tile) => tile.style.top === "0px").length""")
    browser.press("ArrowDown")
    browser.press(" ")
    out ^= {per_line}
    browser.press("ArrowUp")
    browser.press(" ")
    out.add(0)
    browser.press("z", CTRL)
    out.remove(0)
    browser.fill("#score-from", "99.5")
    browser.click("#leave")
    out.add(CONSTANT_ROW)
    browser.fill("#score-from", "")
    browser.fill("#show", "out")
    assert rows_in_document(browser) == sorted(out)
    assert count(browser) == (N - len(out), len(out), len(out))

    text = saved(browser)
    kept = [row for row in range(N) if row not in out]
    heading, *rows = text.splitlines()
    assert heading.startswith(f"# {len(kept)} particles of {page.particles.star}. Rows are those of the table")
    assert rows == [str(row) for row in kept]

    # Most particles are left out, to make the conversion fast.
    browser.fill("#show", "kept")
    browser.fill("#defocus-from", "1.05")
    browser.click("#leave")
    few = [row for row in kept if 9950.375 + 10 * row < 10_500]
    file = tmp_path / "kept.txt"
    file.write_text(saved(browser), encoding="utf-8")
    params(box=20).save(tmp_path / "params.npz")
    arguments = ("--mrc-folder", page.particles.mrc, "--params", tmp_path / "params.npz", "--no-plots", "--out", tmp_path / "out")
    result = cli("convert", "star", page.particles.star, *arguments, "--ind", file)
    assert result.exit_code == 0, result.stderr
    assert traced(read_stacks(tmp_path / "out")) == [page.particles.listed[row] for row in few]


def test_what_was_left_out_stays_when_the_page_is_opened_again(browser: Browser, page: Page) -> None:
    browser.click("#p4")
    browser.click("#p2")
    browser.open(page.path.as_uri())
    assert count(browser)[1] == 2
    browser.fill("#show", "out")
    assert rows_in_document(browser) == [2, 4]


def load(browser: Browser, file: Path) -> str:
    """Choose this file to be loaded; returns what the page says of it."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#rows")["nodeId"]
    browser.evaluate("document.getElementById('note').textContent = ''")
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    return str(
        browser.evaluate("""new Promise((done) => {
            const note = document.getElementById("note");
            if (note.textContent) done(note.textContent);
            new MutationObserver(() => done(note.textContent)).observe(note, { childList: true });
        })""")
    )


def test_a_saved_choice_is_loaded_and_can_be_undone(browser: Browser, page: Page, tmp_path: Path) -> None:
    browser.click("#p4")
    browser.click("#p2")
    file = tmp_path / "mine.txt"
    file.write_text(saved(browser), encoding="utf-8")
    browser.click("#keep")
    browser.click("#p7")
    note = load(browser, file)
    assert note.startswith("mine.txt has 1,998 rows, of which 1,998 are on this page.")
    assert str(page.particles.star) in note
    browser.fill("#show", "out")
    assert rows_in_document(browser) == [2, 4]
    browser.press("z", CTRL)
    browser.fill("#show", "all")
    browser.fill("#show", "out")
    assert rows_in_document(browser) == [7]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\n2\n7.5\n", "line 3 is not a row number"),
        ("# nothing\r\n999999\r\n", "has no row of this page"),
        ("", "has no row of this page"),
    ],
)
def test_a_file_of_something_else_is_not_loaded(browser: Browser, tmp_path: Path, text: str, told: str) -> None:
    browser.click("#p7")
    file = tmp_path / "other.txt"
    file.write_bytes(text.encode())
    assert told in load(browser, file)
    assert count(browser) == (N - 1, 1, N)


def test_rows_not_on_the_page_are_saved_when_that_is_asked_for(chromium: Browser, page: Page, tmp_path: Path) -> None:
    table = particles_from_star(page.particles.star, page.particles.mrc)
    made = browse_particles(table, tmp_path / "some.html", low_pass=LOW_PASS, sample=20, seed=5, where="row >= 100", progress=False)
    assert (made.n_shown, made.n_chosen) == (20, N - 100)
    chromium.open(made.path.as_uri())
    rows = [
        int(text.split()[1]) for text in chromium.evaluate("[...document.querySelectorAll('.row')].map((row) => row.innerText)")
    ]
    assert len(rows) == 20
    assert rows == sorted(rows)
    chromium.click("#p1")
    assert saved(chromium).splitlines()[1:] == [str(row) for row in rows if row != rows[1]]
    chromium.click("#unseen")
    assert saved(chromium).splitlines()[1:] == [str(row) for row in range(100, N) if row != rows[1]]


def test_the_page_fits_into_a_narrow_window(browser: Browser, page: Page) -> None:
    for width in (400, 600, 900):
        browser.open(page.path.as_uri(), width=width)
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
        edges = browser.evaluate("[...document.querySelectorAll('.tile')].map((tile) => tile.offsetLeft + tile.offsetWidth)")
        assert width / 2 < max(edges) <= browser.evaluate("document.getElementById('grid').clientWidth")
    browser.open(page.path.as_uri(), width=1100)
    browser.fill("#size", "256")
    assert browser.evaluate("document.querySelector('#p0 canvas').clientWidth") > 200
