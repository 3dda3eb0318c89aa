"""Links below the output folder, made before a run or while it writes: output never leaves its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.errors import CryolikeError, OutputError
from cryolike_dask.filesystem import pinned as pinned_module
from cryolike_dask.filesystem.pinned import create_file, pinned, pinned_place
from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.runs.active import HIDDEN_FOLDER
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.object_store import open_object_store
from tests.support.clusters import conversion, make_particles
from tests.support.conversions import files_of

pytestmark = pytest.mark.security

FOLDERS = ["fft", "phys", "plots", HIDDEN_FOLDER]
FOLDERS_OF_STORE = [
    *(
        "particles.zarr",
        "particles.zarr/fourier",
        "particles.zarr/fourier/c",
        "particles.zarr/fourier/c/3",
        "particles.zarr/fourier/c/3/0",
    ),
    *("particles.zarr/phys/c", "particles.zarr/defocusU", "particles.zarr/defocusU/c", "particles.zarr/files/c"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=12)


def options(name: str) -> dict[str, Any]:
    return {
        "batch_size": 3,
        "flag_plots": "plots" in name or name == "report.html",
        "output_format": "zarr" if "zarr" in name else "pt",
    }


def put_link(folder: Path, elsewhere: Path) -> None:
    """Move a folder away, or make a new one, and put a link to it in its place."""
    elsewhere.parent.mkdir(exist_ok=True, parents=True)
    if folder.exists():
        os.rename(folder, elsewhere)
    else:
        elsewhere.mkdir()
        folder.parent.mkdir(exist_ok=True, parents=True)
    folder.symlink_to(elsewhere)


class PutsLink(NoProgress):
    """Replaces a folder by a link as soon as one stack is there."""

    def __init__(self, folder: Path, elsewhere: Path) -> None:
        self.folder, self.elsewhere, self.before = folder, elsewhere, {}

    def stack_done(self, stack: StackProgress) -> None:
        if stack.counter == 0:
            put_link(self.folder, self.elsewhere)
            self.before = files_of(self.elsewhere)


@pytest.mark.parametrize("name", [*FOLDERS, *FOLDERS_OF_STORE])
def test_a_link_made_during_the_run_is_not_followed(data: DemoData, tmp_path: Path, name: str) -> None:
    put = PutsLink(tmp_path / "out" / name, tmp_path / "elsewhere" / "folder")
    run = conversion(data, tmp_path / "out", **options(name))
    if name.startswith(("particles.zarr/defocusU", "particles.zarr/files")):
        run.run_serially(put)  # columns are written before the first stack
    else:
        with pytest.raises(CryolikeError, match=r"is a link|was removed or taken over|has ended"):
            run.run_serially(put)
    assert put.before or name in (HIDDEN_FOLDER, "plots") or "/c/3" in name, "nothing was there: this case proves nothing"
    after = files_of(put.elsewhere)
    if name == HIDDEN_FOLDER:  # its lock may be removed from the folder that was moved away
        after = {file: content for file, content in after.items() if file in put.before}
    assert after.items() <= put.before.items()
    assert not [file for file in after if file not in put.before]


@pytest.mark.parametrize("name", [*FOLDERS, *FOLDERS_OF_STORE])
def test_a_link_from_before_is_refused(data: DemoData, tmp_path: Path, name: str) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere" / "folder"
    conversion(data, out, **options(name), n_stacks_max=1).run_serially()
    put_link(out / name, elsewhere)
    before = files_of(tmp_path / "elsewhere")
    with pytest.raises(CryolikeError, match="is a link"):
        conversion(data, out, **options(name), skip_exist=True).run_serially()
    # Replacing everything is refused, too, or removes the link itself with the rest of a store.
    with suppress(OutputError):
        conversion(data, out, **options(name), overwrite=True).run_serially()
        assert not (out / name).is_symlink()
        assert verify_output(out) == []
    assert files_of(tmp_path / "elsewhere") == before


@pytest.mark.parametrize(
    "name",
    [
        *("manifest.json", "params.npz", "particles.star", "report.html"),
        *("fft/particles_fourier_stack_000001.pt", "fft/particles_fourier_stack_000001.npz", "phys/particles_phys_stack_000001.pt"),
        "plots/power_spectrum_stack_000001.png",
        *("particles.zarr/zarr.json", "particles.zarr/fourier/zarr.json", "particles.zarr/fourier/c/1/0/0"),
        *("particles.zarr/defocusU/zarr.json", "particles.zarr/defocusU/c/0", "particles.zarr/files/c/0"),
    ],
)
@pytest.mark.parametrize("how", ["skip_exist", "overwrite"])
def test_a_link_in_the_place_of_a_file_is_replaced(data: DemoData, tmp_path: Path, name: str, how: str) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    conversion(data, out, **options(name)).run_serially()
    victim.write_bytes((out / name).read_bytes())
    before = victim.read_bytes()
    if "c/1/0" in name or "stack_000001.pt" in name:
        before = before[:-1]  # otherwise the file would be complete, and kept
        victim.write_bytes(before)
    (out / name).unlink()
    (out / name).symlink_to(victim)
    conversion(data, out, **options(name), **{how: True}).run_serially()
    assert victim.read_bytes() == before
    if how == "overwrite" or name not in ("fft/particles_fourier_stack_000001.npz", "plots/power_spectrum_stack_000001.png"):
        assert not (out / name).is_symlink()
        assert verify_output(out) == []


def test_files_that_wait_in_the_hidden_folder_are_not_followed(data: DemoData, tmp_path: Path) -> None:
    """Anybody can see the names of a run's scratch files, and put links in their place before they are written."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    os.close(create_file(tmp_path / "link"))
    assert victim.read_text() == "precious"
    assert not (tmp_path / "link").is_symlink()


# The folder that is kept open


def test_output_stays_in_the_folder_that_was_opened(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "a" / "b").mkdir(parents=True)
    elsewhere.mkdir()
    with pinned(out / "a" / "b", out) as folder:
        for path, moved in ((out / "a" / "b", out / "a" / "moved"), (out / "a", out / "moved")):
            path.rename(moved)
            path.symlink_to(elsewhere)
        (folder / "partial").write_text("content")
        os.replace(folder / "partial", folder / "final")
    assert (out / "moved" / "moved" / "final").read_text() == "content"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("place", ["a", "a/b", "a/b/c"])
@pytest.mark.parametrize("linux", [True, False])
def test_a_link_anywhere_below_the_root_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, linux: bool
) -> None:
    if not linux:
        monkeypatch.setattr(pinned_module, "_OPEN_FILES", tmp_path / "absent")
    (tmp_path / "elsewhere" / "b" / "c").mkdir(parents=True)
    link = tmp_path / "root" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "c").mkdir()
    (tmp_path / "chosen").symlink_to(tmp_path / "root")
    for root in (tmp_path / "root", tmp_path / "chosen"):  # the user may have chosen a link
        with pytest.raises(OutputError, match=rf"{root / place} is a link"), pinned_place(root / "a" / "b" / "c" / "file", root):
            pass


def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with pinned(tmp_path / "a", tmp_path):
            pass
        for name, error in (("link", OutputError), ("absent", FileNotFoundError)):
            with pytest.raises(error), pinned(tmp_path / name, tmp_path):
                pass
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_store_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "particles.zarr").symlink_to(tmp_path / "elsewhere")
    store = open_object_store(str(tmp_path / "particles.zarr"))
    changes: list[Callable[[], object]] = [
        lambda: store.write("zarr.json", b"{}"),
        lambda: store.clear(last="zarr.json"),
        lambda: store.temporary_file("fourier/c/0").__enter__(),
    ]
    for change in changes:
        with pytest.raises(OutputError, match=r"particles\.zarr is a link"):
            change()
    assert list((tmp_path / "elsewhere").iterdir()) == []
