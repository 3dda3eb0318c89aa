"""The program `cryolike-dask`, also `python -m cryolike_dask`."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line. Ctrl-C during its import has the same effect as later: one line, and the exit code of shells."""
    try:
        from cryolike_dask.cli.main import main

        main(prog_name="cryolike-dask")
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)
    finally:
        # If Ctrl-C interrupts code that a library runs with `exec` during its import, Python remembers this, and kills itself with the
        # signal on exit, although the interrupt was handled. Another `exec` resets it.
        exec("")


if __name__ == "__main__":
    run()
