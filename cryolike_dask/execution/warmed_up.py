"""Importing this warms the process up: the server of worker processes does so, once for all of them (`fork_server`)."""

from __future__ import annotations

import gc

from cryolike_dask.execution.convert_stack import prepare_process

prepare_process("cpu")
# Objects made so far are permanent: the workers share their pages, and exclude them from garbage collection.
gc.freeze()
