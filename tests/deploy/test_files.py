"""Checks of the deployment files that are possible without their machines."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from tests.support.clusters import conversion, make_particles, stacks

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
READMES = sorted(path for path in DEPLOY.glob("*/README.md"))
SCRIPTS = sorted([*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")])

REFERENCE = ROOT / "tests" / "reference"


def operators_schema(kind: str) -> dict[str, Any]:
    """The operator's own schema of a kind of resource. Fields that it does not list are refused, as `kubectl apply` refuses them."""
    held = json.loads(gzip.decompress((REFERENCE / "dask_operator" / f"{kind.lower()}.json.gz").read_bytes()))
    assert held["kind"] == kind

    def strict(schema: Any) -> Any:
        if isinstance(schema, list):
            return [strict(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        found = {key: strict(value) for key, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
        return found

    schema: dict[str, Any] = strict(held["schema"])
    # Fields that every Kubernetes resource has, even if its schema does not list them.
    schema["properties"] |= {
        "apiVersion": {"const": held["apiVersion"]},
        "kind": {"const": kind},
        "metadata": {"type": "object", "required": ["name"]},
    }
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


KINDS = {"cluster.yaml": "DaskCluster", "job.yaml": "DaskJob"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_kubernetes_files_fit_the_operators_schemas(name: str) -> None:
    content = yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())
    schema = operators_schema(KINDS[name])
    jsonschema.validate(content, schema)
    spec = content["spec"] if name == "cluster.yaml" else content["spec"]["cluster"]["spec"]
    limits = {part: spec[part]["spec"]["containers"][0]["resources"]["limits"] for part in ("worker", "scheduler")}
    assert limits["worker"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in limits["scheduler"]
    args = spec["worker"]["spec"]["containers"][0]["args"]
    assert args[args.index("--resources") + 1] == "GPU=1"
    # Misspelt fields are found.
    spec["worker"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(jsonschema.ValidationError, match="volumeMount"):
        jsonschema.validate(content, schema)


def _commands(text: str) -> list[list[str]]:
    """Every `cryolike-dask` command in code, as its arguments."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"(?:cryolike-dask(?::cuda)?\s+|cryolike\.sbatch\s+)((?:convert|star)\s[^\n#`&|]*--out [^\n#`&|]*)", joined)
    arguments = [shlex.split(line.replace("[", "").replace("...", "")) for line in found]
    return [line if line[0] == "convert" else ["convert", *line] for line in arguments]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_each_readme_begins_with_the_command_to_type(readme: Path) -> None:
    title, empty, fence, command, *_ = readme.read_text().splitlines()
    assert title.startswith("# ")
    assert not empty
    assert fence == "```"
    assert command.split()[0] in {
        "cryolike-dask",
        "sbatch",
        "docker",
        "rattler-build",
        "kubectl",
        "deploy/tls/make_certificates.sh",
    }


@pytest.mark.parametrize("path", [*READMES, DEPLOY / "kubernetes" / "job.yaml"], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_commands_in_the_files_use_options_that_exist(path: Path) -> None:
    for arguments in _commands(path.read_text()):
        result = CliRunner().invoke(main, [*arguments, "--help"])
        assert result.exit_code == 0, result.output


def test_files_that_the_readmes_name_exist() -> None:
    for readme in READMES:
        for name in re.findall(r"deploy/[\w./-]+\w", readme.read_text()):
            assert (ROOT / name).exists(), (readme, name)
        for link in re.findall(r"\]\((\.\.?/[^)]+)\)", readme.read_text()):
            assert (readme.parent / link).exists(), (readme, link)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_and_stop_at_the_first_error(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


def job_script(**changes: Any) -> str:
    """The job script of dask-jobqueue with the configuration in `deploy`."""
    import dask
    import dask_jobqueue  # adds to the configuration of Dask

    content = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    defaults = dask.config.get("jobqueue.slurm")
    assert set(content) <= set(defaults), "an option that dask-jobqueue does not know"
    with dask.config.set({"jobqueue.slurm": defaults | content | changes}):
        job = dask_jobqueue.slurm.SLURMJob(scheduler="tcp://10.0.0.1:8786", name="test")
    return str(job.job_script())


def run_job(script: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Runs a job script in a shell with a substitute for dask-cuda's program. Returns the arguments and Dask variables that it gets."""
    package = folder / "dask_cuda"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(
        "import json, os, sys\nprint(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith('DASK_')}]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(folder), "TMPDIR": "/scratch"}
    printed = subprocess.run(["bash", "-s"], input=script, env=environment, capture_output=True, text=True, check=True).stdout
    arguments, variables = json.loads(printed)
    return arguments, variables


def unknown_options(arguments: list[str]) -> list[str]:
    """The options that dask-cuda's worker does not have."""
    options = json.loads((REFERENCE / "dask_cuda" / "worker_options.json").read_text())
    unknown = []
    waiting = iter(arguments)
    for argument in waiting:
        name, _, value = argument.partition("=")
        if name in options["with_value"]:
            assert value or next(waiting, ""), f"{name} has no value"
        elif name.startswith("-") and name not in options["without_value"]:
            unknown.append(name)
    return unknown


def test_the_slurm_job_starts_a_gpu_worker_that_ends_in_time(tmp_path: Path) -> None:
    from dask.utils import parse_timedelta

    script = job_script()
    assert "#SBATCH --gpus-per-node=8" in script
    assert "#SBATCH -t 04:00:00" in script
    arguments, variables = run_job(script, tmp_path)
    assert unknown_options(arguments) == []
    assert arguments[0] == "tcp://10.0.0.1:8786"
    given = dict(itertools.pairwise(arguments))
    assert given["--resources"] == "GPU=1"
    assert given["--preload"] == "cryolike_dask.execution.plugin"
    assert given["--nthreads"] == "3"
    assert given["--local-directory"] == "/scratch"
    lifetime = "DASK_DISTRIBUTED__WORKER__LIFETIME__"
    duration, stagger = (parse_timedelta(variables[lifetime + name]) for name in ("DURATION", "STAGGER"))
    assert 0 < duration + stagger < 4 * 3600


def test_the_variables_of_the_slurm_job_are_those_that_dask_reads(tmp_path: Path) -> None:
    _, variables = run_job(job_script(), tmp_path)
    program = "import dask, distributed; print(dask.config.get('distributed.worker.lifetime'))"
    found = subprocess.check_output([sys.executable, "-c", program], env=os.environ | variables, text=True)
    assert found.strip() == "{'duration': '230m', 'stagger': '5m', 'restart': False}"


def test_options_of_dasks_own_worker_are_noticed_in_dask_cudas(tmp_path: Path) -> None:
    arguments, _ = run_job(job_script(**{"worker-extra-args": ["--lifetime", "230m", "--resources", "GPU=1"]}), tmp_path)
    assert unknown_options(arguments) == ["--lifetime"]


def test_the_held_options_are_those_of_dask_cuda() -> None:
    worker = pytest.importorskip("dask_cuda.cli", exc_type=ImportError, reason="dask-cuda, which needs CUDA, is not here").worker
    held = json.loads((REFERENCE / "dask_cuda" / "worker_options.json").read_text())
    options = [option for option in worker.params if option.param_type_name == "option"]
    assert set(held["with_value"]) <= {name for option in options if not option.is_flag for name in option.opts}


def test_the_batch_file_converts_and_tidies_up(tmp_path: Path) -> None:
    """Runs the script as Slurm does on one node without GPUs, with a substitute for srun that runs the command here."""
    data = make_particles(tmp_path / "particles")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    (programs / "dask").write_text(f'#!/bin/sh\nexec {sys.executable} -m dask "$@"\n')
    (programs / "cryolike-dask").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from cryolike_dask.cli.main import main; main()" "$@"\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"} | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "1",
    }
    options = ["--params", data.params_file, "--mrc-folder", data.folder_mrc, "--batch-size", "4", "--no-plots"]
    result = subprocess.run(
        ["bash", DEPLOY / "slurm" / "cryolike.sbatch", "star", data.star_file, *options, "--out", tmp_path / "out"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    conversion(data, tmp_path / "serial").run_serially()
    assert stacks(tmp_path / "out") == stacks(tmp_path / "serial")
    assert not list(tmp_path.glob(".cryolike-*.json"))


def test_dockerfile_pins_no_root_and_copies_what_exists() -> None:
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions} <= known
    stages: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions:
        if name == "FROM":
            image, _, stage = rest.split()
            assert ":" in image or image in stages, f"{image} has no version"
            assert not image.endswith(":latest")
            stages[stage] = []
        else:
            stages[list(stages)[-1]].append((name, rest))
    assert list(stages)[-1] == "cpu"  # the stage that is built without --target
    for stage in ("cpu", "cuda"):
        content = stages[stage]
        assert [rest for name, rest in content if name == "USER"] == ["cryolike"]
        assert next(rest for name, rest in content if name == "ENTRYPOINT") == '["cryolike-dask"]'
        copied = [source for name, rest in content if name == "COPY" for source in rest.split()[:-1]]
        assert copied
        assert all((ROOT / source).exists() for source in copied)


def test_every_default_is_explained_and_used() -> None:
    text = (ROOT / "cryolike_dask" / "cryolike.yaml").read_text()
    lines = text.splitlines()
    sources = "".join(path.read_text() for path in (ROOT / "cryolike_dask").rglob("*.py"))

    def walk(content: dict[str, Any], prefix: str = "") -> None:
        for key, value in content.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                walk(value, f"{name}.")
                continue
            assert f'"{name}"' in sources, f"nothing uses {name}"
            number = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
            assert lines[number - 1].strip().startswith("#"), f"{name} is not explained"

    walk(yaml.safe_load(text)["cryolike"])
