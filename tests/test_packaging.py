"""The built and installed package is complete and typed, and is imported fast."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

USER_SCRIPT = """
from pathlib import Path

from cryolike_dask import Conversion, ConversionReport, ImageDescriptor, fourier_to_physical, load_stack, particles_from_star

params = ImageDescriptor.from_individual_values(n_pixels=256, pixel_size=1.06)
particles = particles_from_star(Path("particles.star"), "mrc")
report: ConversionReport = Conversion(particles.take(slice(0, 100)), params, folder_output="out", batch_size=50).run()
first: Path = report.stacks[0].fourier
stack = load_stack(report.folder, 0)
shape: tuple[int, ...] = fourier_to_physical(stack.fourier, params).shape
wrong: int = report.folder
"""


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, cwd=cwd)


def test_import_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'dask', 'distributed', 'scipy', 'numba', 'rich', 'click', 'jinja2'}"
    result = run(sys.executable, "-c", f"import sys, cryolike_dask; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)")
    assert result.returncode == 0, result.stderr


def test_tables_are_read_without_torch() -> None:
    script = "import sys; from cryolike_dask import particles_from_star; sys.exit('torch' in sys.modules)"
    result = run(sys.executable, "-c", script)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for kind in ("wheel", "sdist"):
        result = run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=ROOT)
        assert result.returncode == 0, result.stderr
    return folder


def test_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = BytesParser().parsebytes(archive.read(next(name for name in names if name.endswith("/METADATA"))))
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    package = ROOT / "cryolike_dask"
    kinds = ("*.py", "*.pyi", "*.yaml", "*.j2", "*.css", "*.js", "py.typed")
    expected = {path.relative_to(ROOT).as_posix() for kind in kinds for path in package.rglob(kind)}
    assert {Path(name).suffix for name in expected} == {".py", ".pyi", ".yaml", ".j2", ".css", ".js", ".typed"}
    assert expected <= names
    assert {name.partition("/")[0] for name in names} == {"cryolike_dask", metadata_folder(wheel)}
    assert not [name for name in names if "__pycache__" in name]
    assert metadata["Name"] == "cryolike-dask"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "cryolike-dask = cryolike_dask.__main__:run" in entry_points
    assert "[dask_cli]" in entry_points


def metadata_folder(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name}-{version}.dist-info"


def test_sdist_can_be_built_and_tested_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "Makefile",
        "cryolike_dask/py.typed",
        "tests/test_readme.py",
        "docs/conf.py",
    ):
        assert wanted in names, wanted
    assert not [name for name in names if name.startswith((".venv", "docs/_build", "cryolike-demo/"))]


def test_the_wheel_works_alone(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r})\n"
        "import cryolike_dask; assert cryolike_dask.__file__.startswith(sys.path[0])\n"
        "from cryolike_dask.cli.main import main\n"
        "if __name__ == '__main__':\n"
        "    main('demo --n-images 6 --box 16 --workers 1'.split())\n"
    )
    # A file, because worker processes import the script that started them.
    (tmp_path / "script.py").write_text(script)
    result = run(sys.executable, "script.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Report     6 images in" in result.stdout
    assert "Verified   complete and undamaged" in result.stdout
    assert len(list(tmp_path.glob("cryolike-demo/stacks/fft/*.pt"))) > 0
    assert (tmp_path / "cryolike-demo/stacks/report.html").is_file()


SCRIPT_OF_CRYOLIKE = """
import numpy as np

from cryolike_dask import Conversion, ParticleStackConverter, particles_from_star
from cryolike_dask.file_conversions import convert_particle_stacks_from_indexed_star_file as star
from cryolike_dask.file_conversions.particle_stacks_wrappers import convert_particle_stacks_from_cryosparc_job_directory as job

star("p.npz", "p.star", "mrc", "out", 100, 2, "mean", np.array([1.0, 1.0]), False, on_missing="skip", overwrite=True)
job("p.npz", "P3", 4, "out", 100, -1, -1.0, n_stacks_max=2)  # given twice
job("p.npz", "P3", 4, pixel_size=[1.0, 1.0], device="cuda:0", save_phys=False)
star("p.npz", "p.star", on_mising="skip")
star("p.npz", "p.star", on_missing="ignore")
star("p.npz", "p.star", pixel_size="wide")
ParticleStackConverter("p.npz", "out", save_phys="no")
ParticleStackConverter("p.npz", batch_size=10)
Conversion(particles_from_star("p.star"), "p.npz", batchsize=10)
"""


def test_a_wrong_option_and_a_wrong_type_are_seen_in_a_users_script(tmp_path: Path) -> None:
    errors = type_check(SCRIPT_OF_CRYOLIKE, tmp_path)
    assert [error.split(": error: ")[0] for error in errors] == [f"script.py:{line}" for line in (9, 11, 12, 13, 14, 15, 16)], (
        errors
    )
    for error, told in zip(
        errors,
        (
            'multiple values for keyword argument "n_stacks_max"',
            'did you mean "on_missing"',
            "Literal['raise', 'skip']",
            "float | Iterable[float] | None",
            'expected "bool"',
            'Unexpected keyword argument "batch_size"',
            'did you mean "batch_size"',
        ),
        strict=True,
    ):
        assert told in error


def test_types_reach_a_users_script(tmp_path: Path) -> None:
    errors = type_check(USER_SCRIPT, tmp_path)
    assert len(errors) == 1, errors
    assert "script.py:12" in errors[0]
    assert 'has type "Path", variable has type "int"' in errors[0]


def type_check(script: str, folder: Path) -> list[str]:
    """The errors that mypy finds in a script."""
    (folder / "script.py").write_text(script)
    # Checking torch and similar packages would take a minute, and is not the purpose of this test.
    large = ("torch", "pandas", "dask", "distributed", "matplotlib", "scipy", "numba", "PIL")
    skipped = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\nignore_missing_imports = True\n" for name in large)
    (folder / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {ROOT}\nfollow_imports = silent\nignore_missing_imports = True\n{skipped}"
    )
    result = run(sys.executable, "-m", "mypy", "--cache-dir", ROOT / ".mypy_cache" / "user-script", "script.py", cwd=folder)
    assert not result.stderr
    return [line for line in result.stdout.splitlines() if "error:" in line]


@pytest.mark.skipif(sys.platform != "linux", reason="dask-cuda is for Linux")
def test_the_extra_for_gpus_can_be_installed(tmp_path: Path) -> None:
    # A release of dask-cuda requires one release of Dask, which this package must allow.
    report = tmp_path / "report.json"
    options = ["--dry-run", "--quiet", "--no-build-isolation", "--disable-pip-version-check", "--report", str(report)]
    found = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, f"{ROOT}[gpu]"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    chosen = {part["metadata"]["name"]: part["metadata"]["version"] for part in json.loads(report.read_text())["install"]}
    assert "dask-cuda" in chosen
    assert not [name for name in chosen if name.startswith("torch")]
