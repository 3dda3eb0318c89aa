"""The reprs of public objects are readable lines, without arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cryolike_dask import Conversion, ImageDescriptor, InputError, load_stack, open_store, particles_from_star, restack
from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.leopard_em import MatchTemplateMaps, write_demo_micrographs
from cryolike_dask.leopard_em.maps import map_paths
from tests.support.markup import Elements


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    data = write_demo_particles(folder, n_images=6, box=16, pixel_size=3.0, n_files=2)
    table = particles_from_star(data.star_file, data.folder_mrc)
    conversion = Conversion(table, data.params_file, folder_output=folder / "out", batch_size=4)
    report = conversion.run()
    restack(folder / "out", folder / "zarr", output_format="zarr")
    demo = write_demo_micrographs(folder / "demo", n_micrographs=2, n_particles=3, shape=(128, 160))
    return {
        "descriptor": ImageDescriptor.load(data.params_file),
        "conversion": conversion,
        "report": report,
        "stack": load_stack(folder / "out", 0),
        "store": open_store(folder / "zarr"),
        "demo": demo,
        "maps": MatchTemplateMaps.read(map_paths(folder / "demo" / "match_0")),
        "folder": folder / "out",
    }


@pytest.mark.parametrize("name", ["descriptor", "conversion", "report", "stack", "store", "demo", "maps"])
def test_a_repr_names_the_class_and_has_neither_arrays_nor_long_lines(shown: dict[str, Any], name: str) -> None:
    text = repr(shown[name]).replace(str(shown["folder"]), "OUT").replace(str(shown["folder"].parent), "IN")
    first, *lines = text.splitlines()
    assert first.startswith(f"<{type(shown[name]).__name__}")
    assert lines
    assert not [line for line in [first, *lines] if len(line) > 80]
    for raw in ("array(", "tensor(", "dtype=", "PosixPath"):
        assert raw not in text


def test_a_check_of_the_ctf_says_its_verdict(shown: dict[str, Any]) -> None:
    check = shown["report"].ctf
    assert repr(check) == f"<CtfCheck of 6 particles: {check.reason}>"
    assert "6 particles are too few" in check.reason


def test_a_descriptor_says_what_it_is(shown: dict[str, Any]) -> None:
    lines = repr(shown["descriptor"]).splitlines()
    assert lines[0] == "<ImageDescriptor: 16 × 16 pixels of 3 Å>"
    assert lines[1] == "polar grid  17 shells × 32 in-plane angles, up to 6 Å, single precision"
    assert "radius_max: 4.0" in lines


def test_a_conversion_says_what_it_will_do(shown: dict[str, Any]) -> None:
    text = repr(shown["conversion"])
    assert "6 images" in text
    assert f"to 2 stacks of at most 4 images (32.3 kB) in {shown['folder']}" in text


def test_a_stack_says_what_is_in_it(shown: dict[str, Any]) -> None:
    lines = repr(shown["stack"]).splitlines()
    assert lines[:3] == ["<LoadedStack: 4 images>", "fourier   complex64, 4 × 17 × 32", "physical  float32, 4 × 16 × 16"]
    assert "defocusU" in repr(shown["stack"])


def test_a_store_says_what_is_in_it(shown: dict[str, Any]) -> None:
    store = shown["store"]
    lines = repr(store).splitlines()
    assert lines[0] == "<ParticleStore: 6 images>"
    assert lines[2:4] == ["fourier   complex64, 6 × 17 × 32", "physical  float32, 6 × 16 × 16"]
    assert "defocusU" in repr(store)
    assert repr(replace(store, complete=False)).startswith("<ParticleStore: 6 images, of a run that is not complete>")
    assert "complex64, 6 × 17 × 32" in Elements(store._repr_html_()).words


def test_maps_and_simulated_micrographs_say_how_large_they_are(shown: dict[str, Any]) -> None:
    assert repr(shown["maps"]).startswith("<MatchTemplateMaps: 81 × 113 positions>\nmaps      mip, scaled_mip, ")
    lines = repr(shown["demo"]).splitlines()
    assert lines[:3] == [
        "<DemoMicrographs: 2 micrographs>",
        "truth     6 particles",
        "template  48 × 48 pixels, 72 projections",
    ]
    assert lines[3:] == [f"configs   {shown['demo'].configs[0]}", f"          {shown['demo'].configs[1]}"]


def test_a_notebook_shows_the_same_of_a_stack(shown: dict[str, Any]) -> None:
    words = Elements(shown["stack"]._repr_html_()).words
    for text in ("LoadedStack: 4 images", "fourier", "complex64, 4 × 17 × 32", "physical", "float32, 4 × 16 × 16"):
        assert text in words
    assert any("defocusU" in text for text in words)


def test_a_stack_is_named_by_a_whole_number_in_an_output_folder(shown: dict[str, Any]) -> None:
    for counter in ("0", -1, 0.5):
        with pytest.raises(InputError, match="give the number of a stack, a whole number from 0"):
            load_stack(shown["folder"], counter)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="missing does not exist"):
        load_stack(shown["folder"] / "missing", 0)
    with pytest.raises(InputError, match=r"manifest.json is a file, not a folder"):
        load_stack(shown["folder"] / "manifest.json", 0)
    with pytest.raises(InputError, match="fft holds no conversion"):
        load_stack(shown["folder"] / "fft", 0)


def test_a_report_shows_the_result(shown: dict[str, Any]) -> None:
    assert repr(shown["report"]).startswith("<ConversionReport>\n6 images in 2 stacks, ")
