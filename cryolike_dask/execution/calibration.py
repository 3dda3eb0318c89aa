"""How long a conversion will take, tried on its first images."""

from __future__ import annotations

from dataclasses import replace

from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.planning.plan import Plan

SAMPLE_IMAGES = 32


def seconds_per_image(plan: Plan) -> float:
    """Seconds that one core of this machine needs to read and to transform an image, whatever device the conversion will use.

    Up to 32 images of the first stack are converted in memory, twice: the first time also compiles. Nothing is written.

    Raises:
        InputError: an image is bad, and the settings do not allow that, or its file has changed.
    """
    stack = plan.stack(0)
    # The machine that plans need not have the GPU of those that convert.
    sample = replace(stack, rows=stack.rows[:SAMPLE_IMAGES], settings=replace(stack.settings, device="cpu"))
    for _ in range(2):
        seconds, _warnings = convert_chunks(sample, lambda *_: None)
    return (seconds["read"] + seconds["compute"]) / len(sample)
