"""Ctrl-C in the first seconds of a run with workers: one line, and the exit code of shells for an interrupt."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from cryolike_dask.demo.particles import DemoData
from tests.support.chaos import process

# Each sends SIGINT to all processes of the session, as a terminal does, at one moment.
IMPORTING = """
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            sys.meta_path.remove(self)
            os.killpg(0, signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""
SERVER_LOADS_LIBRARIES = """
from cryolike_dask.execution import fork_server

sys.path.insert(0, os.environ["HOOKS"])
fork_server._PRELOADED = ["loads_until_its_parent_ends"]
start = fork_server.start_fork_server

def interrupt_when_it_loads():
    start()
    open(os.environ["HOOKS"] + "/loading").read()  # returns when the server writes
    os.killpg(0, signal.SIGINT)

fork_server.start_fork_server = interrupt_when_it_loads
"""
PRELOADED = """
import os, time
parent = os.getppid()
open(os.environ["HOOKS"] + "/loading", "w").close()
while os.getppid() == parent:
    time.sleep(0.01)
"""
CLUSTER_STARTS = """
from distributed import Nanny

start, nannies = Nanny.start_unsafe, []

async def start_and_interrupt(self):
    nannies.append(self)
    if len(nannies) == 1:
        os.killpg(0, signal.SIGINT)
    return await start(self)

Nanny.start_unsafe = start_and_interrupt
"""
CODE_FROM_TEXT_RUNS = """
from cryolike_dask.cli import main

def show_log(level):
    # As in the classes that some libraries make from text. The interrupt is raised at the loop's next turn.
    eval("os.killpg(0, signal.SIGINT), [None for _ in range(10**6)]", {"os": os, "signal": signal})

main.show_log = show_log
"""


@pytest.mark.parametrize("moment", ["IMPORTING", "CODE_FROM_TEXT_RUNS", "SERVER_LOADS_LIBRARIES", "CLUSTER_STARTS"])
def test_control_c_is_answered_with_one_line(moment: str, original_particles: DemoData, tmp_path: Path) -> None:
    (tmp_path / "loads_until_its_parent_ends.py").write_text(PRELOADED)
    os.mkfifo(tmp_path / "loading")
    (tmp_path / "interrupted.py").write_text(
        "import os, signal, sys\n"
        "if __name__ == '__main__':  # not in workers, which import it\n"
        f"{textwrap.indent(globals()[moment], '    ')}\n    from cryolike_dask.__main__ import run\n    run()\n"
    )
    data = original_particles
    command = [sys.executable, "-m", "interrupted", "convert", "star", str(data.star_file), "--mrc-folder", str(data.folder_mrc)]
    command += ["--params", str(data.params_file), "--out", str(tmp_path / "out"), "--workers", "2"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with process(command, env={**os.environ, "HOOKS": str(tmp_path), "PYTHONPATH": path}) as run:
        text = run.communicate(timeout=60)[0]
    assert run.returncode == 130, text
    assert [line for line in text.splitlines() if not line.startswith(("Starting", "Closing", "2", "Dask"))] == ["Stopped."]
    assert not (tmp_path / "out").exists()
