"""Options in a file: all options work, the command line overrides them, and the recorded command repeats a run."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cryolike_dask.cli.browse import browse
from cryolike_dask.cli.convert import convert
from cryolike_dask.cli.main import main
from cryolike_dask.cli.preview import preview
from cryolike_dask.demo.particles import DemoData
from tests.cli.conftest import Cli
from tests.support.conversions import files_of
from tests.support.markup import Elements

COMMANDS = [*convert.commands.values(), preview, browse]


def write(path: Path, **options: Any) -> Path:
    path.write_text(yaml.safe_dump({name.replace("_", "-"): value for name, value in options.items()}), encoding="utf-8")
    return path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Records the arguments of the function behind a command, and does nothing else."""
    found: dict[str, Any] = {}
    for command in COMMANDS:

        def keep(**options: Any) -> None:
            # As in the wrapper, its own option is removed.
            assert options.pop("write_config") is None
            found.clear()
            found.update(options)

        monkeypatch.setattr(command, "callback", keep)
    return found


def value_for(option: click.Option) -> Any:
    """A value that is not the default."""
    if option.is_flag:
        return True
    if isinstance(option.type, click.Choice):
        return next(choice for choice in option.type.choices if choice != option.default)
    if option.multiple:
        return ["x", "y"]
    return 3 if option.type.name in ("integer", "float", "integer range") else "some text"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_can_stand_in_the_file(command: click.Command, parsed: dict[str, Any], tmp_path: Path, cli: Cli) -> None:
    arguments = ["T.star", "4"][: sum(isinstance(parameter, click.Argument) for parameter in command.params)]
    name = [command.name] if command in (preview, browse) else ["convert", command.name]
    required = [one for one in command.params if isinstance(one, click.Option) and one.required]
    by_hand = [word for one in required for word in (one.opts[-1], "8")]
    options = [one for one in command.params if isinstance(one, click.Option) and one.expose_value and one.name != "write_config"]
    assert len(options) > 15
    for option in options:
        key, value = option.opts[-1].removeprefix("--"), value_for(option)
        config = write(tmp_path / "c.yaml", **({"out": "o", "box_size": 8} if required else {}) | {key: value})
        known = {one.opts[-1].removeprefix("--") for one in options}
        content = yaml.safe_load(config.read_text())
        config.write_text(yaml.safe_dump({name: value for name, value in content.items() if name in known}))
        words = (
            [option.opts[-1]]
            if option.is_flag
            else [w for v in (value if option.multiple else [value]) for w in (option.opts[-1], str(v))]
        )
        hand = [word for one in required if one is not option for word in (one.opts[-1], "8")]
        assert cli(*name, *arguments, *hand, *words).exit_code == 0, key
        on_the_command_line = dict(parsed)
        others = {word for word in by_hand if option.opts[-1] == word}
        given = [word for one in required if one.opts[-1] not in others for word in (one.opts[-1], "8")]
        result = cli(*name, *arguments, *given, "--config", config)
        assert result.exit_code == 0, f"{key}: {result.output}"
        assert parsed == on_the_command_line, key


def test_the_command_line_wins_and_silence_is_the_default(parsed: dict[str, Any], tmp_path: Path, cli: Cli) -> None:
    config = write(
        tmp_path / "c.yaml",
        batch_size=500,
        mrc_folder="there",
        no_plots=True,
        combine_input_files=True,
        sample=None,
        out="from-file",
    )
    result = cli("convert", "star", "T.star", "--config", config, "--batch-size", 7, "--never-combine-input-files")
    assert result.exit_code == 0, result.stderr
    assert (parsed["batch_size"], parsed["folder_mrc"], parsed["folder_output"]) == (7, "there", "from-file")
    assert (parsed["flag_plots"], parsed["never_combine_input_files"], parsed["sample"]) == (False, True, None)
    assert (parsed["save_phys"], parsed["order"], parsed["overwrite"]) == (True, "metadata", False)
    cli("convert", "star", "T.star", "--config", write(config, no_plots=False, overwrite=False, combine_input_files=True, out="o"))
    assert (parsed["flag_plots"], parsed["overwrite"], parsed["never_combine_input_files"]) == (True, False, False)
    config.write_text("out: o\nmrc_folder: underscored\n")
    cli("convert", "star", "T.star", "--config", config)
    assert parsed["folder_mrc"] == "underscored"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("batchsize: 5", "'batchsize', which is not an option of convert star. Did you mean batch-size"),
        ("frobnicate: 5", "Its options are mrc-folder"),
        ("batch-size: many", "batch-size is 'many'"),
        ("batch-size: [1, 2]", "batch-size is [1, 2]: give one number or text"),
        ("device: yes", "device is True: give one number or text; put text in quotation marks"),
        ("device: tpu", "device is 'tpu'"),
        ("no-plots: 3", "no-plots is 3: give true or false"),
        ("config: x", "not an option of convert star"),
        ("- batch-size", "holds no options"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_errors_in_the_file_are_reported(content: str, told: str, tmp_path: Path, cli: Cli) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(content)
    result = cli("convert", "star", "T.star", "--out", tmp_path / "out", "--config", config)
    assert result.exit_code == 2
    assert told in result.stderr
    assert str(config) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_file_is_reported(tmp_path: Path, cli: Cli) -> None:
    result = cli("convert", "star", "T.star", "--out", "o", "--config", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_a_written_file_gives_the_same_options(
    parsed: dict[str, Any], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--where",
        "rlnClassNumber in [1, 3] and file != 'ü#: x'",
        "--batch-size",
        "7",
        "--no-plots",
        "--out",
        "o d",
        "--sample",
        "5",
    ]
    options += ["--combine-input-files", "--pixel-size", "1.06", "--device", "cpu", "--overwrite", "--ind", "00012"]
    assert cli("convert", "star", "T.star", *options).exit_code == 0
    wanted = dict(parsed)
    monkeypatch.undo()
    written = tmp_path / "run.yaml"
    result = cli("convert", "star", "T.star", *options, "--write-config", written)
    assert result.exit_code == 0, result.stderr
    assert "10 options" in result.stdout
    again = cli("convert", "star", "T.star", *options, "--write-config", written)
    assert again.exit_code == 2
    assert "already exists" in again.stderr
    text = written.read_text(encoding="utf-8")
    assert "\n# on-missing: raise\n" in text
    # The commented options work as well if they are uncommented.
    every = {line.removeprefix("# ").partition(":")[0] for line in text.splitlines() if ":" in line}
    known = {one.opts[-1].removeprefix("--") for one in convert.commands["star"].params if isinstance(one, click.Option)}
    assert known - {"config", "write-config", "debug", "never-combine-input-files"} <= every
    found: dict[str, Any] = {}
    monkeypatch.setattr(convert.commands["star"], "callback", lambda **options: found.update(options))
    assert cli("convert", "star", "T.star", "--config", written).exit_code == 0
    assert found.pop("write_config") is None
    assert found == wanted


def test_the_recorded_command_repeats_the_run(
    particles: DemoData, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write(tmp_path / "c.yaml", mrc_folder="particles/mrc", batch_size=5, where="defocus_u > 0", no_phys=True)
    first = cli("convert", "star", "particles/particles.star", "--config", config, "--out", "it's <out>", "--sample", 7)
    assert first.exit_code == 0, first.stderr
    out = tmp_path / "it's <out>"
    command = json.loads((out / "manifest.json").read_text())["command"]
    assert command.startswith(f"cd {tmp_path} && cryolike-dask convert star particles/particles.star ")
    assert command in Elements((out / "report.html").read_text(encoding="utf-8")).text
    before = {name: content for name, content in files_of(out).items() if name.startswith("fft/") and name.endswith(".pt")}
    assert len(before) == 2
    program = shlex.join([sys.executable, "-c", "from cryolike_dask.cli.main import main; main()"])
    repeated = command.replace("cryolike-dask", program, 1) + " --overwrite"
    result = subprocess.run(["sh", "-c", repeated], cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert not any(name.startswith("phys/") and name.endswith(".pt") for name in after)
    recorded = json.loads((out / "manifest.json").read_text())["command"]
    assert sorted(shlex.split(recorded)) == sorted(shlex.split(f"{command} --overwrite"))


def test_the_command_of_a_run_that_continues_repeats_it_as_a_whole(convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", 4, "--no-plots").exit_code == 0
    (tmp_path / "out" / "fft" / "particles_fourier_stack_000001.npz").unlink()
    assert convert_star("--batch-size", 4, "--no-plots", "--skip-exist").exit_code == 0
    words = shlex.split(json.loads((tmp_path / "out" / "manifest.json").read_text())["command"])
    assert "--skip-exist" not in words
    assert {"--batch-size", "--no-plots"} <= set(words)


def test_several_files_and_switches_are_in_the_command(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryolike_dask.cli.config_file import repeating_command

    found: list[str] = []
    command = convert.commands["paired"]
    monkeypatch.setattr(command, "callback", lambda **_: found.append(repeating_command(click.get_current_context())))
    monkeypatch.chdir(tmp_path)
    words = "--star A.star --star 'B C.star' --mrc A.mrcs --mrc 'B C.mrcs' --phase-shift-in-radians"
    words += " --out out --no-plots --combine-input-files"
    assert cli("convert", "paired", *shlex.split(words), "--debug").exit_code == 0
    prefix, _, line = found[0].partition(" && ")
    assert prefix == f"cd {tmp_path}"
    assert sorted(shlex.split(line)) == sorted(["cryolike-dask", "convert", "paired", *shlex.split(words)])
    main.main(shlex.split(line)[1:], standalone_mode=False)
    assert found[1] == found[0]


def test_a_conversion_in_python_records_no_command(particles: DemoData, tmp_path: Path) -> None:
    from cryolike_dask import Conversion, particles_from_star

    table = particles_from_star(particles.star_file, particles.folder_mrc)
    report = Conversion(table, particles.params_file, folder_output=tmp_path / "out").run()
    assert json.loads((report.folder / "manifest.json").read_text())["command"] == ""
    assert "To repeat this run" not in (report.folder / "report.html").read_text(encoding="utf-8")
