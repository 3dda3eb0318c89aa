"""`verify` and `info` work with any damaged manifest, and check everything beside the stacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from cryolike_dask.errors import OutputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.runs.info import describe_output
from cryolike_dask.runs.verify import verify_output
from tests.support.clusters import conversion, make_particles
from tests.support.manifests import edit_manifest, sha256_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    conversion(make_particles(folder / "particles", n_images=8), folder / "out").run_serially()
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def set_in(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return edit


BROKEN = {
    "empty": "",
    "no object": "[]",
    "empty object": "{}",
    "deep": "[" * 200_000,
    "deep object": '{"a":' * 200_000,
    "long number": '{"n_stacks": ' + "1" * 10_000 + "}",
    "no text": "\udcff",
}
MISFITS: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "identity": (("identity",), None),
    "stacks": (("stacks",), 5),
    "a stack": (("stacks", 0), None),
    "a counter": (("stacks", 0, "counter"), "0"),
    "many stacks": (("n_stacks",), 10**30),
    "no stacks": (("n_stacks",), -1),
    "a boolean": (("n_images",), True),
    "inputs": (("inputs",), {}),
    "an input": (("inputs", 0, "path"), 3),
    "sources": (("identity", "sources", 0, "boxes"), {"size": 3, "unknown": 1}),
    "descriptor": (("identity", "descriptor"), []),
}


@pytest.mark.security
@pytest.mark.parametrize("kind", BROKEN)
def test_an_invalid_manifest_is_reported(out: Path, kind: str) -> None:
    (out / "manifest.json").write_bytes(BROKEN[kind].encode(errors="surrogateescape"))
    (problem,) = verify_output(out)
    assert "manifest.json is damaged" in problem
    assert "--overwrite" in problem
    assert CliRunner().invoke(main, ["verify", str(out)]).exit_code == 1
    assert CliRunner().invoke(main, ["info", str(out)]).exit_code == 2


@pytest.mark.security
@pytest.mark.parametrize("kind", MISFITS)
def test_a_manifest_with_values_of_other_kinds_is_a_finding(made: Path, out: Path, kind: str) -> None:
    keys, value = MISFITS[kind]
    edit_manifest(out, set_in(*keys, to=value))
    (problem,) = verify_output(out)
    assert "manifest.json is damaged" in problem
    with pytest.raises(OutputError, match=r"manifest\.json is damaged"):
        conversion(_data(made), out, skip_exist=True).run_serially()


def _data(made: Path) -> Any:
    from cryolike_dask.demo.particles import DemoData

    folder = made / "particles"
    return DemoData(star_file=folder / "particles.star", folder_mrc=folder / "mrc", params_file=folder / "params.npz")


@pytest.mark.security
def test_a_manifest_that_announces_many_stacks_costs_nothing(out: Path) -> None:
    edit_manifest(out, set_in("n_stacks", to=2**31 - 1))
    assert any("2,147,483,645 stacks are missing, the first is 000002" in problem for problem in verify_output(out))


EDITS: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "identity": (("identity", "settings", "batch_size"), 5),
    "another descriptor": (("identity", "descriptor", "n_inplanes"), 30),
    "settings": (("settings", "batch_size"), 5),
    "count": (("n_images",), 9),
    "images of a stack": (("stacks", 1, "n_images"), 3),
    "rows of a stack": (("stacks", 1, "rows"), [3, 7]),
    "bytes of a stack": (("stacks", 1, "n_bytes"), 3),
    "checksum of a stack": (("stacks", 1, "phys_crc32"), 3),
    "fewer stacks": (("stacks",), []),
    "no inputs": (("inputs",), []),
    "star": (("star_file", "crc32"), 1),
}


@pytest.mark.security
@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("with_checksum", [True, False])
def test_a_manifest_that_was_edited_is_noticed(out: Path, kind: str, with_checksum: bool) -> None:
    keys, value = EDITS[kind]
    edit_manifest(out, set_in(*keys, to=value), with_checksum=with_checksum)
    assert verify_output(out) != []
    assert ("its checksum does not fit" in verify_output(out)[0]) == (not with_checksum)


def test_an_identity_with_a_fingerprint_of_its_own_is_compared_with_the_stacks(out: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["identity"]["particles"] = "others"
        content["fingerprint"] = sha256_of(content["identity"])

    edit_manifest(out, edit)
    assert [problem.partition(" (")[0] for problem in verify_output(out)] == [
        f"stack {counter:06d} was made by another run" for counter in (0, 1)
    ]


def test_params_of_another_grid_are_noticed_and_written_again(made: Path, out: Path) -> None:
    ImageDescriptor.from_individual_values(16, 3.0, n_inplanes=30).save(out / "params.npz", overwrite=True)
    (problem,) = verify_output(out)
    assert "is not the descriptor with which the stacks were made (--skip-exist makes it again)" in problem
    assert describe_output(out).status == "damaged"
    conversion(_data(made), out, skip_exist=True).run_serially()
    assert verify_output(out) == []
    assert describe_output(out).status == "complete"


def test_a_damaged_manifest_is_written_again_only_if_it_still_says_how_stacks_were_made(made: Path, out: Path) -> None:
    edit_manifest(out, set_in("written", to="never"), with_checksum=False)
    assert any("--skip-exist writes it again" in problem for problem in verify_output(out))
    assert describe_output(out).status == "damaged"
    conversion(_data(made), out, skip_exist=True).run_serially()
    assert verify_output(out) == []
    path = json.loads((out / "manifest.json").read_text())["inputs"][0]["path"]
    edit_manifest(out, set_in("inputs", 0, "path", to="elsewhere.mrcs"), with_checksum=False)
    assert any("--overwrite makes everything again" in problem for problem in verify_output(out))
    with pytest.raises(OutputError, match=f"{Path(path).name}: it is not recorded") as told:
        conversion(_data(made), out, skip_exist=True).run_serially()
    assert "its checksum does not fit" in str(told.value).lower() or "does not fit. The file is damaged" in str(told.value)


@pytest.mark.parametrize("name", ["fft/particles_fourier_stack_000000.pt", "phys/particles_phys_stack_000001.pt"])
def test_info_never_calls_a_folder_complete_that_is_not(out: Path, name: str) -> None:
    assert describe_output(out).status == "complete"
    (out / name).unlink()
    assert describe_output(out).status == "damaged"
    told = CliRunner().invoke(main, ["info", str(out)]).output
    assert "files are missing or damaged" in told
    assert "status     complete" not in told


def test_info_says_that_a_store_outside_the_folder_was_not_checked(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    conversion(_data(made), tmp_path / "out", output_format="zarr", zarr_store=str(store)).run_serially()
    assert describe_output(tmp_path / "out").status == "unchecked"
    assert describe_output(tmp_path / "out", zarr_store=str(store)).status == "complete"
    told = CliRunner().invoke(main, ["info", str(tmp_path / "out"), "--zarr-store", str(store)])
    assert "status     complete" in told.output
    (store / "fourier" / "c" / "1" / "0" / "0").unlink()
    assert describe_output(tmp_path / "out", zarr_store=str(store)).status == "damaged"


@pytest.mark.security
def test_an_unreadable_store_that_is_not_this_folders_is_never_written_over(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    conversion(_data(made), tmp_path / "out", output_format="zarr", zarr_store=str(store)).run_serially()
    (store / "zarr.json").write_text("{}")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    for options in ({"skip_exist": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match="something other than a conversion"):
            conversion(_data(made), tmp_path / "out", output_format="zarr", zarr_store=str(store), **options).run_serially()
    assert {path: path.stat().st_mtime_ns for path in before} == before

    problems = verify_output(tmp_path / "out", zarr_store=str(store))
    told = [problem for problem in problems if "zarr.json" in problem]
    assert told
    assert all(
        problem.endswith("(if nothing else uses this store, remove it; --skip-exist then makes it again)") for problem in told
    )
    shutil.rmtree(store)
    conversion(_data(made), tmp_path / "out", output_format="zarr", zarr_store=str(store), skip_exist=True).run_serially()
    assert verify_output(tmp_path / "out", zarr_store=str(store)) == []


def test_columns_of_another_kind_are_noticed(made: Path, tmp_path: Path) -> None:
    import zarr

    out = tmp_path / "out"
    conversion(_data(made), out, output_format="zarr").run_serially()
    group: Any = zarr.open_group(str(out / "particles.zarr"), mode="r+")
    group["defocusU"][3] = np.float64(1.0)
    (problem,) = verify_output(out)
    assert "particles.zarr/defocusU is damaged" in problem
    conversion(_data(made), out, output_format="zarr", skip_exist=True).run_serially()
    assert verify_output(out) == []


@pytest.mark.parametrize(("old", "new"), [('"zarr_format": 3', '"zarr_format": 2'), ('"group"', '"groxp"'), ("{", "{ ")])
def test_a_group_that_is_not_as_it_was_written_is_noticed(made: Path, tmp_path: Path, old: str, new: str) -> None:
    out = tmp_path / "out"
    conversion(_data(made), out, output_format="zarr").run_serially()
    group = out / "particles.zarr" / "zarr.json"
    group.write_text(group.read_text().replace(old, new, 1))
    assert "zarr.json" in " ".join(verify_output(out))
    conversion(_data(made), out, output_format="zarr", skip_exist=True).run_serially()
    assert verify_output(out) == []
