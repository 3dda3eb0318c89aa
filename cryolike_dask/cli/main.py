"""The command line `cryolike-dask`, also `dask cryolike`.

Commands are imported when they are used, so that help and completion are immediate.
"""

from __future__ import annotations

import errno
import gc
import importlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from cryolike_dask import __version__
from cryolike_dask.errors import ConversionError, CryolikeError
from cryolike_dask.formatting import printable

FAILED, BAD_INPUT = 1, 2
INTERRUPTED = 130
"""The exit code of shells for a program that was ended with Ctrl-C."""

_DEBUG = "cryolike_dask.debug"

_IN_BOTH = re.compile(
    r"""\b(?P<name>[a-z_]+)(?:=(?P<value>True|\d+|'[^']*'|"[^"]*"))?\ \((?P<option>--[a-z-]+)(?P<given>\ [^()]*)?\)""", re.VERBOSE
)
_IN_PARENTHESES = re.compile(r"\([a-z_]+(?:=\w+)?, (--[a-z-]+)\)")
"""How messages name an option for Python and for the command line: `skip_exist=True (--skip-exist)`, `(skip_exist, --skip-exist)`."""

Command = TypeVar("Command", bound=Callable[..., Any])


@contextmanager
def loading_libraries() -> Iterator[None]:
    """A context without garbage collection, which would take long while libraries are loaded, and free nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@dataclass(frozen=True)
class LazyCommand:
    """A command that is imported when it is used.

    Args:
        target: 'module:name'.
        summary: text in the list of commands.
    """

    target: str
    summary: str

    def load(self) -> click.Command:
        module, name = self.target.split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group that lists its commands without importing them, and turns errors into one paragraph and an exit code."""

    def __init__(self, *args: Any, lazy: dict[str, LazyCommand] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._lazy[cmd_name].load() if cmd_name in self._lazy else super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self._lazy:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self._lazy.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from difflib import get_close_matches

            close = get_close_matches(args[0], self.list_commands(ctx))
            advice = f"Did you mean {' or '.join(close)}?" if close else f"Choose from {', '.join(self.list_commands(ctx))}."
            ctx.fail(f"There is no command {args[0]!r}. {advice}")
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            raise _with_printable_message(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CryolikeError, OSError) as error:
            # click handles the error if the reader of standard output is gone.
            if ctx.meta.get(_DEBUG) or getattr(error, "errno", None) == errno.EPIPE:
                raise
            echo(" ".join([str(error), *_notes(error)]), err=True, label="Error:")
            wrong_input = isinstance(error, CryolikeError) and not isinstance(error, ConversionError)
            ctx.exit(BAD_INPUT if wrong_input else FAILED)
        except click.ClickException as error:
            raise _with_printable_message(error) from None
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            if ctx.meta.get(_DEBUG):
                raise
            echo(" ".join(_notes(interrupt)) or "Stopped.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if ctx.meta.get(_DEBUG):
                raise
            what = f"An unexpected error occurred ({type(error).__name__}: {error}). Complete stacks are kept."
            advice = "This is a fault of cryolike-dask. Please report it, with the output of the same command with --debug."
            echo(f"{what} {advice}", err=True, label="Error:")
            ctx.exit(FAILED)


def _notes(error: BaseException) -> list[str]:
    """The notes that were added to an error, which say how to continue."""
    return list(getattr(error, "__notes__", ()))


def _with_printable_message(error: click.ClickException) -> click.ClickException:
    """An error of click, whose message repeats a part of the command line, such as the name of a file, made safe to print."""
    error.message = printable(error.message)  # type: ignore[misc]  # declared final, but there is no other way
    return error


def as_typed(text: str) -> str:
    """The text with options under the names that they have here: `skip_exist=True (--skip-exist)` becomes `--skip-exist`.

    Args:
        text: a message for Python and the command line.
    """

    def option(match: re.Match[str]) -> str:
        name, value, spelt, given = match.groups()
        if value is None and "_" not in name and spelt != f"--{name}":
            return match[0]  # a word of the sentence
        if given is not None or value in (None, "True"):
            return spelt + (given or "")
        return f"{spelt} {value.strip(chr(39))}"

    return _IN_PARENTHESES.sub(r"(\1)", _IN_BOTH.sub(option, text))


def echo(text: str, err: bool = False, label: str = "") -> None:
    r"""Print text, with options as they are typed. Characters of file names that act on the terminal are escaped, such as \x1b.

    Args:
        text: one or several lines.
        err: print to standard error.
        label: text to print before it, in red.
    """
    shown = printable(as_typed(text))
    click.echo(f"{click.style(label, fg='red', bold=True)} {shown}" if label else shown, err=err)


def debug_option(command: Command) -> Command:
    """Adds `--debug`, which shows tracebacks and all log lines."""

    def set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[_DEBUG] = True

    option = click.option(
        "--debug", is_flag=True, is_eager=True, expose_value=False, callback=set_debug, help="Show tracebacks and details."
    )
    return option(command)


def quiet_option(command: Command) -> Command:
    """Adds `--quiet` as the argument `quiet`; from then on only warnings and errors are logged."""

    def set_quiet(_: click.Context, __: click.Parameter, value: bool) -> bool:
        if value:
            show_log(logging.WARNING)
        return value

    option = click.option(
        "--quiet", is_flag=True, callback=set_quiet, help="Show only warnings and errors, no progress or summary."
    )
    return option(command)


class _StandardErrorHandler(logging.StreamHandler[Any]):
    """Writes to the present standard error without delay, so that a progress bar, which replaces it, can make room for the line."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        label = "Warning: " if record.levelno >= logging.WARNING else ""
        # In a log file, lines need a time.
        when = "" if sys.stderr.isatty() else time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(record.created))
        return printable(f"{when}{label}{as_typed(record.getMessage())}")


def show_log(level: int) -> None:
    """Send the package's log lines of this level and above to standard error; with `--debug`, those of all levels."""
    root = logging.getLogger("cryolike_dask")
    if not any(isinstance(handler, _StandardErrorHandler) for handler in root.handlers):
        root.addHandler(_StandardErrorHandler())
    context = click.get_current_context(silent=True)
    root.setLevel(logging.DEBUG if context is not None and context.meta.get(_DEBUG) else level)


@click.group(
    "cryolike",  # as `dask` lists it
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    lazy={
        "params": LazyCommand("cryolike_dask.cli.params:params", "Write image parameters, for templates or for another grid."),
        "preview": LazyCommand("cryolike_dask.cli.preview:preview", "Look at a few particles before the long run."),
        "browse": LazyCommand("cryolike_dask.cli.browse:browse", "Look through particles, and leave some of them out."),
        "convert": LazyCommand("cryolike_dask.cli.convert:convert", "Convert particles to Fourier-polar stacks."),
        "info": LazyCommand("cryolike_dask.cli.tools:info", "Show what an output folder holds."),
        "verify": LazyCommand("cryolike_dask.cli.tools:verify", "Check that an output folder is complete and undamaged."),
        "collect": LazyCommand("cryolike_dask.cli.collect:collect", "Join CryoLike's likelihoods and poses with the particles."),
        "restack": LazyCommand(
            "cryolike_dask.cli.restack:restack", "Write the stacks of a conversion with another size or format."
        ),
        "demo": LazyCommand("cryolike_dask.cli.tools:demo", "Make particles, convert them on a local Dask cluster, verify."),
        "pick": LazyCommand("cryolike_dask.cli.pick:pick", "Pick particles from Leopard-EM's statistics maps."),
        "plot-picks": LazyCommand("cryolike_dask.cli.pick:plot_picks", "Draw picks on their micrograph."),
    },
)
@click.version_option(__version__, prog_name="cryolike-dask")
@debug_option
def main() -> None:
    """Convert cryo-EM particles into CryoLike's Fourier-polar stacks, on Dask.

    \b
    Five minutes with your own data:
      cryolike-dask preview particles.star --mrc-folder mrc
      cryolike-dask convert star particles.star --mrc-folder mrc --out stacks
      cryolike-dask info stacks

    \b
    When CryoLike has compared the stacks with its templates:
      cryolike-dask collect stacks likelihood --out results.star

    \b
    Without data:
      cryolike-dask demo

    Add --help to a command to see its options.
    """
    show_log(logging.INFO)
