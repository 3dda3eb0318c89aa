"""Draws all pictures of the guide into docs/_static, from demonstration particles: `make figures`.

Screenshots of pages are taken only if Chromium is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from html import escape
from pathlib import Path
from shutil import which
from typing import Any

import nbformat
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from cryolike_dask import Conversion, ImageDescriptor, browse_particles, load_stack, particles_from_star, preview_particles
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.pictures.canvas import ACCENT, INK, QUIET, Canvas
from cryolike_dask.pictures.ctf_plots import HEIGHT, WIDTH
from cryolike_dask.pictures.ctf_plots import draw_ctf_check as draw_check
from cryolike_dask.pictures.montage import block_means, polar_lookup
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.interface import TransformedImages
from cryolike_dask.transform.inverse import fourier_to_physical
from tests.support.gallery import PAGES, PICTURES, run_page, write_inputs

STATIC = Path(__file__).parent / "_static"
NOTEBOOKS = Path(__file__).parent / "notebooks"
BOX, PIXEL_SIZE = 64, 2.0


@contextmanager
def png_figure(width: int, height: int, path: Path) -> Iterator[Figure]:
    """A figure of this many pixels, written as PNG on leaving."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    yield figure
    figure.savefig(path)


def tile(figure: Any, place: tuple[float, float, float, float], image: np.ndarray, title: str, colours: str = "gray") -> Any:
    """Draw an image with a title and without axes."""
    axes = figure.add_axes(place)
    axes.imshow(image, cmap=colours, interpolation="nearest")
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_axis_off()
    return axes


def draw_polar_grid() -> None:
    """The points of a small polar grid over the frequencies of its images."""
    descriptor = ImageDescriptor.from_individual_values(n_pixels=16, pixel_size=PIXEL_SIZE)
    grid = descriptor.polar_grid
    x, y = (np.outer(grid.radii, wave(grid.angles)) for wave in (np.cos, np.sin))
    with png_figure(420, 420, STATIC / "polar-grid.png") as figure:
        axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
        axes.scatter(y, x, s=60 * np.broadcast_to(grid.shell_weights[:, None], x.shape), color=ACCENT, linewidth=0)
        nyquist = descriptor.nyquist_radius
        axes.plot(nyquist * np.array([-1, 1, 1, -1, -1]), nyquist * np.array([-1, -1, 1, 1, -1]), color=QUIET, linewidth=1)
        axes.text(0, nyquist * 1.03, "Nyquist limit of the pixels", ha="center", fontsize=9, color=QUIET)
        axes.set_xlim(-1.15 * nyquist, 1.15 * nyquist)
        axes.set_ylim(-1.15 * nyquist, 1.15 * nyquist)
        axes.set_axis_off()


def draw_resolution_and_downsampling(image: np.ndarray) -> None:
    """One image at decreasing resolution, and on fewer and fewer pixels."""
    with png_figure(680, 400, STATIC / "parameters.png") as figure:
        for number, factor in enumerate((1.0, 0.5, 0.25, 0.125)):
            descriptor = ImageDescriptor.from_individual_values(n_pixels=BOX, pixel_size=PIXEL_SIZE, resolution_factor=factor)
            back = fourier_to_physical(transformed(image, descriptor).fourier, descriptor)[0]
            finest = 2 * PIXEL_SIZE / factor
            size = descriptor.polar_grid.n_points * 8 / 1000
            tile(figure, (number / 4, 0.51, 0.24, 0.38), back, f"resolution_factor {factor:g}\n{finest:g} Å, {size:,.0f} kB")
        for number, factor in enumerate((1, 2, 4, 8)):
            title = f"downsample_factor {factor}\n{BOX // factor} pixels of {PIXEL_SIZE * factor:g} Å"
            tile(figure, (number / 4, 0.01, 0.24, 0.38), block_means(image[None], factor)[0], title)


def draw_ctf_check(data: DemoData) -> None:
    """The check of the CTF with the right pixel size, and with one that is 10% too large."""
    particles = particles_from_star(data.star_file, data.folder_mrc)
    canvas = Canvas(WIDTH, 2 * HEIGHT + 20)
    for number, pixel_size in enumerate((PIXEL_SIZE, 1.1 * PIXEL_SIZE)):
        stated = ImageDescriptor.from_individual_values(n_pixels=BOX, pixel_size=pixel_size)
        preview = preview_particles(particles, stated, n_images=1, pixel_size=pixel_size, override_pixel_size=True)
        draw_check(canvas, preview.ctf, 0, number * (HEIGHT + 20))
    canvas.save(STATIC / "ctf-check.png")


def draw_the_way(image: np.ndarray) -> None:
    """From the image to its transform on the polar grid, and back."""
    descriptor = ImageDescriptor.from_individual_values(n_pixels=BOX, pixel_size=PIXEL_SIZE)
    grid = descriptor.polar_grid
    fourier = transformed(image, descriptor).fourier
    fine = np.fft.fftshift(np.log(np.abs(np.fft.fft2(image, s=(2 * BOX, 2 * BOX))) + 1e-2))
    polar = np.log(np.abs(fourier[0]) + 1e-4)
    lookup, inside = polar_lookup(tuple(grid.radii.tolist()), grid.n_inplanes, 160)
    disc = np.where(inside, polar.ravel()[lookup], np.nan)
    with png_figure(860, 210, STATIC / "the-way.png") as figure:
        steps = (image, fine, disc, polar, fourier_to_physical(fourier, descriptor)[0])
        titles = ("1  centred image", "2  padded, FFT", "3  at polar points", "4  shells × angles", "back again")
        for number, (picture, title) in enumerate(zip(steps, titles, strict=True)):
            axes = tile(figure, (number / 5 + 0.005, 0.02, 0.19, 0.84), picture, title, "gray" if number in (0, 4) else "magma")
            if number == 3:
                axes.set(aspect="auto", box_aspect=1)  # shells and angles have different units


def transformed(image: np.ndarray, descriptor: ImageDescriptor) -> TransformedImages:
    """One converted image."""
    results = TransformedImages.allocate(1, descriptor)
    CompiledTransform(descriptor)(image[None].astype(np.float32), results)
    return results


def screenshot(page: Path, picture: Path, height: int) -> None:
    """Save a screenshot of a page, taken with Chromium."""
    if which("chromium") is None:
        sys.stderr.write(f"chromium is not installed: {picture.name} is left as it was\n")
        return
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=1200,{height}")
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", *options, f"--user-data-dir={profile}", f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    make_smaller(picture)


def make_smaller(picture: Path, widest: int = 1200) -> None:
    """Reduce a picture to 128 colours, including rare ones, and to the width `widest`."""
    with Image.open(picture) as image:
        height = round(image.height * min(1, widest / image.width))
        image.convert("RGB").resize((min(image.width, widest), height)).quantize(128, Image.Quantize.MAXCOVERAGE).save(
            picture, optimize=True
        )


class WatchedNotebook(NotebookClient):
    """Runs a notebook, and keeps its state when the bar of a conversion is about halfway.

    Args:
        halfway: the notebook with its outputs at that moment.
    """

    halfway: Any = None

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Check the bar after each message of the kernel."""
        output = super().process_message(msg, cell, cell_index)
        if msg["msg_type"] == "update_display_data" and ".run(" in cell.source and self.halfway is None:
            drawn = re.search(r"width:([\d.]+)%", msg["content"]["data"].get("text/html", ""))
            if drawn and 40 < float(drawn[1]) < 80:
                self.halfway = deepcopy(self.nb)
        return output


def notebook_page(path: Path, folder: Path, first_cell: int) -> Path:
    """A page with a notebook in the middle of its run, from cell `first_cell` on. The notebook runs in the folder, which gets the page."""
    folder.mkdir()
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        # Enough particles that there is time to see the bar halfway.
        cell.source = cell.source.replace("n_images=120", "n_images=4000").replace("batch_size=20", "batch_size=100")
    watched = WatchedNotebook(notebook, resources={"metadata": {"path": folder}})
    watched.execute()
    if watched.halfway is None:
        raise RuntimeError("the run ended before its bar was seen halfway")
    notebook = watched.halfway
    parts = ["<meta charset='utf-8'><body style='font:15px system-ui,sans-serif;margin:2em;max-width:60em'>"]
    for cell in notebook.cells[first_cell:]:
        if cell.cell_type == "markdown":
            title, _, text = cell.source.partition("\n\n")
            text = re.sub("`(.*?)`", r"<code>\1</code>", escape(text))
            parts.append(f"<h2>{escape(title.lstrip('# '))}</h2><p>{text}</p>")
            continue
        parts.append(f"<pre style='background:#f4f4f6;padding:.8em;border-left:3px solid #99b'>{escape(cell.source)}</pre>")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                parts.append(f"<img src='data:image/png;base64,{data['image/png']}'>")
            else:
                parts.append(data.get("text/html") or f"<pre>{escape(data['text/plain'])}</pre>")
    page = folder / "notebook.html"
    page.write_text("".join(parts), encoding="utf-8")
    return page


def draw_gallery(scratch: Path) -> None:
    """Draw the picture of each example by running the commands of its page."""
    inputs = write_inputs(scratch / "inputs")
    (STATIC / "gallery").mkdir(exist_ok=True)
    for page in PAGES:
        folder = scratch / page.stem
        shutil.copytree(inputs, folder)
        run_page(page, folder)
        picture = STATIC / "gallery" / f"{page.stem}.png"
        shutil.copy(folder / PICTURES[page.stem], picture)
        make_smaller(picture, widest=850)


def main() -> None:
    """Draw everything."""
    # Pages show the paths of their files, so the folder has a readable name.
    scratch = Path(tempfile.gettempdir()) / "cryolike-demo"
    scratch.mkdir()
    try:
        draw_gallery(scratch / "gallery")
        data = write_demo_particles(scratch / "particles", n_images=600, box=BOX, pixel_size=PIXEL_SIZE, n_files=3)
        particles = particles_from_star(data.star_file, data.folder_mrc)
        preview_particles(particles, data.params_file, n_images=8).save(STATIC / "preview.png")
        make_smaller(STATIC / "preview.png")
        screenshot(browse_particles(particles, scratch / "contact.html").path, STATIC / "browse.png", 900)
        report = Conversion(particles, data.params_file, folder_output=scratch / "stacks").run()
        stack = load_stack(report.folder, 0)
        draw_ctf_check(data)
        assert stack.physical is not None
        image = stack.physical[3].numpy().astype(np.float64)
        draw_polar_grid()
        draw_resolution_and_downsampling(image)
        draw_the_way(image)
        screenshot(report.folder / "report.html", STATIC / "report.png", 1500)
        page = notebook_page(NOTEBOOKS / "first-conversion.ipynb", scratch / "notebook", first_cell=9)
        screenshot(page, STATIC / "notebook.png", 560)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
