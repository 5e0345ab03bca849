"""The HTTP protocol of every port: uvicorn's, but that the pieces of a body are handed on and not copied twice."""

from __future__ import annotations

from typing import cast

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """Uvicorn gathers a body in a bytearray and copies it for the application; an upload spent half of the event
    loop's time so. Here the piece that came is what the application gets, unless it is slower than the caller."""

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of a body."""
        if (self.parser.should_upgrade() and self._should_upgrade()) or self.cycle.response_complete:
            return
        waiting = self.cycle.body
        whole = bytes(waiting) + body if waiting else body
        self.cycle.body = cast(bytearray, whole)  # it is read by bytes(), which does not copy bytes
        if len(whole) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()
