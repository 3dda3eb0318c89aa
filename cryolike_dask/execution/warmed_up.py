"""Importing this warms the process up: the server of worker processes does so, once for all of them (`fork_server`)."""

from __future__ import annotations

from cryolike_dask.execution.plugin import prepare_process

prepare_process("cpu")
