"""What tests over S3 have in common."""

from __future__ import annotations

import pytest

LOOSE_CONNECTIONS = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""The client library leaves its connections to be closed when Python ends."""
