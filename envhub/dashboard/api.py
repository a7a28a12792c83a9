"""create_app: the dashboard as a FastAPI application over any TraceStore."""

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from envhub.contracts.store import TraceStore
from envhub.dashboard.decoder import Decoder, Decoders
from envhub.dashboard.page import STATIC, page
from envhub.dashboard.routes import Dashboard, router
from envhub.dashboard.security import LoopbackNames, SecurityHeaders
from envhub.errors import UsageError


def create_app(store: TraceStore, decoder: Decoder | None, *, token: str | None = None) -> FastAPI:
    """The JSON API under /api and the page everywhere else. It only reads, and leaves `store` open.

    `decoder` gives tokens their text in the runs of its model; in others, and without it, the page shows ids.
    With a `token`, every call of the API must bring it as a Bearer; the page itself loads and asks for it. Without one,
    the dashboard answers under the names of loopback alone.

    Raises:
        UsageError: an empty token.
    """
    if token == "":
        raise UsageError("the dashboard's token is empty; give a long random one, or None for none")
    app = FastAPI(title="envhub dashboard", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.dashboard = Dashboard(store, Decoders(store, decoder), token, threads=anyio.CapacityLimiter(2))
    app.include_router(router)
    app.mount("/", page(STATIC))
    if token is None:
        app.add_middleware(LoopbackNames)
    app.add_middleware(SecurityHeaders)  # added last, so the outermost: refusals bear them too
    app.add_exception_handler(UsageError, _usage_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    return app


async def _usage_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 400)


async def _invalid_request(request: Request, error: Exception) -> Response:
    """One sentence a mistake, so that a client shows `detail` whatever went wrong."""
    assert isinstance(error, RequestValidationError)
    mistakes = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(mistakes)}, 422)
