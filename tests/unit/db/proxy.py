"""A database server's port that can be cut, refused and frozen, without touching the server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from tests.ports import free_port


class Proxy:
    """Listens on a port of loopback and carries what comes to a unix socket, while it is up."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._frozen = threading.Event()
        self._frozen.set()
        self._lines: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.made = 0
        self.up()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        for thread in self._threads:
            thread.join(5)

    def up(self) -> None:
        """Take connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        self._start(self._accept, listener)

    def down(self) -> None:
        """Refuse new connections and cut those that are there, as a server that was killed."""
        self.thaw()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut the connections that are there."""
        lines, self._lines = self._lines, []
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Carry nothing, and keep all connections."""
        self._frozen.clear()

    @property
    def flows(self) -> bool:
        """Whether it is not frozen."""
        return self._frozen.is_set()

    def thaw(self) -> None:
        """Carry again."""
        self._frozen.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            self.made += 1
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:  # it was killed
                server.close()
                caller.close()
                continue
            self._lines += [caller, server]
            self._start(self._both, caller, server)

    def _start(self, work: Callable[..., None], *words: socket.socket) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _both(self, caller: socket.socket, server: socket.socket) -> None:
        with caller, server:
            back = threading.Thread(target=self._carry, args=(server, caller), daemon=True)
            back.start()
            self._carry(caller, server)
            back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._frozen.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
