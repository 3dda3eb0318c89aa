"""How the results of tasks reach the client: in an event if they are small; otherwise they are fetched.

A worker tells the scheduler of an event and of a task's end on the same line, in this order, and so does the scheduler the client: a
receipt is there when its task is known to have ended. Fetching it would take a connection to each of the workers that hold some.
"""

from __future__ import annotations

import pickle
import uuid
from typing import Any, TypeAlias

from cryolike_dask.execution.executors.interface import USUAL_PATIENCE

TOPIC = "cryolike-receipts"
"""One for all runs, so that a scheduler that lives long remembers the last thousand events, and not those of each run."""

Returned: TypeAlias = tuple[str, Any]
"""Address of the worker, and what the function returned."""

_told: dict[str, tuple[Any, dict[str, Returned]]] = {}
"""By run of an executor in this process: its client, and what its tasks returned, by key."""


class ReturnedValues:
    """What the tasks of one executor returned.

    Args:
        client: a synchronous `distributed.Client`.
    """

    def __init__(self, client: Any) -> None:
        self.id = uuid.uuid4().hex[:12]
        self._client = client
        _told[self.id] = client, {}
        # A client has one handler per topic: the same for all executors.
        client.subscribe_topic(TOPIC, _take_note)

    def take(self, futures: list[Any]) -> dict[Any, Returned]:
        """What these tasks returned, which have ended well. What cannot be had soon is left out."""
        told = _told[self.id][1]
        returned = {future: told.pop(future.key) for future in futures if future.key in told}
        return returned | self._fetch([future for future in futures if future not in returned])

    def close(self) -> None:
        """Forget what was not taken."""
        _told.pop(self.id, None)
        if self._client.status == "running" and all(client is not self._client for client, _ in _told.values()):
            self._client.unsubscribe_topic(TOPIC)

    def _fetch(self, futures: list[Any]) -> dict[Any, Returned]:
        async def gather() -> list[Any]:
            # A worker that holds a result may be dead, and none there to make it again: it is not waited for.
            return list(await self._client.gather(futures))

        if not futures:
            return {}
        try:
            return dict(zip(futures, self._client.sync(gather, callback_timeout=USUAL_PATIENCE), strict=True))
        except Exception:  # noqa: BLE001  # one of them is lost: each is asked for alone, and says what became of it
            return {}


def _take_note(event: tuple[float, dict[str, Any]]) -> None:
    """Called by Dask for each event, also for those of runs that other processes have on the same cluster."""
    _, message = event
    if message["run"] in _told:
        # Made by this package on a worker, like everything that Dask unpickles here.
        _told[message["run"]][1][message["key"]] = pickle.loads(message["returned"])  # noqa: S301
