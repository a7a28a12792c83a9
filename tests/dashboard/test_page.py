"""The built page, and what stands in for it."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from envhub.dashboard.page import page

pytestmark = pytest.mark.anyio


@pytest.fixture
def static(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-1a2b.js").write_text("0")
    (tmp_path / "index.html").write_text("<title>envhub</title>")
    return tmp_path


async def get(static: Path, path: str) -> httpx.Response:
    app = FastAPI()
    app.mount("/", page(static))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dashboard") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/", "/rollouts/demo-0-1-0.2", "/rollouts/demo-0-1-0?view=tokens"])
async def test_every_place_of_the_page_is_the_page(static: Path, path: str):
    response = await get(static, path)
    assert "<title>envhub</title>" in response.text
    assert response.headers["cache-control"] == "no-cache"


async def test_assets_are_kept_by_the_browser_and_a_missing_one_is_not_the_page(static: Path):
    assert "immutable" in (await get(static, "/assets/index-1a2b.js")).headers["cache-control"]
    assert (await get(static, "/assets/index-gone.js")).status_code == 404


@pytest.mark.parametrize("path", ["/..%2Fsecret", "/%2e%2e/secret", "/assets/..%2F..%2Fsecret"])
async def test_no_path_leaves_the_built_page(static: Path, path: str):
    (static.parent / "secret").write_text("secret")
    assert (await get(static, path)).text != "secret"


async def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path):
    response = await get(tmp_path, "/rollouts/demo-0-1-0")
    assert response.status_code == 503
    assert "`make web`" in response.text
