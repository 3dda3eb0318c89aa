"""A server on loopback that speaks S3."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import s3fs

from tests.support.s3 import s3_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of an empty bucket. The environment contains its address and keys."""
    with s3_bucket("particles") as url:
        yield url


@pytest.fixture
def no_connection_is_left() -> Iterator[None]:
    """Connections are closed within the test that opened them, where their warnings are ignored."""
    yield
    s3fs.S3FileSystem.clear_instance_cache()
    gc.collect()
