"""Reads options from a file (`--config`), writes them to one (`--write-config`), and makes the command that repeats a run."""

from __future__ import annotations

import functools
import os
import shlex
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from cryolike_dask.cli.main import echo
from cryolike_dask.errors import InputError, MissingFileError, OutputError, OutputExistsError
from cryolike_dask.formatting import plural

Command = TypeVar("Command", bound=Callable[..., Any])


def configurable(command: Command) -> Command:
    """Adds `--config`, whose file gives options that are not on the command line, and `--write-config`.

    The other options of the command must be added afterwards, that is, by decorators above this one.
    """

    @functools.wraps(command)
    def run_or_write(*arguments: Any, write_config: str | None, **options: Any) -> Any:
        if write_config is not None:
            return _write(click.get_current_context(), Path(write_config).expanduser())
        return command(*arguments, **options)

    read = click.option(
        "--config",
        type=click.Path(),
        metavar="FILE.yaml",
        is_eager=True,
        expose_value=False,
        callback=_read,
        help="Take options from this file, such as `batch-size: 500`; options on the command line override them.",
    )
    write = click.option(
        "--write-config",
        type=click.Path(),
        metavar="FILE.yaml",
        help="Write these options to a file for --config, and do nothing else.",
    )
    return read(write(run_or_write))  # type: ignore[return-value]


def repeating_command(context: click.Context) -> str:
    """The command line that repeats this run from any directory. Options of a `--config` file are written out.

    `--skip-exist` is left out: what continues a run repeats it as a whole without it.
    """
    groups: list[str] = []
    at: click.Context | None = context
    while at is not None and at.parent is not None:
        groups.insert(0, str(at.info_name))
        at = at.parent
    words = ["cryolike-dask", *groups]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if isinstance(parameter, click.Argument):
            words += [str(one) for one in (value if isinstance(value, tuple) else (value,)) if one is not None]
        elif isinstance(parameter, click.Option) and _is_given(context, parameter) and parameter.name != "skip_exist":
            words += _words(parameter, value)
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join(words)}"


def _words(option: click.Option, value: Any) -> list[str]:
    if option.is_flag:
        return [_spelling(option, value)]
    return [word for one in (value if option.multiple else (value,)) for word in (option.opts[-1], str(one))]


def _spelling(option: click.Option, value: Any) -> str:
    """The spelling of a switch that sets this value."""
    return option.secondary_opts[-1] if option.secondary_opts and not value else option.opts[-1]


def _is_given(context: click.Context, option: click.Option) -> bool:
    """Whether the command line or a file gives the option a value."""
    source = context.get_parameter_source(str(option.name))
    return option.expose_value and source not in (None, ParameterSource.DEFAULT) and option.name != "write_config"


def _key(spelling: str) -> str:
    return spelling.removeprefix("--")


def _known(command: click.Command) -> dict[str, tuple[click.Option, bool]]:
    """For each key of a file, its option, and whether the key is the spelling that switches the option off."""
    options = [one for one in command.params if isinstance(one, click.Option) and one.expose_value and one.name != "write_config"]
    known = {_key(option.opts[-1]): (option, False) for option in options}
    return known | {_key(spelling): (option, True) for option in options for spelling in option.secondary_opts}


def _read(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is None or context.resilient_parsing:  # of completion
        return
    known = _known(context.command)
    defaults: dict[str, Any] = {}
    for key, given in _content(Path(value).expanduser()).items():
        name = str(key).replace("_", "-")
        if name not in known:
            raise InputError(
                f"{value} gives {key!r}, which is not an option of {context.command_path.partition(' ')[2]}. {_suggestion(name, known)}"
            )
        option, switches_off = known[name]
        if given is not None:
            defaults[str(option.name)] = _checked(context, option, given, f"{value}: {key} is {given!r}", switches_off)
    context.default_map = {name: default for name, default in defaults.items() if default is not None}


def _content(path: Path) -> dict[Any, Any]:
    # Imported here, because help and completion must not wait for it.
    import yaml

    from cryolike_dask.filesystem.limited_yaml import load_yaml

    try:
        content = load_yaml(path)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist: check the path of --config.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no options: write each on a line of its own, such as `batch-size: 500`.")
    return content


def _checked(context: click.Context, option: click.Option, given: Any, what: str, switches_off: bool) -> Any:
    """The value as on the command line; None for a switch that is not changed."""
    if option.is_flag:
        if not isinstance(given, bool):
            raise InputError(f"{what}: give true or false.")
        if option.secondary_opts:
            return given != switches_off
        return option.flag_value is not False if given else None
    values = given if option.multiple and isinstance(given, list) else [given]
    if any(isinstance(value, bool | list | dict) for value in values):
        raise InputError(
            f"{what}: give {'a list of texts' if option.multiple else 'one number or text'}; put text in quotation marks."
        )
    texts = [str(value) for value in values]
    try:
        option.type_cast_value(context, texts if option.multiple else texts[0])
    except click.BadParameter as error:
        raise InputError(f"{what}: {error.message}") from None
    return texts if option.multiple else texts[0]


def _suggestion(name: str, known: dict[str, Any]) -> str:
    from difflib import get_close_matches  # only an error needs it

    close = get_close_matches(name, known, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else f"Its options are {', '.join(known)}."


def _write(context: click.Context, path: Path) -> None:
    """Write a file with every option: those that are given, and all others as comments with their defaults."""
    options = [option for option, switches_off in _known(context.command).values() if not switches_off]
    given = sum(_is_given(context, option) for option in options)
    text = "\n".join(line for option in options for line in _lines(context, option))
    name = context.command_path.partition(" ")[2]
    header = f"# Options for `cryolike-dask {name} --config`. Relative paths start from the directory in which the command runs.\n"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{header}\n{text}\n")
    except FileExistsError:
        raise OutputExistsError(f"{path} already exists. Choose another name for --write-config, or remove it.") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}. Give another file with --write-config.") from error
    echo(f"{path}: {plural(given, 'option')}. Use it with `cryolike-dask {name} ... --config {path}`.")


def _lines(context: click.Context, option: click.Option) -> Iterator[str]:
    import yaml  # help and completion must not wait for it

    value = context.params[str(option.name)]
    given = _is_given(context, option)
    key = _key(_spelling(option, value) if option.is_flag and given else option.opts[-1])
    if option.is_flag:
        content: Any = given
    else:
        content = list(value) if isinstance(value, tuple) else value
    yield from textwrap.wrap(option.help or "", 98, initial_indent="# ", subsequent_indent="# ")
    text = yaml.safe_dump(content, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("\n...\n").rstrip("\n")
    line = f"{key}: {'' if content is None else text}".rstrip()
    yield line if given else f"# {line}"
    yield ""
