"""Monitoring of a conversion: an event for each stack, and counters for Prometheus.

Events have the topic 'cryolike': `client.get_events("cryolike")`. Each worker shows its counters under `/metrics` if prometheus_client is
installed.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cryolike_dask.stacks.receipt import StackReceipt

# Dask serves the counters of this library, if it is installed.
prometheus: Any = import_module("prometheus_client") if find_spec("prometheus_client") else None

TOPIC = "cryolike"


def _device_memory() -> float:
    torch = sys.modules.get("torch")  # without the import there are no tensors
    return float(torch.cuda.memory_allocated()) if torch and torch.cuda.is_initialized() else 0.0


if prometheus is not None:
    _stacks = prometheus.Counter("cryolike_stacks", "Stacks made by this worker.")
    _images = prometheus.Counter("cryolike_images", "Images in them.")
    _bytes = prometheus.Counter("cryolike_written_bytes", "Bytes of their files.")
    _seconds = prometheus.Counter("cryolike_stack_seconds", "Time of this worker's threads, by step.", ["step"])
    prometheus.Gauge("cryolike_device_memory_bytes", "CUDA memory of this worker's tensors.").set_function(_device_memory)


def log_event(event: dict[str, Any]) -> None:
    """Log an event, if this is a task of a Dask worker."""
    if "distributed" not in sys.modules:
        return
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    worker.log_event(TOPIC, {"worker": worker.address, "worker_name": str(worker.name), "time": time.time(), **event})


def log_converted_stack(receipt: StackReceipt) -> None:
    """Count a stack that this process made, and log it."""
    seconds = {"read": receipt.read_seconds, "compute": receipt.compute_seconds, "write": receipt.write_seconds}
    if prometheus is not None:
        _stacks.inc()
        _images.inc(receipt.n_images)
        _bytes.inc(receipt.n_bytes)
        for step, duration in seconds.items():
            _seconds.labels(step).inc(duration)
    log_event(
        {"action": "stack-made", "stack": receipt.counter, "images": receipt.n_images, "bytes": receipt.n_bytes, "seconds": seconds}
    )
