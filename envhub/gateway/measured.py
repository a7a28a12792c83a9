"""Measured: tells of each request which route it took, how it was answered, and how long that took."""

import time
from collections.abc import Callable, Iterable
from re import Pattern
from typing import TypeAlias

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OTHER = "other"
NO_ANSWER = 0  # the client hung up before there was one

Observe: TypeAlias = Callable[[str, int, float], None]  # route, status, seconds until all was sent


class Measured:
    """The application within; paths that are none of `routes` count as OTHER, so that nobody can make up names."""

    def __init__(self, app: ASGIApp, routes: Iterable[str], observe: Observe) -> None:
        self._app = app
        self._routes: list[tuple[str, Pattern[str]]] = [(route, compile_path(route)[0]) for route in routes]
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), NO_ANSWER

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            self._observe(self._route(scope["path"]), status, time.perf_counter() - began)

    def _route(self, path: str) -> str:
        return next((route for route, pattern in self._routes if pattern.match(path)), OTHER)
