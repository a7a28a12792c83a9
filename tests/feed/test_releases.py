"""A client and a server of different releases: what both know works, and what one lacks is refused with both named."""

from contextlib import closing

import grpc
import pytest

from envhub.contracts.access import Role
from envhub.feed.connection import OPTIONS, RELEASE
from envhub.feed.server import serve
from tests.feed.feeding import fake, in_thread
from tests.guarding import guard

pytestmark = pytest.mark.anyio
TOKEN = "a-secret-of-operators"


def ask(address: str, method: str, token: str) -> grpc.RpcError:
    newer = [("grpc.primary_user_agent", "envhub/99.0") if name == OPTIONS[0][0] else (name, v) for name, v in OPTIONS]
    with closing(grpc.insecure_channel(address, options=newer)) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", timeout=10, metadata=(("authorization", f"Bearer {token}"),))
    return refused.value


@pytest.mark.parametrize("method", ["/envhub.feed.v1.Control/Dance", "/envhub.feed.v2.Rollouts/Stream"])
async def test_what_a_server_does_not_know_is_refused_with_both_releases(method: str) -> None:
    run = fake(0)
    async with serve(run, run, guard=guard({TOKEN: Role.OPERATOR})) as address:
        error = await in_thread(ask, address, method, TOKEN)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert f"{method} is not known to this server, {RELEASE}, and the client is envhub/99.0 grpc" in error.details()
    assert error.details().endswith("install the same envhub-rl on both sides")
