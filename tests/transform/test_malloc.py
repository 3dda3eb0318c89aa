"""A process keeps freed buffers, even if its environment tells glibc to return them immediately, as in Dask's workers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.interface import TransformedImages

descriptor = ImageDescriptor.from_individual_values(128, 1.5)
images = np.random.default_rng(1).standard_normal((60, 128, 128), dtype=np.float32)
results = TransformedImages.allocate(len(images), descriptor)
transform = CompiledTransform(descriptor)
transform(images, results)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
transform(images, results)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
def test_a_transform_asks_the_system_for_no_new_pages_once_it_is_warm() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    # The FFTs of 60 images take 4,000 pages, all of which would be requested if each result had new pages.
    assert int(result.stdout) < 400
