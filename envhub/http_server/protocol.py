"""One connection of an HTTP server: bounded in what it takes before anybody has looked at it.

An app may ask to be told when its client hangs up (HANG_UP): to wait for that in a task of its own costs as much as
the rest of the HTTP does.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HANG_UP = "envhub.hang_up"  # the name of an ASGI extension, an OnHangUp of the request
OnHangUp: TypeAlias = Callable[[Callable[[], None] | None], None]  # takes what is called then; None: nothing any more

MAX_HEAD = 64 * 1024  # bytes of a request's line and headers: the parser itself would keep any number
HEAD_S = 30.0  # that a request's head may take, or the first word of a client


class Connection(HttpToolsProtocol):
    """It serves one request at a time."""

    _on_hang_up: Callable[[], None] | None = None
    _head = 0  # bytes of a head that is not complete
    _in_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head += len(data)
        if self._head > MAX_HEAD:
            self.send_400_response(f"The headers are larger than {MAX_HEAD} bytes.")
        elif self._patience is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head = 0
        self.scope["extensions"] = {HANG_UP: self._tell}  # type: ignore[dict-item]  # of ours

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
        if self._on_hang_up is not None:
            self._on_hang_up()

    def _wait_for_head(self) -> None:
        self._patience = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _unsupported_upgrade_warning(self) -> None:
        """Who asks for another protocol is answered in this one, and not a line of the log."""

    def _tell(self, on_hang_up: Callable[[], None] | None) -> None:
        self._on_hang_up = on_hang_up
        if on_hang_up is not None and self.transport.is_closing():
            on_hang_up()
