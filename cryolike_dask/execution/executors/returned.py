"""How the results of tasks reach the client: in an event if they are small; otherwise the client fetches them.

A worker sends the event before the message that its task has ended, over the same connection, and the scheduler passes both on in this
order. So the client has the receipt when it learns that the task has ended. To fetch receipts, it would need a connection to each worker.
"""

from __future__ import annotations

import pickle
import uuid
from typing import Any, TypeAlias

from cryolike_dask.execution.executors.interface import USUAL_PATIENCE

TOPIC = "cryolike-receipts"
"""The same for all runs, so that a scheduler that runs for long remembers a thousand events in all, and not a thousand for each run."""

Returned: TypeAlias = tuple[str, Any]
"""Address of the worker, and what the function returned."""

_told: dict[str, tuple[Any, dict[str, Returned]]] = {}
"""For each executor of this process, by its ID: its client, and what its tasks returned, by key."""


class ReturnedValues:
    """The values that the tasks of one executor returned.

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
        """The values of these tasks, which have ended without an error. Values that cannot be fetched within a few seconds are left out."""
        told = _told[self.id][1]
        returned = {future: told.pop(future.key) for future in futures if future.key in told}
        return returned | self._fetch([future for future in futures if future not in returned])

    def close(self) -> None:
        """Drop the values that were not taken."""
        _told.pop(self.id, None)
        if self._client.status == "running" and all(client is not self._client for client, _ in _told.values()):
            self._client.unsubscribe_topic(TOPIC)

    def _fetch(self, futures: list[Any]) -> dict[Any, Returned]:
        async def gather() -> list[Any]:
            # Not without a time limit: the worker that holds a result may be dead, and no other one there to compute it again.
            return list(await self._client.gather(futures))

        if not futures:
            return {}
        try:
            return dict(zip(futures, self._client.sync(gather, callback_timeout=USUAL_PATIENCE), strict=True))
        except Exception:  # noqa: BLE001  # one of them is lost; the caller then asks for each alone
            return {}


def _take_note(event: tuple[float, dict[str, Any]]) -> None:
    """Called by Dask for each event, including those of runs that other processes have started on the same cluster."""
    _, message = event
    if message["run"] in _told:
        # Pickled by this package on a worker, like everything that Dask unpickles here.
        _told[message["run"]][1][message["key"]] = pickle.loads(message["returned"])  # noqa: S301
