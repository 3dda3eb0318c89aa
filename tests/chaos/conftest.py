"""Particles that several tests convert, and the output of an undisturbed conversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.chaos import Case, make_case


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """60 stacks of 10 images; each stack has images of all files."""
    return make_case(tmp_path_factory.mktemp("case"), n_images=600, batch_size=10)


@pytest.fixture(scope="session")
def case_by_file(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """15 stacks of at most 10 images, made file by file."""
    return make_case(tmp_path_factory.mktemp("case_by_file"), n_images=150, batch_size=10, order="file")


@pytest.fixture(scope="session")
def case_of_many(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """500 stacks of one image, which take seconds even on a fast machine."""
    return make_case(tmp_path_factory.mktemp("case_of_many"), n_images=500, batch_size=1)


@pytest.fixture(autouse=True)
def no_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small window, so that faults come while some stacks have not begun: these are so short that all would be sent to the cluster."""
    monkeypatch.setattr("cryolike_dask.execution.executors.cluster._BACKLOG_SECONDS", 0.0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)
