"""The built page: files below static/, and index.html for every deep link."""

from pathlib import Path

from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

STATIC = Path(__file__).parent / "static"
NOT_BUILT = "The dashboard's page is not built. Run `make web`, then start the server again. The API is under /api.\n"


def page(static: Path) -> ASGIApp:
    """Serves the page built into `static`, or says how to build it."""
    if (static / "index.html").is_file():
        return Page(directory=static, html=True)
    return PlainTextResponse(NOT_BUILT, 503)


class Page(StaticFiles):
    """A single-page application: a path that is no file is one of its own places."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or path.startswith("assets/"):
                raise
            response = await super().get_response("index.html", scope)
        # Vite names assets by their content; all else must be asked for anew after an update.
        immutable = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if immutable else "no-cache"
        return response
