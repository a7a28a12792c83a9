"""create_app: the dashboard as a FastAPI application over any TraceStore."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from envhub.contracts.guard import Guard
from envhub.contracts.store import BrowsableStore
from envhub.dashboard.decoder import Decoder, Decoders
from envhub.dashboard.live_run import LiveRun
from envhub.dashboard.page import STATIC, page
from envhub.dashboard.routes import metrics, router
from envhub.dashboard.security import LoopbackNames, SecurityHeaders, SmallBodies, turned_away
from envhub.dashboard.shared import Dashboard
from envhub.errors import AccessRefused, StoreError, UsageError


def create_app(
    store: BrowsableStore,
    decoder: Decoder | None,
    *,
    guard: Guard | None = None,
    live: LiveRun | None = None,
) -> FastAPI:
    """The JSON API under /api and the page everywhere else. It leaves `store` open, and writes nothing to it.

    `decoder` gives tokens their text in the runs of its model; in others, and without it, the page shows ids.
    The `guard` says who may do what. With tokens, every call of the API must bring one as a Bearer; the page itself
    loads and asks for it. Without any, whoever reaches the dashboard may do all, under the names of loopback alone.
    `live` is the run that may be steered here.
    """
    guard = guard or Guard()
    app = FastAPI(title="envhub dashboard", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.dashboard = Dashboard(store, Decoders(store, decoder), guard, live)
    app.include_router(router)
    app.include_router(metrics.router)
    app.mount("/", page(STATIC))
    app.add_middleware(SmallBodies)
    if guard.open:
        app.add_middleware(LoopbackNames)
    app.add_middleware(SecurityHeaders)  # added last, so the outermost: refusals bear them too
    app.add_exception_handler(AccessRefused, turned_away)
    app.add_exception_handler(UsageError, _usage_error)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    return app


async def _usage_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 400)


async def _store_error(request: Request, error: Exception) -> Response:
    """What it says names the database, and what is wrong with it."""
    return JSONResponse({"detail": str(error)}, 503)


async def _invalid_request(request: Request, error: Exception) -> Response:
    """One sentence a mistake, so that a client shows `detail` whatever went wrong."""
    assert isinstance(error, RequestValidationError)
    mistakes = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(mistakes)}, 422)
