"""Importing this module warms up the process. The server of worker processes imports it once for all of them (`fork_server`)."""

from __future__ import annotations

import gc

from cryolike_dask.execution.convert_stack import prepare_process

prepare_process("cpu")
# Objects made so far are never freed: workers share their pages, and exclude them from garbage collection.
gc.freeze()
