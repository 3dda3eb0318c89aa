"""`python -m cryolike_dask` is `cryolike-dask`."""

from __future__ import annotations

from cryolike_dask.cli.main import main

if __name__ == "__main__":
    main(prog_name="cryolike-dask")
