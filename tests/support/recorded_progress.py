"""A progress object that records its calls."""

from __future__ import annotations

from cryolike_dask.progress import NoProgress


class Recorded(NoProgress):
    """Records the steps, and the errors at the end."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.ends: list[BaseException | None] = []

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        assert not self.ends
        self.steps.append((what, done, total))

    def finish(self, error: BaseException | None) -> None:
        self.ends.append(error)

    def parts(self, what: str) -> list[int]:
        """How many parts of this step were done at each call."""
        return [done for name, done, _ in self.steps if name == what]
