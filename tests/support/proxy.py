"""A proxy in front of a server on loopback that holds requests back and resets connections."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Held:
    """The first request that matches waits here.

    Args:
        pattern: pattern of the request's first line.
        arrived: set when the request has arrived.
        released: set when it may continue.
    """

    pattern: re.Pattern[bytes]
    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Passes bytes between clients and a server.

    Args:
        port: port of the server.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._held: Held | None = None
        self._resets: tuple[re.Pattern[bytes], int] = (re.compile(b"(?!)"), 0)
        self.n_resets = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    @contextmanager
    def holding(self, pattern: bytes) -> Iterator[Held]:
        """Hold back the first request whose first line matches, until it is released or the context ends."""
        self._held = held = Held(re.compile(pattern))
        try:
            yield held
        finally:
            held.released.set()

    @contextmanager
    def resetting(self, pattern: bytes, times: int) -> Iterator[None]:
        """In this context, reset the connection of every second request whose first line matches, `times` times in total."""
        self._resets, self.n_resets, self._n_seen = (re.compile(pattern), times), 0, 0
        yield
        self._resets = (re.compile(b"(?!)"), 0)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while content := client.recv(1 << 16):
                line = content.partition(b"\r\n")[0]
                held = self._held
                if held is not None and held.pattern.search(line):
                    self._held = None
                    held.arrived.set()
                    held.released.wait(120)
                pattern, times = self._resets
                if self.n_resets < times and pattern.search(line):
                    self._n_seen += 1
                    if self._n_seen % 2:
                        self.n_resets += 1
                        # Closed immediately and without shutdown, so that the peer gets a reset.
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
                server.sendall(content)
        client.close()
        server.close()

    @staticmethod
    def _answers(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while content := server.recv(1 << 16):
                client.sendall(content)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
