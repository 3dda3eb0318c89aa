"""Progress displays, with simulated clocks."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from rich.console import Console

from cryolike_dask.errors import InputError
from cryolike_dask.progress import NoProgress, Progress, StackProgress
from cryolike_dask.progress_bars import LogProgress, NotebookProgress, RichProgress, progress_from, showing


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stack(counter: int, n_images: int = 100, device_bytes: int = 0) -> StackProgress:
    return StackProgress(counter, n_images, 0.1, 0.2, 0.1, n_bytes=50_000_000, device_bytes=device_bytes)


def run(progress: Progress, clock: Clock, n_stacks: int, seconds_each: float, device_bytes: tuple[int, ...] = (0,)) -> None:
    progress.start(n_stacks, 100 * n_stacks)
    for counter in range(n_stacks):
        clock.now += seconds_each
        progress.stack_done(stack(counter, device_bytes=device_bytes[counter % len(device_bytes)]))
    progress.finish(None)


def test_log_lines_come_at_most_every_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        run(LogProgress(every=5.0, clock=clock), clock, n_stacks=100, seconds_each=1.0)
    assert caplog.messages[0] == "Converting 10,000 images to 100 stacks."
    assert caplog.messages[1] == "5 of 100 stacks (5%), 500 of 10,000 images, 100 images/s, 50.0 MB/s, about 1 min 35 s left"
    # The time is in the report, so that there is only one summary.
    assert caplog.messages[-1] == "100 of 100 stacks (100%), 10,000 of 10,000 images, 100 images/s, 50.0 MB/s"
    assert len(caplog.messages) == 1 + 20


def test_time_before_the_start_does_not_count_for_the_speed() -> None:
    clock = Clock()
    lines: list[str] = []
    progress = LogProgress(every=0.0, clock=clock, say=lines.append)
    progress.step("Compiling")
    clock.now += 70.0
    run(progress, clock, 4, 1.0)
    assert lines[0] == "Compiling ..."
    assert lines[2] == "1 of 4 stacks (25%), 100 of 400 images, 100 images/s, 50.0 MB/s, about 3.0 s left"


def test_steps_with_many_parts_are_reported_every_few_seconds() -> None:
    clock = Clock()
    lines: list[str] = []
    progress = LogProgress(every=5.0, clock=clock, say=lines.append)
    for done in range(16):
        progress.step("Verifying stacks", done, 16)
        clock.now += 2.0
    progress.step("Comparing", 0, 3)
    assert lines[:3] == ["Verifying stacks: 0 of 16", "Verifying stacks: 3 of 16", "Verifying stacks: 6 of 16"]
    assert lines[-1] == "Comparing: 0 of 3"
    assert len(lines) == 7


def test_a_run_in_which_nothing_is_left_to_do_shows_no_bar(caplog: pytest.LogCaptureFixture) -> None:
    file = io.StringIO()
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        for progress in (LogProgress(), RichProgress(Console(file=file, force_terminal=True))):
            progress.start(0, 0)
            progress.finish(None)
    assert not caplog.messages
    assert "0/0" not in file.getvalue()


def rich_output(width: int = 120, device_bytes: tuple[int, ...] = (0,), **console: Any) -> str:
    clock, file = Clock(), io.StringIO()
    run(RichProgress(Console(file=file, width=width, **console), clock), clock, 4, 1.0, device_bytes)
    return file.getvalue()


def test_the_terminal_bar_shows_stacks_speed_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = rich_output(force_terminal=True)
    for words in ("4/4 stacks", "100%", "100 images/s, 50.0 MB/s", "\x1b[32m"):
        assert words in shown


def test_a_wide_terminal_shows_where_the_time_goes_and_the_most_memory_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    used = (1_000_000_000, 3_000_000_000, 2_000_000_000)
    assert "read 25%, compute 50%, write 25%, GPU 3.0 GB" in rich_output(140, used, force_terminal=True)
    on_cpu = rich_output(120, force_terminal=True)
    assert "read 25%, compute 50%, write 25%" in on_cpu
    assert "GPU" not in on_cpu
    narrow = rich_output(80, used, force_terminal=True)
    assert "compute" not in narrow
    assert "100 images/s, 50.0 MB/s" in narrow


def test_no_color_keeps_the_terminal_bar_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = rich_output(force_terminal=True)
    assert "4/4 stacks" in shown
    assert "\x1b[32m" not in shown


def test_the_notebook_bar_is_redrawn_in_place() -> None:
    clock = Clock()
    drawn: list[str] = []

    class Handle:
        def update(self, shown: Any) -> None:
            drawn.append(shown._repr_html_())

    def display(shown: Any) -> Handle:
        drawn.append(shown._repr_html_())
        return Handle()

    run(NotebookProgress(every=1.0, clock=clock, display=display), clock, 4, 0.5, device_bytes=(3_000_000_000, 0))
    assert len(drawn) == 4  # the start, every second one, the end, which has all of them
    assert "width:50.0%" in drawn[1]
    assert "200 of 400 images, 200 images/s" in drawn[1]
    assert "read 25%, compute 50%, write 25%, GPU 3.0 GB" in drawn[1]
    assert "width:100.0%" in drawn[-1]
    assert "4 of 4 stacks" in drawn[-1]


@pytest.mark.parametrize("progress", [LogProgress(), RichProgress(Console(file=io.StringIO())), NotebookProgress(), NoProgress()])
def test_a_failure_before_the_start_is_not_commented(progress: Progress, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        progress.finish(ValueError())
    assert not caplog.messages


def test_a_step_is_shown_on_the_terminal_until_the_stacks_begin() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True)
    with showing(RichProgress(console)) as progress:
        progress.step("Verifying stacks", 3, 16)
        progress.step("Verifying stacks", 4, 16)
    assert "Verifying stacks: 3 of 16" in file.getvalue()
    with showing(RichProgress(console)) as progress:
        progress.step("Compiling")
        file.truncate(0)
        progress.start(2, 200)
        progress.stack_done(stack(0))
    assert "1/2 stacks" in file.getvalue()
    assert "Compiling" not in file.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_true_shows_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", file := io.StringIO())
    monkeypatch.setattr(logging.getLogger("cryolike_dask"), "level", logging.WARNING)  # as in a plain script
    logging.getLogger("cryolike_dask.progress_bars").manager._clear_cache()  # type: ignore[attr-defined]
    shown = progress_from(True)
    assert isinstance(shown, LogProgress)
    shown.start(2, 200)
    assert file.getvalue() == "Converting 200 images to 2 stacks.\n"
    monkeypatch.setattr("sys.stderr", Terminal())
    for asked in (True, None):
        assert isinstance(progress_from(asked), RichProgress)


def test_if_the_log_is_shown_lines_go_only_there(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("sys.stderr", file := io.StringIO())
    monkeypatch.setattr(logging.getLogger("cryolike_dask"), "handlers", [])  # a command that ran in this process may have left one
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        for asked in (True, None):
            progress_from(asked).start(2, 200)
    assert caplog.messages == ["Converting 200 images to 2 stacks."] * 2
    assert file.getvalue() == ""


def test_false_shows_nothing_and_an_object_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(progress_from(False), NoProgress)
    asked = LogProgress()
    assert progress_from(asked) is asked


def test_an_object_that_lacks_a_method_is_refused() -> None:
    class Half:
        def start(self, n_stacks: int, n_images: int) -> None: ...

    with pytest.raises(InputError, match=r"has no method step: give True, False, or an object derived from"):
        progress_from(Half())  # type: ignore[arg-type]


def test_a_progress_display_is_always_finished() -> None:
    ends: list[BaseException | None] = []

    class Ends(NoProgress):
        def finish(self, error: BaseException | None) -> None:
            ends.append(error)

    with showing(Ends()):
        pass
    failure = ValueError()
    with pytest.raises(ValueError), showing(Ends()):  # noqa: PT011  # the one above
        raise failure
    assert ends == [None, failure]
