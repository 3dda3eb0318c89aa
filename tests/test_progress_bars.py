"""What a person sees of a conversion. Clocks are turned by hand."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from rich.console import Console

from cryolike_dask.progress import NoProgress, Progress, StackProgress
from cryolike_dask.progress_bars import LogProgress, NotebookProgress, RichProgress, progress_for_terminal, progress_or_default


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
    assert caplog.messages[-1] == "Converted 10,000 images in 100 stacks, 1 min 40 s (100 images/s, 50.0 MB/s)."
    assert len(caplog.messages) == 2 + 19


def test_an_early_end_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    progress = LogProgress(clock=clock)
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        progress.start(3, 300)
        clock.now += 2.0
        progress.stack_done(stack(0))
        progress.finish(ValueError())
    assert caplog.records[-1].levelno == logging.ERROR
    assert caplog.messages[-1] == "Stopped after 100 images in 1 stack, 2.0 s: 2 of 3 stacks not written."


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
    assert len(drawn) == 4  # the start, every second one, the end
    assert "width:50.0%" in drawn[1]
    assert "200 of 400 images, 200 images/s" in drawn[1]
    assert "read 25%, compute 50%, write 25%, GPU 3.0 GB" in drawn[1]
    assert "Converted 400 images" in drawn[-1]


@pytest.mark.parametrize("progress", [LogProgress(), RichProgress(Console(file=io.StringIO())), NotebookProgress(), NoProgress()])
def test_a_failure_before_the_start_is_not_commented(progress: Progress, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        progress.finish(ValueError())
    assert not caplog.messages


def test_files_get_log_lines_and_quiet_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(progress_for_terminal(), LogProgress)
    assert isinstance(progress_for_terminal(quiet=True), NoProgress)


def test_scripts_get_no_progress_unless_they_ask() -> None:
    asked = LogProgress()
    assert progress_or_default(asked) is asked
    assert isinstance(progress_or_default(None), NoProgress)
