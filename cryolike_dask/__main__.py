"""The program `cryolike-dask`, also `python -m cryolike_dask`."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line. Ctrl-C while it is imported ends as it does later: with one line and the exit code of shells."""
    try:
        from cryolike_dask.cli.main import main

        main(prog_name="cryolike-dask")
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)
    finally:
        # Where Ctrl-C ended code that was made from text, as some libraries do while they are imported, Python would kill itself by the
        # signal in the end, though the interrupt was answered. Other such code makes it forget that.
        exec("")


if __name__ == "__main__":
    run()
